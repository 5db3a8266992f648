// SPDX-License-Identifier: Apache-2.0
#include "user/loader/tracefs.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <unistd.h>

int tracefs__open(const char *file, int flags)
{
	static const char *const dirs[] = { TRACEFS_DIR, TRACEFS_DIR_OLD };
	char path[PATH_MAX];
	int fd = -1;

	for (int i = 0; i < 2 && fd < 0; i++) {
		snprintf(path, sizeof(path), "%s/%s", dirs[i], file);
		fd = open(path, flags | O_CLOEXEC);
	}
	return fd < 0 ? -errno : fd;
}

FILE *tracefs__fopen(const char *file)
{
	int fd = tracefs__open(file, O_RDONLY);
	FILE *f;

	if (fd < 0) {
		errno = -fd;
		return NULL;
	}
	f = fdopen(fd, "r");
	if (!f)
		close(fd);
	return f;
}

int tracefs__number(const char *file)
{
	FILE *in = tracefs__fopen(file);
	int n;

	if (!in)
		return -errno;
	if (fscanf(in, "%d", &n) != 1)
		n = -EINVAL;
	fclose(in);
	return n;
}
