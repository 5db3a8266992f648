// SPDX-License-Identifier: Apache-2.0
#include "user/runtime/runtime.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include "user/base/mem.h"
#include "user/runtime/go_process.h"
#include "user/runtime/hazards.h"
#include "user/runtime/jvm.h"
#include "user/runtime/libuv.h"
#include "user/runtime/python.h"

static bool starts_with(const char *s, const char *prefix)
{
	return !strncmp(s, prefix, strlen(prefix));
}

static void note_libraries(const struct mapped_files *m, struct runtime *out)
{
	out->uvloop = mapped_files__find(m, "/uvloop/loop.");
	/* aiohttp's server has its requests wait for its tasks; only uvloop reads the next before they wait for it. */
	out->deques = out->uvloop && mapped_files__find(m, "/aiohttp/");
	/* A package since 1.0, one module before. */
	out->greenlet = mapped_files__find(m, "/greenlet/_greenlet.") || mapped_files__find(m, "/greenlet.cpython-");
	for (size_t i = 0; i < n_hazards && !out->hazard; i++) {
		char part[64];

		snprintf(part, sizeof(part), "%s%s/%s.", hazards[i].package[0] ? "/" : "", hazards[i].package, hazards[i].module);
		if (mapped_files__find(m, part))
			out->hazard = hazards[i].why;
	}
}

static const struct mapped_file *executable_of(const struct mapped_files *m, pid_t pid)
{
	char path[64];
	struct stat st;

	snprintf(path, sizeof(path), "/proc/%d/exe", (int)pid);
	if (stat(path, &st))
		return NULL;
	for (size_t i = 0; i < m->n; i++) /* the device may differ on overlay file systems */
		if (m->files[i].ino == st.st_ino && !strstr(mapped_file__base(&m->files[i]), ".so"))
			return &m->files[i];
	return NULL;
}

/*
 * Opens the file if it is what exports _PyRuntime. Those that are named like it are no surprise if they are of
 * another architecture; anything else is just no interpreter.
 */
static int try_file(struct python *py, const struct mapped_file *f, bool named)
{
	struct elf_file *elf;
	int err;

	if (!mapped_file__path(f, py->pid, py->path))
		return named ? python__why(py, "%s cannot be opened", mapped_file__base(f)) : 0;
	err = elf_file__open(py->path, &elf);
	if (err == -ENOMEM)
		return err;
	if (err)
		return named ? python__why(py, "%s is no x86-64 program that can be read", mapped_file__base(f)) : 0;
	py->runtime = elf_file__symbol(elf, "_PyRuntime");
	if (!py->runtime) { /* libpython3.so forwards to the other one; before 3.7 it had another name */
		elf_file__close(elf);
		return 0;
	}
	py->elf = elf;
	py->file = f;
	return 0;
}

static int find_interpreter(struct python *py)
{
	const struct mapped_file *exe = executable_of(py->maps, py->pid);
	int err = 0;

	for (size_t i = 0; i < py->maps->n && !py->elf && !err; i++)
		if (starts_with(mapped_file__base(&py->maps->files[i]), "libpython3"))
			err = try_file(py, &py->maps->files[i], true);
	if (!py->elf && !err && exe) {
		bool named = starts_with(mapped_file__base(exe), "python3");

		err = try_file(py, exe, named);
		if (!py->elf && !err && named && !py->out->why[0])
			err = python__why(py, "no _PyRuntime: older than 3.7, or its libpython is not mapped yet");
	}
	if (py->elf)
		py->out->why[0] = '\0';
	return err;
}

static int inspect(struct python *py)
{
	uint64_t addr;
	int err = find_interpreter(py);

	if (err || !py->elf)
		return err;
	if (mapped_files__find(py->maps, "/ld-musl-"))
		return python__why(py, "musl libc keeps thread data elsewhere");
	if (!elf_file__address(py->elf, py->file->offset, &addr))
		return python__why(py, "its first mapping is no segment of the file");
	/* Segments are mapped by whole pages. */
	py->bias = py->file->start - (addr & ~4095ull);
	err = elf_file__load(py->elf);
	if (err == -ENOMEM)
		return err;
	if (err)
		return python__why(py, "%s cannot be read", mapped_file__base(py->file));
	err = python__identify(py);
	if (!err && !py->out->why[0])
		err = python__read_state(py);
	if (!err && !py->out->why[0])
		err = python__find_sites(py);
	return err;
}

int python__why(struct python *py, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(py->out->why, sizeof(py->out->why), fmt, ap);
	va_end(ap);
	return 0;
}

int runtime__inspect(pid_t pid, struct runtime *ret)
{
	struct runtime out = {.desc = {.tgid = (uint32_t)pid}};
	const struct mapped_file *exe;
	struct mapped_files maps;
	struct python *py;
	int err;

	err = mapped_files__read(&maps, pid);
	if (err)
		return err;
	py = mem__zalloc(sizeof(*py));
	err = -ENOMEM;
	if (!py)
		goto out;
	*py = (struct python){.pid = pid, .maps = &maps, .out = &out};
	note_libraries(&maps, &out);
	err = inspect(py);
	exe = executable_of(&maps, pid);
	if (!err && !py->elf && !out.why[0] && exe)
		err = go_process__inspect(pid, exe, &out);
	if (!err && !py->elf && !out.why[0] && exe && out.desc.kind == WS_RT_NONE)
		err = libuv__inspect(pid, exe, &maps, &out);
	if (!err && !py->elf && !out.why[0] && out.desc.kind == WS_RT_NONE)
		err = jvm__inspect(pid, &maps, &out);
	if (out.why[0] && !err) {
		/* Said or counted, but never half used. */
		out.desc = (struct ws_runtime){.tgid = (uint32_t)pid};
		for (size_t i = 0; i < out.n_sites; i++)
			mem__free(out.sites[i].path);
		out.n_sites = out.n_deques = 0;
	}
out:
	if (py)
		elf_file__close(py->elf);
	mem__free(py);
	mapped_files__free(&maps);
	if (err)
		runtime__free(&out);
	else
		*ret = out;
	return err;
}

bool runtime__outdated(pid_t pid, const struct runtime *r)
{
	struct runtime now = {0};
	struct mapped_files maps;

	if (r->desc.kind != WS_RT_CPYTHON || mapped_files__read(&maps, pid))
		return false;
	note_libraries(&maps, &now);
	mapped_files__free(&maps);
	return now.hazard && !r->hazard;
}

void runtime__free(struct runtime *r)
{
	for (size_t i = 0; i < r->n_sites; i++)
		mem__free(r->sites[i].path);
	mem__free(r->sites);
	*r = (struct runtime){0};
}
