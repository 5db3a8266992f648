/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Uprobes of one file as one link, since kernel 6.6: they go in and come out together, in one grace period instead of
 * one each, and CAP_BPF with CAP_PERFMON is enough. libbpf has it since 1.3; we build with 1.1.
 */
#ifndef WS_UPROBE_MULTI_H
#define WS_UPROBE_MULTI_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* enum bpf_attach_type, include/uapi/linux/bpf.h: what programs have to be loaded with */
#define UPROBE_MULTI_ATTACH_TYPE 48
#define UPROBE_MULTI_MAX 128u /* offsets of one link: more go into a further one */

/*
 * Plants the program at n offsets of the file, in whatever process runs that code, or where the functions that stand
 * there return; it finds `cookie` there. A descriptor that holds the link, or -errno.
 */
int uprobe_multi__attach(int prog_fd, const char *path, const uint64_t *offsets, size_t n, bool ret,
			 uint64_t cookie);

#endif
