// SPDX-License-Identifier: Apache-2.0
#include "user/loader/uprobe_multi.h"

#include <errno.h>
#include <linux/bpf.h>
#include <sys/syscall.h>
#include <unistd.h>

#define FLAG_RETURN 1u /* BPF_F_UPROBE_MULTI_RETURN */

/* union bpf_attr, link_create.uprobe_multi */
struct link_create {
	uint32_t prog_fd, target_fd, attach_type, flags;
	uint64_t path, offsets, ref_ctr_offsets, cookies;
	uint32_t cnt, multi_flags, pid, unused;
};

int uprobe_multi__attach(int prog_fd, const char *path, const uint64_t *offsets, size_t n, bool ret, uint64_t cookie)
{
	uint64_t cookies[UPROBE_MULTI_MAX];
	struct link_create attr = {
		.prog_fd = (uint32_t)prog_fd,
		.attach_type = UPROBE_MULTI_ATTACH_TYPE,
		.path = (uint64_t)(unsigned long)path,
		.offsets = (uint64_t)(unsigned long)offsets,
		.cnt = (uint32_t)n,
		.multi_flags = ret ? FLAG_RETURN : 0,
	};
	long fd;

	if (n > UPROBE_MULTI_MAX)
		return -E2BIG;
	for (size_t i = 0; i < n; i++)
		cookies[i] = cookie;
	if (cookie)
		attr.cookies = (uint64_t)(unsigned long)cookies;
	fd = syscall(SYS_bpf, BPF_LINK_CREATE, &attr, sizeof(attr));
	return fd < 0 ? -errno : (int)fd;
}
