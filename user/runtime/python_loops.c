// SPDX-License-Identifier: Apache-2.0
/*
 * Functions of modules that are hooked besides the interpreter's own: uvloop's and gevent's, which Cython has made and
 * whose symbols wheels keep, and greenlet's.
 */
#include <errno.h>
#include <string.h>

#include "user/base/mem.h"
#include "user/runtime/python.h"
#include "user/runtime/symtab.h"

struct cython_function {
	const char *name;
	enum runtime_hook first, second; /* the same twice: one only */
};

#define FUNCTIONS_MAX 5

/* A module whose own C functions are hooked, once it is there. */
struct cython_module {
	const char *name, *file; /* of which this is in its name */
	const struct cython_function *functions;
	size_t n;
	const struct python_module *methods; /* in the same file, or NULL */
};

/* uvloop/handles/stream.pyx, basetransport.pyx */
static const struct cython_function uvloop_functions[] = {
	{"__pyx_f_6uvloop_4loop___uv_stream_on_read", HOOK_UV_READ, HOOK_UV_READ_DONE},
	{"__pyx_f_6uvloop_4loop___uv_stream_buffered_on_read", HOOK_UV_READ, HOOK_UV_READ_DONE},
	{"__pyx_f_6uvloop_4loop_8UVStream__initiate_write", HOOK_UV_WRITE, HOOK_UV_WRITE},
	{"__pyx_f_6uvloop_4loop_8UVStream__exec_write", HOOK_UV_FLUSH, HOOK_UV_FLUSHED},
	{"__pyx_f_6uvloop_4loop_15UVBaseTransport__call_connection_made", HOOK_UV_MADE, HOOK_UV_MADE_DONE},
};

/* gevent/queue.py: what executors hand work items over with where gevent has put its own in place of the library's. */
static const struct cython_function gevent_functions[] = {
	{"__pyx_f_6gevent_14_gevent_cqueue_11SimpleQueue_put", HOOK_GREENLET_PUT, HOOK_GREENLET_PUT},
	{"__pyx_f_6gevent_14_gevent_cqueue_11SimpleQueue__get", HOOK_GREENLET_GET, HOOK_GREENLET_GET},
};

/* Its method is another function than the one that C calls, and does the same. */
static const struct python_method gevent_methods[] = {
	{"_get", "SimpleQueue._get(self)", HOOK_GREENLET_GET, false},
};

static const struct python_module gevent_queue = {"gevent's queue", gevent_methods, 1};
static const struct cython_module uvloop = {"uvloop", "/uvloop/loop.", uvloop_functions, 5, NULL};
static const struct cython_module gevent = {"gevent's queue", "/gevent/_gevent_cqueue.", gevent_functions, 2, &gevent_queue};

static int add_functions(struct python *py, const struct cython_module *mod, const struct elf_file *elf, const char *path,
			 const uint64_t *fns)
{
	int err = 0;

	for (size_t i = 0; i < mod->n && !err && !py->out->why[0]; i++) {
		const struct cython_function *f = &mod->functions[i];

		if (!fns[i])
			return python__why(py, "%s: stripped, or of another version: %s", mod->name, f->name);
		err = python__add_site(py, elf, path, f->first, fns[i]);
		if (!err && !py->out->why[0] && f->second != f->first)
			err = python__add_site(py, elf, path, f->second, fns[i]);
	}
	if (!err && !py->out->why[0] && mod->methods)
		err = python__add_methods(py, mod->methods, elf, path);
	return err == -ENOENT ? python__why(py, "%s: its methods were not found", mod->name) : err;
}

static int add_cython(struct python *py, const struct cython_module *mod)
{
	const char *names[FUNCTIONS_MAX];
	uint64_t fns[FUNCTIONS_MAX];
	char path[MAPPED_PATH_MAX];
	const struct mapped_file *f = mapped_files__find(py->maps, mod->file);
	struct elf_file *elf = NULL;
	int err;

	if (!f)
		return 0;
	for (size_t k = 0; k < mod->n; k++)
		names[k] = mod->functions[k].name;
	if (!mapped_file__path(f, py->pid, path))
		return python__why(py, "%s cannot be opened", mod->name);
	err = symtab__find(path, names, fns, mod->n);
	err = err ? err : elf_file__open(path, &elf);
	err = err ? err : elf_file__load(elf);
	if (!err)
		err = add_functions(py, mod, elf, path, fns);
	else if (err != -ENOMEM)
		err = python__why(py, "%s cannot be read", mod->name);
	elf_file__close(elf);
	return err;
}

/* ---- greenlets ------------------------------------------------------------------------------------- */

/* greenlet/TPythonState.cpp, since 2.0: exported, so there in stripped builds as well. */
#define GREENLET_END "_ZN8greenlet11PythonState10did_finishEP3_ts"

static int add_greenlet_end(struct python *py)
{
	const struct mapped_file *f = mapped_files__find(py->maps, "/greenlet/_greenlet.");
	char path[MAPPED_PATH_MAX];
	struct elf_file *elf;
	uint64_t fn;
	int err;

	if (!f || !mapped_file__path(f, py->pid, path))
		return -ENOENT;
	err = elf_file__open(path, &elf);
	if (err)
		return err;
	fn = elf_file__symbol(elf, GREENLET_END);
	err = fn ? elf_file__load(elf) : -ENOENT;
	if (!err)
		err = python__add_site(py, elf, path, HOOK_GREENLET_END, fn);
	elf_file__close(elf);
	return err;
}

int python__add_greenlets(struct python *py)
{
	size_t had = py->out->n_sites;
	int err;

	if (!py->out->desc.py.stack)
		return 0;
	err = add_greenlet_end(py);
	if (err == -ENOMEM)
		return err;
	if (err || py->out->why[0]) {
		python__take_back(py, had);
		py->out->desc.py.stack = 0;
		return 0;
	}
	had = py->out->n_sites;
	err = add_cython(py, &gevent);
	if (!err && py->out->why[0])
		python__take_back(py, had);
	return err;
}

int python__add_uvloop(struct python *py)
{
	return add_cython(py, &uvloop);
}
