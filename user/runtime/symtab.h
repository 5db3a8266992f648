/* SPDX-License-Identifier: Apache-2.0 */
/* Functions that a file does not export, where its symbol table was left in: wheels of Cython modules keep theirs. */
#ifndef WS_RUNTIME_SYMTAB_H
#define WS_RUNTIME_SYMTAB_H

#include <stddef.h>
#include <stdint.h>

/* Addresses of n functions, 0: none of that name. 0 or negative errno. */
int symtab__find(const char *path, const char *const *names, uint64_t *ret_addrs, size_t n);

#endif
