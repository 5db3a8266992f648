/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A Go program on disk: its version and where its functions are. Both are there in stripped programs too: the runtime
 * itself needs the table of functions (.gopclntab; src/runtime/symtab.go, struct pcHeader, from Go 1.18 on), and `go
 * version` reads the other (.go.buildinfo; src/debug/buildinfo).
 *
 * The file belongs to whom we trace: it may be malformed. Everything is read in pieces, and every number in it checked.
 */
#ifndef WS_RUNTIME_GO_FILE_H
#define WS_RUNTIME_GO_FILE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "user/runtime/elf_file.h"

#define GO_MATCHES_MAX 8

struct go_file {
	const struct elf_file *elf; /* borrowed; segments only, not loaded */
	uint64_t pclntab, pclntab_size;
	uint64_t module; /* address of runtime.firstmoduledata, from Go 1.26 on; 0: not known */
	char version[32]; /* "go1.22.12"; "" where it does not say */
	/* From the head of the table, bytes from its start. */
	uint64_t n_funcs, names, names_end, functions;
};

/*
 * Functions that are looked for. A name that begins with a dot is the end of one, in whatever package: forks of
 * net/http keep its names.
 */
struct go_wanted {
	const char *name;
	size_t n; /* found; more than GO_MATCHES_MAX are left out */
	struct {
		uint32_t name_off;
		uint64_t start, end; /* bytes from the start of Go's code; both 0: it has been inlined everywhere */
	} at[GO_MATCHES_MAX];
};

/* 0; -ENOEXEC: no Go program; -EBADMSG: one whose table cannot be read; -ENOMEM. */
int go_file__open(struct go_file *g, const struct elf_file *elf, const char *path);
/* Looks for n functions in one pass. 0, -EBADMSG, -ENOMEM. */
int go_file__find(const struct go_file *g, struct go_wanted *w, size_t n);

#endif
