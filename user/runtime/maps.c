// SPDX-License-Identifier: Apache-2.0
#include "user/runtime/maps.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "user/base/mem.h"
#include "user/enrich/proc_read.h"

#define MAPS_MAX (4u << 20) /* bytes of the maps file */
#define FILES_MAX 1024u
#define DELETED " (deleted)"

/* Overlay file systems show one device in maps and another to stat(): the inode number has to do. */
static bool is_same(const char *path, uint64_t ino)
{
	struct stat st;

	return !stat(path, &st) && S_ISREG(st.st_mode) && st.st_ino == ino;
}

static int add(struct mapped_files *m, pid_t pid, uint64_t start, uint64_t end, uint64_t offset, const char *name, size_t len,
	       uint64_t ino)
{
	struct mapped_file *more, f = { .start = start, .offset = offset };
	char path[4200];

	for (size_t i = 0; i < m->n; i++)
		if (strlen(m->files[i].name) == len && !memcmp(m->files[i].name, name, len))
			return 0;
	if (m->n == FILES_MAX)
		return 0;
	snprintf(path, sizeof(path), "/proc/%d/root%.*s", (int)pid, (int)len, name);
	if (!is_same(path, ino))
		snprintf(path, sizeof(path), "/proc/%d/map_files/%" PRIx64 "-%" PRIx64, (int)pid, start, end);
	more = mem__realloc(m->files, (m->n + 1) * sizeof(*more));
	if (!more)
		return -ENOMEM;
	m->files = more;
	f.name = mem__alloc(len + 1);
	f.path = mem__strdup(path);
	if (!f.name || !f.path) {
		mem__free(f.name);
		mem__free(f.path);
		return -ENOMEM;
	}
	memcpy(f.name, name, len);
	f.name[len] = '\0';
	m->files[m->n++] = f;
	return 0;
}

/* start-end perms offset maj:min inode  /name */
static int parse_line(struct mapped_files *m, pid_t pid, const char *line, size_t len)
{
	uint64_t start, end, offset, ino;
	const char *name = memchr(line, '/', len);
	char head[128];
	size_t n;

	if (!name || (size_t)(name - line) >= sizeof(head))
		return 0;
	memcpy(head, line, (size_t)(name - line));
	head[name - line] = '\0';
	if (sscanf(head, "%" SCNx64 "-%" SCNx64 " %*s %" SCNx64 " %*x:%*x %" SCNu64, &start, &end, &offset, &ino) != 4)
		return 0;
	n = len - (size_t)(name - line);
	if (n > strlen(DELETED) && !memcmp(name + n - strlen(DELETED), DELETED, strlen(DELETED)))
		n -= strlen(DELETED);
	return n < 4096 ? add(m, pid, start, end, offset, name, n, ino) : 0;
}

int mapped_files__parse(struct mapped_files *m, pid_t pid, const char *text, size_t len)
{
	*m = (struct mapped_files){ 0 };
	while (len) {
		const char *nl = memchr(text, '\n', len);
		size_t n = nl ? (size_t)(nl - text) : len;
		int err = parse_line(m, pid, text, n);

		if (err) {
			mapped_files__free(m);
			return err;
		}
		text += n + (nl != NULL);
		len -= n + (nl != NULL);
	}
	return 0;
}

int mapped_files__read(struct mapped_files *m, pid_t pid)
{
	struct dynbuf buf;
	int err;

	dynbuf__init(&buf, MAPS_MAX);
	err = proc__read("/proc", (uint32_t)pid, "maps", MAPS_MAX, &buf);
	if (!err)
		err = mapped_files__parse(m, pid, (const char *)buf.data, buf.len);
	dynbuf__free(&buf);
	return err == -ENOENT ? -ESRCH : err;
}

void mapped_files__free(struct mapped_files *m)
{
	for (size_t i = 0; i < m->n; i++) {
		mem__free(m->files[i].name);
		mem__free(m->files[i].path);
	}
	mem__free(m->files);
	*m = (struct mapped_files){ 0 };
}
