/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a process's language runtime is, where it keeps the logical context of a thread, and where the probes go that
 * see work being handed on. Read from outside: /proc/PID/maps, mem, exe and the files that it has mapped. Nothing is
 * guessed: a version that is not in the table, or that does not check out, is named and left alone.
 */
#ifndef WS_RUNTIME_H
#define WS_RUNTIME_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "bpf/event.h"

enum runtime_hook {
	HOOK_CONTEXT_COPY,  /* returns a context that is a copy of the current one */
	HOOK_CONTEXT_NEW,   /* returns a context that is empty */
	HOOK_FUTURE_RESULT, /* entry: argument 1 is the future */
	HOOK_QUEUE_PUT,	    /* entry: argument 2 points to the arguments, the item first */
	HOOK_QUEUE_GET,	    /* returns an item */
};

struct runtime_site {
	enum runtime_hook hook;
	bool ret;	 /* a return probe */
	uint64_t offset; /* in the file */
	char *path;	 /* to be opened by us: through /proc/PID */
};

struct runtime {
	struct ws_runtime desc; /* kind WS_RT_NONE: nothing to follow, and `why` if it is an interpreter */
	struct runtime_site *sites;
	size_t n_sites;
	char version[24];
	char why[96];
};

/* 0, or negative errno: ESRCH (gone), EACCES, EPERM, ENOMEM. Release with runtime__free() after 0. */
int runtime__inspect(pid_t pid, struct runtime *ret);
void runtime__free(struct runtime *r);

#endif
