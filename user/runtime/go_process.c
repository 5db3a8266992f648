// SPDX-License-Identifier: Apache-2.0
/*
 * Where Go keeps its goroutine, and where goroutines hand work on.
 *
 * The current struct g is in thread-local memory, at an offset that the linker chose: runtime.systemstack begins with
 * reading it, whatever the kind of program (static, with C code, position independent). Functions are found in the
 * table that the runtime itself needs; what they are checked against is their code: runtime.newproc calls
 * runtime.runqput with the new goroutine in its second argument, in every version.
 */
#include "user/runtime/go_process.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "user/base/mem.h"
#include "user/runtime/elf_file.h"
#include "user/runtime/go_file.h"
#include "user/runtime/go_offsets.h"
#include "user/runtime/memory.h"
#include "user/runtime/prologue.h"

#define CODE_MAX 512u /* of a function that is looked through */
#define SITES_MAX (2 + 3 * GO_MATCHES_MAX)

#define HEADER_TEXT 24 /* struct pcHeader: textStart, up to Go 1.25 */
#define MODULE_TEXT 176 /* struct moduledata: text; its first word is the address of the pcHeader */
#define HAS_MODULE 26 /* minor version from which on the header does not say where the code is */

enum { NEW_GOROUTINE, RUN_QUEUE, EXIT, SYSTEM_STACK, WRITE_LOOP, ROUND_TRIP, WRITE, SERVE, __FUNCTIONS };

struct golang {
	pid_t pid;
	const struct mapped_file *exe;
	char path[MAPPED_PATH_MAX];
	struct elf_file *elf;
	struct go_file file;
	uint64_t bias, text; /* text: address of Go's code in the file */
	const struct go_offsets *off;
	int minor;
	struct go_wanted fn[__FUNCTIONS];
	struct runtime *out;
};

__attribute__((format(printf, 2, 3))) static int why(struct golang *go, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(go->out->why, sizeof(go->out->why), fmt, ap);
	va_end(ap);
	return 0;
}

/* ---- which Go ----------------------------------------------------------------------------------- */

static int identify(struct golang *go)
{
	const char *v = go->file.version;
	char *end = NULL;

	snprintf(go->out->version, sizeof(go->out->version), "%s", v[0] ? v : "Go");
	go->minor = strncmp(v, "go1.", 4) ? 0 : (int)strtol(v + 4, &end, 10);
	if (!go->minor)
		return why(go, v[0] ? "not a released version" : "its version is not to be found");
	if ((size_t)go->minor >= sizeof(go_offsets) / sizeof(go_offsets[0]) || !go_offsets[go->minor].m)
		return why(go, "the layout of this version is not known");
	if (*end != '.' && *end != '\0' && *end != ' ' && *end != '-')
		return why(go, "a beta version: its layout may differ from the released one");
	go->off = &go_offsets[go->minor];
	return 0;
}

/* Where the code starts that the table counts from: only the running program says it for all kinds of programs. */
static int find_text(struct golang *go)
{
	uint64_t table = go->bias + go->file.pclntab, at = table + HEADER_TEXT, text;
	bool matches = true;
	struct memory m;
	int err = memory__open(&m, go->pid);

	if (err)
		return err == -ENOENT ? -ESRCH : err;
	if (go->minor >= HAS_MODULE) {
		matches = go->file.module && memory__word(&m, go->bias + go->file.module) == table;
		at = go->bias + go->file.module + MODULE_TEXT;
	}
	text = memory__word(&m, at);
	memory__close(&m);
	if (m.failed || !matches || text < go->bias || !elf_file__is_code(go->elf, text - go->bias))
		return why(go, "its table of functions does not say where they are");
	go->text = text - go->bias;
	return 0;
}

/* ---- code --------------------------------------------------------------------------------------- */

