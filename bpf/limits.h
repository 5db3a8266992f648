/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Sizes that both the kernel programs and user space depend on.
 * Everything here is part of the event ABI: change it and bump WS_ABI_VERSION.
 */
#ifndef WS_LIMITS_H
#define WS_LIMITS_H

/* Bytes captured of one transfer (one system call's worth of data) at the most. */
#define WS_CAPTURE_MAX 8192

/*
 * Bytes of the end of a transfer that is longer than that, at the most: room for a body's last chunk, the line end before
 * it, and short trailers. From two segments at least the last chunk.
 */
#define WS_TAIL 64
#define WS_TAIL_MIN 7

/*
 * Segments of one iovec that are looked at; the rest of the transfer is counted, not copied. Legacy programs loop over
 * them before the verifier's eyes.
 */
#ifdef WS_LEGACY
#define WS_IOV_MAX 32
#else
#define WS_IOV_MAX 64
#endif

/* Bytes of an exec'ed process's argument vector carried by an exec event. */
#define WS_ARGS_MAX 1024
#define WS_EXE_MAX 192 /* of the executable's path in an exec event, as far as that is told */

/* sun_path, as in <linux/un.h>. */
#define WS_UNIX_PATH_MAX 108

/* Slots of the per-connection control table; a power of two. */
#define WS_CTL_SLOTS 16384

#define WS_COMM_LEN 16
#define WS_FUNCTION_MAX 64 /* of the name of what a work item runs, with its NUL */

/* Goroutines made by goroutines made by a request's: followed so deep. */
#define WS_HEIRS 2

#endif
