// SPDX-License-Identifier: Apache-2.0
#include "user/runtime/elf_file.h"

#include <errno.h>
#include <fcntl.h>
#include <gelf.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "user/base/mem.h"

#define SEGMENTS_MAX 32
#define FILE_MAX (1ull << 30)

/* Include/methodobject.h: ml_name, ml_meth, ml_flags, ml_doc */
#define DEF_METH 8
#define DEF_DOC 24
#define DOC_MAX 512

struct reloc {
	uint64_t at, value;
};

struct elf_file {
	const uint8_t *data;
	size_t size;
	Elf *elf;
	GElf_Phdr segments[SEGMENTS_MAX];
	size_t n_segments;
	struct reloc *relocs; /* R_X86_64_RELATIVE, sorted by place */
	size_t n_relocs;
};

/* ---- addresses ------------------------------------------------------------------------------------ */

const uint8_t *elf_file__bytes(const struct elf_file *f, uint64_t addr, size_t n)
{
	for (size_t i = 0; i < f->n_segments; i++) {
		const GElf_Phdr *p = &f->segments[i];

		if (addr >= p->p_vaddr && addr - p->p_vaddr < p->p_filesz && n <= p->p_filesz - (addr - p->p_vaddr))
			return f->data + p->p_offset + (addr - p->p_vaddr);
	}
	return NULL;
}

bool elf_file__offset(const struct elf_file *f, uint64_t addr, uint64_t *ret_offset)
{
	const uint8_t *at = elf_file__bytes(f, addr, 1);

	if (at)
		*ret_offset = (uint64_t)(at - f->data);
	return at != NULL;
}

bool elf_file__address(const struct elf_file *f, uint64_t offset, uint64_t *ret_addr)
{
	for (size_t i = 0; i < f->n_segments; i++) {
		const GElf_Phdr *p = &f->segments[i];

		if (offset >= p->p_offset && offset - p->p_offset < p->p_filesz) {
			*ret_addr = p->p_vaddr + (offset - p->p_offset);
			return true;
		}
	}
	return false;
}

static int by_place(const void *a, const void *b)
{
	const struct reloc *x = a, *y = b;

	return x->at < y->at ? -1 : x->at > y->at;
}

uint64_t elf_file__pointer(const struct elf_file *f, uint64_t addr)
{
	struct reloc key = { .at = addr };
	const struct reloc *r = f->n_relocs ? bsearch(&key, f->relocs, f->n_relocs, sizeof(key), by_place) : NULL;
	const uint8_t *at = elf_file__bytes(f, addr, 8);
	uint64_t v = 0;

	if (r)
		return r->value;
	if (at)
		memcpy(&v, at, sizeof(v)); /* not relocated at all (no PIE), or packed (RELR): the value stands there */
	return v;
}

/* ---- opening -------------------------------------------------------------------------------------- */

static int read_segments(struct elf_file *f)
{
	size_t n = 0;

	if (elf_getphdrnum(f->elf, &n))
		return -ENOEXEC;
	for (size_t i = 0; i < n && f->n_segments < SEGMENTS_MAX; i++) {
		GElf_Phdr p;

		if (!gelf_getphdr(f->elf, (int)i, &p) || p.p_type != PT_LOAD)
			continue;
		if (p.p_offset > f->size || p.p_filesz > f->size - p.p_offset || p.p_vaddr + p.p_filesz < p.p_vaddr)
			return -ENOEXEC;
		f->segments[f->n_segments++] = p;
	}
	return f->n_segments ? 0 : -ENOEXEC;
}

static int add_relocs(struct elf_file *f, Elf_Scn *scn, size_t n)
{
	struct reloc *more = n ? mem__realloc(f->relocs, (f->n_relocs + n) * sizeof(*more)) : NULL;
	Elf_Data *d = elf_getdata(scn, NULL);

	if (n && !more)
		return -ENOMEM;
	if (more)
		f->relocs = more;
	for (size_t i = 0; d && i < n; i++) {
		GElf_Rela r;

		if (gelf_getrela(d, (int)i, &r) && GELF_R_TYPE(r.r_info) == R_X86_64_RELATIVE)
			f->relocs[f->n_relocs++] = (struct reloc){ r.r_offset, (uint64_t)r.r_addend };
	}
	return 0;
}

static int read_relocs(struct elf_file *f)
{
	Elf_Scn *scn = NULL;
	GElf_Shdr h;
	int err;

	while ((scn = elf_nextscn(f->elf, scn))) {
		if (!gelf_getshdr(scn, &h) || h.sh_type != SHT_RELA || !(h.sh_flags & SHF_ALLOC) || !h.sh_entsize)
			continue;
		if (h.sh_size > f->size)
			return -ENOEXEC;
		err = add_relocs(f, scn, h.sh_size / h.sh_entsize);
		if (err)
			return err;
	}
	if (f->n_relocs)
		qsort(f->relocs, f->n_relocs, sizeof(*f->relocs), by_place);
	return 0;
}