/* Up to `size` bytes of the function that was found as number i; 0: there is none. */
static size_t code_of(const struct golang *go, const struct go_wanted *w, size_t i, uint8_t *to, size_t size)
{
	uint64_t len;

	if (i >= w->n || w->at[i].end <= w->at[i].start)
		return 0;
	len = w->at[i].end - w->at[i].start;
	if (len > size)
		len = size;
	return elf_file__is_code(go->elf, go->text + w->at[i].start) &&
			       elf_file__read(go->elf, go->text + w->at[i].start, to, len)
		       ? len
		       : 0;
}

/* mov %fs:OFFSET,%rax, or, position independent, mov $OFFSET,%rcx; mov %fs:(%rcx),%rax */
static bool reads_g(const uint8_t *p, size_t left, int32_t *ret_offset)
{
	static const uint8_t direct[] = {0x64, 0x48, 0x8b, 0x04, 0x25}, load[] = {0x48, 0xc7, 0xc1},
			     indirect[] = {0x64, 0x48, 0x8b, 0x01};

	if (left >= sizeof(direct) + 4 && !memcmp(p, direct, sizeof(direct))) {
		memcpy(ret_offset, p + sizeof(direct), 4);
		return true;
	}
	if (left < sizeof(load) + 4 + sizeof(indirect) || memcmp(p, load, sizeof(load)) ||
	    memcmp(p + sizeof(load) + 4, indirect, sizeof(indirect)))
		return false;
	memcpy(ret_offset, p + sizeof(load), 4);
	return true;
}

static int find_g(struct golang *go, int32_t *ret_offset)
{
	const struct go_wanted *w = &go->fn[SYSTEM_STACK];
	uint8_t code[64];

	for (size_t i = 0; i < w->n; i++) { /* the function, and what calls it from Go's own calling convention */
		size_t len = code_of(go, w, i, code, sizeof(code));

		for (size_t at = 0; at < len; at++)
			if (reads_g(code + at, len - at, ret_offset) && *ret_offset < 0)
				return 0;
	}
	return why(go, "where its threads keep their goroutine is not to be found");
}

/* ---- sites -------------------------------------------------------------------------------------- */

static int add_site(struct golang *go, enum runtime_hook hook, uint64_t addr)
{
	struct runtime *out = go->out;
	uint64_t offset;
	char *path;

	if (!elf_file__offset(go->elf, addr, &offset))
		return why(go, "a function is not in its code");
	path = mem__strdup(go->path);
	if (!path)
		return -ENOMEM;
	out->sites[out->n_sites++] = (struct runtime_site){.hook = hook, .offset = offset, .path = path};
	return 0;
}

/* In runtime.newproc.func1: the call of runtime.runqput. */
static int add_new(struct golang *go)
{
	const struct go_wanted *w = &go->fn[NEW_GOROUTINE], *queue = &go->fn[RUN_QUEUE];
	uint8_t code[CODE_MAX];
	size_t len = code_of(go, w, 0, code, sizeof(code));

	for (size_t at = 0; queue->n && at + 5 <= len; at++) {
		uint64_t next = go->text + w->at[0].start + at + 5;
		int32_t rel;

		memcpy(&rel, code + at + 1, sizeof(rel));
		if (code[at] == 0xe8 && next + (uint64_t)(int64_t)rel == go->text + queue->at[0].start)
			return add_site(go, HOOK_GO_NEW, next - 5);
	}
	return why(go, "it does not start goroutines as known");
}

static int add_entries(struct golang *go, const struct go_wanted *w, enum runtime_hook hook)
{
	uint8_t code[PROLOGUE_BYTES];
	int err = 0;

	for (size_t i = 0; i < w->n && !err && !go->out->why[0]; i++) {
		size_t len = code_of(go, w, i, code, sizeof(code));

		if (len)
			err = add_site(go, hook, go->text + w->at[i].start + prologue__entry(code, len, PROLOGUE_GO));
	}
	return err;
}

static size_t present(const struct go_wanted *w)
{
	size_t n = 0;

	for (size_t i = 0; i < w->n; i++)
		n += w->at[i].end > w->at[i].start;
	return n;
}

