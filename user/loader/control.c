// SPDX-License-Identifier: Apache-2.0
#include "user/loader/control.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "user/base/clock.h"
#include "user/base/log.h"
#include "user/base/mem.h"
#include "user/loader/report.h"

#define SNAPSHOT_MAX (64u * 1024) /* less than any socket buffer: a fresh socket takes it at once */
#define REPLY_MAX (1024u * 1024)
#define BACKLOG 16
#define CLIENT_TIMEOUT_S 5

struct control {
	int fd;
	int spare; /* given up to accept, and close, when descriptors have run out: else poll() would spin */
	dev_t dev;
	ino_t ino;
	char *path;
	struct log_limit trouble;
};

static int make_address(struct sockaddr_un *a, const char *path)
{
	memset(a, 0, sizeof(*a));
	a->sun_family = AF_UNIX;
	if (strlen(path) >= sizeof(a->sun_path))
		return -ENAMETOOLONG;
	memcpy(a->sun_path, path, strlen(path) + 1);
	return 0;
}

/* ---- server -------------------------------------------------------------------------------------- */

/* Somebody listens at this address? Then its pid, 0 where that is not told; else -errno. */
static int find_owner(const struct sockaddr_un *a)
{
	struct ucred peer = { 0 };
	socklen_t len = sizeof(peer);
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0), err = 0;

	if (fd < 0)
		return -errno;
	/* EAGAIN: its queue is full, so there is one. */
	if (connect(fd, (const struct sockaddr *)a, sizeof(*a)) && errno != EAGAIN)
		err = -errno;
	else if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &len))
		peer.pid = 0;
	close(fd);
	return err ? err : peer.pid;
}

/* The name is taken: by a dead instance, then it is free now (0); else -EADDRINUSE, logged. */
static int take_over(const struct sockaddr_un *a)
{
	struct stat st;
	int owner;

	if (lstat(a->sun_path, &st) == 0 && !S_ISSOCK(st.st_mode)) {
		log_error("control socket %s: there is something else of that name: choose another one with --control",
			  a->sun_path);
		return -EADDRINUSE;
	}
	owner = find_owner(a);
	if (owner >= 0) {
		log_error("control socket %s: wirespan runs already (pid %d): stop it, or give this one another --control",
			  a->sun_path, owner);
		return -EADDRINUSE;
	}
	if (owner != -ECONNREFUSED && owner != -ENOENT) {
		log_error("control socket %s: taken, and cannot be asked: %s: choose another one with --control", a->sun_path,
			  strerror(-owner));
		return -EADDRINUSE;
	}
	if (unlink(a->sun_path) && errno != ENOENT)
		return -errno;
	return 0;
}

static int open_socket(struct control *c, const char *path, uint32_t mode)
{
	struct sockaddr_un a;
	struct stat st;
	int err = make_address(&a, path);

	if (err)
		return err;
	c->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (c->fd < 0)
		return -errno;
	/* The mode that bind() gives to the file (unix(7) leaves it to the umask): nobody, until it is the right one. */
	if (fchmod(c->fd, 0))
		return -errno;
	if (bind(c->fd, (struct sockaddr *)&a, sizeof(a))) {
		if (errno != EADDRINUSE)
			return -errno;
		err = take_over(&a);
		if (err)
			return err;
		if (bind(c->fd, (struct sockaddr *)&a, sizeof(a)))
			return -errno;
	}
	c->path = mem__strdup(path);
	if (!c->path || lstat(path, &st)) {
		err = c->path ? -errno : -ENOMEM;
		unlink(path);
		return err;
	}
	c->dev = st.st_dev;
	c->ino = st.st_ino;
	if (listen(c->fd, BACKLOG) || chmod(path, mode))
		return -errno;
	return 0;
}

struct control *control__new(const char *path, uint32_t mode)
{
	struct control *c = mem__zalloc(sizeof(*c));
	int err = -ENOMEM;

	if (c) {
		c->fd = -1;
		c->spare = open("/dev/null", O_RDONLY | O_CLOEXEC);
		err = open_socket(c, path, mode);
	}
	if (!err)
		return c;
	if (err != -EADDRINUSE)
		log_warn("control socket %s: %s: wirespan stats will find nobody", path, strerror(-err));
	control__free(c);
	errno = -err;
	return NULL;
}

