// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * Turns of run-to-completion loops: a thread that goes back to waiting has no current callback.
 * Attached only while a process on the tested list runs: a system call tracepoint puts every system
 * call of the machine on a slower path.
 */
#include "state.bpf.h"

static __always_inline int loop_wait(void)
{
	struct thread_state *ts = thread_state_now();

	if (ts && (ts->proc_flags & WS_PROC_LOOP))
		ts->tok.sock = 0;
	return 0;
}

#define LOOP_WAIT(name)                                            \
	SEC("tracepoint/syscalls/sys_enter_" #name)                \
	int loop_##name(void *ctx)                                 \
	{                                                          \
		return loop_wait();                                \
	}

LOOP_WAIT(epoll_wait)
LOOP_WAIT(epoll_pwait)
LOOP_WAIT(epoll_pwait2)
LOOP_WAIT(poll)
LOOP_WAIT(ppoll)
LOOP_WAIT(select)
LOOP_WAIT(pselect6)
