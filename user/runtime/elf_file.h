/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An executable or shared object on disk, x86-64: what it exports, and the methods of stripped extension modules.
 *
 * The file belongs to whom we trace: it may be malformed, and may shrink while it is read. So it is read with pread(),
 * never mapped, every address is checked against the segments, and sections, which need not exist, are not looked at.
 */
#ifndef WS_RUNTIME_ELF_FILE_H
#define WS_RUNTIME_ELF_FILE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct elf_file;

/* 0, or negative errno: ENOEXEC for what is no 64-bit little-endian ELF file of x86-64. */
int elf_file__open(const char *path, struct elf_file **ret);
void elf_file__close(struct elf_file *f); /* NULL ok */

/* Address of a symbol that the file exports, 0: none. */
uint64_t elf_file__symbol(const struct elf_file *f, const char *name);
/* Copies n bytes at an address as the file has them. */
bool elf_file__read(const struct elf_file *f, uint64_t addr, void *to, size_t n);
/* Where in the file an address is; false: in no segment. */
bool elf_file__offset(const struct elf_file *f, uint64_t addr, uint64_t *ret_offset);
/* Address of the byte at this offset of the file; false: in no segment. */
bool elf_file__address(const struct elf_file *f, uint64_t offset, uint64_t *ret_addr);

/*
 * Reads all segments and relocates them to address 0, so that pointers in them can be followed. Needed by what stands
 * below. 0, -ENOMEM, -EFBIG, -EIO.
 */
int elf_file__load(struct elf_file *f);
/* n bytes at an address; NULL if the file has fewer. Valid until the file is closed. */
const uint8_t *elf_file__bytes(const struct elf_file *f, uint64_t addr, size_t n);
/* The pointer that is stored there; 0: none. */
uint64_t elf_file__pointer(const struct elf_file *f, uint64_t addr);
bool elf_file__is_code(const struct elf_file *f, uint64_t addr);
/* All that was loaded. */
const uint8_t *elf_file__image(const struct elf_file *f, size_t *ret_len);

/*
 * The C function behind a Python method, through its PyMethodDef (Include/methodobject.h: ml_name, ml_meth, ml_flags,
 * ml_doc), which needs no symbol. `doc` is in the method's documentation: it tells methods of one name apart.
 */
struct elf_method {
	const char *name, *doc;
	uint64_t fn;	/* found: its address, 0 none, ELF_METHOD_TWO more than one */
	uint32_t flags; /* ml_flags */
};
#define ELF_METHOD_TWO UINT64_MAX

/* Looks for n methods in one pass. */
void elf_file__methods(const struct elf_file *f, struct elf_method *m, size_t n);
/* The one of this name in the table (PyMethodDef[], ended by a NULL name) at an address. 0: none. */
uint64_t elf_file__method_in(const struct elf_file *f, uint64_t table, const char *name);

#endif
