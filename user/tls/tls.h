/* SPDX-License-Identifier: Apache-2.0 */
/*
 * TLS libraries: which of a process's files is one, and where the probes go that see its plaintext. A library is one
 * file of this directory and a line of tls_list.h.
 */
#ifndef WS_TLS_H
#define WS_TLS_H

#include <stddef.h>
#include <stdint.h>

#include "user/runtime/elf_file.h"
#include "user/runtime/maps.h"
#include "user/runtime/runtime.h"

#define TLS_SITES_MAX 24

/* What a file has. */
struct tls_file {
	const char *library; /* its kind, "OpenSSL"; NULL: this file is none */
	bool inside; /* it is in a program that exports nothing of it */
	const char *opaque; /* … but it has that linked in, which cannot be read; NULL: not known */
	struct runtime_site sites[TLS_SITES_MAX]; /* each has its own copy of the path */
	size_t n_sites;
};

/* A function of a library: where it begins `hook` is told of, and where it returns, if `returns`. */
struct tls_function {
	const char *name;
	enum runtime_hook hook;
	bool returns;
	bool needed; /* a file without it is not this library */
	const char *twin; /* of the same shape as what both call within; NULL: none */
	const char *unless; /* … which has another where the file has this function */
};

struct tls_library {
	const char *name;
	const char *const *files; /* names of its files begin so; ended by NULL */
	const struct tls_function *functions;
	size_t n_functions;
	bool embedded; /* executables export it for their add-ons, or have it linked in */
	const struct tls_function *linked; /* … without symbols: functions that linked.h finds */
	size_t n_linked;
	void (*choose)(const struct elf_file *f, uint64_t *addr); /* … of which some are not needed: sets them to 0. NULL: all are */
	/* How to find what it hands to the program, in its file and the one that it stands on. NULL: it is not looked for. */
	void (*layout)(const struct elf_file *f, const struct elf_file *base, union ws_tls *ret);
	const char *base; /* that file's name begins so; the same one, if there is none */
};

/*
 * Looks into a file that a process has mapped. 0 with ret->library NULL for what is no TLS library, or one that cannot
 * be read; -ENOMEM.
 */
enum tls_look {
	TLS_LIBRARY,	/* by its name it is one */
	TLS_EXECUTABLE, /* the process's own: what it exports, and Go's tables */
	TLS_LINKED,	/* … all of it: its symbols, its strings and its code. Takes as long as reading the file */
};
int tls_file__inspect(const struct mapped_files *maps, const struct mapped_file *f, pid_t pid, enum tls_look how,
		      struct tls_file *ret);
/*
 * The same for a Go program, whose TLS is in it. 0; ret->library NULL: it has none, or, with *ret_why, none that can be
 * read; or negative errno.
 */
int tls_golang__inspect(pid_t pid, const struct mapped_file *exe, struct tls_file *ret, const char **ret_why);
void tls_file__free(struct tls_file *t);
/* What encrypts for a process that has none of those mapped, by the names of its files; NULL: not known. */
const char *tls__opaque_name(const struct mapped_files *maps);
/* By its name only: may this file be one? */
bool tls_file__is_candidate(const struct mapped_file *f);

#endif
