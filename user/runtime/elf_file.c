// SPDX-License-Identifier: Apache-2.0
#include "user/runtime/elf_file.h"

#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "user/base/mem.h"

#define SEGMENTS_MAX 32u
#define PHDRS_MAX 128u
#define DYNAMIC_MAX 512u
#define SYMBOL_NAME_MAX 64u
#define CHAIN_MAX 65536u      /* of one hash bucket */
#define LOAD_MAX (128u << 20) /* bytes of all segments; debug information stands behind them */
#define DOC_MAX 1024u
#define TABLE_MAX 256u	/* methods of one type */
#define NAMED_MAX 4096u /* definitions with a name that is looked for; CPython has a dozen */

struct method_def {
	uint64_t name, meth, flags, doc;
};

struct elf_file {
	int fd;
	uint64_t size;
	Elf64_Phdr segments[SEGMENTS_MAX];
	size_t n_segments;
	/* From the dynamic section; addresses, 0: none. */
	uint64_t symtab, strtab, gnu_hash, hash, rela, rela_size;
	uint8_t *data; /* loaded: the file up to the end of its last segment */
	size_t len;
};

/* ---- addresses ---------------------------------------------------------------------------------- */

static const Elf64_Phdr *segment_of(const struct elf_file *f, uint64_t addr, uint64_t n)
{
	for (size_t i = 0; i < f->n_segments; i++) {
		const Elf64_Phdr *p = &f->segments[i];

		if (addr >= p->p_vaddr && addr - p->p_vaddr < p->p_filesz && n <= p->p_filesz - (addr - p->p_vaddr))
			return p;
	}
	return NULL;
}

bool elf_file__offset(const struct elf_file *f, uint64_t addr, uint64_t *ret_offset)
{
	const Elf64_Phdr *p = segment_of(f, addr, 1);

	if (p)
		*ret_offset = p->p_offset + (addr - p->p_vaddr);
	return p != NULL;
}

bool elf_file__address(const struct elf_file *f, uint64_t offset, uint64_t *ret_addr)
{
	for (size_t i = 0; i < f->n_segments; i++) {
		const Elf64_Phdr *p = &f->segments[i];

		if (offset >= p->p_offset && offset - p->p_offset < p->p_filesz) {
			*ret_addr = p->p_vaddr + (offset - p->p_offset);
			return true;
		}
	}
	return false;
}

bool elf_file__is_code(const struct elf_file *f, uint64_t addr)
{
	const Elf64_Phdr *p = segment_of(f, addr, 1);

	return p && (p->p_flags & PF_X);
}

static bool read_at(const struct elf_file *f, uint64_t offset, void *to, size_t n)
{
	uint8_t *at = to;

	if (offset > f->size || n > f->size - offset)
		return false;
	while (n) {
		ssize_t got = pread(f->fd, at, n, (off_t)offset);

		if (got < 0 && errno == EINTR)
			continue;
		if (got <= 0)
			return false;
		at += got;
		offset += (uint64_t)got;
		n -= (size_t)got;
	}
	return true;
}

bool elf_file__read(const struct elf_file *f, uint64_t addr, void *to, size_t n)
{
	const Elf64_Phdr *p = segment_of(f, addr, n);

	return p && read_at(f, p->p_offset + (addr - p->p_vaddr), to, n);
}

const uint8_t *elf_file__bytes(const struct elf_file *f, uint64_t addr, size_t n)
{
	const Elf64_Phdr *p = f->data ? segment_of(f, addr, n) : NULL;

	return p ? f->data + p->p_offset + (addr - p->p_vaddr) : NULL;
}

uint64_t elf_file__pointer(const struct elf_file *f, uint64_t addr)
{
	const uint8_t *at = elf_file__bytes(f, addr, 8);
	uint64_t v = 0;

	if (at)
		memcpy(&v, at, sizeof(v));
	return v;
}

