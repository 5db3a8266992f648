// SPDX-License-Identifier: Apache-2.0
/*
 * An OTLP/HTTP receiver that acknowledges everything and counts: the cheapest collector there can be, for benchmarks on
 * the same machine. One thread, epoll, keep-alive.
 *
 *	sink [--port N]     N = 0 (default): any; prints "ready PORT"
 *
 * Totals as one line of JSON: on SIGUSR1, on SIGTERM or SIGINT (then it ends), and as the answer to GET.
 *	{"requests":12,"bytes":4711,"spans":6144,"compressed":0,"bad":0}
 * bytes: bodies as received. Spans of compressed bodies are not counted. bad: requests that were not understood.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <unistd.h>

#define HEAD_MAX ((size_t)64 << 10)
#define BODY_MAX ((size_t)64 << 20) /* OTLP's limit */
#define ANSWER "HTTP/1.1 200 OK\r\nContent-Type: application/x-protobuf\r\nContent-Length: 0\r\n\r\n"
#define CONTINUE "HTTP/1.1 100 Continue\r\n\r\n"
#define BAD "HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"

struct conn {
	int fd;
	bool continued; /* 100 was sent for the request under way */
	size_t len, cap;
	char *buf;
};

static struct {
	uint64_t requests, bytes, spans, compressed, bad;
} totals;

static size_t format_totals(char *buf, size_t size)
{
	return (size_t)snprintf(buf, size,
				"{\"requests\":%" PRIu64 ",\"bytes\":%" PRIu64 ",\"spans\":%" PRIu64
				",\"compressed\":%" PRIu64 ",\"bad\":%" PRIu64 "}\n",
				totals.requests, totals.bytes, totals.spans, totals.compressed, totals.bad);
}

/* ---- protobuf: only as much of the framing as leads to the spans ------------------------------------ */

static bool read_varint(const uint8_t **p, const uint8_t *end, uint64_t *ret)
{
	*ret = 0;
	for (int shift = 0; *p < end && shift < 64; shift += 7) {
		uint8_t c = *(*p)++;

		*ret |= (uint64_t)(c & 0x7f) << shift;
		if (!(c & 0x80))
			return true;
	}
	return false;
}

/* Calls itself for field `path[0]` of the message, until the path ends: then it counts. False: malformed. */
static bool count_fields(const uint8_t *p, const uint8_t *end, const uint8_t *path, uint64_t *count)
{
	uint64_t tag, len;

	while (p < end) {
		if (!read_varint(&p, end, &tag))
			return false;
		switch (tag & 7) {
		case 0:
			if (!read_varint(&p, end, &len))
				return false;
			continue;
		case 1:
			len = 8;
			break;
		case 5:
			len = 4;
			break;
		case 2:
			if (!read_varint(&p, end, &len))
				return false;
			break;
		default:
			return false;
		}
		if (len > (uint64_t)(end - p))
			return false;
		if (tag == ((uint64_t)path[0] << 3 | 2)) {
			if (!path[1])
				(*count)++;
			else if (!count_fields(p, p + len, path + 1, count))
				return false;
		}
		p += len;
	}
	return true;
}

/* resource_spans 1, scope_spans 2, spans 2 */
static bool count_spans(const char *body, size_t len)
{
	static const uint8_t path[] = { 1, 2, 2, 0 };
	uint64_t n = 0;

	if (!count_fields((const uint8_t *)body, (const uint8_t *)body + len, path, &n))
		return false;
	totals.spans += n;
	return true;
}

/* ---- HTTP ------------------------------------------------------------------------------------------ */

/* The value of a header field, up to the line's end, or NULL. `head` is NUL-terminated and begins with the first line.
 */
static const char *find_field(const char *head, const char *name)
{
	size_t n = strlen(name);

	for (const char *p = strstr(head, "\r\n"); p && p[2]; p = strstr(p, "\r\n")) {
		p += 2;
		if (strncasecmp(p, name, n) == 0 && p[n] == ':') {
			p += n + 1;
			return p + strspn(p, " \t");
		}
	}
	return NULL;
}

