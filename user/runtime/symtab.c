// SPDX-License-Identifier: Apache-2.0
#include "user/runtime/symtab.h"

#include <errno.h>
#include <fcntl.h>
#include <gelf.h>
#include <string.h>
#include <unistd.h>

#define SYMBOLS_MAX 4000000u

static void look(Elf *elf, Elf_Scn *scn, const GElf_Shdr *h, const char *const *names, uint64_t *ret_addrs, size_t n)
{
	Elf_Data *d = elf_getdata(scn, NULL);
	size_t count = h->sh_entsize ? h->sh_size / h->sh_entsize : 0;

	for (size_t i = 0; d && i < count && i < SYMBOLS_MAX; i++) {
		const char *name;
		GElf_Sym s;

		if (!gelf_getsym(d, (int)i, &s))
			return;
		if (GELF_ST_TYPE(s.st_info) != STT_FUNC || s.st_shndx == SHN_UNDEF)
			continue;
		name = elf_strptr(elf, h->sh_link, s.st_name);
		for (size_t k = 0; name && k < n; k++)
			if (!strcmp(name, names[k]))
				ret_addrs[k] = s.st_value;
	}
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
	while ((scn = elf_nextscn(elf, scn)))
		if (gelf_getshdr(scn, &h) && h.sh_type == SHT_SYMTAB)
			look(elf, scn, &h, names, ret_addrs, n);
	elf_end(elf);
	close(fd);
	return 0;
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
