// SPDX-License-Identifier: Apache-2.0
#include "user/enrich/proc_read.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#define STAT_MAX 2048u
#define STATUS_MAX 8192u

#define PF_KTHREAD 0x00200000u /* include/linux/sched.h; field 9 of /proc/PID/stat */

int proc__read_file(const char *path, size_t max, struct dynbuf *buf)
{
	uint8_t chunk[4096];
	struct stat st;
	int fd, err = 0;

	dynbuf__reset(buf);
	fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	if (fd < 0)
		return -errno;
	if (fstat(fd, &st) != 0 || !S_ISREG(st.st_mode)) {
		err = -EINVAL;
		goto out;
	}
	while (buf->len < max) {
		size_t want = max - buf->len < sizeof(chunk) ? max - buf->len : sizeof(chunk);
		ssize_t n = read(fd, chunk, want);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			err = -errno;
		if (n <= 0)
			break;
		err = dynbuf__append(buf, chunk, (size_t)n);
		if (err)
			break;
	}
out:
	close(fd);
	return err;
}

int proc__read(const char *procfs, uint32_t pid, const char *name, size_t max, struct dynbuf *buf)
{
	char path[512];

	if ((size_t)snprintf(path, sizeof(path), "%s/%u/%s", procfs, pid, name) >= sizeof(path))
		return -ENAMETOOLONG;
	return proc__read_file(path, max, buf);
}

bool proc__readlink(const char *procfs, uint32_t pid, const char *name, char *buf, size_t size)
{
	static const char deleted[] = " (deleted)";
	char path[512];
	ssize_t n = -1;

	buf[0] = '\0';
	if ((size_t)snprintf(path, sizeof(path), "%s/%u/%s", procfs, pid, name) < sizeof(path))
		n = readlink(path, buf, size - 1);
	if (n <= 0) {
		buf[0] = '\0';
		return false;
	}
	buf[n] = '\0';
	/* The kernel's mark of a file that an upgrade replaced under a running process. */
	if ((size_t)n > sizeof(deleted) && strcmp(buf + n - (sizeof(deleted) - 1), deleted) == 0)
		buf[n - (ssize_t)(sizeof(deleted) - 1)] = '\0';
	return true;
}

static int append_nul(struct dynbuf *buf)
{
	return dynbuf__append(buf, "", 1);
}

/*
 * proc(5): pid (comm) state ppid … flags(9) … starttime(22). comm may hold anything, ')' and spaces included: it ends
 * at the last ')'.
 */
static int parse_stat(struct proc_raw *p, char *text)
{
	char *open = strchr(text, '('), *close = strrchr(text, ')');
	char *at, *save = NULL;

	if (!open || !close || close < open)
		return -EINVAL;
	*close = '\0';
	snprintf(p->comm, sizeof(p->comm), "%s", open + 1);
	at = strtok_r(close + 1, " ", &save);
	for (int field = 3; at && field <= 22; field++, at = strtok_r(NULL, " ", &save)) {
		if (field == 3)
			p->ended = *at == 'Z' || *at == 'X';
		else if (field == 4)
			p->ppid = (uint32_t)strtoul(at, NULL, 10);
		else if (field == 9)
			p->kernel_thread = strtoul(at, NULL, 10) & PF_KTHREAD;
		else if (field == 22) {
			p->start_ticks = strtoull(at, NULL, 10);
			p->have_stat = true;
		}
	}
	return p->have_stat ? 0 : -EINVAL;
}

static int read_stat(struct proc_raw *p, const char *procfs, uint32_t pid, struct dynbuf *buf)
{
	int err = proc__read(procfs, pid, "stat", STAT_MAX, buf);

	if (!err)
		err = append_nul(buf);
	return err ? err : parse_stat(p, (char *)buf->data);
}

/*
 * The first thread of a process, which it is named after, may end before the others. Its own entry has no exe, maps,
 * mem or environ then; those of any other thread are the process's. The kernel shows threads as PROCFS/TID, too, if
 * they are asked for by number.
 */
