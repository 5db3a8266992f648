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
/*
 * greenlet's and gevent's. A greenlet is where its frames are: where it is not seen to end, none is followed, and all
 * else goes on. Without its queue's hooks those that serve requests are told apart all the same.
 */
int python__add_greenlets(struct python *py);
/* It reads outside of its streams' contexts, and writes outside of its callers': without its hooks nothing is followed. */
int python__add_uvloop(struct python *py);

struct python_method {
	const char *name, *doc;
	enum runtime_hook hook;
	bool fastcall; /* argument 2 has to be the vector of arguments */
};

/* A module that is written in C, and what of it is hooked. */
struct python_module {
	const char *name;
	const struct python_method *methods;
	size_t n;
};

/* fn: address in elf, which is the file that we open as path. */
int python__add_site(struct python *py, const struct elf_file *elf, const char *path, enum runtime_hook hook, uint64_t fn);
/* -ENOENT: it has none of them at all; some, or odd ones, are `why`. */
int python__add_methods(struct python *py, const struct python_module *mod, const struct elf_file *elf, const char *path);
/* Forgets the sites behind the first n_sites, and why. */
void python__take_back(struct python *py, size_t n_sites);

int python__why(struct python *py, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

#endif
