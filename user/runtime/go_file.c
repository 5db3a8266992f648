// SPDX-License-Identifier: Apache-2.0
#include "user/runtime/go_file.h"

#include <errno.h>
#include <string.h>

#include "user/base/mem.h"
#include "user/runtime/symtab.h"

#define MAGIC_118 0xfffffff0u /* internal/abi.Go118PCLnTabMagic */
#define MAGIC_120 0xfffffff1u
#define FUNCS_MAX 4000000u
#define TABLE_MAX (1ull << 31)
#define WINDOW 65536u

/* struct pcHeader: magic u32, pad u16, minLC u8, ptrSize u8, then words */
enum { HEADER_FUNCS = 8, HEADER_NAMES = 32, HEADER_NAMES_END = 40, HEADER_FUNCTIONS = 64, HEADER_SIZE = 72 };

#define BUILDINFO_MAGIC "\xff Go buildinf:"
#define BUILDINFO_INLINE 2 /* flags: the strings follow at 32 */

/* ---- opening ------------------------------------------------------------------------------------ */

static uint64_t word(const uint8_t *p)
{
	uint64_t v;

	memcpy(&v, p, sizeof(v));
	return v;
}

static uint32_t word32(const uint8_t *p)
{
	uint32_t v;

	memcpy(&v, p, sizeof(v));
	return v;
}

/* A length (one byte: 127 at the most) and as many bytes. */
static void read_version(struct go_file *g, const struct symtab_section *info)
{
	uint8_t head[33 + sizeof(g->version)];
	size_t len;

	if (info->size < sizeof(head) || !elf_file__read(g->elf, info->addr, head, sizeof(head)) ||
	    memcmp(head, BUILDINFO_MAGIC, sizeof(BUILDINFO_MAGIC) - 1) || !(head[15] & BUILDINFO_INLINE))
		return;
	len = head[32];
	if (len >= sizeof(g->version))
		len = sizeof(g->version) - 1;
	memcpy(g->version, head + 33, len);
	for (size_t i = 0; i < len; i++)
		if (g->version[i] < ' ' || g->version[i] > '~')
			g->version[i] = '?';
}

static int read_header(struct go_file *g)
{
	uint8_t h[HEADER_SIZE];
	uint32_t magic;

	if (g->pclntab_size > TABLE_MAX || !elf_file__read(g->elf, g->pclntab, h, sizeof(h)))
		return -EBADMSG;
	magic = word32(h);
	if ((magic != MAGIC_118 && magic != MAGIC_120) || h[7] != 8)
		return -EBADMSG;
	g->n_funcs = word(h + HEADER_FUNCS);
	g->names = word(h + HEADER_NAMES);
	g->names_end = word(h + HEADER_NAMES_END);
	g->functions = word(h + HEADER_FUNCTIONS);
	if (!g->n_funcs || g->n_funcs > FUNCS_MAX || g->names > g->names_end || g->names_end > g->pclntab_size ||
	    g->functions > g->pclntab_size || g->n_funcs * 8 + 4 > g->pclntab_size - g->functions)
		return -EBADMSG;
	return 0;
}

int go_file__open(struct go_file *g, const struct elf_file *elf, const char *path)
{
	/* Position independent programs had it among what is relocated, up to Go 1.25. */
	struct symtab_section s[] = {{.name = ".go.buildinfo"}, {.name = ".gopclntab"},
				     {.name = ".data.rel.ro.gopclntab"}, {.name = ".go.module"}};
	int err = symtab__sections(path, s, sizeof(s) / sizeof(s[0]));
	const struct symtab_section *table = s[1].size ? &s[1] : &s[2];

	*g = (struct go_file){.elf = elf};
	if (err == -ENOMEM)
		return err;
	if (err || (!s[0].size && !table->size))
		return -ENOEXEC;
	read_version(g, &s[0]);
	g->module = s[3].size ? s[3].addr : 0;
	g->pclntab = table->addr;
	g->pclntab_size = table->size;
	return table->size ? read_header(g) : -EBADMSG;
}

