// SPDX-License-Identifier: Apache-2.0
/* CPython: the interpreter's state, its contexts, and the methods of _asyncio and _queue. */
#include "user/runtime/runtime.h"

#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "user/base/mem.h"
#include "user/runtime/elf_file.h"
#include "user/runtime/maps.h"
#include "user/runtime/prologue.h"
#include "user/runtime/python_offsets.h"

/* nptl/descr.h: struct pthread begins with 0x310 bytes of header, then specific_1stblock[32] of { seq, data }. */
#define PTHREAD_SPECIFIC 0x310
#define PTHREAD_KEYS 32
/* Include/cpython/object.h: PyTypeObject.tp_new */
#define TYPE_NEW 312
#define SITES_MAX 16

struct python {
	pid_t pid;
	struct mapped_files maps;
	const struct mapped_file *lib; /* what exports _PyRuntime: the executable, or libpython */
	struct elf_file *elf;
	uint64_t runtime; /* address of _PyRuntime in the file */
	int minor;
	const struct python_offsets *off;
	struct runtime *out;
};

static int why_not(struct python *py, const char *why)
{
	py->out->desc.kind = WS_RT_NONE;
	snprintf(py->out->why, sizeof(py->out->why), "%s", why);
	return 0;
}

static const char *base_of(const char *path)
{
	const char *slash = strrchr(path, '/');

	return slash ? slash + 1 : path;
}

static bool is_mapped(const struct python *py, const char *part)
{
	for (size_t i = 0; i < py->maps.n; i++)
		if (strstr(py->maps.files[i].name, part))
			return true;
	return false;
}

/* ---- the interpreter ------------------------------------------------------------------------------ */

static bool may_be_python(const char *name)
{
	const char *base = base_of(name);

	return !strncmp(base, "python", 6) || !strncmp(base, "libpython", 9) || !strncmp(base, "uwsgi", 5) || strstr(base, "mod_wsgi");
}

/* The first file that exports _PyRuntime. Only what is named like an interpreter is opened: a service maps hundreds. */
static void find_interpreter(struct python *py)
{
	for (size_t i = 0; i < py->maps.n && !py->elf; i++) {
		const struct mapped_file *f = &py->maps.files[i];

		if (!may_be_python(f->name))
			continue;
		py->elf = elf_file__open(f->path);
		py->runtime = py->elf ? elf_file__symbol(py->elf, "_PyRuntime") : 0;
		if (py->runtime) {
			py->lib = f;
			return;
		}
		elf_file__close(py->elf);
		py->elf = NULL;
	}
}

/* Py_Version (3.11 and later), else "python3.9", "libpython3.9.so.1.0" in the path. */
static int minor_version(const struct python *py)
{
	uint64_t addr = elf_file__symbol(py->elf, "Py_Version"), v = 0;
	const uint8_t *at = addr ? elf_file__bytes(py->elf, addr, 8) : NULL;
	const char *s;

	if (at) {
		memcpy(&v, at, 8);
		return v >> 24 == 3 ? (int)(v >> 16 & 0xff) : -1;
	}
	for (size_t i = 0; i < py->maps.n; i++) {
		s = strstr(py->maps.files[i].name, "python3.");
		if (s)
			return (int)strtol(s + 8, NULL, 10);
	}
	return -1;
}

static const struct python_offsets *offsets_of(int minor)
{
	for (size_t i = 0; i < sizeof(python_offsets) / sizeof(python_offsets[0]); i++)
		if (python_offsets[i].minor == minor)
			return &python_offsets[i];
	return NULL;
}

/* Free-threaded and debug builds have other layouts; their names say so (PEP 3149). */
static bool unusual_build(const struct python *py)
{
	const char *s = strstr(base_of(py->lib->name), "python3.");
	char abi[64];

	if (s) {
		s += strlen("python3.");
		s += strspn(s, "0123456789");
		if (*s == 't' || *s == 'd')
			return true;
	}
	snprintf(abi, sizeof(abi), ".cpython-3%dt-", py->minor);
	if (is_mapped(py, abi))
		return true;
	snprintf(abi, sizeof(abi), ".cpython-3%dd-", py->minor);
	return is_mapped(py, abi);
}

/* ---- its state ------------------------------------------------------------------------------------- */

