// SPDX-License-Identifier: Apache-2.0
#include "user/runtime/symtab.h"

#include <errno.h>
#include <fcntl.h>
#include <gelf.h>
#include <string.h>
#include <unistd.h>

#include "user/base/mem.h"

#define CHUNK (2730 * sizeof(Elf64_Sym))
#define NAME_MAX_LEN 256u
#define TABLE_MAX (1u << 30) /* bytes of symbols or of their names */
/* Linkers let a name be the end of a longer one. */
#define PLACES_MAX 8

/* Where in the table of strings a name stands. */
struct place {
	uint64_t at[PLACES_MAX];
	size_t n;
};

/*
 * Names first, a window at a time, then the symbols that have them: programs have a hundred thousand symbols, and
 * reading them whole takes tens of megabytes.
 */
static void find_names(int fd, const GElf_Shdr *strings, const char *const *names, struct place *places, size_t n,
		       char *window)
{
	for (uint64_t off = 0; off < strings->sh_size && off < TABLE_MAX; off += CHUNK - NAME_MAX_LEN) {
		uint64_t left = strings->sh_size - off;
		ssize_t got = pread(fd, window, left < CHUNK ? left : CHUNK, (off_t)(strings->sh_offset + off));

		for (size_t k = 0; got > 0 && k < n; k++) {
			size_t len = strlen(names[k]) + 1;
			const char *p = window, *end = window + got;

			while ((p = memmem(p, (size_t)(end - p), names[k], len))) {
				uint64_t at = off + (uint64_t)(p - window);
				struct place *to = &places[k];

				/* Windows overlap. */
				if (to->n < PLACES_MAX && (!to->n || to->at[to->n - 1] < at))
					to->at[to->n++] = at;
				p++;
			}
		}
		if (got < (ssize_t)CHUNK)
			return;
	}
}

static void take_symbol(const Elf64_Sym *s, const struct place *places, uint64_t *ret_addrs, size_t n)
{
	int type = ELF64_ST_TYPE(s->st_info);

	if ((type != STT_FUNC && type != STT_TLS) || s->st_shndx == SHN_UNDEF)
		return;
	for (size_t k = 0; k < n; k++)
		for (size_t i = 0; i < places[k].n; i++)
			if (places[k].at[i] == s->st_name)
				ret_addrs[k] = s->st_value;
}

static void find_symbols(int fd, const GElf_Shdr *table, const struct place *places, uint64_t *ret_addrs, size_t n,
			 char *window)
{
	for (uint64_t off = 0; off < table->sh_size && off < TABLE_MAX; off += CHUNK) {
		uint64_t left = table->sh_size - off;
		ssize_t got = pread(fd, window, left < CHUNK ? left : CHUNK, (off_t)(table->sh_offset + off));

		for (ssize_t i = 0; i + (ssize_t)sizeof(Elf64_Sym) <= got; i += (ssize_t)sizeof(Elf64_Sym)) {
			Elf64_Sym s;

			memcpy(&s, window + i, sizeof(s));
			take_symbol(&s, places, ret_addrs, n);
		}
		if (got < (ssize_t)CHUNK)
			return;
	}
}

static int look(int fd, Elf *elf, const GElf_Shdr *h, const char *const *names, uint64_t *ret_addrs, size_t n)
{
	Elf_Scn *scn = elf_getscn(elf, h->sh_link);
	struct place *places;
	GElf_Shdr strings;
	char *window;
	int err = 0;

	if (!scn || !gelf_getshdr(scn, &strings) || strings.sh_type != SHT_STRTAB || h->sh_entsize != sizeof(Elf64_Sym))
		return 0;
	places = mem__zalloc(n * sizeof(*places));
	window = mem__alloc(CHUNK);
	if (places && window) {
		find_names(fd, &strings, names, places, n, window);
		find_symbols(fd, h, places, ret_addrs, n, window);
	} else {
		err = -ENOMEM;
	}
	mem__free(window);
	mem__free(places);
	return err;
}

static int open_file(const char *path, int *ret_fd, Elf **ret_elf)
{
	*ret_fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	if (*ret_fd < 0)
		return -errno;
	elf_version(EV_CURRENT);
	*ret_elf = elf_begin(*ret_fd, ELF_C_READ, NULL);
	if (*ret_elf)
		return 0;
	close(*ret_fd);
	return -ENOEXEC;
}

int symtab__find(const char *path, const char *const *names, uint64_t *ret_addrs, size_t n)
{
	Elf_Scn *scn = NULL;
	GElf_Shdr h;
	Elf *elf;
	int fd, err = open_file(path, &fd, &elf);

	memset(ret_addrs, 0, n * sizeof(*ret_addrs));
	if (err)
		return err;
	while ((scn = elf_nextscn(elf, scn)) && !(gelf_getshdr(scn, &h) && h.sh_type == SHT_SYMTAB))
		;
	if (scn) /* there is one; a file that says otherwise is not read for ever */
		err = look(fd, elf, &h, names, ret_addrs, n);
	elf_end(elf);
	close(fd);
	return err;
}

int symtab__sections(const char *path, struct symtab_section *sections, size_t n)
{
	Elf_Scn *scn = NULL;
	size_t names = 0;
	GElf_Shdr h;
	Elf *elf;
	int fd, err = open_file(path, &fd, &elf);

	if (err)
		return err;
	if (elf_getshdrstrndx(elf, &names))
		err = -ENOEXEC;
	while (!err && (scn = elf_nextscn(elf, scn))) {
		const char *name = gelf_getshdr(scn, &h) ? elf_strptr(elf, names, h.sh_name) : NULL;

		for (size_t i = 0; name && i < n; i++)
			if (!strcmp(name, sections[i].name) && h.sh_type != SHT_NOBITS) {
				sections[i].addr = h.sh_addr;
				sections[i].size = h.sh_size;
			}
	}
	elf_end(elf);
	close(fd);
	return err;
}