static int map_file(struct elf_file *f, const char *path)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	struct stat st;
	void *p;

	if (fd < 0)
		return -errno;
	if (fstat(fd, &st) || !S_ISREG(st.st_mode) || st.st_size < 64 || (uint64_t)st.st_size > FILE_MAX) {
		close(fd);
		return -ENOEXEC;
	}
	p = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
	close(fd);
	if (p == MAP_FAILED)
		return -errno;
	f->data = p;
	f->size = (size_t)st.st_size;
	return 0;
}

static int load(struct elf_file *f, const char *path)
{
	GElf_Ehdr eh;
	int err = map_file(f, path);

	if (err)
		return err;
	elf_version(EV_CURRENT);
	f->elf = elf_memory((char *)(uintptr_t)f->data, f->size);
	if (!f->elf || !gelf_getehdr(f->elf, &eh) || eh.e_ident[EI_CLASS] != ELFCLASS64 || eh.e_machine != EM_X86_64)
		return -ENOEXEC;
	err = read_segments(f);
	return err ? err : read_relocs(f);
}

struct elf_file *elf_file__open(const char *path)
{
	struct elf_file *f = mem__zalloc(sizeof(*f));
	int err;

	if (!f)
		return NULL;
	err = load(f, path);
	if (err) {
		elf_file__close(f);
		errno = -err;
		return NULL;
	}
	return f;
}

void elf_file__close(struct elf_file *f)
{
	if (!f)
		return;
	elf_end(f->elf);
	if (f->data)
		munmap((void *)(uintptr_t)f->data, f->size);
	mem__free(f->relocs);
	mem__free(f);
}

/* ---- symbols, methods ------------------------------------------------------------------------------- */

uint64_t elf_file__symbol(const struct elf_file *f, const char *name)
{
	Elf_Scn *scn = NULL;
	GElf_Shdr h;

	while ((scn = elf_nextscn(f->elf, scn))) {
		Elf_Data *d;
		GElf_Sym s;

		if (!gelf_getshdr(scn, &h) || h.sh_type != SHT_DYNSYM || !h.sh_entsize)
			continue;
		d = elf_getdata(scn, NULL);
		for (size_t i = 0; d && i < h.sh_size / h.sh_entsize; i++) {
			const char *n;

			if (!gelf_getsym(d, (int)i, &s) || !s.st_value || s.st_shndx == SHN_UNDEF)
				continue;
			n = elf_strptr(f->elf, h.sh_link, s.st_name);
			if (n && !strcmp(n, name))
				return s.st_value;
		}
	}
	return 0;
}

static bool doc_has(const struct elf_file *f, uint64_t addr, const char *doc)
{
	const uint8_t *at = elf_file__bytes(f, addr, 1);
	size_t max = at ? f->size - (size_t)(at - f->data) : 0, len = at ? strnlen((const char *)at, max < DOC_MAX ? max : DOC_MAX) : 0;

	return len && memmem(at, len, doc, strlen(doc));
}

/* The function of the PyMethodDef at `def`, if it is one and documented like that. */
static uint64_t method_at(const struct elf_file *f, uint64_t def, const char *doc)
{
	uint64_t fn = elf_file__pointer(f, def + DEF_METH);

	return fn && elf_file__bytes(f, fn, 16) && doc_has(f, elf_file__pointer(f, def + DEF_DOC), doc) ? fn : 0;
}

/* What came out of one more definition: 0 none yet, UINT64_MAX two that differ. */
static uint64_t merge(uint64_t found, uint64_t fn)
{
	return !fn || fn == found ? found : found ? UINT64_MAX : fn;
}

static uint64_t methods_named(const struct elf_file *f, uint64_t name, const char *doc, uint64_t found)
{
	for (size_t i = 0; i < f->n_relocs; i++)
		if (f->relocs[i].value == name)
			found = merge(found, method_at(f, f->relocs[i].at, doc));
	for (size_t i = 0; i < f->n_segments; i++) {
		const GElf_Phdr *p = &f->segments[i];
		uint64_t first = (p->p_vaddr + 7) & ~7ull, v;

		if (!(p->p_flags & PF_W))
			continue;
		for (uint64_t at = first; at + 8 <= p->p_vaddr + p->p_filesz; at += 8) {
			memcpy(&v, f->data + p->p_offset + (at - p->p_vaddr), sizeof(v));
			if (v == name)
				found = merge(found, method_at(f, at, doc));
		}
	}
	return found;
}

uint64_t elf_file__method(const struct elf_file *f, const char *name, const char *doc)
{
	size_t len = strlen(name) + 1;
	uint64_t found = 0, addr;

	/* The linker may have made the name the tail of a longer one. */
	for (const uint8_t *at = f->data; (at = memmem(at, f->size - (size_t)(at - f->data), name, len)); at++)
		if (elf_file__address(f, (uint64_t)(at - f->data), &addr))
			found = methods_named(f, addr, doc, found);
	return found == UINT64_MAX ? 0 : found;
}