const uint8_t *elf_file__image(const struct elf_file *f, size_t *ret_len)
{
	*ret_len = f->data ? f->len : 0;
	return f->data;
}

/* ---- opening ------------------------------------------------------------------------------------ */

static void read_dynamic(struct elf_file *f, const Elf64_Phdr *p)
{
	for (uint64_t i = 0; i < p->p_filesz / sizeof(Elf64_Dyn) && i < DYNAMIC_MAX; i++) {
		Elf64_Dyn d;

		if (!read_at(f, p->p_offset + i * sizeof(d), &d, sizeof(d)) || d.d_tag == DT_NULL)
			return;
		switch (d.d_tag) {
		case DT_SYMTAB:
			f->symtab = d.d_un.d_ptr;
			break;
		case DT_STRTAB:
			f->strtab = d.d_un.d_ptr;
			break;
		case DT_GNU_HASH:
			f->gnu_hash = d.d_un.d_ptr;
			break;
		case DT_HASH:
			f->hash = d.d_un.d_ptr;
			break;
		case DT_RELA:
			f->rela = d.d_un.d_ptr;
			break;
		case DT_RELASZ:
			f->rela_size = d.d_un.d_val;
			break;
		}
	}
}

static int read_headers(struct elf_file *f)
{
	static const uint8_t ident[] = {ELFMAG0, ELFMAG1, ELFMAG2, ELFMAG3, ELFCLASS64, ELFDATA2LSB};
	Elf64_Phdr p, dynamic = {0};
	Elf64_Ehdr eh;

	if (!read_at(f, 0, &eh, sizeof(eh)) || memcmp(eh.e_ident, ident, sizeof(ident)) != 0 ||
	    eh.e_machine != EM_X86_64 || eh.e_phentsize != sizeof(p) || eh.e_phnum > PHDRS_MAX)
		return -ENOEXEC;
	for (size_t i = 0; i < eh.e_phnum; i++) {
		if (eh.e_phoff > f->size || !read_at(f, eh.e_phoff + i * sizeof(p), &p, sizeof(p)))
			return -ENOEXEC;
		if (p.p_type != PT_LOAD && p.p_type != PT_DYNAMIC)
			continue;
		if (p.p_offset > f->size || p.p_filesz > f->size - p.p_offset || p.p_filesz > UINT64_MAX - p.p_vaddr)
			return -ENOEXEC;
		if (p.p_type == PT_DYNAMIC)
			dynamic = p;
		else if (f->n_segments == SEGMENTS_MAX)
			return -ENOEXEC;
		else
			f->segments[f->n_segments++] = p;
	}
	read_dynamic(f, &dynamic);
	return f->n_segments ? 0 : -ENOEXEC;
}

int elf_file__open(const char *path, struct elf_file **ret)
{
	struct elf_file *f = mem__zalloc(sizeof(*f));
	struct stat st;
	int err = 0;

	if (!f)
		return -ENOMEM;
	/* Never blocks on what is not a plain file: the path leads into trees that others control. */
	f->fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	if (f->fd < 0)
		err = -errno;
	else if (fstat(f->fd, &st) || !S_ISREG(st.st_mode))
		err = -ENOEXEC;
	if (!err) {
		f->size = (uint64_t)st.st_size;
		err = read_headers(f);
	}
	if (err)
		elf_file__close(f);
	else
		*ret = f;
	return err;
}

void elf_file__close(struct elf_file *f)
{
	if (!f)
		return;
	if (f->fd >= 0)
		close(f->fd);
	mem__free(f->data);
	mem__free(f);
}

/* ---- symbols ------------------------------------------------------------------------------------ */

