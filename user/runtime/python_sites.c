// SPDX-License-Identifier: Apache-2.0
/*
 * Where CPython hands work on.
 *
 * Copies of contexts are functions of the interpreter that it exports. Futures and queues are methods of the extension
 * modules _asyncio and _queue, which may be files of their own, mapped by now or imported later (probes go by inode:
 * they wait), or part of the interpreter. Those functions are static and distributions strip them: their PyMethodDef
 * leads there. Names repeat (Task has a set_result that only raises), documentation does not.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "user/base/mem.h"
#include "user/runtime/hazards.h"
#include "user/runtime/prologue.h"
#include "user/runtime/python.h"
#include "user/runtime/python_offsets.h"

#define SITES_MAX 32
#define DYNLOAD "/lib-dynload"

/* Include/methodobject.h */
#define METH_FASTCALL 0x80u

static const struct python_method asyncio_methods[] = {
	{"set_result", "Mark the future done and set its result", HOOK_FUTURE_RESULT, false},
};

static const struct python_method queue_methods[] = {
	{"put", "Put the item on the queue.", HOOK_QUEUE_PUT, true},
	{"put_nowait", "Put an item into the queue without blocking.", HOOK_QUEUE_PUT, true},
	{"get", "Remove and return an item from the queue.", HOOK_QUEUE_GET, false},
	{"get_nowait", "Remove and return an item from the queue without blocking.", HOOK_QUEUE_GET, false},
};

static const struct python_method deque_methods[] = {
	{"append", "Add an element to the right side of the deque.", HOOK_DEQUE_PUT, false},
	{"popleft", "Remove and return the leftmost element.", HOOK_DEQUE_GET, false},
};

#define METHODS_MAX 4

static const struct python_module modules[] = {
	{"_asyncio", asyncio_methods, 1},
	{"_queue", queue_methods, 4},
};

/* Part of the interpreter in every build (Modules/Setup.bootstrap.in). */
static const struct python_module collections = {"_collections", deque_methods, 2};

static bool is_entry(enum runtime_hook hook)
{
	return hook != HOOK_CONTEXT_COPY && hook != HOOK_CONTEXT_NEW && hook != HOOK_QUEUE_GET && hook != HOOK_UV_READ_DONE &&
	       hook != HOOK_UV_FLUSHED && hook != HOOK_UV_MADE_DONE;
}

int python__add_site(struct python *py, const struct elf_file *elf, const char *path, enum runtime_hook hook, uint64_t fn)
{
	struct runtime *out = py->out;
	size_t len = PROLOGUE_BYTES;
	const uint8_t *code = NULL;
	uint64_t offset;
	char *copy;

	while (len && !(code = elf_file__bytes(elf, fn, len))) /* the last function of a segment may be short */
		len /= 2;
	if (!code || !elf_file__is_code(elf, fn) || !elf_file__offset(elf, fn, &offset) || out->n_sites == SITES_MAX)
		return python__why(py, "%s: a function of it is not in its code", path);
	copy = mem__strdup(path);
	if (!copy)
		return -ENOMEM;
	offset += is_entry(hook) ? prologue__entry(code, len, PROLOGUE_C) : prologue__return(code, len);
	out->sites[out->n_sites++] =
		(struct runtime_site){.hook = hook, .ret = !is_entry(hook), .offset = offset, .path = copy};
	return 0;
}

/* ---- contexts ------------------------------------------------------------------------------------- */

static int add_contexts(struct python *py)
{
	uint64_t table = elf_file__pointer(py->elf, py->context_type + py->off->type_methods);
	/* A copy of some other context works on whatever that did: not followed, and not what had its address before. */
	const struct {
		uint64_t fn;
		enum runtime_hook hook;
	} functions[] = {
		{elf_file__symbol(py->elf, "PyContext_CopyCurrent"), HOOK_CONTEXT_COPY},
		{elf_file__symbol(py->elf, "PyContext_Copy"), HOOK_CONTEXT_NEW},
		{elf_file__method_in(py->elf, table, "copy"), HOOK_CONTEXT_NEW},
		{elf_file__pointer(py->elf, py->context_type + py->off->type_new), HOOK_CONTEXT_NEW},
	};
	int err = 0;

	for (size_t i = 0; i < sizeof(functions) / sizeof(functions[0]) && !err && !py->out->why[0]; i++)
		err = functions[i].fn ? python__add_site(py, py->elf, py->path, functions[i].hook, functions[i].fn)
				      : python__why(py, "its functions for contexts are not where they should be");
	return err;
}

