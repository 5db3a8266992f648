/* SPDX-License-Identifier: Apache-2.0 */
/* Words of another process's memory, through /proc/PID/mem. */
#ifndef WS_RUNTIME_MEMORY_H
#define WS_RUNTIME_MEMORY_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct memory {
	int fd;
	bool failed; /* something could not be read: a wild pointer, or it has exited */
};

/* 0 or negative errno. */
int memory__open(struct memory *m, pid_t pid);
void memory__close(struct memory *m);
uint64_t memory__word(struct memory *m, uint64_t addr); /* 0 with `failed` */

#endif