static bool is_named(const struct elf_file *f, uint32_t index, const char *name, uint64_t *ret_value)
{
	char found[SYMBOL_NAME_MAX];
	size_t len = strlen(name) + 1;
	Elf64_Sym s;

	if (len > sizeof(found) || !elf_file__read(f, f->symtab + index * sizeof(s), &s, sizeof(s)) ||
	    s.st_shndx == SHN_UNDEF || !s.st_value || !elf_file__read(f, f->strtab + s.st_name, found, len) ||
	    memcmp(found, name, len) != 0)
		return false;
	*ret_value = s.st_value;
	return true;
}

/* The hash table of GNU ld (-z gnu-hash): header, Bloom filter, buckets, and chains whose last element is odd. */
static uint64_t symbol_gnu(const struct elf_file *f, const char *name)
{
	struct {
		uint32_t n_buckets, first, n_bloom, shift;
	} h;
	uint64_t buckets, chains, value;
	uint32_t hash = 5381, index, x;

	for (const char *c = name; *c; c++)
		hash = hash * 33 + (uint8_t)*c;
	if (!elf_file__read(f, f->gnu_hash, &h, sizeof(h)) || !h.n_buckets)
		return 0;
	buckets = f->gnu_hash + sizeof(h) + 8ull * h.n_bloom;
	chains = buckets + 4ull * h.n_buckets;
	if (!elf_file__read(f, buckets + 4ull * (hash % h.n_buckets), &index, 4) || index < h.first)
		return 0;
	for (uint32_t i = 0; i < CHAIN_MAX; i++, index++) {
		if (!elf_file__read(f, chains + 4ull * (index - h.first), &x, 4))
			return 0;
		if ((x | 1) == (hash | 1) && is_named(f, index, name, &value))
			return value;
		if (x & 1)
			return 0;
	}
	return 0;
}

/* The one of System V: two counts, buckets, chains that end with 0. */
static uint64_t symbol_sysv(const struct elf_file *f, const char *name)
{
	uint32_t n[2], hash = 0, index;
	uint64_t value;

	for (const char *c = name; *c; c++) {
		hash = (hash << 4) + (uint8_t)*c;
		hash = (hash ^ (hash >> 24 & 0xf0)) & 0x0fffffff;
	}
	if (!elf_file__read(f, f->hash, n, sizeof(n)) || !n[0] ||
	    !elf_file__read(f, f->hash + 8 + 4ull * (hash % n[0]), &index, 4))
		return 0;
	for (uint32_t i = 0; index && i < CHAIN_MAX; i++) {
		if (is_named(f, index, name, &value))
			return value;
		if (!elf_file__read(f, f->hash + 8 + 4ull * n[0] + 4ull * index, &index, 4))
			return 0;
	}
	return 0;
}

uint64_t elf_file__symbol(const struct elf_file *f, const char *name)
{
	if (!f->symtab || !f->strtab)
		return 0;
	return f->gnu_hash ? symbol_gnu(f, name) : f->hash ? symbol_sysv(f, name) : 0;
}

/* ---- loading ------------------------------------------------------------------------------------ */

/* What the dynamic linker would do with the file at address 0, as far as it needs no other file. */
static void relocate(struct elf_file *f)
{
	for (uint64_t i = 0; i < f->rela_size / sizeof(Elf64_Rela); i++) {
		const uint8_t *at = elf_file__bytes(f, f->rela + i * sizeof(Elf64_Rela), sizeof(Elf64_Rela));
		const Elf64_Phdr *p;
		Elf64_Rela r;
		Elf64_Sym s;
		uint64_t v;

		if (!at)
			return;
		memcpy(&r, at, sizeof(r));
		v = (uint64_t)r.r_addend;
		if (ELF64_R_TYPE(r.r_info) == R_X86_64_64) {
			at = elf_file__bytes(f, f->symtab + ELF64_R_SYM(r.r_info) * sizeof(s), sizeof(s));
			if (!at)
				continue;
			memcpy(&s, at, sizeof(s));
			if (s.st_shndx == SHN_UNDEF)
				continue;
			v += s.st_value;
		} else if (ELF64_R_TYPE(r.r_info) != R_X86_64_RELATIVE) {
			continue;
		}
		/* Only what may be written, as at run time: nothing that we still read (this table) changes. */
		p = segment_of(f, r.r_offset, sizeof(v));
		if (p && (p->p_flags & PF_W))
			memcpy(f->data + p->p_offset + (r.r_offset - p->p_vaddr), &v, sizeof(v));
	}
	/* Packed relocations (DT_RELR) add the load address to what stands there already: nothing to do at 0. */
}

