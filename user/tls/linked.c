// SPDX-License-Identifier: Apache-2.0
#include "user/tls/linked.h"

#include <errno.h>
#include <stdbool.h>
#include <string.h>

#include "user/base/mem.h"
#include "user/runtime/symtab.h"

#define WINDOW (1u << 20)
#define OVERLAP 64u /* more than a name, an instruction, or the head of a record */
#define PLACES_MAX 8 /* of one name */
#define SECTION_MAX (512u << 20) /* a file says what it likes */
#define FRAMES_MAX (32u << 20)

enum { TEXT, STRINGS, FRAMES, __SECTIONS };

/* One that is looked for: where its name stands, and who uses that. */
struct wanted {
	const char *name;
	uint64_t at[PLACES_MAX], used[PLACES_MAX];
	size_t n_at, n_used;
	uint64_t fn;
	bool several;
};

struct linked {
	const struct elf_file *f;
	struct symtab_section s[__SECTIONS];
	struct wanted w[LINKED_MAX];
	size_t n;
	bool parts; /* of names, too */
	uint8_t *window;
};

/* Calls look() for the section piece by piece: it may look OVERLAP bytes behind `n`, if there are as many (`len`). */
static void each_window(struct linked *l, int section,
			void (*look)(struct linked *l, const uint8_t *p, size_t n, size_t len, uint64_t addr))
{
	const struct symtab_section *s = &l->s[section];

	for (uint64_t off = 0; off < s->size; off += WINDOW - OVERLAP) {
		uint64_t left = s->size - off;
		size_t len = left < WINDOW ? left : WINDOW;

		if (!elf_file__read(l->f, s->addr + off, l->window, len))
			return;
		look(l, l->window, left > WINDOW ? len - OVERLAP : len, len, s->addr + off);
	}
}

static void look_for_names(struct linked *l, const uint8_t *p, size_t n, size_t len, uint64_t addr)
{
	for (size_t i = 0; i < l->n; i++) {
		struct wanted *w = &l->w[i];
		const uint8_t *at = p;

		while ((at = memmem(at, len - (size_t)(at - p), w->name, strlen(w->name) + !l->parts)) && (size_t)(at - p) < n) {
			if (w->n_at < PLACES_MAX && (l->parts || at == p || !at[-1]))
				w->at[w->n_at++] = addr + (uint64_t)(at - p);
			at++;
		}
	}
}

static void note_use(struct linked *l, uint64_t target, uint64_t from)
{
	for (size_t i = 0; i < l->n; i++)
		for (size_t k = 0; k < l->w[i].n_at; k++)
			if (l->w[i].at[k] == target && l->w[i].n_used < PLACES_MAX)
				l->w[i].used[l->w[i].n_used++] = from;
}

/* lea OFFSET(%rip),%rdx, or, where addresses are fixed, mov $ADDRESS,%edx */
static void look_for_uses(struct linked *l, const uint8_t *p, size_t n, size_t len, uint64_t addr)
{
	static const uint8_t lea[] = {0x48, 0x8d, 0x15};
	uint32_t v;

	for (size_t i = 0; i < n && i + sizeof(lea) + sizeof(v) <= len; i++) {
		if (p[i] == 0xba) {
			memcpy(&v, p + i + 1, sizeof(v));
			note_use(l, v, addr + i);
		} else if (!memcmp(p + i, lea, sizeof(lea))) {
			memcpy(&v, p + i + sizeof(lea), sizeof(v));
			note_use(l, addr + i + sizeof(lea) + sizeof(v) + (uint64_t)(int64_t)(int32_t)v, addr + i);
		}
	}
}

/* DWARF 5, 7.24: what the tables say of a frame; a function's begin with going on in the code, or say nothing. */
#define CFA_NOP 0x00
#define CFA_ADVANCE1 0x02
#define CFA_ADVANCE4 0x04
#define CFA_ADVANCE 0x40 /* in the upper two bits */

/*
 * Is it a function? A part that was moved out of one (.cold) begins within its frame, and says so first. There the return
 * address is not on top of the stack: a return probe would destroy what is.
 */
