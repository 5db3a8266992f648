/* SPDX-License-Identifier: Apache-2.0 */
/* What runtime__inspect() finds out about a Node.js process. */
#ifndef WS_RUNTIME_LIBUV_H
#define WS_RUNTIME_LIBUV_H

#include <sys/types.h>

#include "user/runtime/maps.h"
#include "user/runtime/runtime.h"

/* `exe`: the mapping of its executable. 0 or negative errno; no Node.js: kind NONE and no `why`. */
int libuv__inspect(pid_t pid, const struct mapped_file *exe, const struct mapped_files *maps, struct runtime *out);

#endif