/* Undoes chunked coding in place. 1: whole, with *ret_body (body) and *ret_used (on the wire); 0: more to come; -1:
 * bad. */
static int unchunk(char *p, size_t len, size_t *ret_body, size_t *ret_used)
{
	size_t at = 0, out = 0;
	bool whole = false;

	/* First look whether all of it is there, because a second look must find it untouched. */
	for (int pass = 0; pass < 2; pass++) {
		for (at = 0, out = 0, whole = false; !whole;) {
			char *eol = memchr(p + at, '\n', len - at), *digits_end;
			unsigned long long n;

			if (!eol)
				return len - at > 4096 ? -1 : 0;
			n = strtoull(p + at, &digits_end, 16);
			if (digits_end == p + at || n > BODY_MAX)
				return -1;
			at = (size_t)(eol - p) + 1;
			if (n == 0) { /* no trailers: nobody sends them here */
				if (len - at < 2)
					return 0;
				at += 2;
				whole = true;
				continue;
			}
			if (len - at < n + 2)
				return 0;
			if (pass)
				memmove(p + out, p + at, n);
			out += n;
			at += n + 2;
		}
	}
	*ret_body = out;
	*ret_used = at;
	return 1;
}

static bool reply(struct conn *c, const char *p, size_t n)
{
	/* Answers are tiny and the socket's buffer is empty: if it does not fit, the client does not read, so let it
	 * go. */
	return send(c->fd, p, n, MSG_NOSIGNAL) == (ssize_t)n;
}

static bool reply_totals(struct conn *c)
{
	char json[256], answer[512];
	size_t n = format_totals(json, sizeof(json));
	int len =
		snprintf(answer, sizeof(answer),
			 "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %zu\r\n\r\n%s", n, json);

	return reply(c, answer, (size_t)len);
}

static bool take_request(struct conn *c, const char *head, const char *body, size_t len)
{
	if (strncmp(head, "GET ", 4) == 0)
		return reply_totals(c);
	if (find_field(head, "content-encoding"))
		totals.compressed++;
	else if (!count_spans(body, len)) {
		totals.bad++;
		reply(c, BAD, sizeof(BAD) - 1);
		return false;
	}
	totals.requests++;
	totals.bytes += len;
	return reply(c, ANSWER, sizeof(ANSWER) - 1);
}

/* One request from the front of the buffer. 1: taken; 0: not all there yet; -1: the connection is to be closed. */
static int next_request(struct conn *c)
{
	char *end = c->len ? memmem(c->buf, c->len, "\r\n\r\n", 4) : NULL;
	size_t head, len = 0, used = 0;
	const char *value;
	char *rest;
	int got = 1;

	if (!end)
		return c->len > HEAD_MAX ? -1 : 0;
	head = (size_t)(end - c->buf) + 4;
	end[2] = '\0'; /* the head is a string now; restored below if it is needed again */
	value = find_field(c->buf, "transfer-encoding");
	if (value && strncasecmp(value, "chunked", 7) == 0) {
		got = unchunk(c->buf + head, c->len - head, &len, &used);
	} else {
		value = find_field(c->buf, "content-length");
		len = value ? strtoull(value, &rest, 10) : 0;
		used = len;
		if (len > BODY_MAX)
			got = -1;
		else if (c->len - head < len)
			got = 0;
	}
	if (got == 0) {
		value = find_field(c->buf, "expect");
		if (value && !c->continued) {
			c->continued = true;
			if (!reply(c, CONTINUE, sizeof(CONTINUE) - 1))
				got = -1;
		}
		end[2] = '\r';
		return got;
	}
	if (got < 0) {
		totals.bad++;
		return -1;
	}
	if (!take_request(c, c->buf, c->buf + head, len))
		return -1;
	c->continued = false;
	c->len -= head + used;
	memmove(c->buf, c->buf + head + used, c->len);
	return 1;
}

