// SPDX-License-Identifier: Apache-2.0
/*
 * HTTP spoken through a chosen system call: each way that bytes leave or enter a stream socket, so
 * that a test can ask for exactly that one.
 *
 *	sockops serve LISTEN READ WRITE [orphaned | reuses]
 *	sockops get   TARGET READ WRITE COUNT PATH [BODY-BYTES [TRACEPARENT]]
 *	sockops probe-uring            (exit code 3 and the reason: there is no io_uring here)
 *
 * LISTEN and TARGET: 127.0.0.1:80, [::1]:80, [::]:80, unix:/path. The server has a thread per
 * connection; orphaned: its main thread has ended; reuses: the first connection after the one that asked whether it
 * listens is closed while a thread waits for its bytes, so that the next one gets its number. "%" in PATH becomes the
 * number of the request; all requests go over one connection.
 *
 * READ:  read readv preadv2 recv recvfrom recvmsg recvmmsg byte peek; splice (head by read, body by splice);
 *        recvmmsgs (what there is, into four messages); empty (each recv behind one of no bytes)
 * WRITE: write writev pwritev2 send sendto sendmsg sendmmsg byte half; sendfile, splice (head by write, body
 *        so). writev puts one header line into each of 32 segments, TRACEPARENT into the twentieth.
 *        sendmmsgs never blocks: what was sent in part, or not at all, is sent again from the same vector.
 * Both:  uring (a ring per thread; what cannot be done at once completes as task work), uring-wq (by
 *        a worker thread of the kernel).
 *
 * Prints "ready" when it listens; `get` prints the statuses that it got, one line of JSON.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <liburing.h>
#include <netdb.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <unistd.h>

#define ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))
#define BODY_MAX (4 << 20)
#define MSG_MAX (BODY_MAX + (2 << 20))

enum way { W_READ, W_READV, W_RECV, W_RECVFROM, W_RECVMSG, W_RECVMMSG, W_PEEK, W_WRITE, W_WRITEV, W_SEND, W_SENDTO,
	   W_SENDMSG, W_SENDMMSG, W_HALF, W_SENDFILE, W_BYTE, W_SPLICE, W_URING, W_URING_WQ, W_RECVMMSGS, W_SENDMMSGS,
	   W_EMPTY, W_PREADV2, W_PWRITEV2 };

static const char *const way_names[] = {
	[W_READ] = "read", [W_READV] = "readv", [W_RECV] = "recv", [W_RECVFROM] = "recvfrom",
	[W_RECVMSG] = "recvmsg", [W_RECVMMSG] = "recvmmsg", [W_PEEK] = "peek", [W_WRITE] = "write",
	[W_WRITEV] = "writev", [W_SEND] = "send", [W_SENDTO] = "sendto", [W_SENDMSG] = "sendmsg",
	[W_SENDMMSG] = "sendmmsg", [W_HALF] = "half", [W_SENDFILE] = "sendfile", [W_BYTE] = "byte",
	[W_SPLICE] = "splice", [W_URING] = "uring", [W_URING_WQ] = "uring-wq",
	[W_RECVMMSGS] = "recvmmsgs", [W_SENDMMSGS] = "sendmmsgs", [W_EMPTY] = "empty",
	[W_PREADV2] = "preadv2", [W_PWRITEV2] = "pwritev2",
};

static enum way way_in, way_out;

static void die(const char *what)
{
	fprintf(stderr, "sockops: %s: %s\n", what, strerror(errno));
	exit(2);
}

static enum way parse_way(const char *name)
{
	size_t i;

	for (i = 0; i < ARRAY_SIZE(way_names); i++)
		if (!strcmp(name, way_names[i]))
			return i;
	errno = EINVAL;
	die(name);
	return 0;
}

/* ---- io_uring ------------------------------------------------------------------------------- */

static int probe_uring(void)
{
	struct io_uring r;
	int err = io_uring_queue_init(4, &r, 0);

	if (err) {
		fprintf(stderr, "io_uring_setup: %s\n", strerror(-err));
		return 3;
	}
	io_uring_queue_exit(&r);
	return 0;
}

static __thread struct io_uring ring;
static __thread bool ring_is_open;

static void close_ring(void)
{
	if (ring_is_open)
		io_uring_queue_exit(&ring);
	ring_is_open = false;
}

