/* SPDX-License-Identifier: Apache-2.0 */
/* A tree like /proc and /etc, made in a temporary directory. */
#ifndef WS_TESTS_PROCFS_H
#define WS_TESTS_PROCFS_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static char procfs[] = "/tmp/wirespan-procfs-XXXXXX";

static inline void procfs__write(const char *name, const char *data, size_t len)
{
	char path[1024];
	FILE *f;

	snprintf(path, sizeof(path), "%s/%s", procfs, name);
	f = fopen(path, "w");
	if (!f || fwrite(data, 1, len, f) != len || fclose(f) != 0)
		abort();
}

static inline void procfs__make(void)
{
	char path[512];

	if (!mkdtemp(procfs))
		abort();
	snprintf(path, sizeof(path), "%s/etc", procfs);
	mkdir(path, 0700);
	procfs__write("etc/machine-id", "0123456789abcdef0123456789abcdef\n", 33);
	procfs__write("etc/passwd", "root:x:0:0::/:/bin/sh\nweb:x:33:33::/:/bin/sh\n", 46);
	procfs__write("stat", "cpu 1\nbtime 1700000000\n", 23);
}

struct fake {
	unsigned int pid, ppid, uid;
	unsigned long long ticks;
	const char *comm, *exe, *cwd;
	const char *args, *env; /* '|' between the parts */
	const char *cgroup;
	unsigned long flags;
};

static inline void write_parts(unsigned int pid, const char *name, const char *text)
{
	char path[64], *copy = strdup(text ? text : "");
	size_t n = strlen(copy);

	for (size_t i = 0; i < n; i++)
		copy[i] = copy[i] == '|' ? '\0' : copy[i];
	snprintf(path, sizeof(path), "%u/%s", pid, name);
	procfs__write(path, copy, n ? n + 1 : 0);
	free(copy);
}

static inline void write_link(unsigned int pid, const char *name, const char *target)
{
	char path[512];

	snprintf(path, sizeof(path), "%s/%u/%s", procfs, pid, name);
	unlink(path);
	if (target && symlink(target, path) != 0)
		abort();
}

static inline void procfs__add(const struct fake *f)
{
	char path[512], text[1024];
	int n;

	snprintf(path, sizeof(path), "%s/%u", procfs, f->pid);
	mkdir(path, 0700);
	n = snprintf(text, sizeof(text), "%u (%s) S %u 1 1 0 -1 %lu 0 0 0 0 0 0 0 0 20 0 1 0 %llu 0 0\n", f->pid,
		     f->comm, f->ppid, f->flags, f->ticks);
	snprintf(path, sizeof(path), "%u/stat", f->pid);
	procfs__write(path, text, (size_t)n);
	n = snprintf(text, sizeof(text), "Name:\t%s\nUid:\t%u\t%u\t0\t0\n", f->comm, f->uid, f->uid);
	snprintf(path, sizeof(path), "%u/status", f->pid);
	procfs__write(path, text, (size_t)n);
	write_parts(f->pid, "cmdline", f->args);
	write_parts(f->pid, "environ", f->env);
	snprintf(path, sizeof(path), "%u/cgroup", f->pid);
	procfs__write(path, f->cgroup ? f->cgroup : "0::/x\n", strlen(f->cgroup ? f->cgroup : "0::/x\n"));
	write_link(f->pid, "exe", f->exe);
	write_link(f->pid, "cwd", f->cwd);
}

static inline void procfs__del(unsigned int pid)
{
	static const char *const names[] = { "stat", "status", "cmdline", "environ", "cgroup", "exe", "cwd" };
	char path[512];

	for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++) {
		snprintf(path, sizeof(path), "%s/%u/%s", procfs, pid, names[i]);
		unlink(path);
	}
	snprintf(path, sizeof(path), "%s/%u", procfs, pid);
	rmdir(path);
}

static inline void procfs__remove(void)
{
	char cmd[128];

	snprintf(cmd, sizeof(cmd), "rm -rf '%s'", procfs);
	if (system(cmd) != 0)
		abort();
}

#endif
