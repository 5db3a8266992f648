// SPDX-License-Identifier: Apache-2.0
/*
 * Which CPython it is, and where its threads keep their state.
 *
 * A thread's PyThreadState is the value of a pthread key (autoTSSkey), which glibc keeps in struct pthread, at the
 * thread pointer. Layouts differ by minor version and build. The table says where things should be; the threads
 * that exist say whether it is true: each state names its thread pointer (thread_id), struct pthread points to itself,
 * and the slot of the key has to lead back to the state we came from. Its context, if any, is a PyContext.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "user/runtime/memory.h"
#include "user/runtime/python.h"
#include "user/runtime/python_offsets.h"

/* glibc nptl/descr.h, x86-64, all versions: tcbhead_t.self, and specific_1stblock[32] of { uintptr_t seq; void *data; }
 */
#define PTHREAD_SELF 0x10
#define PTHREAD_SPECIFIC 0x310
#define PTHREAD_KEYS 32

#define OB_TYPE 8 /* struct _object: reference count, type */
#define THREADS_MAX 256

#define COOKIE "xdebugpy" /* struct _Py_DebugOffsets, at the start of _PyRuntime since 3.13 */

/* ---- version and build --------------------------------------------------------------------------- */

/* "cpython-39": what the import system calls its caches after (sys.implementation.cache_tag). 0: not found, or two. */
static int minor_from_tag(const struct elf_file *elf)
{
	static const char tag[] = "\0cpython-3";
	const size_t n = sizeof(tag) - 1;
	size_t left;
	const uint8_t *at = elf_file__image(elf, &left), *end = at + left;
	int minor = 0;

	while ((at = memmem(at, (size_t)(end - at), tag, n))) {
		int v = 0, digits = 0;

		for (at += n; at < end && *at >= '0' && *at <= '9' && digits < 3; at++, digits++)
			v = v * 10 + (*at - '0');
		if (!digits || at == end || *at != '\0')
			continue;
		if (minor && minor != v)
			return 0;
		minor = v;
	}
	return minor;
}

static const struct python_offsets *offsets_of(int minor)
{
	if (minor < 0 || (size_t)minor >= sizeof(python_offsets) / sizeof(python_offsets[0]))
		return NULL;
	return python_offsets[minor].context ? &python_offsets[minor] : NULL;
}

static bool is_debug_build(const struct elf_file *elf)
{
	/* Py_REF_DEBUG, Py_TRACE_REFS: exported by nothing else. */
	static const char *const names[] = {"_Py_NegativeRefcount", "_Py_RefTotal", "PyModule_Create2TraceRefs"};

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		if (elf_file__symbol(elf, names[i]))
			return true;
	return false;
}

int python__identify(struct python *py)
{
	uint64_t at = elf_file__symbol(py->elf, "Py_Version");
	struct runtime *out = py->out;

	if (at && elf_file__read(py->elf, at, &py->hex, sizeof(py->hex)) && py->hex >> 24 == 3) {
		py->minor = (int)(py->hex >> 16 & 0xff);
		snprintf(out->version, sizeof(out->version), "CPython 3.%d.%d", py->minor, (int)(py->hex >> 8 & 0xff));
	} else {
		py->hex = 0;
		py->minor = minor_from_tag(py->elf);
		if (!py->minor)
			return python__why(py, "its version is not to be found");
		snprintf(out->version, sizeof(out->version), "CPython 3.%d", py->minor);
	}
	py->off = offsets_of(py->minor);
	if (!py->off)
		return python__why(py, "the layout of this version is not known");
	if (py->hex && (py->hex >> 4 & 0xf) < 0xc)
		return python__why(py, "an alpha or beta version: its layout may differ from the released one");
	if (is_debug_build(py->elf))
		return python__why(py, "a debug build: its layout differs");
	py->context_type = elf_file__symbol(py->elf, "PyContext_Type");
	return py->context_type ? 0 : python__why(py, "it does not export PyContext_Type");
}

/* ---- state --------------------------------------------------------------------------------------- */

static int not_yet(struct python *py)
{
	py->out->not_yet = true;
	return python__why(py, "not started yet");
}

