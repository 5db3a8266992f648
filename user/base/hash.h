/* SPDX-License-Identifier: Apache-2.0 */
/*
 * uthash over our allocator, so that a failed allocation is a return value and not the end of the program.
 * After an add that failed, elt->hh.tbl is NULL and the element is not in the table.
 */
#ifndef WS_BASE_HASH_H
#define WS_BASE_HASH_H

#include "user/base/mem.h"

#define HASH_NONFATAL_OOM 1
#define uthash_malloc(size) mem__alloc(size)
#define uthash_free(p, size) mem__free(p)
#include <uthash.h>

#endif
