/* SPDX-License-Identifier: Apache-2.0 */
/* Files that a process has mapped: the first mapping of each, from /proc/PID/maps. */
#ifndef WS_RUNTIME_MAPS_H
#define WS_RUNTIME_MAPS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct mapped_file {
	uint64_t start, offset; /* of the first mapping */
	char *name; /* as the process sees it, " (deleted)" cut off */
	char *path; /* what we open: through /proc/PID/root, or map_files where that leads to another file by now */
};

struct mapped_files {
	struct mapped_file *files;
	size_t n;
};

/* 0 or negative errno. Bounded: a process can map as much as it likes. */
int mapped_files__read(struct mapped_files *m, pid_t pid);
/* For tests: the same from the text of a maps file. */
int mapped_files__parse(struct mapped_files *m, pid_t pid, const char *text, size_t len);
void mapped_files__free(struct mapped_files *m);

#endif