static int read_memory(pid_t pid, uint64_t addr, void *to, size_t n)
{
	char path[64];
	ssize_t got;
	int fd;

	snprintf(path, sizeof(path), "/proc/%d/mem", (int)pid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return errno == ENOENT ? -ESRCH : -errno;
	got = pread(fd, to, n, (off_t)addr);
	close(fd);
	return got == (ssize_t)n ? 0 : -ESRCH; /* no memory any more: it has exited */
}

/* pthread_key_t of the interpreter's thread states (Py_tss_t: int _is_initialized; pthread_key_t _key). */
static int read_key(struct python *py, uint32_t *ret_key)
{
	uint32_t tss[2];
	uint64_t base;
	int err;

	if (!elf_file__address(py->elf, py->lib->offset, &base))
		return why_not(py, "its first mapping is no segment");
	err = read_memory(py->pid, py->lib->start - base + py->runtime + py->off->tss - 4, tss, sizeof(tss));
	if (err)
		return err;
	if (tss[0] != 1 || tss[1] >= PTHREAD_KEYS)
		return why_not(py, tss[0] ? "its thread key is out of reach" : "not started yet");
	*ret_key = tss[1];
	return 0;
}

/* ---- sites ------------------------------------------------------------------------------------------ */

static int add_site(struct python *py, const struct elf_file *f, const char *path, enum runtime_hook hook, uint64_t fn)
{
	bool ret = hook != HOOK_FUTURE_RESULT && hook != HOOK_QUEUE_PUT;
	const uint8_t *code = fn ? elf_file__bytes(f, fn, 32) : NULL;
	struct runtime *out = py->out;
	struct runtime_site *s;
	uint64_t offset;

	if (!code || !elf_file__offset(f, fn, &offset) || out->n_sites == SITES_MAX)
		return -ENOENT;
	s = &out->sites[out->n_sites];
	*s = (struct runtime_site){ .hook = hook, .ret = ret, .path = mem__strdup(path) };
	if (!s->path)
		return -ENOMEM;
	s->offset = offset + (ret ? prologue__return(code, 32) : prologue__entry(code, 32));
	out->n_sites++;
	return 0;
}

static int add_contexts(struct python *py)
{
	const char *path = py->lib->path;
	uint64_t type = elf_file__symbol(py->elf, "PyContext_Type");
	int err = add_site(py, py->elf, path, HOOK_CONTEXT_COPY, elf_file__symbol(py->elf, "PyContext_CopyCurrent"));

	if (!err)
		err = add_site(py, py->elf, path, HOOK_CONTEXT_COPY, elf_file__symbol(py->elf, "PyContext_Copy"));
	if (!err)
		err = add_site(py, py->elf, path, HOOK_CONTEXT_NEW, type ? elf_file__pointer(py->elf, type + TYPE_NEW) : 0);
	return err;
}

/* Where extension modules of the standard library are: seen mapped, or where the interpreter looks for them. */
static bool dynload_dir(const struct python *py, char *dir, size_t size)
{
	for (size_t i = 0; i < py->maps.n; i++) {
		const char *at = strstr(py->maps.files[i].path, "/lib-dynload/");

		if (at && !strstr(py->maps.files[i].path, "/map_files/")) {
			snprintf(dir, size, "%.*s/lib-dynload", (int)(at - py->maps.files[i].path), py->maps.files[i].path);
			return true;
		}
	}
	for (size_t i = 0; i < py->maps.n; i++) {
		const char *name = py->maps.files[i].name;
		const char *prefix = strstr(name, "/bin/python3");

		prefix = prefix ? prefix : strstr(name, "/lib/libpython3");
		prefix = prefix ? prefix : strstr(name, "/lib/x86_64-linux-gnu/libpython3");
		if (!prefix)
			continue;
		snprintf(dir, size, "/proc/%d/root%.*s/lib/python3.%d/lib-dynload", (int)py->pid, (int)(prefix - name), name, py->minor);
		if (!access(dir, X_OK))
			return true;
	}
	return false;
}

/* A module's file: mapped already, or one that will be (probes go by inode). NULL: neither; built in, or not installed. */
static char *module_path(const struct python *py, const char *module)
{
	char part[64], pattern[4400], *path = NULL;
	glob_t found;

	snprintf(part, sizeof(part), "/%s.", module);
	for (size_t i = 0; i < py->maps.n; i++)
		if (strstr(py->maps.files[i].name, part) && strstr(py->maps.files[i].name, ".so"))
			return mem__strdup(py->maps.files[i].path);
	if (!dynload_dir(py, pattern, sizeof(pattern) - sizeof(part)))
		return NULL;
	snprintf(pattern + strlen(pattern), sizeof(part), "/%s.*.so", module);
	if (!glob(pattern, 0, NULL, &found) && found.gl_pathc == 1)
		path = mem__strdup(found.gl_pathv[0]);
	globfree(&found);
	return path;
}

struct method {
	const char *module, *name, *doc;
	enum runtime_hook hook;
};

/* Documentation: Modules/_asynciomodule.c, Modules/_queuemodule.c. Task has a set_result of its own, which only raises. */
static const struct method methods[] = {
	{ "_asyncio", "set_result", "Mark the future done and set its result", HOOK_FUTURE_RESULT },
	{ "_queue", "put", "Put the item on the queue", HOOK_QUEUE_PUT },
	{ "_queue", "put_nowait", "Put an item into the queue without blocking", HOOK_QUEUE_PUT },
	{ "_queue", "get", "Remove and return an item from the queue", HOOK_QUEUE_GET },
	{ "_queue", "get_nowait", "Remove and return an item from the queue without blocking", HOOK_QUEUE_GET },
};

static int add_method(struct python *py, const struct method *m)
{
	char *path = module_path(py, m->module);
	struct elf_file *f = path ? elf_file__open(path) : NULL;
	const struct elf_file *in = f ? f : py->elf;
	int err = add_site(py, in, f ? path : py->lib->path, m->hook, elf_file__method(in, m->name, m->doc));

	elf_file__close(f);
	mem__free(path);
	return err;
}

static int add_sites(struct python *py)
{
	int err;

	py->out->sites = mem__zalloc(SITES_MAX * sizeof(*py->out->sites));
	if (!py->out->sites)
		return -ENOMEM;
	err = add_contexts(py);
	for (size_t i = 0; i < sizeof(methods) / sizeof(methods[0]) && !err; i++)
		err = add_method(py, &methods[i]);
	/* Half of the edges would be worse than none: an address that is reused unseen is somebody else's. */
	return err == -ENOENT ? why_not(py, "its functions were not found") : err;
}

/* ---- together ----------------------------------------------------------------------------------------- */

static int inspect(struct python *py)
{
	struct runtime *out = py->out;
	uint32_t key = 0;
	int err;

	find_interpreter(py);
	if (!py->elf)
		return 0;
	py->minor = minor_version(py);
	snprintf(out->version, sizeof(out->version), "CPython 3.%d", py->minor);
	py->off = offsets_of(py->minor);
	if (!py->off)
		return why_not(py, "this version is not known");
	if (unusual_build(py))
		return why_not(py, "debug and free-threaded builds are not known");
	if (is_mapped(py, "/ld-musl-"))
		return why_not(py, "musl keeps thread-local data elsewhere");
	if (is_mapped(py, "/uvloop/"))
		return why_not(py, "uvloop reads and writes outside its tasks' contexts");
	if (is_mapped(py, "/tornado/"))
		return why_not(py, "Tornado's client starts queued requests in the context of others");
	out->desc = (struct ws_runtime){
		.tgid = (uint32_t)py->pid,
		.kind = WS_RT_CPYTHON,
		.thread_id = py->off->thread_id,
		.context = py->off->context,
		.entered = py->off->entered,
		.fut_context = py->off->fut_context,
	};
	err = read_key(py, &key);
	out->desc.tls = PTHREAD_SPECIFIC + key * 16 + 8;
	return err || out->desc.kind == WS_RT_NONE ? err : add_sites(py);
}

int runtime__inspect(pid_t pid, struct runtime *ret)
{
	struct python py = { .pid = pid, .out = ret };
	int err;

	*ret = (struct runtime){ 0 };
#ifdef __x86_64__
	err = mapped_files__read(&py.maps, pid);
	if (!err)
		err = inspect(&py);
#else
	err = 0; /* nothing is known of other architectures' threads yet */
#endif
	elf_file__close(py.elf);
	mapped_files__free(&py.maps);
	if (err)
		runtime__free(ret);
	return err;
}

void runtime__free(struct runtime *r)
{
	for (size_t i = 0; i < r->n_sites; i++)
		mem__free(r->sites[i].path);
	mem__free(r->sites);
	*r = (struct runtime){ 0 };
}