/* One recv or send by this thread's own ring. */
static ssize_t ring_transfer(int fd, char *buf, size_t len, bool sends, enum way way)
{
	struct io_uring_sqe *sqe;
	struct io_uring_cqe *cqe;
	ssize_t n;

	if (!ring_is_open && (errno = -io_uring_queue_init(4, &ring, 0)))
		die("io_uring_setup");
	ring_is_open = true;
	sqe = io_uring_get_sqe(&ring);
	if (sends)
		io_uring_prep_send(sqe, fd, buf, len, MSG_NOSIGNAL);
	else
		io_uring_prep_recv(sqe, fd, buf, len, 0);
	if (way == W_URING_WQ)
		io_uring_sqe_set_flags(sqe, IOSQE_ASYNC);
	io_uring_submit(&ring);
	do
		n = io_uring_wait_cqe(&ring, &cqe);
	while (n == -EINTR);
	if (n)
		goto out;
	n = cqe->res;
	io_uring_cqe_seen(&ring, cqe);
out:
	errno = n < 0 ? -n : 0;
	return n < 0 ? -1 : n;
}

/* ---- reading -------------------------------------------------------------------------------- */

static ssize_t get_splice(int fd, char *buf, size_t len)
{
	int p[2];
	ssize_t n, got = 0, r;

	if (pipe(p))
		return -1;
	n = splice(fd, NULL, p[1], NULL, len < 65536 ? len : 65536, 0);
	while (n > 0 && got < n && (r = read(p[0], buf + got, n - got)) > 0)
		got += r;
	close(p[0]);
	close(p[1]);
	return n > 0 ? got : n;
}

/* Up to len bytes; `body`: the head is complete. */
/* Messages end where what had arrived did: the next one goes on there. */
static ssize_t get_mmsgs(int fd, char *buf, size_t len)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };
	struct iovec iov[4];
	struct mmsghdr mm[4] = { 0 };
	size_t each = len < 4 ? len : len / 4, have = 0;
	int n;

	for (int i = 0; i < 4; i++) {
		iov[i] = (struct iovec){ buf + i * each, each };
		mm[i].msg_hdr = (struct msghdr){ .msg_iov = &iov[i], .msg_iovlen = 1 };
	}
	do {
		poll(&p, 1, -1);
		n = recvmmsg(fd, mm, len < 4 ? 1 : 4, MSG_DONTWAIT, NULL);
	} while (n < 0 && errno == EAGAIN);
	for (int i = 0; i < n; i++) {
		memmove(buf + have, iov[i].iov_base, mm[i].msg_len);
		have += mm[i].msg_len;
	}
	return n < 0 ? n : (ssize_t)have;
}

static ssize_t get_some(int fd, char *buf, size_t len, bool body)
{
	struct iovec iov[3] = { { buf, len < 3 ? len : 3 } };
	struct mmsghdr mm = { 0 };
	struct msghdr msg = { .msg_iov = iov, .msg_iovlen = 3 };
	ssize_t n;

	iov[1].iov_base = buf + iov[0].iov_len;
	iov[1].iov_len = len - iov[0].iov_len < 7 ? len - iov[0].iov_len : 7;
	iov[2].iov_base = (char *)iov[1].iov_base + iov[1].iov_len;
	iov[2].iov_len = len - iov[0].iov_len - iov[1].iov_len;

	switch (way_in) {
	case W_READV:
		return readv(fd, iov, 3);
	case W_PREADV2:
		return preadv2(fd, iov, 3, -1, 0);
	case W_RECV:
		return recv(fd, buf, len, 0);
	case W_RECVFROM:
		return recvfrom(fd, buf, len, 0, NULL, NULL);
	case W_RECVMSG:
		return recvmsg(fd, &msg, 0);
	case W_RECVMMSG:
		mm.msg_hdr = msg;
		n = recvmmsg(fd, &mm, 1, MSG_WAITFORONE, NULL);
		return n < 0 ? n : (ssize_t)mm.msg_len;
	case W_RECVMMSGS:
		return get_mmsgs(fd, buf, len);
	case W_EMPTY:
		n = recv(fd, buf, 0, MSG_DONTWAIT);
		return n > 0 ? n : recv(fd, buf, len, 0);
	case W_PEEK:
		n = recv(fd, buf, len, MSG_PEEK);
		return n <= 0 ? n : recv(fd, buf, n, 0);
	case W_BYTE:
		return read(fd, buf, body ? len : 1);
	case W_SPLICE:
		return body ? get_splice(fd, buf, len) : read(fd, buf, len);
	case W_URING:
	case W_URING_WQ:
		return ring_transfer(fd, buf, len, false, way_in);
	default:
		return read(fd, buf, len);
	}
}

