/* SPDX-License-Identifier: Apache-2.0 */
/* An executable or shared object on disk: symbols, methods of stripped extension modules, file offsets. x86-64. */
#ifndef WS_ELF_FILE_H
#define WS_ELF_FILE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct elf_file;

/* NULL with errno: ENOEXEC for what is no 64-bit little-endian x86-64 ELF file. */
struct elf_file *elf_file__open(const char *path);
void elf_file__close(struct elf_file *f); /* NULL ok */

/* Address of a symbol that the file exports, 0: none. */
uint64_t elf_file__symbol(const struct elf_file *f, const char *name);
/*
 * Address of the C function behind a Python method, through its PyMethodDef (Include/methodobject.h: ml_name, ml_meth,
 * ml_flags, ml_doc): it needs no symbol. `doc` is in the method's documentation; it tells methods of one name apart.
 * 0: none, or more than one.
 */
uint64_t elf_file__method(const struct elf_file *f, const char *name, const char *doc);
/* The pointer that is stored there once the file is relocated (before its load address is added); 0: none. */
uint64_t elf_file__pointer(const struct elf_file *f, uint64_t addr);
/* Bytes at an address, as far as the file has them; NULL if it has fewer than n. Valid while f is open. */
const uint8_t *elf_file__bytes(const struct elf_file *f, uint64_t addr, size_t n);
/* Where in the file an address is; false: in no segment. */
bool elf_file__offset(const struct elf_file *f, uint64_t addr, uint64_t *ret_offset);
/* Address of the byte at this offset of the file; false: in no segment. */
bool elf_file__address(const struct elf_file *f, uint64_t offset, uint64_t *ret_addr);

#endif
