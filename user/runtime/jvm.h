/* SPDX-License-Identifier: Apache-2.0 */
/* What runtime__inspect() finds out about a process that runs HotSpot. */
#ifndef WS_RUNTIME_JVM_H
#define WS_RUNTIME_JVM_H

#include <sys/types.h>

#include "user/runtime/maps.h"
#include "user/runtime/runtime.h"

/* 0 or negative errno; no libjvm: kind NONE and no `why`. */
int jvm__inspect(pid_t pid, const struct mapped_files *maps, struct runtime *out);

#endif
