/* SPDX-License-Identifier: Apache-2.0 */
/* Files that a process has mapped: the first mapping of each, from /proc/PID/maps. */
#ifndef WS_RUNTIME_MAPS_H
#define WS_RUNTIME_MAPS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define MAPPED_NAME_MAX 4096 /* PATH_MAX */
#define MAPPED_PATH_MAX (MAPPED_NAME_MAX + 64)

struct mapped_file {
	uint64_t start, end, offset; /* of the first mapping */
	uint64_t ino;
	uint32_t dev_major, dev_minor;
	bool deleted; /* no longer there under that name */
	char *name;   /* as the process sees it, " (deleted)" cut off */
};

struct mapped_files {
	struct mapped_file *files;
	size_t n;
};

/* 0 or negative errno (ESRCH: gone). Bounded: a process can map as much as it likes. Release after 0. */
int mapped_files__read(struct mapped_files *m, pid_t pid);
/* The same from the text of a maps file. */
int mapped_files__parse(struct mapped_files *m, const char *text, size_t len);
void mapped_files__free(struct mapped_files *m);

/* The first file of which this is in the name, or NULL. */
const struct mapped_file *mapped_files__find(const struct mapped_files *m, const char *part);
/* The last part of its name. */
const char *mapped_file__base(const struct mapped_file *f);
/*
 * What we open to get this very file: through /proc/PID/root where that name still leads to it, else (replaced,
 * deleted, hidden by a mount) through the mapping itself. False: it cannot be reached.
 */
bool mapped_file__path(const struct mapped_file *f, pid_t pid, char path[MAPPED_PATH_MAX]);

#endif
