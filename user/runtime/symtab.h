/* SPDX-License-Identifier: Apache-2.0 */
/* What only sections tell of a file: its symbol table, where it was left in (wheels of Cython modules keep theirs). */
#ifndef WS_RUNTIME_SYMTAB_H
#define WS_RUNTIME_SYMTAB_H

#include <stddef.h>
#include <stdint.h>

/* Addresses of n functions, or offsets of thread-local variables, 0: none of that name. 0 or negative errno. */
int symtab__find(const char *path, const char *const *names, uint64_t *ret_addrs, size_t n);

struct symtab_section {
	const char *name;
	uint64_t addr, size; /* found; 0: it has none of that name */
};

/* 0 or negative errno: -ENOEXEC for what is no ELF file. */
int symtab__sections(const char *path, struct symtab_section *sections, size_t n);

#endif