static uint32_t live_thread(const char *procfs, uint32_t pid, struct dynbuf *buf)
{
	uint32_t live = pid;
	struct dirent *de;
	char path[512];
	DIR *dir = NULL;

	if ((size_t)snprintf(path, sizeof(path), "%s/%u/task", procfs, pid) < sizeof(path))
		dir = opendir(path);
	while (dir && live == pid && (de = readdir(dir)) != NULL) {
		struct proc_raw thread = { .tgid = (uint32_t)strtoul(de->d_name, NULL, 10) };

		if (thread.tgid && thread.tgid != pid && !read_stat(&thread, procfs, thread.tgid, buf) && !thread.ended)
			live = thread.tgid;
	}
	if (dir)
		closedir(dir);
	return live;
}

uint32_t proc__reader(const char *procfs, uint32_t pid)
{
	struct proc_raw p = { .tgid = pid };
	struct dynbuf buf;
	uint32_t reader = pid;

	dynbuf__init(&buf, STAT_MAX + 1);
	if (!read_stat(&p, procfs, pid, &buf) && p.ended)
		reader = live_thread(procfs, pid, &buf);
	dynbuf__free(&buf);
	return reader;
}

static void read_uid(struct proc_raw *p, const char *procfs, struct dynbuf *buf)
{
	const char *at;

	if (proc__read(procfs, p->tgid, "status", STATUS_MAX, buf) || append_nul(buf))
		return;
	at = strstr((const char *)buf->data, "\nUid:\t");
	if (!at)
		return;
	at = strchr(at + 6, '\t'); /* real, then effective: what it may do now */
	if (at) {
		p->uid = (uint32_t)strtoul(at + 1, NULL, 10);
		p->have_uid = true;
	}
}

static void read_args(struct proc_raw *p, const char *procfs, struct dynbuf *buf)
{
	if (proc__read(procfs, p->reader, "cmdline", sizeof(p->args) - 1, buf))
		return;
	p->args_len = buf->len;
	if (buf->len)
		memcpy(p->args, buf->data, buf->len);
	/* A rewritten title is padded with NULs up to the length of what it replaced. */
	while (p->args_len && p->args[p->args_len - 1] == '\0')
		p->args_len--;
}

int proc_raw__read(struct proc_raw *p, const char *procfs, uint32_t pid, struct dynbuf *buf)
{
	int err;

	*p = (struct proc_raw){ .tgid = pid, .reader = pid };
	err = read_stat(p, procfs, pid, buf);
	if (err)
		return err == -ENOMEM ? err : -ESRCH;
	if (p->kernel_thread)
		return 0;
	if (p->ended)
		p->reader = live_thread(procfs, pid, buf);
	proc__readlink(procfs, p->reader, "exe", p->exe, sizeof(p->exe));
	proc__readlink(procfs, p->reader, "cwd", p->cwd, sizeof(p->cwd));
	read_args(p, procfs, buf);
	read_uid(p, procfs, buf);
	return 0;
}

bool proc_raw__reused(const struct proc_raw *p, const char *procfs, struct dynbuf *buf)
{
	struct proc_raw now = { .tgid = p->tgid };

	return read_stat(&now, procfs, p->tgid, buf) == 0 && now.start_ticks != p->start_ticks;
}

static void take_var(struct str var, struct str name, struct str *ret)
{
	if (var.len > name.len && memcmp(var.p, name.p, name.len) == 0 && !ret->p)
		*ret = (struct str){ var.p + name.len, var.len - name.len };
}

void proc_raw__read_env(struct proc_raw *p, const char *procfs, struct dynbuf *env)
{
	const char *at, *end, *nul;

	p->env_service = p->env_attrs = p->env_flask_app = STR_NULL;
	proc__read(procfs, p->reader, "environ", PROC_ENVIRON_MAX, env);
	if (!env->len)
		return;
	at = (const char *)env->data;
	end = at + env->len;
	for (; at < end; at = nul + 1) {
		struct str var;

		/* What has no NUL was cut by our limit or rewritten by the process: no variable. */
		nul = memchr(at, '\0', (size_t)(end - at));
		if (!nul)
			break;
		var = (struct str){ at, (size_t)(nul - at) };
		take_var(var, STR("OTEL_SERVICE_NAME="), &p->env_service);
		take_var(var, STR("OTEL_RESOURCE_ATTRIBUTES="), &p->env_attrs);
		take_var(var, STR("FLASK_APP="), &p->env_flask_app);
	}
}