/* False: the connection has ended. */
static bool read_more(struct conn *c)
{
	for (;;) {
		ssize_t n;

		if (c->cap - c->len < 32768) {
			size_t cap = c->cap ? c->cap * 2 : 65536;
			char *buf = cap <= 2 * (BODY_MAX + HEAD_MAX) ? realloc(c->buf, cap) : NULL;

			if (!buf)
				return false;
			c->buf = buf;
			c->cap = cap;
		}
		n = read(c->fd, c->buf + c->len, c->cap - c->len);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN)
			return true;
		if (n <= 0)
			return false;
		c->len += (size_t)n;
		if (c->len < c->cap) /* level-triggered: what is left comes with the next turn */
			return true;
	}
}

static void drop_conn(struct conn *c)
{
	close(c->fd);
	free(c->buf);
	free(c);
}

static void turn(struct conn *c)
{
	bool open = read_more(c);
	int got;

	do
		got = next_request(c);
	while (got > 0);
	if (!open || got < 0)
		drop_conn(c);
}

/* ---- set-up ---------------------------------------------------------------------------------------- */

static void accept_conn(int epoll, int listener)
{
	int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC), one = 1;
	struct conn *c = fd < 0 ? NULL : calloc(1, sizeof(*c));
	struct epoll_event ev = { .events = EPOLLIN, .data.ptr = c };

	if (fd < 0)
		return;
	if (!c || epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &ev)) {
		close(fd);
		free(c);
		return;
	}
	c->fd = fd;
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
}

static int open_listener(uint16_t port)
{
	struct sockaddr_in a = { .sin_family = AF_INET,
				 .sin_port = htons(port),
				 .sin_addr = { htonl(INADDR_LOOPBACK) } };
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), one = 1;
	socklen_t len = sizeof(a);

	if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one)) ||
	    bind(fd, (struct sockaddr *)&a, sizeof(a)) || listen(fd, 128) ||
	    getsockname(fd, (struct sockaddr *)&a, &len)) {
		perror("sink: listen");
		exit(1);
	}
	printf("ready %u\n", ntohs(a.sin_port));
	fflush(stdout);
	return fd;
}

static void print_totals(void)
{
	char json[256];

	format_totals(json, sizeof(json));
	fputs(json, stdout);
	fflush(stdout);
}

/* False: time to end. */
static bool take_signal(int fd)
{
	struct signalfd_siginfo info;

	if (read(fd, &info, sizeof(info)) != (ssize_t)sizeof(info))
		return true;
	print_totals();
	return info.ssi_signo == SIGUSR1;
}

int main(int argc, char **argv)
{
	unsigned long port = argc == 3 && strcmp(argv[1], "--port") == 0 ? strtoul(argv[2], NULL, 10) : 0;
	int listener, signals, epoll = epoll_create1(EPOLL_CLOEXEC);
	struct epoll_event ev[64], in = { .events = EPOLLIN };
	sigset_t set;

	if ((argc != 1 && argc != 3) || port > 65535) {
		fprintf(stderr, "usage: sink [--port N]\n");
		return 2;
	}
	sigemptyset(&set);
	sigaddset(&set, SIGUSR1);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	sigprocmask(SIG_BLOCK, &set, NULL);
	signals = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	listener = open_listener((uint16_t)port);
	in.data.ptr = &listener;
	epoll_ctl(epoll, EPOLL_CTL_ADD, listener, &in);
	in.data.ptr = &signals;
	epoll_ctl(epoll, EPOLL_CTL_ADD, signals, &in);
	for (;;) {
		int n = epoll_wait(epoll, ev, 64, -1);

		for (int i = 0; i < n; i++) {
			if (ev[i].data.ptr == &listener)
				accept_conn(epoll, listener);
			else if (ev[i].data.ptr == &signals) {
				if (!take_signal(signals))
					return 0;
			} else
				turn(ev[i].data.ptr);
		}
	}
}
