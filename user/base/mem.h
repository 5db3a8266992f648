/* SPDX-License-Identifier: Apache-2.0 */
/* All heap memory goes through here, so that tests can fail any allocation (mem__fail_after). */
#ifndef WS_BASE_MEM_H
#define WS_BASE_MEM_H

#include <stdbool.h>
#include <stddef.h>

void *mem__alloc(size_t size);		   /* NULL with ENOMEM; not cleared */
void *mem__zalloc(size_t size);
void *mem__realloc(void *p, size_t size);
void mem__free(void *p);		   /* NULL ok */
char *mem__strdup(const char *s);
/* n bytes and a NUL. */
char *mem__strndup(const char *s, size_t n);

/* Gives back to the kernel what was freed. */
void mem__trim(void);

/* For memory that is given out again without going through the above: counts it, and says whether it has to fail. */
bool mem__fails(void); /* with ENOMEM */

/* Tests only: let n allocations of this thread succeed and fail the next; -1 switches it off. */
void mem__fail_after(long n);
/* Allocations asked for by this thread since the last mem__fail_after(). */
long mem__count(void);

#endif