static bool is_function(struct linked *l, uint64_t record, uint32_t len)
{
	uint8_t more[2];
	uint64_t at = record + 16, end = record + 4 + len;

	if (at >= end)
		return true;
	if (!elf_file__read(l->f, at, more, 1) || more[0] > 0x7f)
		return false;
	at += 1u + more[0]; /* behind what belongs to its language */
	if (at >= end)
		return true;
	if (!elf_file__read(l->f, at, more, 1))
		return false;
	return more[0] == CFA_NOP || (more[0] >= CFA_ADVANCE1 && more[0] <= CFA_ADVANCE4) || (more[0] & 0xc0) == CFA_ADVANCE;
}

static void note_function(struct linked *l, uint64_t record, uint32_t len, uint64_t begin, uint64_t size)
{
	for (size_t i = 0; i < l->n; i++) {
		struct wanted *w = &l->w[i];

		for (size_t k = 0; k < w->n_used; k++) {
			if (w->used[k] < begin || w->used[k] - begin >= size)
				continue;
			w->several |= (w->fn && w->fn != begin) || !is_function(l, record, len);
			w->fn = begin;
		}
	}
}

/*
 * .eh_frame (Linux Standard Base 10.6): records of a length and the distance back to a common one, 0 in that one itself;
 * then where a function begins, from here, and its size. As compilers write it: all of them 32 bits (encoding 0x1b).
 */
static void find_functions(struct linked *l)
{
	const struct symtab_section *s = &l->s[FRAMES];
	uint32_t head[4];

	for (uint64_t off = 0; off + sizeof(head) <= s->size; off += sizeof(head[0]) + head[0]) {
		uint64_t record = s->addr + off;

		if (!elf_file__read(l->f, record, head, sizeof(head)) || head[0] < 4 || head[0] == UINT32_MAX)
			return; /* its end, or records of 64 bits, which nobody writes */
		if (head[1])
			note_function(l, record, head[0], record + 8 + (uint64_t)(int64_t)(int32_t)head[2], head[3]);
	}
}

/* The first that was found. */
static size_t first_name(const struct linked *l)
{
	size_t i = 0;

	while (i < l->n && !l->w[i].n_at)
		i++;
	return i;
}

static int find(struct linked *l, const char *path)
{
	int err = symtab__sections(path, l->s, __SECTIONS);

	if (err)
		return err == -ENOMEM ? err : -ENOEXEC;
	if (!l->s[TEXT].size || !l->s[STRINGS].size || !l->s[FRAMES].size || l->s[TEXT].size > SECTION_MAX ||
	    l->s[STRINGS].size > SECTION_MAX || l->s[FRAMES].size > FRAMES_MAX)
		return -ENOEXEC;
	l->window = mem__alloc(WINDOW);
	if (!l->window)
		return -ENOMEM;
	each_window(l, STRINGS, look_for_names);
	if (!l->parts && first_name(l) < l->n) {
		each_window(l, TEXT, look_for_uses);
		find_functions(l);
	}
	mem__free(l->window);
	return 0;
}

static struct linked *linked_new(const struct elf_file *f, const char *const *names, size_t n)
{
	struct linked *l = mem__zalloc(sizeof(*l));

	if (!l)
		return NULL;
	l->f = f;
	l->n = n;
	l->s[TEXT].name = ".text";
	l->s[STRINGS].name = ".rodata";
	l->s[FRAMES].name = ".eh_frame";
	for (size_t i = 0; i < n; i++)
		l->w[i].name = names[i];
	return l;
}

size_t linked__mentions(const struct elf_file *f, const char *path, const char *const *texts, size_t n)
{
	struct linked *l = linked_new(f, texts, n);
	size_t found = n;

	if (l) {
		l->parts = true;
		if (!find(l, path))
			found = first_name(l);
	}
	mem__free(l);
	return found;
}

int linked__find(const struct elf_file *f, const char *path, const char *const *names, uint64_t *ret_addrs, size_t n)
{
	struct linked *l = linked_new(f, names, n);
	int err;

	memset(ret_addrs, 0, n * sizeof(*ret_addrs));
	if (!l)
		return -ENOMEM;
	err = find(l, path);
	for (size_t i = 0; i < n; i++)
		ret_addrs[i] = l->w[i].several ? 0 : l->w[i].fn;
	mem__free(l);
	return err;
}
