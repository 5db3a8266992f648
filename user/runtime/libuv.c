// SPDX-License-Identifier: Apache-2.0
/*
 * Where Node.js's event loop calls back. The functions are static ones of libuv (src/unix/stream.c, src/threadpool.c):
 * found by symbol, which the builds that the project itself ships carry. Distributions strip their shared libuv.
 */
#include "user/runtime/libuv.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "user/base/mem.h"
#include "user/runtime/elf_file.h"
#include "user/runtime/prologue.h"
#include "user/runtime/symtab.h"

/* Exported by every Node.js since 0.11 for its add-ons; nobody else's symbol. */
#define NODE "node_module_register"

enum { STREAM_IO, REF, UNREF, TRY_WRITE, WORK_SUBMIT, WORK_DONE, FIRST_DONE, __FUNCTIONS = FIRST_DONE + 5 };

static const char *const names[__FUNCTIONS] = {
	[STREAM_IO] = "uv__stream_io",
	[REF] = "uv_ref",
	[UNREF] = "uv_unref",
	[TRY_WRITE] = "uv_try_write",
	[WORK_SUBMIT] = "uv__work_submit",
	[WORK_DONE] = "uv__work_done",
	/* All that it is called with for its `done`. */
	"uv__queue_done",
	"uv__fs_done",
	"uv__getaddrinfo_done",
	"uv__getnameinfo_done",
	"uv__random_done",
};

struct libuv {
	struct elf_file *elf;
	const char *path;
	uint64_t fn[__FUNCTIONS]; /* address in the file, 0: not found */
	struct runtime *out;
};

static int add_site(struct libuv *uv, int function, enum runtime_hook hook)
{
	struct runtime *out = uv->out;
	uint64_t fn = uv->fn[function], offset;
	uint8_t code[PROLOGUE_BYTES];
	bool ret = hook == HOOK_TURN_END;
	char *path;

	if (out->why[0])
		return 0;
	if (!elf_file__is_code(uv->elf, fn) || !elf_file__read(uv->elf, fn, code, sizeof(code)) ||
	    !elf_file__offset(uv->elf, fn, &offset)) {
		snprintf(out->why, sizeof(out->why), "%s is not in its code", names[function]);
		return 0;
	}
	path = mem__strdup(uv->path);
	if (!path)
		return -ENOMEM;
	offset += ret ? prologue__return(code, sizeof(code)) : prologue__entry(code, sizeof(code), PROLOGUE_C);
	out->sites[out->n_sites++] = (struct runtime_site){.hook = hook, .ret = ret, .offset = offset, .path = path};
	return 0;
}

/* Half of it would run what is done in the name of another request: all, or what comes from the pool is nobody's. */
static int add_pool(struct libuv *uv)
{
	int err;

	for (int i = WORK_SUBMIT; i < __FUNCTIONS; i++)
		if (!uv->fn[i])
			return 0;
	err = add_site(uv, WORK_SUBMIT, HOOK_TURN_SUBMIT);
	for (int i = FIRST_DONE; i < __FUNCTIONS && !err; i++)
		err = add_site(uv, i, HOOK_TURN_DONE);
	return err ? err : add_site(uv, WORK_DONE, HOOK_TURN_END);
}

/* Connections that are taken into use in one turn, and written to after it. */
static int add_refs(struct libuv *uv)
{
	int err;

	if (!uv->fn[REF] || !uv->fn[UNREF] || !uv->fn[TRY_WRITE])
		return 0;
	err = add_site(uv, UNREF, HOOK_TURN_UNREF);
	if (!err)
		err = add_site(uv, TRY_WRITE, HOOK_TURN_WRITE);
	return err ? err : add_site(uv, REF, HOOK_TURN_REF);
}

static int find_sites(struct libuv *uv)
{
	int err;

	uv->out->desc.kind = WS_RT_LIBUV;
	uv->out->sites = mem__zalloc(2 * __FUNCTIONS * sizeof(*uv->out->sites));
	if (!uv->out->sites)
		return -ENOMEM;
	/* The end first: a turn must not begin without. */
	err = add_site(uv, STREAM_IO, HOOK_TURN_END);
	if (!err)
		err = add_pool(uv);
	if (!err)
		err = add_refs(uv);
	return err ? err : add_site(uv, STREAM_IO, HOOK_TURN_BEGIN);
}

/* The program itself, or, of distributions, its library. */
static int inspect_file(struct libuv *uv, bool *ret_node)
{
	int err = elf_file__open(uv->path, &uv->elf);

	if (err)
		return err == -ENOMEM ? err : 0;
	*ret_node = elf_file__symbol(uv->elf, NODE) != 0;
	if (!*ret_node)
		return 0;
	err = symtab__find(uv->path, names, uv->fn, __FUNCTIONS);
	if (err == -ENOMEM)
		return err;
	if (!err && uv->fn[STREAM_IO])
		return find_sites(uv);
	snprintf(uv->out->why, sizeof(uv->out->why), "its libuv is stripped, or a library of its own");
	return 0;
}

int libuv__inspect(pid_t pid, const struct mapped_file *exe, const struct mapped_files *maps, struct runtime *out)
{
	char path[MAPPED_PATH_MAX];
	bool node = false;
	int err = 0;

	for (size_t i = 0; i < maps->n && !node && !err; i++) {
		const struct mapped_file *f = &maps->files[i];
		struct libuv uv = {.path = path, .out = out};

		if (f != exe && strncmp(mapped_file__base(f), "libnode.so", 10))
			continue;
		if (mapped_file__path(f, pid, path))
			err = inspect_file(&uv, &node);
		elf_file__close(uv.elf);
	}
	if (node)
		snprintf(out->version, sizeof(out->version), "Node.js");
	return err;
}
