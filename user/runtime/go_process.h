/* SPDX-License-Identifier: Apache-2.0 */
/* What runtime__inspect() finds out about a Go process. */
#ifndef WS_RUNTIME_GO_PROCESS_H
#define WS_RUNTIME_GO_PROCESS_H

#include <sys/types.h>

#include "user/runtime/maps.h"
#include "user/runtime/runtime.h"

/* `exe`: the mapping of its executable. 0 or negative errno; no Go program: kind NONE and no `why`. */
int go_process__inspect(pid_t pid, const struct mapped_file *exe, struct runtime *out);

#endif
