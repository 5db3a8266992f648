// SPDX-License-Identifier: Apache-2.0
#include "user/runtime/memory.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

int memory__open(struct memory *m, pid_t pid)
{
	char path[64];

	*m = (struct memory){0};
	snprintf(path, sizeof(path), "/proc/%d/mem", (int)pid);
	m->fd = open(path, O_RDONLY | O_CLOEXEC);
	return m->fd < 0 ? -errno : 0;
}

void memory__close(struct memory *m)
{
	close(m->fd);
}

uint64_t memory__word(struct memory *m, uint64_t addr)
{
	uint64_t v = 0;

	if (addr > INT64_MAX || pread(m->fd, &v, sizeof(v), (off_t)addr) != sizeof(v)) {
		m->failed = true;
		return 0;
	}
	return v;
}
