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
#include <stdio.h>
#include <string.h>

#include "user/base/mem.h"
#include "user/runtime/go_program.h"
#include "user/runtime/prologue.h"

#define CODE_MAX 512u /* of a function that is looked through */
#define SITES_MAX (2 + 3 * GO_MATCHES_MAX)

enum { NEW_GOROUTINE, RUN_QUEUE, EXIT, SYSTEM_STACK, WRITE_LOOP, ROUND_TRIP, WRITE, SERVE, __FUNCTIONS };

struct golang {
	struct go_program p;
	struct go_wanted fn[__FUNCTIONS];
	struct runtime *out;
};

static int why(struct golang *go, const char *reason)
{
	snprintf(go->out->why, sizeof(go->out->why), "%s", reason);
	return 0;
}

/* ---- code --------------------------------------------------------------------------------------- */

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
		size_t len = go_program__code(&go->p, w, i, code, sizeof(code));

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

	if (!elf_file__offset(go->p.elf, addr, &offset))
		return why(go, "a function is not in its code");
	path = mem__strdup(go->p.path);
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
	size_t len = go_program__code(&go->p, w, 0, code, sizeof(code)), at = len;

	if (queue->n)
		at = prologue__call(code, len, go_program__address(&go->p, w, 0), go_program__address(&go->p, queue, 0));
	if (at < len)
		return add_site(go, HOOK_GO_NEW, go_program__address(&go->p, w, 0) + at);
	return why(go, "it does not start goroutines as known");
}

static int add_entries(struct golang *go, const struct go_wanted *w, enum runtime_hook hook)
{
	uint8_t code[PROLOGUE_BYTES];
	int err = 0;

	for (size_t i = 0; i < w->n && !err && !go->out->why[0]; i++) {
		size_t len = go_program__code(&go->p, w, i, code, sizeof(code));

		if (len)
			err = add_site(go, hook, go_program__address(&go->p, w, i) + prologue__entry(code, len, PROLOGUE_GO));
	}
	return err;
}

/*
 * The goroutine that writes for a connection was started by whoever dialled: half of this would give calls to the
 * wrong request.
 */
static int add_client(struct golang *go)
{
	size_t n = go_program__present(&go->fn[WRITE_LOOP]);
	int err;

	if (go_program__present(&go->fn[ROUND_TRIP]) != n || go_program__present(&go->fn[WRITE]) != n || n >= GO_MATCHES_MAX)
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
	int err = find_g(go, &d->tls);

	if (err || go->out->why[0])
		return err;
	d->kind = WS_RT_GO;
	d->go.m = go->p.off->m;
	d->go.curg = go->p.off->curg;
	d->go.goid = go->p.off->goid;
	d->go.ctx = go->p.off->ctx;
	go->out->sites = mem__zalloc(SITES_MAX * sizeof(*go->out->sites));
	if (!go->out->sites)
		return -ENOMEM;
	err = add_new(go);
	if (!err && !go->out->why[0])
		err = go_program__present(&go->fn[EXIT]) == 1 ? add_entries(go, &go->fn[EXIT], HOOK_GO_EXIT)
							      : why(go, "it does not end goroutines as known");
	return err || go->out->why[0] ? err : add_client(go);
}

static int inspect(struct golang *go, pid_t pid, const struct mapped_file *exe)
{
	const char *reason, *v = go->p.file.version;
	int err = go_program__open(&go->p, pid, exe, &reason);

	if (err)
		return err == -ENOEXEC ? 0 : err;
	snprintf(go->out->version, sizeof(go->out->version), "%s", v[0] ? v : "Go");
	if (!reason)
		err = go_program__find(&go->p, go->fn, __FUNCTIONS, &reason);
	if (reason)
		return why(go, reason);
	return err ? err : find_all(go);
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
	int err;

	if (!go)
		return -ENOMEM;
	go->out = out;
	for (int i = 0; i < __FUNCTIONS; i++)
		go->fn[i].name = names[i];
	err = inspect(go, pid, exe);
	go_program__close(&go->p);
	mem__free(go);
	return err;
}
