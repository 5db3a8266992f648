// SPDX-License-Identifier: Apache-2.0
#include "user/runtime/go_program.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "user/runtime/memory.h"

#define HEADER_TEXT 24 /* struct pcHeader: textStart, up to Go 1.25 */
#define MODULE_TEXT 176 /* struct moduledata: text; its first word is the address of the pcHeader */
#define HAS_MODULE 26 /* minor version from which on the header does not say where the code is */

#define BAD_TABLE "its table of functions cannot be read"

static const char *identify(struct go_program *g)
{
	const char *v = g->file.version;
	char *end = NULL;

	g->minor = strncmp(v, "go1.", 4) ? 0 : (int)strtol(v + 4, &end, 10);
	if (!g->minor)
		return v[0] ? "not a released version" : "its version is not to be found";
	if ((size_t)g->minor >= sizeof(go_offsets) / sizeof(go_offsets[0]) || !go_offsets[g->minor].m)
		return "the layout of this version is not known";
	if (*end != '.' && *end != '\0' && *end != ' ' && *end != '-')
		return "a beta version: its layout may differ from the released one";
	g->off = &go_offsets[g->minor];
	return NULL;
}

/* Where the code starts that the table counts from: only the running program says it for all kinds of programs. */
static int find_text(struct go_program *g, pid_t pid, uint64_t bias, const char **ret_why)
{
	uint64_t table = bias + g->file.pclntab, at = table + HEADER_TEXT, text;
	bool matches = true;
	struct memory m;
	int err = memory__open(&m, pid);

	if (err)
		return err == -ENOENT ? -ESRCH : err;
	if (g->minor >= HAS_MODULE) {
		matches = g->file.module && memory__word(&m, bias + g->file.module) == table;
		at = bias + g->file.module + MODULE_TEXT;
	}
	text = memory__word(&m, at);
	memory__close(&m);
	if (m.failed || !matches || text < bias || !elf_file__is_code(g->elf, text - bias))
		*ret_why = "its table of functions does not say where they are";
	g->text = text - bias;
	return 0;
}

int go_program__open(struct go_program *g, pid_t pid, const struct mapped_file *exe, const char **ret_why)
{
	uint64_t addr;
	int err;

	*g = (struct go_program){0};
	*ret_why = NULL;
	if (!mapped_file__path(exe, pid, g->path))
		return -ENOEXEC;
	err = elf_file__open(g->path, &g->elf);
	if (err)
		return err == -ENOMEM ? err : -ENOEXEC;
	err = go_file__open(&g->file, g->elf, g->path);
	if (err && err != -EBADMSG)
		return err;
	*ret_why = identify(g);
	if (err)
		*ret_why = BAD_TABLE;
	if (*ret_why)
		return 0;
	if (!elf_file__address(g->elf, exe->offset, &addr)) {
		*ret_why = "its first mapping is no segment of the file";
		return 0;
	}
	return find_text(g, pid, exe->start - (addr & ~4095ull), ret_why); /* segments are mapped by whole pages */
}

int go_program__find(const struct go_program *g, struct go_wanted *w, size_t n, const char **ret_why)
{
	int err = go_file__find(&g->file, w, n);

	*ret_why = err == -EBADMSG ? BAD_TABLE : NULL;
	return err == -EBADMSG ? 0 : err;
}

void go_program__close(struct go_program *g)
{
	elf_file__close(g->elf);
	g->elf = NULL;
}

size_t go_program__code(const struct go_program *g, const struct go_wanted *w, size_t i, uint8_t *to, size_t size)
{
	uint64_t len;

	if (i >= w->n || w->at[i].end <= w->at[i].start)
		return 0;
	len = w->at[i].end - w->at[i].start;
	if (len > size)
		len = size;
	return elf_file__is_code(g->elf, go_program__address(g, w, i)) &&
			       elf_file__read(g->elf, go_program__address(g, w, i), to, len)
		       ? len
		       : 0;
}

uint64_t go_program__address(const struct go_program *g, const struct go_wanted *w, size_t i)
{
	return g->text + w->at[i].start;
}

size_t go_program__present(const struct go_wanted *w)
{
	size_t n = 0;

	for (size_t i = 0; i < w->n; i++)
		n += w->at[i].end > w->at[i].start;
	return n;
}