/* ---- modules -------------------------------------------------------------------------------------- */

int python__add_methods(struct python *py, const struct python_module *mod, const struct elf_file *elf, const char *path)
{
	struct elf_method m[METHODS_MAX] = {0};
	size_t missing = 0;
	int err = 0;

	for (size_t i = 0; i < mod->n; i++)
		m[i] = (struct elf_method){.name = mod->methods[i].name, .doc = mod->methods[i].doc};
	elf_file__methods(elf, m, mod->n);
	for (size_t i = 0; i < mod->n; i++) {
		const struct python_method *w = &mod->methods[i];

		missing += !m[i].fn;
		if (m[i].fn == ELF_METHOD_TWO)
			return python__why(py, "%s: more than one %s", mod->name, w->name);
		if (m[i].fn && w->fastcall && !(m[i].flags & METH_FASTCALL))
			return python__why(py, "%s: %s is called in another way", mod->name, w->name);
	}
	if (missing)
		return missing == mod->n ? -ENOENT : python__why(py, "%s: not all methods were found", mod->name);
	for (size_t i = 0; i < mod->n && !err && !py->out->why[0]; i++)
		err = python__add_site(py, elf, path, mod->methods[i].hook, m[i].fn);
	for (size_t i = 0; i < mod->n && !err && !py->out->why[0]; i++)
		if (mod->methods[i].hook == HOOK_QUEUE_GET)
			err = python__add_site(py, elf, path, HOOK_QUEUE_WAIT, m[i].fn);
	return err;
}

static int add_file(struct python *py, const struct python_module *mod, const char *path)
{
	struct elf_file *elf;
	int err = elf_file__open(path, &elf);

	if (err == -ENOMEM)
		return err;
	if (err)
		return python__why(py, "%s cannot be read", mod->name);
	err = elf_file__load(elf);
	if (!err)
		err = python__add_methods(py, mod, elf, path);
	else if (err != -ENOMEM)
		err = python__why(py, "%s cannot be read", mod->name);
	elf_file__close(elf);
	return err == -ENOENT ? python__why(py, "%s: its methods were not found", mod->name) : err;
}

/* _asyncio.cpython-311-x86_64-linux-gnu.so, _asyncio.so, _asyncio.abi3.so; not _asyncio.cpython-310-…, nor _asyncio.py */
static bool is_module_file(const struct python *py, const struct python_module *mod, const char *base)
{
	size_t n = strlen(mod->name), len = strlen(base);
	char tag[32];

	if (len < n + 3 || strncmp(base, mod->name, n) != 0 || base[n] != '.' || strcmp(base + len - 3, ".so") != 0)
		return false;
	snprintf(tag, sizeof(tag), ".cpython-3%d-", py->minor);
	return !strcmp(base + n, ".so") || !strcmp(base + n, ".abi3.so") || !strncmp(base + n, tag, strlen(tag));
}

/*
 * A directory as the process sees it, opened without following a link: one that is absolute would lead into our own
 * tree. (Names from /proc/PID/maps have none left in them.)
 */