static size_t content_length(const char *head)
{
	const char *line = strstr(head, "\r\n");

	for (; line; line = strstr(line + 2, "\r\n"))
		if (!strncasecmp(line + 2, "content-length:", 15))
			return strtoul(line + 17, NULL, 10);
	return 0;
}

/* One whole message into buf; its length, 0 at the end of the stream, -1. What a pipelining peer sent
 * beyond it would be lost: this client does not pipeline. */
static ssize_t get_message(int fd, char *buf, size_t size)
{
	size_t have = 0, want = 0;
	char *end;
	ssize_t n;

	while (!want || have < want) {
		size_t room = want ? want - have : size - 1 - have;

		/* splice takes the body away from the head only if the head is read alone */
		if (!want && way_in == W_SPLICE && room > 1)
			room = 1;
		if (!room) {
			errno = EMSGSIZE;
			return -1;
		}
		n = get_some(fd, buf + have, room, want != 0);
		if (n <= 0)
			return n;
		have += n;
		buf[have] = 0;
		if (want)
			continue;
		end = strstr(buf, "\r\n\r\n");
		if (end)
			want = end + 4 - buf + content_length(buf);
		if (want >= size) {
			errno = EMSGSIZE;
			return -1;
		}
	}
	return have;
}

/* ---- writing -------------------------------------------------------------------------------- */

static int put_all(int fd, const char *buf, size_t len)
{
	while (len) {
		ssize_t n = way_out == W_URING || way_out == W_URING_WQ ?
				    ring_transfer(fd, (char *)buf, len, true, way_out) :
				    write(fd, buf, len);

		if (n <= 0)
			return -1;
		buf += n;
		len -= n;
	}
	return 0;
}

/* A line of the head in each of 32 segments, all the rest in the last. */
static int put_writev(int fd, const char *buf, size_t len)
{
	struct iovec iov[32];
	size_t off = 0, total = len;
	int i;
	ssize_t n;

	for (i = 0; i < 32 && off < total; i++) {
		const char *nl = i < 31 ? memchr(buf + off, '\n', total - off) : NULL;
		size_t seg = nl ? (size_t)(nl + 1 - buf - off) : total - off;

		iov[i].iov_base = (char *)buf + off;
		iov[i].iov_len = seg;
		off += seg;
	}
	n = writev(fd, iov, i);
	return n < 0 ? -1 : put_all(fd, buf + n, total - n);
}

static int put_mmsg(int fd, const char *buf, size_t len)
{
	struct iovec iov[2] = { { (char *)buf, len / 2 }, { (char *)buf + len / 2, len - len / 2 } };
	struct mmsghdr mm[2] = { { .msg_hdr = { .msg_iov = &iov[0], .msg_iovlen = 1 } },
				 { .msg_hdr = { .msg_iov = &iov[1], .msg_iovlen = 1 } } };
	size_t sent = 0;
	int i, n = sendmmsg(fd, mm, 2, MSG_NOSIGNAL);

	for (i = 0; i < n; i++) {
		sent += mm[i].msg_len;
		if (mm[i].msg_len != iov[i].iov_len)
			break;
	}
	return n < 0 ? -1 : put_all(fd, buf + sent, len - sent);
}

/* Two messages at a time, as far as there is room for them. */
static int put_mmsgs(int fd, const char *buf, size_t len)
{
	struct pollfd p = { .fd = fd, .events = POLLOUT };
	struct iovec iov[2];
	struct mmsghdr mm[2] = { 0 };
	size_t first = len / 2, sent = 0;
	int small = 4096, n;

	setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &small, sizeof(small));
	while (sent < len) {
		size_t cut = sent < first ? first : sent + (len - sent + 1) / 2;

		iov[0] = (struct iovec){ (char *)buf + sent, cut - sent };
		iov[1] = (struct iovec){ (char *)buf + cut, len - cut };
		for (int i = 0; i < 2; i++)
			mm[i].msg_hdr = (struct msghdr){ .msg_iov = &iov[i], .msg_iovlen = 1 };
		poll(&p, 1, -1);
		n = sendmmsg(fd, mm, len > cut ? 2 : 1, MSG_NOSIGNAL | MSG_DONTWAIT);
		if (n < 0 && errno != EAGAIN)
			return -1;
		for (int i = 0; i < n; i++)
			sent += mm[i].msg_len;
	}
	return 0;
}

static int put_file(int fd, const char *body, size_t len)
{
	int file = memfd_create("body", 0), err = -1;
	off_t off = 0;

	if (file < 0 || put_all(file, body, len))
		goto out;
	while ((size_t)off < len)
		if (sendfile(fd, file, &off, len - off) <= 0)
			goto out;
	err = 0;
out:
	close(file);
	return err;
}

