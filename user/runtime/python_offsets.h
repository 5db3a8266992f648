/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where CPython keeps what we read, by minor version, on 64-bit machines: offsetof() in the headers of 3.8.18, 3.9.18,
 * 3.10.13, 3.11.7, 3.12.1 and 3.13.0. The layout of a minor version does not change after its first release candidate.
 */
#ifndef WS_PYTHON_OFFSETS_H
#define WS_PYTHON_OFFSETS_H

#include <stdint.h>

struct python_offsets {
	uint16_t minor;	      /* of Python 3 */
	uint16_t tss;	      /* _PyRuntime: …autoTSSkey._key */
	uint16_t thread_id;   /* PyThreadState */
	uint16_t context;     /* PyThreadState */
	uint16_t entered;     /* PyContext.ctx_entered */
	uint16_t fut_context; /* FutureObj.fut_context0 (Modules/_asynciomodule.c) */
};

static const struct python_offsets python_offsets[] = {
	{ 8, 1396, 176, 240, 40, 32 },
	{ 9, 588, 176, 240, 40, 32 },
	{ 10, 588, 176, 240, 40, 32 },
	{ 11, 596, 152, 224, 40, 32 },
	{ 12, 1548, 136, 208, 40, 32 },
	{ 13, 2164, 152, 208, 40, 32 },
};

#endif
