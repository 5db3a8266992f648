/* SPDX-License-Identifier: Apache-2.0 */
/* From the debug information of each version (tests/tools/go_offsets), x86-64; held against it by `make runtimes`. */
#ifndef WS_RUNTIME_GO_OFFSETS_H
#define WS_RUNTIME_GO_OFFSETS_H

#include <stdint.h>

/* Bytes from the start of runtime.g (m, goid), runtime.m (curg; g0 is its first field) and net/http.Request (ctx). */
struct go_offsets {
	uint32_t m, goid, curg, ctx;
};

/* Index: minor version of Go 1; all zero where unknown. */
static const struct go_offsets go_offsets[] = {
	[18] = { .m = 48, .goid = 152, .curg = 192, .ctx = 232 },
	[19] = { .m = 48, .goid = 152, .curg = 192, .ctx = 232 },
	[20] = { .m = 48, .goid = 152, .curg = 192, .ctx = 232 },
	[21] = { .m = 48, .goid = 152, .curg = 192, .ctx = 232 },
	[22] = { .m = 48, .goid = 152, .curg = 192, .ctx = 232 },
	[23] = { .m = 48, .goid = 160, .curg = 192, .ctx = 248 },
	[24] = { .m = 48, .goid = 160, .curg = 192, .ctx = 248 },
	[25] = { .m = 48, .goid = 152, .curg = 184, .ctx = 248 },
	[26] = { .m = 48, .goid = 152, .curg = 184, .ctx = 248 },
	[27] = { .m = 48, .goid = 152, .curg = 184, .ctx = 248 },
};

#endif
