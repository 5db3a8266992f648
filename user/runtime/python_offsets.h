/* SPDX-License-Identifier: Apache-2.0 */
/* Made by tests/tools/python_offsets.py from the headers of each version, x86-64: do not edit. */
#ifndef WS_RUNTIME_PYTHON_OFFSETS_H
#define WS_RUNTIME_PYTHON_OFFSETS_H

#include <stdint.h>

/* Bytes from the start of the structure that holds the field. */
struct python_offsets {
	uint32_t tss_key;	   /* _PyRuntime: autoTSSkey, under which every thread keeps its PyThreadState */
	uint32_t interp_main;  /* _PyRuntime: the main interpreter */
	uint32_t threads_head; /* PyInterpreterState: first of the list of threads */
	uint32_t thread_next, thread_id, context; /* PyThreadState */
	uint32_t stack;				  /* PyThreadState: datastack_chunk; 0: frames are objects */
	uint32_t entered;			  /* PyContext: ctx_entered */
	uint32_t type_methods, type_new;	  /* PyTypeObject */
	uint32_t func_qualname;			  /* PyFunctionObject */
	uint32_t str_data;			  /* of an ASCII string: its characters */
	uint32_t tuple_item;			  /* PyTupleObject: the first */
	uint32_t fut_context;			  /* _asyncio.Future: fut_context0 */
	/* concurrent.futures.thread._WorkItem: to its function, from pointer to pointer; 0: there already */
	int32_t item_fn_1, item_fn_2, item_fn_3;
};

/* Index: minor version of CPython 3; all zero where unknown. */
static const struct python_offsets python_offsets[] = {
	[8] = { .tss_key = 1392, .interp_main = 40, .threads_head = 8, .thread_next = 8, .thread_id = 176,
		.context = 240, .stack = 0, .entered = 40, .type_methods = 232, .type_new = 312,
		.func_qualname = 104, .str_data = 48, .tuple_item = 24, .fut_context = 32, .item_fn_1 = 16,
		.item_fn_2 = 40, .item_fn_3 = 8 },
	[9] = { .tss_key = 584, .interp_main = 40, .threads_head = 8, .thread_next = 8, .thread_id = 176,
		.context = 240, .stack = 0, .entered = 40, .type_methods = 232, .type_new = 312,
		.func_qualname = 104, .str_data = 48, .tuple_item = 24, .fut_context = 32, .item_fn_1 = 16,
		.item_fn_2 = 40, .item_fn_3 = 8 },
	[10] = { .tss_key = 584, .interp_main = 40, .threads_head = 8, .thread_next = 8, .thread_id = 176,
		.context = 240, .stack = 0, .entered = 40, .type_methods = 232, .type_new = 312,
		.func_qualname = 40, .str_data = 48, .tuple_item = 24, .fut_context = 32, .item_fn_1 = 16,
		.item_fn_2 = 40, .item_fn_3 = 8 },
	[11] = { .tss_key = 592, .interp_main = 48, .threads_head = 16, .thread_next = 8, .thread_id = 152,
		.context = 224, .stack = 296, .entered = 40, .type_methods = 232, .type_new = 312,
		.func_qualname = 40, .str_data = 48, .tuple_item = 24, .fut_context = 32, .item_fn_1 = -32,
		.item_fn_2 = 8, .item_fn_3 = 0 },
	[12] = { .tss_key = 1544, .interp_main = 48, .threads_head = 72, .thread_next = 8, .thread_id = 136,
		.context = 208, .stack = 232, .entered = 40, .type_methods = 232, .type_new = 312,
		.func_qualname = 40, .str_data = 40, .tuple_item = 24, .fut_context = 32, .item_fn_1 = -24,
		.item_fn_2 = 9, .item_fn_3 = 0 },
	[13] = { .tss_key = 2160, .interp_main = 640, .threads_head = 7344, .thread_next = 8, .thread_id = 152,
		.context = 208, .stack = 232, .entered = 40, .type_methods = 232, .type_new = 312,
		.func_qualname = 40, .str_data = 40, .tuple_item = 24, .fut_context = 32, .item_fn_1 = 32,
		.item_fn_2 = 0, .item_fn_3 = 0 },
	[14] = { .tss_key = 2336, .interp_main = 816, .threads_head = 7344, .thread_next = 8, .thread_id = 152,
		.context = 208, .stack = 232, .entered = 40, .type_methods = 232, .type_new = 312,
		.func_qualname = 40, .str_data = 40, .tuple_item = 32, .fut_context = 32, .item_fn_1 = 32,
		.item_fn_2 = 32, .item_fn_3 = 0 },
};

#endif