/* ---- reading in pieces -------------------------------------------------------------------------- */

struct window {
	const struct go_file *g;
	uint64_t start, len;
	uint8_t *data; /* WINDOW bytes */
};

/* n bytes at an offset of the table, NULL: it has fewer. Valid until the next call. */
static const uint8_t *window_at(struct window *w, uint64_t off, size_t n)
{
	if (off > w->g->pclntab_size || n > w->g->pclntab_size - off)
		return NULL;
	if (off < w->start || off + n > w->start + w->len) {
		uint64_t left = w->g->pclntab_size - off;

		w->start = off;
		w->len = left < WINDOW ? left : WINDOW;
		if (!elf_file__read(w->g->elf, w->g->pclntab + off, w->data, w->len)) {
			w->len = 0;
			return NULL;
		}
	}
	return w->data + (off - w->start);
}

/* ---- names -------------------------------------------------------------------------------------- */

static void note_name(struct go_wanted *w, uint64_t off)
{
	if (w->n < GO_MATCHES_MAX)
		w->at[w->n++].name_off = (uint32_t)off;
}

/* `name`: one of the table, `len` without its NUL. */
static void check_name(const char *name, size_t len, uint64_t off, struct go_wanted *w, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		size_t want = strlen(w[i].name);
		bool tail = w[i].name[0] == '.';

		if ((tail ? len > want : len == want) && !memcmp(name + len - want, w[i].name, want))
			note_name(&w[i], off);
	}
}

static int find_names(struct window *win, struct go_wanted *w, size_t n)
{
	const struct go_file *g = win->g;

	for (uint64_t off = g->names; off < g->names_end;) {
		uint64_t left = g->names_end - off;
		size_t len = left < WINDOW ? left : WINDOW, done = 0;
		const uint8_t *p = window_at(win, off, len), *nul;

		if (!p)
			return -EBADMSG;
		while ((nul = memchr(p + done, 0, len - done))) {
			check_name((const char *)p + done, (size_t)(nul - p) - done, off - g->names + done, w, n);
			done = (size_t)(nul - p) + 1;
		}
		off += done ? done : len; /* a name that is longer than the window is none of ours */
	}
	return 0;
}

/* ---- functions ---------------------------------------------------------------------------------- */

static void note_function(struct go_wanted *w, size_t n, uint32_t name_off, uint32_t start, uint32_t end)
{
	for (size_t i = 0; i < n; i++)
		for (size_t k = 0; k < w[i].n; k++)
			if (w[i].at[k].name_off == name_off && !w[i].at[k].end) {
				w[i].at[k].start = start;
				w[i].at[k].end = end;
			}
}

/* functab: pairs of u32, the function's start and where its struct _func is, whose second word is its name. */
static int find_functions(struct window *tab, struct window *funcs, struct go_wanted *w, size_t n)
{
	const struct go_file *g = tab->g;

	for (uint64_t i = 0; i < g->n_funcs; i++) {
		const uint8_t *row = window_at(tab, g->functions + i * 8, 12), *func;
		uint32_t start, end, name_off;

		if (!row)
			return -EBADMSG;
		start = word32(row);
		end = word32(row + 8);
		func = window_at(funcs, g->functions + word32(row + 4), 8);
		if (!func || end < start)
			return -EBADMSG;
		name_off = word32(func + 4);
		note_function(w, n, name_off, start, end);
	}
	return 0;
}

int go_file__find(const struct go_file *g, struct go_wanted *w, size_t n)
{
	struct window tab = {.g = g, .data = mem__alloc(WINDOW)}, funcs = {.g = g, .data = mem__alloc(WINDOW)};
	int err = tab.data && funcs.data ? 0 : -ENOMEM;

	if (!err)
		err = find_names(&tab, w, n);
	if (!err)
		err = find_functions(&tab, &funcs, w, n);
	mem__free(tab.data);
	mem__free(funcs.data);
	return err;
}
