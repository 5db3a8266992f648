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

int symtab__find(const char *path, const char *const *names, uint64_t *ret_addrs, size_t n)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	Elf_Scn *scn = NULL;
	GElf_Shdr h;
	Elf *elf;

	memset(ret_addrs, 0, n * sizeof(*ret_addrs));
	if (fd < 0)
		return -errno;
	elf_version(EV_CURRENT);
	elf = elf_begin(fd, ELF_C_READ, NULL);
	while (elf && (scn = elf_nextscn(elf, scn)))
		if (gelf_getshdr(scn, &h) && h.sh_type == SHT_SYMTAB)
			look(elf, scn, &h, names, ret_addrs, n);
	elf_end(elf);
	close(fd);
	return elf ? 0 : -ENOEXEC;
}