static DIR *open_dir(pid_t pid, const char *name)
{
	struct open_how how = {.flags = O_RDONLY | O_DIRECTORY | O_CLOEXEC,
			       .resolve = RESOLVE_NO_SYMLINKS | RESOLVE_IN_ROOT};
	char root[64];
	DIR *dir = NULL;
	int fd, at;

	snprintf(root, sizeof(root), "/proc/%d/root", (int)pid);
	fd = open(root, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return NULL;
	at = (int)syscall(SYS_openat2, fd, name, &how, sizeof(how));
	close(fd);
	if (at < 0)
		return NULL;
	dir = fdopendir(at);
	if (!dir)
		close(at);
	return dir;
}

/* One directory where modules may be: 0 if the module's file is there, -ENOENT if it is not, -ENOTDIR without it. */
static int look_in(const struct python *py, const struct python_module *mod, const char *name, char path[MAPPED_PATH_MAX])
{
	DIR *dir = open_dir(py->pid, name);
	struct dirent *e;
	int err = -ENOENT;

	if (!dir)
		return -ENOTDIR;
	while (err && (e = readdir(dir))) {
		if (e->d_type != DT_REG && e->d_type != DT_UNKNOWN)
			continue;
		if (is_module_file(py, mod, e->d_name) &&
		    (size_t)snprintf(path, MAPPED_PATH_MAX, "/proc/%d/root%s/%s", (int)py->pid, name, e->d_name) <
			    MAPPED_PATH_MAX)
			err = 0;
	}
	closedir(dir);
	return err;
}

/* Where a mapped file shows where the others are: …/lib-dynload/_socket.cpython-39-x86_64-linux-gnu.so */
static bool dynload_of(const struct python *py, const struct mapped_file *f, char dir[MAPPED_NAME_MAX])
{
	const char *base = mapped_file__base(f);
	size_t n = (size_t)(base - f->name);
	char tag[32];

	snprintf(tag, sizeof(tag), ".cpython-3%d-", py->minor);
	if (f->deleted || n < sizeof(DYNLOAD) || !strstr(base, tag) ||
	    strncmp(base - sizeof(DYNLOAD), DYNLOAD "/", sizeof(DYNLOAD)) != 0)
		return false;
	snprintf(dir, MAPPED_NAME_MAX, "%.*s", (int)(n - 1), f->name);
	return true;
}

/* Where the interpreter looks itself (Modules/getpath): upwards from its file, lib/python3.9/lib-dynload. */
static int look_upwards(const struct python *py, const struct python_module *mod, char path[MAPPED_PATH_MAX])
{
	size_t len = strlen(py->file->name);
	char dir[MAPPED_NAME_MAX];
	int err = -ENOTDIR;

	while (err == -ENOTDIR && len) {
		while (len && py->file->name[len - 1] != '/')
			len--;
		if (!len)
			break;
		len--;
		if ((size_t)snprintf(dir, sizeof(dir), "%.*s/lib/python3.%d" DYNLOAD, (int)len, py->file->name,
				     py->minor) < sizeof(dir))
			err = look_in(py, mod, dir, path);
	}
	return err;
}

/* 0, -ENOENT: it is no file, -ENOTDIR: nothing tells where files of modules are. */
static int module_path(const struct python *py, const struct python_module *mod, char path[MAPPED_PATH_MAX])
{
	char dir[MAPPED_NAME_MAX];

	for (size_t i = 0; i < py->maps->n; i++)
		if (is_module_file(py, mod, mapped_file__base(&py->maps->files[i])) &&
		    mapped_file__path(&py->maps->files[i], py->pid, path))
			return 0;
	for (size_t i = 0; i < py->maps->n; i++)
		if (dynload_of(py, &py->maps->files[i], dir))
			return look_in(py, mod, dir, path);
	return look_upwards(py, mod, path);
}

/*
 * A module that the installation does not have cannot be imported: the interpreter then does the same in Python, and
 * nothing is to be seen. Where it is not known what the installation has, nothing is followed at all.
 */
static int add_module(struct python *py, const struct python_module *mod)
{
	int found, err = python__add_methods(py, mod, py->elf, py->path);
	char path[MAPPED_PATH_MAX];

	if (err != -ENOENT)
		return err;
	found = module_path(py, mod, path);
	if (!found)
		return add_file(py, mod, path);
	return found == -ENOENT ? 0 : python__why(py, "%s: no directory of extension modules was found", mod->name);
}

/* ---- libraries that mislead ------------------------------------------------------------------------- */

/* Where a mapped file shows where packages are: …/site-packages/pydantic_core/…; 0: it does not. */
static size_t packages_of(const struct mapped_file *f)
{
	static const char *const names[] = {"/site-packages/", "/dist-packages/"};

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		const char *at = strstr(f->name, names[i]);

		if (at)
			return (size_t)(at - f->name) + strlen(names[i]) - 1;
	}
	return 0;
}

