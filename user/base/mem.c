// SPDX-License-Identifier: Apache-2.0
#include "user/base/mem.h"

#include <errno.h>
#ifdef __GLIBC__
#include <malloc.h>
#endif
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

/* Per thread, so that a test that fails allocations disturbs no other thread. */
static __thread long fail_after = -1;
static __thread long count;

bool mem__fails(void)
{
	count++;
	if (__builtin_expect(fail_after < 0, 1))
		return false;
	if (fail_after > 0) {
		fail_after--;
		return false;
	}
	fail_after = -1; /* one failure, then things work again: clean-up paths are exercised, too */
	errno = ENOMEM;
	return true;
}

void *mem__alloc(size_t size)
{
	if (mem__fails())
		return NULL;
	return malloc(size ? size : 1);
}

void *mem__zalloc(size_t size)
{
	if (mem__fails())
		return NULL;
	return calloc(1, size ? size : 1);
}

void *mem__realloc(void *p, size_t size)
{
	if (mem__fails())
		return NULL;
	return realloc(p, size ? size : 1);
}

void mem__free(void *p)
{
	int saved = errno; /* clean-up must not hide what failed; free() before glibc 2.33 may set it */

	free(p);
	errno = saved;
}

char *mem__strndup(const char *s, size_t n)
{
	char *copy = mem__alloc(n + 1);

	if (copy) {
		memcpy(copy, s, n);
		copy[n] = '\0';
	}
	return copy;
}

char *mem__strdup(const char *s)
{
	return mem__strndup(s, strlen(s));
}

void mem__trim(void)
{
#ifdef __GLIBC__
	malloc_trim(0);
#endif
}

void mem__fail_after(long n)
{
	fail_after = n;
	count = 0;
}

long mem__count(void)
{
	return count;
}