/* 3.13 and later describe themselves. */
static int check_own_offsets(struct python *py, struct memory *m)
{
	uint64_t at = py->bias + py->runtime, cookie;

	memcpy(&cookie, COOKIE, sizeof(cookie));
	if (memory__word(m, at) != cookie || memory__word(m, at + 8) != py->hex)
		return python__why(py, "_PyRuntime does not begin with its description");
	if (memory__word(m, at + 16))
		return python__why(py, "a free-threaded build: its layout differs");
	return 0;
}

enum verdict { FITS, DIFFERS, STARTING };

/* `state`: a PyThreadState; `slot`: from the thread pointer to the value of the key. */
static enum verdict check_thread(const struct python *py, struct memory *m, uint64_t state, uint32_t slot)
{
	uint64_t tp = memory__word(m, state + py->off->thread_id), context, value;

	if (m->failed)
		return DIFFERS;
	if (!tp) /* made by its parent, not run yet */
		return STARTING;
	if (memory__word(m, tp + PTHREAD_SELF) != tp)
		return DIFFERS;
	value = memory__word(m, tp + slot);
	if (value != state)
		return value ? DIFFERS : STARTING;
	context = memory__word(m, state + py->off->context);
	if (context && memory__word(m, context + OB_TYPE) != py->bias + py->context_type)
		return DIFFERS;
	return m->failed ? DIFFERS : FITS;
}

/*
 * One thread that fits is proof; threads come and go while we look. `ret_seen`: some differ.
 */
static bool check_threads(const struct python *py, struct memory *m, uint32_t slot, bool *ret_differ)
{
	uint64_t interp = memory__word(m, py->bias + py->runtime + py->off->interp_main);
	uint64_t state = interp ? memory__word(m, interp + py->off->threads_head) : 0;

	*ret_differ = m->failed;
	for (int i = 0; state && i < THREADS_MAX && !m->failed; i++) {
		switch (check_thread(py, m, state, slot)) {
		case FITS:
			return true;
		case DIFFERS:
			*ret_differ = true;
			break;
		case STARTING:
			break;
		}
		m->failed = false;
		state = memory__word(m, state + py->off->thread_next);
	}
	return false;
}

static int read_state(struct python *py, struct memory *m)
{
	struct ws_runtime *d = &py->out->desc;
	uint64_t tss;
	uint32_t key;
	bool differ;

	if (py->minor >= 13) {
		int err = check_own_offsets(py, m);

		if (err || py->out->why[0])
			return err;
	}
	/* Py_tss_t: int _is_initialized; pthread_key_t _key */
	tss = memory__word(m, py->bias + py->runtime + py->off->tss_key);
	key = (uint32_t)(tss >> 32);
	if (m->failed)
		return python__why(py, "_PyRuntime cannot be read");
	if (!(uint32_t)tss)
		return not_yet(py);
	if ((uint32_t)tss != 1)
		return python__why(py, "_PyRuntime is not laid out as known");
	if (key >= PTHREAD_KEYS)
		return python__why(py, "its thread key, %u, is out of reach", key);
	*d = (struct ws_runtime){
		.tgid = (uint32_t)py->pid,
		.kind = WS_RT_CPYTHON,
		.tls = PTHREAD_SPECIFIC + key * 16 + 8,
		.py.thread_id = py->off->thread_id,
		.py.context = py->off->context,
		.py.entered = py->off->entered,
		.py.stack = py->out->greenlet ? py->off->stack : 0,
		.py.fut_context = py->off->fut_context,
		.py.context_type = py->bias + py->context_type,
		.py.item_fn = { (int16_t)py->off->item_fn_1, (int16_t)py->off->item_fn_2, (int16_t)py->off->item_fn_3 },
		.py.qualname = (uint16_t)py->off->func_qualname,
		.py.str_data = (uint16_t)py->off->str_data,
		.py.tuple_item = (uint16_t)py->off->tuple_item,
	};
	if (check_threads(py, m, d->tls, &differ))
		return 0;
	return differ ? python__why(py, "its threads are not laid out as known") : not_yet(py);
}

int python__read_state(struct python *py)
{
	struct memory m;
	char path[64];
	int err = memory__open(&m, py->pid);

	if (err)
		return err == -ENOENT ? -ESRCH : err;
	err = read_state(py, &m);
	memory__close(&m);
	/* Without memory it has exited, or begun to. */
	snprintf(path, sizeof(path), "/proc/%d/exe", (int)py->pid);
	if (!err && py->out->why[0] && access(path, F_OK) && errno == ENOENT)
		err = -ESRCH;
	return err;
}