/*
 * The goroutine that writes for a connection was started by whoever dialled: half of this would give calls to the
 * wrong request.
 */
static int add_client(struct golang *go)
{
	size_t n = present(&go->fn[WRITE_LOOP]);
	int err;

	if (present(&go->fn[ROUND_TRIP]) != n || present(&go->fn[WRITE]) != n || n >= GO_MATCHES_MAX)
		return why(go, "its client is not built as known");
	err = add_entries(go, &go->fn[ROUND_TRIP], HOOK_GO_ROUND_TRIP);
	if (!err && !go->out->why[0])
		err = add_entries(go, &go->fn[WRITE], HOOK_GO_WRITE);
	if (!err && !go->out->why[0] && n) /* what nobody calls out with need not be known */
		err = add_entries(go, &go->fn[SERVE], HOOK_GO_SERVE);
	return err;
}

static int find_all(struct golang *go)
{
	struct ws_runtime *d = &go->out->desc;
	int err = go_file__find(&go->file, go->fn, __FUNCTIONS);

	if (err == -EBADMSG)
		return why(go, "its table of functions cannot be read");
	if (!err)
		err = find_text(go);
	if (!err && !go->out->why[0])
		err = find_g(go, &d->tls);
	if (err || go->out->why[0])
		return err;
	d->kind = WS_RT_GO;
	d->go.m = go->off->m;
	d->go.curg = go->off->curg;
	d->go.goid = go->off->goid;
	d->go.ctx = go->off->ctx;
	go->out->sites = mem__zalloc(SITES_MAX * sizeof(*go->out->sites));
	if (!go->out->sites)
		return -ENOMEM;
	err = add_new(go);
	if (!err && !go->out->why[0])
		err = present(&go->fn[EXIT]) == 1 ? add_entries(go, &go->fn[EXIT], HOOK_GO_EXIT)
						  : why(go, "it does not end goroutines as known");
	return err || go->out->why[0] ? err : add_client(go);
}

static int inspect(struct golang *go)
{
	uint64_t addr;
	int err = elf_file__open(go->path, &go->elf);

	if (err)
		return err == -ENOMEM ? err : 0;
	err = go_file__open(&go->file, go->elf, go->path);
	if (err && err != -EBADMSG)
		return err == -ENOEXEC ? 0 : err;
	if (err) {
		identify(go);
		return why(go, "its table of functions cannot be read");
	}
	if (!elf_file__address(go->elf, go->exe->offset, &addr))
		return why(go, "its first mapping is no segment of the file");
	go->bias = go->exe->start - (addr & ~4095ull); /* segments are mapped by whole pages */
	err = identify(go);
	return err || go->out->why[0] ? err : find_all(go);
}

int go_process__inspect(pid_t pid, const struct mapped_file *exe, struct runtime *out)
{
	static const char *const names[__FUNCTIONS] = {
		[NEW_GOROUTINE] = "runtime.newproc.func1",
		[RUN_QUEUE] = "runtime.runqput",
		[EXIT] = "runtime.goexit0",
		[SYSTEM_STACK] = "runtime.systemstack",
		[WRITE_LOOP] = ".(*persistConn).writeLoop",
		[ROUND_TRIP] = ".(*persistConn).roundTrip",
		[WRITE] = ".persistConnWriter.Write",
		[SERVE] = ".serverHandler.ServeHTTP",
	};
	struct golang *go = mem__zalloc(sizeof(*go));
	int err = -ENOMEM;

	if (!go)
		return err;
	*go = (struct golang){.pid = pid, .exe = exe, .out = out};
	for (int i = 0; i < __FUNCTIONS; i++)
		go->fn[i].name = names[i];
	err = mapped_file__path(exe, pid, go->path) ? inspect(go) : 0;
	elf_file__close(go->elf);
	mem__free(go);
	return err;
}