int elf_file__load(struct elf_file *f)
{
	uint64_t end = 0;

	if (f->data)
		return 0;
	for (size_t i = 0; i < f->n_segments; i++) {
		const Elf64_Phdr *p = &f->segments[i];

		end = p->p_offset + p->p_filesz > end ? p->p_offset + p->p_filesz : end;
	}
	if (!end || end > LOAD_MAX)
		return -EFBIG;
	f->data = mem__alloc(end);
	if (!f->data)
		return -ENOMEM;
	if (!read_at(f, 0, f->data, end)) { /* it has shrunk */
		mem__free(f->data);
		f->data = NULL;
		return -EIO;
	}
	f->len = end;
	relocate(f);
	return 0;
}

/* ---- methods ------------------------------------------------------------------------------------ */

static bool is_string(const struct elf_file *f, uint64_t addr, const char *what)
{
	size_t n = strlen(what) + 1;
	const uint8_t *at = elf_file__bytes(f, addr, n);

	return at && !memcmp(at, what, n);
}

static bool doc_has(const struct elf_file *f, uint64_t addr, const char *what)
{
	const Elf64_Phdr *p = segment_of(f, addr, 1);
	const uint8_t *doc = elf_file__bytes(f, addr, 1);
	size_t max = p ? p->p_filesz - (addr - p->p_vaddr) : 0;

	return doc && memmem(doc, strnlen((const char *)doc, max < DOC_MAX ? max : DOC_MAX), what, strlen(what));
}

/* Takes the definition at `at`, if it is that of one of them. False: its name is none that is looked for. */
static bool check_def(const struct elf_file *f, const uint8_t *at, struct elf_method *m, size_t n)
{
	struct method_def d;
	bool named = false;

	memcpy(&d, at, sizeof(d));
	if (!d.name || !elf_file__is_code(f, d.meth))
		return false;
	for (size_t i = 0; i < n; i++) {
		if (!is_string(f, d.name, m[i].name))
			continue;
		named = true;
		if (!doc_has(f, d.doc, m[i].doc))
			continue;
		m[i].flags = (uint32_t)d.flags;
		m[i].fn = !m[i].fn || m[i].fn == d.meth ? d.meth : ELF_METHOD_TWO;
	}
	return named;
}

void elf_file__methods(const struct elf_file *f, struct elf_method *m, size_t n)
{
	size_t left = NAMED_MAX;

	for (size_t i = 0; i < n; i++)
		m[i].fn = 0;
	for (size_t i = 0; f->data && i < f->n_segments; i++) {
		const Elf64_Phdr *p = &f->segments[i];

		if (!(p->p_flags & PF_W))
			continue;
		for (uint64_t at = -p->p_vaddr & 7; left && at + sizeof(struct method_def) <= p->p_filesz; at += 8)
			left -= check_def(f, f->data + p->p_offset + at, m, n);
	}
}

uint64_t elf_file__method_in(const struct elf_file *f, uint64_t table, const char *name)
{
	for (uint64_t i = 0; i < TABLE_MAX; i++) {
		const uint8_t *at =
			elf_file__bytes(f, table + i * sizeof(struct method_def), sizeof(struct method_def));
		struct method_def d;

		if (!at)
			return 0;
		memcpy(&d, at, sizeof(d));
		if (!d.name)
			return 0;
		if (is_string(f, d.name, name))
			return elf_file__is_code(f, d.meth) ? d.meth : 0;
	}
	return 0;
}
