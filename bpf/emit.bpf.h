/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
#ifndef WS_EMIT_BPF_H
#define WS_EMIT_BPF_H

#include "maps.bpf.h"

/*
 * Sends a thread's transfer to the ring. The function behind it is global, so that the verifier goes through it
 * once; legacy kernels let such a function take scalars only.
 */
#ifdef WS_LEGACY
int emit_of_thread(__u32 tid);

static __always_inline void emit_transfer(struct thread_state *ts)
{
	emit_of_thread(ts->tid);
}
#else
int emit_one(struct xfer *x);

static __always_inline void emit_transfer(struct thread_state *ts)
{
	emit_one(&ts->xfer);
}
#endif

#endif
