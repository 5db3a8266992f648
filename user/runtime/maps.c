// SPDX-License-Identifier: Apache-2.0
#include "user/runtime/maps.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include "user/base/mem.h"
#include "user/enrich/proc_read.h"

#define MAPS_MAX (4u << 20) /* bytes of the maps file */
#define FILES_MAX 4096u
#define DELETED " (deleted)"

static bool is_known(const struct mapped_files *m, const struct mapped_file *f, size_t len)
{
	/* Backwards: the mappings of a file follow each other. */
	for (size_t i = m->n; i-- > 0;) {
		const struct mapped_file *k = &m->files[i];

		if (k->ino == f->ino && k->dev_major == f->dev_major && k->dev_minor == f->dev_minor &&
		    k->deleted == f->deleted && !strncmp(k->name, f->name, len) && k->name[len] == '\0')
			return true;
	}
	return false;
}

/* f->name is borrowed, of len bytes without a NUL among them. */
static int add(struct mapped_files *m, struct mapped_file f, size_t len)
{
	struct mapped_file *more;
	char *name;

	if (m->n == FILES_MAX || is_known(m, &f, len))
		return 0;
	name = mem__alloc(len + 1);
	if (!name)
		return -ENOMEM;
	memcpy(name, f.name, len);
	name[len] = '\0';
	f.name = name;
	if (!(m->n & (m->n - 1))) { /* a power of two: double it */
		more = mem__realloc(m->files, (m->n ? m->n * 2 : 1) * sizeof(*more));
		if (!more) {
			mem__free(name);
			return -ENOMEM;
		}
		m->files = more;
	}
	m->files[m->n++] = f;
	return 0;
}

/* start-end perms offset maj:min inode  /name */
static int parse_line(struct mapped_files *m, const char *line, size_t len)
{
	const char *name = memchr(line, '/', len);
	struct mapped_file f = {0};
	char head[128];
	size_t n;

	if (!name || (size_t)(name - line) >= sizeof(head))
		return 0;
	memcpy(head, line, (size_t)(name - line));
	head[name - line] = '\0';
	if (sscanf(head, "%" SCNx64 "-%" SCNx64 " %*4s %" SCNx64 " %" SCNx32 ":%" SCNx32 " %" SCNu64, &f.start, &f.end,
		   &f.offset, &f.dev_major, &f.dev_minor, &f.ino) != 6 ||
	    f.end <= f.start)
		return 0;
	n = len - (size_t)(name - line);
	if (n > strlen(DELETED) && !memcmp(name + n - strlen(DELETED), DELETED, strlen(DELETED))) {
		n -= strlen(DELETED);
		f.deleted = true;
	}
	f.name = (char *)(uintptr_t)name;
	return n < MAPPED_NAME_MAX && !memchr(name, '\0', n) ? add(m, f, n) : 0;
}

int mapped_files__parse(struct mapped_files *m, const char *text, size_t len)
{
	const char *nl;

	*m = (struct mapped_files){0};
	/* What has no end of line was cut off by our limit. */
	for (; len && (nl = memchr(text, '\n', len)); len -= (size_t)(nl - text) + 1, text = nl + 1) {
		int err = parse_line(m, text, (size_t)(nl - text));

		if (err) {
			mapped_files__free(m);
			return err;
		}
	}
	return 0;
}

int mapped_files__read(struct mapped_files *m, pid_t pid)
{
	struct dynbuf buf;
	int err;

	*m = (struct mapped_files){0};
	dynbuf__init(&buf, MAPS_MAX);
	err = proc__read("/proc", (uint32_t)pid, "maps", MAPS_MAX, &buf);
	if (!err && buf.len)
		err = mapped_files__parse(m, (const char *)buf.data, buf.len);
	dynbuf__free(&buf);
	return err == -ENOENT ? -ESRCH : err;
}

void mapped_files__free(struct mapped_files *m)
{
	for (size_t i = 0; i < m->n; i++)
		mem__free(m->files[i].name);
	mem__free(m->files);
	*m = (struct mapped_files){0};
}

const struct mapped_file *mapped_files__find(const struct mapped_files *m, const char *part)
{
	for (size_t i = 0; i < m->n; i++)
		if (strstr(m->files[i].name, part))
			return &m->files[i];
	return NULL;
}

const char *mapped_file__base(const struct mapped_file *f)
{
	const char *slash = strrchr(f->name, '/');

	return slash ? slash + 1 : f->name;
}

/* Overlay file systems may show one device in maps and another to stat(): `loosely` lets the inode number do. */
static bool is_it(const struct mapped_file *f, const char *path, bool loosely)
{
	struct stat st;

	return !stat(path, &st) && S_ISREG(st.st_mode) && st.st_ino == f->ino &&
	       (loosely || (major(st.st_dev) == f->dev_major && minor(st.st_dev) == f->dev_minor));
}

bool mapped_file__path(const struct mapped_file *f, pid_t pid, char path[MAPPED_PATH_MAX])
{
	struct stat st;

	snprintf(path, MAPPED_PATH_MAX, "/proc/%d/root%s", (int)pid, f->name);
	if (!f->deleted && is_it(f, path, false))
		return true;
	/* The kernel asks for CAP_SYS_ADMIN or CAP_CHECKPOINT_RESTORE here. */
	snprintf(path, MAPPED_PATH_MAX, "/proc/%d/map_files/%" PRIx64 "-%" PRIx64, (int)pid, f->start, f->end);
	if (!stat(path, &st) && S_ISREG(st.st_mode))
		return true;
	snprintf(path, MAPPED_PATH_MAX, "/proc/%d/exe", (int)pid);
	if (is_it(f, path, true))
		return true;
	snprintf(path, MAPPED_PATH_MAX, "/proc/%d/root%s", (int)pid, f->name);
	return !f->deleted && is_it(f, path, true);
}