static int add_init(struct python *py, const struct hazard *h, const char *path)
{
	struct elf_file *elf;
	int err = elf_file__open(path, &elf);
	uint64_t fn;

	if (err)
		return err == -ENOMEM ? err : 0; /* no such module for this machine: it cannot be imported */
	fn = elf_file__symbol(elf, h->init);
	err = fn ? elf_file__load(elf) : 0;
	if (fn && !err)
		err = python__add_site(py, elf, path, HOOK_HAZARD, fn);
	elf_file__close(elf);
	return err == -ENOMEM ? err : 0;
}

/* Libraries may be imported at any time later, by the first request that needs them: the import itself tells. */
static int add_hazards(struct python *py)
{
	char last[MAPPED_NAME_MAX] = "", dir[MAPPED_NAME_MAX], path[MAPPED_PATH_MAX];
	int err = 0;

	for (size_t i = 0; i < py->maps->n && !err && !py->out->why[0]; i++) {
		size_t n = packages_of(&py->maps->files[i]);

		if (!n || (!strncmp(last, py->maps->files[i].name, n) && strlen(last) == n))
			continue;
		snprintf(last, sizeof(last), "%.*s", (int)n, py->maps->files[i].name);
		for (size_t k = 0; k < n_hazards && !err; k++) {
			const struct python_module mod = {.name = hazards[k].module};

			if ((size_t)snprintf(dir, sizeof(dir), "%s%s%s", last, hazards[k].package[0] ? "/" : "",
					     hazards[k].package) < sizeof(dir) &&
			    !look_in(py, &mod, dir, path))
				err = add_init(py, &hazards[k], path);
		}
	}
	return err;
}

void python__take_back(struct python *py, size_t n_sites)
{
	while (py->out->n_sites > n_sites)
		mem__free(py->out->sites[--py->out->n_sites].path);
	py->out->why[0] = '\0';
}

/* Without them all else is followed the same. */
static int add_deques(struct python *py)
{
	size_t had = py->out->n_sites;
	int err = python__add_methods(py, &collections, py->elf, py->path);

	if (err == -ENOMEM)
		return err;
	if (err || py->out->why[0])
		python__take_back(py, had);
	py->out->n_deques = py->out->n_sites - had;
	return 0;
}

/*
 * gevent, or eventlet, which is all Python. Whatever blocks changes greenlets there, and so stacks: in a finalizer,
 * which any allocation may run, or in a signal's handler. A function that is left in the middle must have no return
 * probe: the kernel looks for the return address that it has replaced by its place on the stack, finds none if another
 * stack was there in between, and kills the process. (asyncio's greenlets, SQLAlchemy's, do not block in finalizers.)
 */
static bool blocks_by_switching(const struct python *py)
{
	char path[MAPPED_PATH_MAX];

	if (!py->out->greenlet || mapped_files__find(py->maps, "/gevent/_gevent_"))
		return py->out->greenlet;
	return !mapped_files__find(py->maps, "/_asyncio.") && !module_path(py, &modules[0], path);
}

/* What was imported last is last: see uprobes__plant(). */
int python__find_sites(struct python *py)
{
	int err;

	py->out->sites = mem__zalloc(SITES_MAX * sizeof(*py->out->sites));
	if (!py->out->sites)
		return -ENOMEM;
	err = python__add_greenlets(py);
	if (err || blocks_by_switching(py))
		return err;
	err = add_contexts(py);
	for (size_t i = 0; i < sizeof(modules) / sizeof(modules[0]) && !err && !py->out->why[0]; i++)
		err = add_module(py, &modules[i]);
	if (!err && !py->out->why[0])
		err = add_hazards(py);
	if (!err && !py->out->why[0])
		err = python__add_uvloop(py);
	return err || py->out->why[0] ? err : add_deques(py);
}
