/* SPDX-License-Identifier: Apache-2.0 */
/* A Go program that runs: its version, and the code of its functions. */
#ifndef WS_RUNTIME_GO_PROGRAM_H
#define WS_RUNTIME_GO_PROGRAM_H

#include <sys/types.h>

#include "user/runtime/elf_file.h"
#include "user/runtime/go_file.h"
#include "user/runtime/go_offsets.h"
#include "user/runtime/maps.h"

struct go_program {
	char path[MAPPED_PATH_MAX]; /* to be opened by us: through /proc/PID */
	struct elf_file *elf;
	struct go_file file;
	uint64_t text; /* address of Go's code in the file */
	int minor;     /* of Go 1; 0: not known */
	const struct go_offsets *off; /* of this version */
};

/*
 * `exe`: the mapping of its executable. 0 with *ret_why NULL, or why nothing is known of this one. -ENOEXEC: no Go program,
 * or one that cannot be opened; -ESRCH, -EACCES, -EPERM, -ENOMEM. Close it in any case.
 */
int go_program__open(struct go_program *g, pid_t pid, const struct mapped_file *exe, const char **ret_why);
/* Looks for n functions in one pass, as go_file__find(). 0 with *ret_why, -ENOMEM. */
int go_program__find(const struct go_program *g, struct go_wanted *w, size_t n, const char **ret_why);
void go_program__close(struct go_program *g);

/* Up to `size` bytes of the function that was found as number i; 0: there is none. */
size_t go_program__code(const struct go_program *g, const struct go_wanted *w, size_t i, uint8_t *to, size_t size);
/* Its address in the file. */
uint64_t go_program__address(const struct go_program *g, const struct go_wanted *w, size_t i);
/* How many of those that were found have code. */
size_t go_program__present(const struct go_wanted *w);

#endif