static int put_splice(int fd, const char *body, size_t len)
{
	int p[2], err = -1;

	if (pipe(p))
		return -1;
	while (len) {
		ssize_t n = write(p[1], body, len < 4096 ? len : 4096), out = 0, s;

		if (n <= 0)
			goto out;
		while (out < n && (s = splice(p[0], NULL, fd, NULL, n - out, 0)) > 0)
			out += s;
		if (out < n)
			goto out;
		body += n;
		len -= n;
	}
	err = 0;
out:
	close(p[0]);
	close(p[1]);
	return err;
}

/* The loops of put_all() finish what a full socket buffer left over. */
static int put_message(int fd, const char *buf, size_t head, size_t body)
{
	size_t len = head + body, i;
	struct iovec iov[2] = { { (char *)buf, len / 3 }, { (char *)buf + len / 3, len - len / 3 } };
	struct msghdr msg = { .msg_iov = iov, .msg_iovlen = 2 };
	ssize_t n;

	switch (way_out) {
	case W_WRITEV:
		return put_writev(fd, buf, len);
	case W_PWRITEV2:
		n = pwritev2(fd, iov, 2, -1, 0);
		break;
	case W_SEND:
		n = send(fd, buf, len, MSG_NOSIGNAL);
		break;
	case W_SENDTO:
		n = sendto(fd, buf, len, MSG_NOSIGNAL, NULL, 0);
		break;
	case W_SENDMSG:
		n = sendmsg(fd, &msg, MSG_NOSIGNAL);
		break;
	case W_SENDMMSG:
		return put_mmsg(fd, buf, len);
	case W_SENDMMSGS:
		return put_mmsgs(fd, buf, len);
	case W_BYTE:
		for (i = 0; i < head; i++)
			if (put_all(fd, buf + i, 1))
				return -1;
		return put_all(fd, buf + head, body);
	case W_HALF:
		if (put_all(fd, buf, head / 2))
			return -1;
		usleep(2000);
		return put_all(fd, buf + head / 2, len - head / 2);
	case W_SENDFILE:
		return put_all(fd, buf, head) ? -1 : put_file(fd, buf + head, body);
	case W_SPLICE:
		return put_all(fd, buf, head) ? -1 : put_splice(fd, buf + head, body);
	default:
		return put_all(fd, buf, len);
	}
	return n < 0 ? -1 : put_all(fd, buf + n, len - n);
}

/* ---- addresses ------------------------------------------------------------------------------ */

static int open_socket(char *target, bool listening)
{
	struct sockaddr_storage ss = { 0 };
	struct sockaddr_un *un = (struct sockaddr_un *)&ss;
	struct addrinfo hints = { .ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICHOST }, *ai;
	socklen_t len = sizeof(*un);
	int fd, one = 1;
	char *colon;

	if (!strncmp(target, "unix:", 5) && strlen(target + 5) < sizeof(un->sun_path)) {
		un->sun_family = AF_UNIX;
		memcpy(un->sun_path, target + 5, strlen(target + 5) + 1);
	} else {
		colon = strrchr(target, ':');
		if (!colon)
			goto bad;
		*colon = 0;
		if (*target == '[') {
			target++;
			target[strcspn(target, "]")] = 0;
		}
		if (getaddrinfo(target, colon + 1, &hints, &ai))
			goto bad;
		memcpy(&ss, ai->ai_addr, ai->ai_addrlen);
		len = ai->ai_addrlen;
		freeaddrinfo(ai);
	}
	fd = socket(ss.ss_family, SOCK_STREAM, 0);
	if (fd < 0)
		die("socket");
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	if (ss.ss_family != AF_UNIX)
		setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	if (listening ? bind(fd, (struct sockaddr *)&ss, len) || listen(fd, 512) :
			connect(fd, (struct sockaddr *)&ss, len))
		die(listening ? "listen" : "connect");
	return fd;
bad:
	errno = EINVAL;
	die(target);
	return -1;
}

/* ---- the two ends --------------------------------------------------------------------------- */

static void *serve_connection(void *arg)
{
	int fd = (int)(intptr_t)arg, head;
	char *in = malloc(MSG_MAX), *out = malloc(MSG_MAX);
	size_t body;

	while (in && out && get_message(fd, in, MSG_MAX) > 0) {
		/* as much body as was asked with, so that sendfile and splice have something to carry */
		body = content_length(in);
		head = sprintf(out, "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: %zu\r\n\r\n", body);
		memset(out + head, 'b', body);
		if (put_message(fd, out, head, body))
			break;
	}
	close_ring();
	close(fd);
	free(in);
	free(out);
	return NULL;
}