void control__free(struct control *c)
{
	struct stat st;

	if (!c)
		return;
	if (c->path && lstat(c->path, &st) == 0 && st.st_dev == c->dev && st.st_ino == c->ino)
		unlink(c->path);
	if (c->fd >= 0)
		close(c->fd);
	if (c->spare >= 0)
		close(c->spare);
	mem__free(c->path);
	mem__free(c);
}

int control__fd(const struct control *c)
{
	return c->fd;
}

/* -1: nobody waits any more. */
static int accept_client(struct control *c)
{
	int fd = accept4(c->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

	if (fd >= 0 || (errno != EMFILE && errno != ENFILE) || c->spare < 0)
		return fd;
	log__limited(&c->trouble, LOG_LVL_WARN, "control socket %s: a client was sent away: %s", c->path, strerror(errno));
	close(c->spare);
	fd = accept4(c->fd, NULL, NULL, SOCK_CLOEXEC);
	if (fd >= 0)
		close(fd);
	c->spare = open("/dev/null", O_RDONLY | O_CLOEXEC);
	return -1;
}

void control__serve(struct control *c, void (*render)(void *ctx, struct dynbuf *out), void *ctx)
{
	struct dynbuf snapshot;
	int fd;

	dynbuf__init(&snapshot, SNAPSHOT_MAX);
	for (int i = 0; i < BACKLOG; i++) {
		fd = accept_client(c);
		if (fd < 0)
			break;
		if (snapshot.len == 0)
			render(ctx, &snapshot);
		/* A client that is gone already is nobody's loss; an empty answer tells one that memory ran out. */
		if (snapshot.len && send(fd, snapshot.data, snapshot.len, MSG_DONTWAIT | MSG_NOSIGNAL) < 0)
			log_debug("control socket %s: %s", c->path, strerror(errno));
		close(fd);
	}
	dynbuf__free(&snapshot);
}

/* ---- client -------------------------------------------------------------------------------------- */

static int read_reply(int fd, struct dynbuf *out)
{
	uint64_t end = clock__mono_ns() + CLIENT_TIMEOUT_S * 1000000000ull;
	char buf[8192];

	for (;;) {
		ssize_t n = recv(fd, buf, sizeof(buf), 0);
		int err;

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n < 0 ? -errno : 0;
		if (clock__mono_ns() > end)
			return -EAGAIN;
		err = dynbuf__append(out, buf, (size_t)n);
		if (err)
			return err;
	}
}

int control__fetch(const char *path, struct dynbuf *out)
{
	struct timeval limit = { .tv_sec = CLIENT_TIMEOUT_S };
	struct sockaddr_un a;
	int err = make_address(&a, path), fd;

	if (err)
		return err;
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -errno;
	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit)); /* also that of connect() */
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
	err = connect(fd, (struct sockaddr *)&a, sizeof(a)) ? -errno : read_reply(fd, out);
	close(fd);
	return err;
}

static const char *next_step(int err)
{
	switch (err) {
	case -ENOENT:
	case -ECONNREFUSED:
		return "no wirespan runs here: start it, or name its socket with --control";
	case -EACCES:
	case -EPERM:
		return "not permitted: run it with sudo, or start wirespan with --control-mode=0666";
	case -EAGAIN:
		return "wirespan does not answer: is it stopped?";
	default:
		return strerror(-err);
	}
}

int control__stats(const struct opts *o, FILE *out)
{
	struct report r;
	struct dynbuf reply;
	int err;

	if (!o->control) {
		log_error("stats: --control=off: there is nobody to ask");
		return 2;
	}
	dynbuf__init(&reply, REPLY_MAX);
	err = control__fetch(o->control, &reply);
	if (err) {
		log_error("control socket %s: %s", o->control, next_step(err));
	} else {
		err = reply.len ? report__parse(&r, (char *)reply.data, reply.len) : -EBADMSG;
		if (err)
			log_error("control socket %s: the answer is not one of wirespan's: is that its socket?", o->control);
	}
	if (!err && strcmp(o->format, "json") == 0)
		fwrite(reply.data, 1, reply.len, out);
	else if (!err)
		report__text(out, &r);
	dynbuf__free(&reply);
	if (!err && (fflush(out) || ferror(out))) {
		log_error("standard output: %s", strerror(errno));
		err = -EIO;
	}
	return err ? 1 : 0;
}
