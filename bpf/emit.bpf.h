/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
#ifndef WS_EMIT_BPF_H
#define WS_EMIT_BPF_H

#include "maps.bpf.h"

/* One transfer, on the way from a hook to the ring. */
struct xfer {
	__u64 sock, pos;
	__u64 buf;	/* user address of the bytes, or of the iovec array */
	__u32 iovcnt;	/* 0: buf is the buffer itself */
	__u32 size;
	__u32 skip;	/* bytes at the front that are not wanted */
	__u32 want;	/* bytes to copy behind them */
	__u32 seq;
	__u32 err;
	__u32 dir;
	__u32 flags;	/* WS_DATA_* */
	__u32 scan;	/* look for a trace context */
	__u32 behind;	/* bytes that the same call moved after these */
	struct ws_token tok;
};

int emit_transfer(struct xfer *x);

#endif
