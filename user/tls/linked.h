/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Functions of a library that was linked into a program whose symbols are gone. OpenSSL since 3.0 tells of its errors with
 * the name of the function that they are in (include/openssl/err.h, ERR_raise): whoever loads the address of that string
 * for the third argument is that function. Where it begins is in the table that unwinding needs, which stripping leaves;
 * parts that a compiler has moved out of a function are in it, too, and told by what it says of their frames.
 */
#ifndef WS_TLS_LINKED_H
#define WS_TLS_LINKED_H

#include <stddef.h>
#include <stdint.h>

#include "user/runtime/elf_file.h"

/*
 * Addresses of n functions (LINKED_MAX at the most) in the file; 0: none, or more than one. Reads all of its code and
 * constants, in pieces. 0; -ENOEXEC: it has no sections that tell which is which; -ENOMEM.
 */
#define LINKED_MAX 8
int linked__find(const struct elf_file *f, const char *path, const char *const *names, uint64_t *ret_addrs, size_t n);
/* Which of these texts is in its constants: an index; n: none, or it cannot be read. */
size_t linked__mentions(const struct elf_file *f, const char *path, const char *const *texts, size_t n);

#endif
