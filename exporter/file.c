// SPDX-License-Identifier: Apache-2.0
/*
 * OTLP JSON lines to a file or to standard output; each batch is written before the next is taken.
 *
 * Whoever reads a pipe may stop reading. So a pipe, a socket or a terminal gets at most PIPE_BUF bytes at a time and
 * only when poll() says that it takes them: then the write cannot block, and the end of the program can interrupt the
 * wait.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <sys/eventfd.h>
#include <sys/stat.h>
#include <unistd.h>

#include "exporter/exporter.h"
#include "exporter/otlp_json.h"
#include "user/base/log.h"
#include "user/base/mem.h"

#define MAX_LINE ((size_t)256 << 20)

struct file_sink {
	int fd;
	int wake; /* eventfd: readable once interrupted */
	bool is_stdout;
	bool regular;
	bool torn; /* the last line was not written to its end */
	bool gone; /* standard output has no reader any more */
	struct group_set groups;
	struct dynbuf line;
	char subject[300];
	char why[128];
};

static void file_close(void *st)
{
	struct file_sink *f = st;

	if (!f)
		return;
	if (f->fd >= 0 && !f->is_stdout)
		close(f->fd);
	if (f->wake >= 0)
		close(f->wake);
	group_set__free(&f->groups);
	dynbuf__free(&f->line);
	mem__free(f);
}

static int open_output(struct file_sink *f, const char *path)
{
	f->is_stdout = !path || strcmp(path, "-") == 0;
	snprintf(f->subject, sizeof(f->subject), "%s", f->is_stdout ? "standard output" : path);
	if (f->is_stdout)
		f->fd = STDOUT_FILENO;
	else /* readable by its owner only: paths and addresses of users are in it */
		f->fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOCTTY, 0600);
	return f->fd < 0 ? -errno : 0;
}

static int file_open(const struct exporter_opts *o, void **ret_state)
{
	struct file_sink *f = mem__zalloc(sizeof(*f));
	struct stat st;
	int err;

	if (!f)
		return -ENOMEM;
	f->fd = -1;
	dynbuf__init(&f->line, MAX_LINE);
	f->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	err = f->wake < 0 ? -errno : open_output(f, o->path);
	if (!err && fstat(f->fd, &st))
		err = -errno;
	if (err) {
		log_error("%s: cannot write there: %s", f->subject[0] ? f->subject : "JSON output", strerror(-err));
		file_close(f);
		return err;
	}
	f->regular = S_ISREG(st.st_mode);
	*ret_state = f;
	return 0;
}

/* 0: takes PIPE_BUF bytes without blocking; -ECANCELED. */
static int wait_writable(struct file_sink *f)
{
	struct pollfd fds[2] = { { .fd = f->fd, .events = POLLOUT }, { .fd = f->wake, .events = POLLIN } };

	for (;;) {
		if (poll(fds, 2, -1) < 0) {
			if (errno == EINTR)
				continue;
			return -errno;
		}
		if (fds[1].revents)
			return -ECANCELED;
		if (fds[0].revents)
			return 0;
	}
}

static int write_all(struct file_sink *f, const uint8_t *p, size_t n)
{
	while (n) {
		size_t part = f->regular || n < PIPE_BUF ? n : PIPE_BUF;
		int err = f->regular ? 0 : wait_writable(f);
		ssize_t done;

		if (err)
			return err;
		done = write(f->fd, p, part);
		if (done < 0 && (errno == EINTR || errno == EAGAIN))
			continue;
		if (done < 0)
			return -errno;
		p += done;
		n -= (size_t)done;
	}
	return 0;
}

/* A failed write may have left half a line: take it back where that is possible, else end it before the next one. */
static int write_line(struct file_sink *f)
{
	off_t start = f->regular ? lseek(f->fd, 0, SEEK_END) : -1;
	int err = 0;

	if (f->torn)
		err = write_all(f, (const uint8_t *)"\n", 1);
	if (!err) {
		f->torn = false;
		err = write_all(f, f->line.data, f->line.len);
	}
	if (err && (start < 0 || ftruncate(f->fd, start) != 0 || lseek(f->fd, start, SEEK_SET) < 0))
		f->torn = true;
	return err;
}

static enum export_result file_send(void *st, const struct batch *b, uint32_t *ret_rejected, uint64_t *ret_wait_ns)
{
	struct file_sink *f = st;
	int err;

	if (f->gone)
		return EXPORT_FAILED;
	f->why[0] = '\0';
	err = otlp_json__encode(&f->groups, b, &f->line);
	if (err) {
		snprintf(f->why, sizeof(f->why), "%s",
			 err == -E2BIG ? "a batch of more than 256 MiB" : "out of memory");
		return err == -E2BIG ? EXPORT_TOO_LARGE : EXPORT_NO_MEMORY;
	}
	err = write_line(f);
	if (!err)
		return EXPORT_OK;
	if (err == -ECANCELED) { /* asked to stop: the caller counts it as that */
		snprintf(f->why, sizeof(f->why), "interrupted");
		return EXPORT_RETRY;
	}
	if (err == -EPIPE && f->is_stdout) {
		f->gone = true;
		snprintf(f->why, sizeof(f->why), "closed by its reader");
		return EXPORT_GONE;
	}
	snprintf(f->why, sizeof(f->why), "%s", strerror(-err));
	return EXPORT_FAILED;
}

static const char *file_subject(void *st)
{
	return ((struct file_sink *)st)->subject;
}

static const char *file_why(void *st)
{
	const struct file_sink *f = st;

	return f->why[0] ? f->why : NULL;
}

static void file_interrupt(void *st)
{
	uint64_t one = 1;

	/* Fails only where the counter is at its limit, hence readable. */
	if (write(((struct file_sink *)st)->wake, &one, sizeof(one)) < 0)
		return;
}

const struct exporter_ops exporter_json = {
	.name = "json",
	.open = file_open,
	.send = file_send,
	.subject = file_subject,
	.why = file_why,
	.interrupt = file_interrupt,
	.close = file_close,
};
