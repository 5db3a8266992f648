/* SPDX-License-Identifier: Apache-2.0 */
/* What runtime__inspect() finds out about a CPython process, step by step. */
#ifndef WS_RUNTIME_PYTHON_H
#define WS_RUNTIME_PYTHON_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "user/runtime/elf_file.h"
#include "user/runtime/maps.h"
#include "user/runtime/runtime.h"

struct python_offsets;

struct python {
	pid_t pid;
	const struct mapped_files *maps;
	const struct mapped_file *file; /* what exports _PyRuntime: the executable, or libpython */
	char path[MAPPED_PATH_MAX];	/* what we open to get it */
	struct elf_file *elf;		/* loaded */
	uint64_t bias;			/* from addresses in the file to those in the process */
	uint64_t runtime;		/* _PyRuntime; in the file, as the next */
	uint64_t context_type;		/* PyContext_Type */
	uint64_t hex;			/* PY_VERSION_HEX, 0 before 3.11 */
	int minor;
	const struct python_offsets *off;
	struct runtime *out;
};

/* All return 0, or negative errno. Where the answer is no, they leave kind NONE and `why`. */

/* Version, build, offsets. */
int python__identify(struct python *py);
/* Key of the thread states, and whether the threads that exist look as they must: fills desc. */
int python__read_state(struct python *py);
/* Where the probes go. */
int python__find_sites(struct python *py);

int python__why(struct python *py, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

#endif