static void *wait_for_bytes(void *arg)
{
	char some[4096];

	if (read((int)(intptr_t)arg, some, sizeof(some)) < 0)
		perror("sockops: read");
	return NULL;
}

static void close_in_use(int l)
{
	pthread_t t;
	int fd;

	close(accept(l, NULL, NULL));
	fd = accept(l, NULL, NULL);
	if (pthread_create(&t, NULL, wait_for_bytes, (void *)(intptr_t)fd))
		die("thread");
	usleep(200000);
	close(fd);
}

static bool reuses;

static void *serve(void *where)
{
	int fd, l = open_socket(where, true);
	pthread_t t;

	puts("ready");
	fflush(stdout);
	if (reuses)
		close_in_use(l);
	for (;;) {
		fd = accept4(l, NULL, NULL, SOCK_CLOEXEC);
		if (fd < 0)
			continue;
		if (pthread_create(&t, NULL, serve_connection, (void *)(intptr_t)fd))
			close(fd);
		else
			pthread_detach(t);
	}
	return NULL;
}

static int serve_orphaned(char *where)
{
	pthread_t t;

	if (pthread_create(&t, NULL, serve, where))
		die("thread");
	pthread_exit(NULL);
}

/* Nineteen lines before TRACEPARENT, the twentieth, eleven after it. */
static size_t build_request(char *buf, const char *path, long n, size_t body, const char *traceparent)
{
	const char *mark = strchr(path, '%');
	int i, o = mark ? sprintf(buf, "%s %.*s%ld%s HTTP/1.1\r\n", body ? "POST" : "GET", (int)(mark - path), path, n,
				  mark + 1) :
			  sprintf(buf, "%s %s HTTP/1.1\r\n", body ? "POST" : "GET", path);

	o += sprintf(buf + o, "Host: sockops.test\r\nContent-Length: %zu\r\n", body);
	for (i = 0; i < 16; i++)
		o += sprintf(buf + o, "X-Before-%02d: %d\r\n", i, i);
	if (traceparent)
		o += sprintf(buf + o, "traceparent: %s\r\n", traceparent);
	for (i = 0; i < 11; i++)
		o += sprintf(buf + o, "X-After-%02d: %d\r\n", i, i);
	return o + sprintf(buf + o, "\r\n");
}

static int get(char *target, long count, const char *path, size_t body, const char *traceparent)
{
	int fd = open_socket(target, false);
	char *buf = malloc(MSG_MAX), *in = malloc(MSG_MAX);
	long n, ok = 0;
	size_t head;

	if (!buf || !in)
		die("memory");
	for (n = 0; n < count; n++) {
		head = build_request(buf, path, n, body, traceparent);
		memset(buf + head, 'q', body);
		if (put_message(fd, buf, head, body))
			die("write");
		if (get_message(fd, in, MSG_MAX) <= 0)
			die("read");
		ok += !strncmp(in, "HTTP/1.1 200 ", 13);
	}
	close_ring();
	close(fd);
	free(buf);
	free(in);
	printf("{\"sent\": %ld, \"ok\": %ld}\n", n, ok);
	return ok == count ? 0 : 1;
}

int main(int argc, char **argv)
{
	size_t body;

	signal(SIGPIPE, SIG_IGN);
	if (argc == 2 && !strcmp(argv[1], "probe-uring"))
		return probe_uring();
	if (argc < 5)
		goto usage;
	way_in = parse_way(argv[3]);
	way_out = parse_way(argv[4]);
	if (!strcmp(argv[1], "serve") && argc == 6 && !strcmp(argv[5], "orphaned"))
		return serve_orphaned(argv[2]);
	reuses = argc == 6 && !strcmp(argv[5], "reuses");
	if (!strcmp(argv[1], "serve") && (argc == 5 || reuses))
		serve(argv[2]); /* does not return */
	if (strcmp(argv[1], "get") || argc < 7 || strlen(argv[6]) > 4096)
		goto usage;
	body = argc > 7 ? strtoul(argv[7], NULL, 10) : 0;
	if (body > BODY_MAX)
		goto usage;
	return get(argv[2], atol(argv[5]), argv[6], body, argc > 8 ? argv[8] : NULL);
usage:
	fputs("usage: sockops serve LISTEN READ WRITE [orphaned | reuses]\n"
	      "       sockops get TARGET READ WRITE COUNT PATH [BODY-BYTES [TRACEPARENT]]\n"
	      "       sockops probe-uring\n", stderr);
	return 2;
}
