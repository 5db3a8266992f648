/* SPDX-License-Identifier: Apache-2.0 */
/* From the debug information of each version (tests/tools/go_offsets), x86-64; held against it by `make runtimes`. */
#ifndef WS_RUNTIME_GO_OFFSETS_H
#define WS_RUNTIME_GO_OFFSETS_H

#include <stdint.h>

/*
 * Bytes from the start of runtime.g (m, goid), runtime.m (curg; g0 is its first field), net/http.Request (ctx) and
 * crypto/tls.Conn (vers, input, rawInput).
 */
struct go_offsets {
	uint16_t m, goid, curg, ctx, vers, input, raw;
};

/* Index: minor version of Go 1; all zero where unknown. */
static const struct go_offsets go_offsets[] = {
	[18] = { .m = 48, .goid = 152, .curg = 192, .ctx = 232, .vers = 64, .input = 672, .raw = 632 },
	[19] = { .m = 48, .goid = 152, .curg = 192, .ctx = 232, .vers = 64, .input = 672, .raw = 632 },
	[20] = { .m = 48, .goid = 152, .curg = 192, .ctx = 232, .vers = 64, .input = 696, .raw = 656 },
	[21] = { .m = 48, .goid = 152, .curg = 192, .ctx = 232, .vers = 72, .input = 720, .raw = 680 },
	[22] = { .m = 48, .goid = 152, .curg = 192, .ctx = 232, .vers = 72, .input = 720, .raw = 680 },
	[23] = { .m = 48, .goid = 160, .curg = 192, .ctx = 248, .vers = 72, .input = 728, .raw = 688 },
	[24] = { .m = 48, .goid = 160, .curg = 192, .ctx = 248, .vers = 72, .input = 728, .raw = 688 },
	[25] = { .m = 48, .goid = 152, .curg = 184, .ctx = 248, .vers = 72, .input = 712, .raw = 672 },
	[26] = { .m = 48, .goid = 152, .curg = 184, .ctx = 248, .vers = 72, .input = 712, .raw = 672 },
	[27] = { .m = 48, .goid = 152, .curg = 184, .ctx = 248, .vers = 72, .input = 736, .raw = 696 },
};

#endif
