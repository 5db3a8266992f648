// SPDX-License-Identifier: Apache-2.0
/*
 * Load that counts exactly: sends N requests over K keep-alive connections and says how many were
 * answered, so that a test can hold the number of spans against it. wrk sends "for a while"; this
 * sends a number.
 *
 *	load [--close] [--impatient] HOST:PORT | unix:PATH   REQUESTS CONNECTIONS PATH
 *
 * "%" in PATH becomes the number of the request. One request is in flight per connection. A
 * connection that the server closes is made anew, the request that it cut is sent again and counted
 * under "resent": the server may have seen it twice. --close: a connection per request. --impatient:
 * every fourth request is given up after at most 20 ms, connection and all, and asked again as number
 * "N.again", with patience; who was answered in time was not given up. Prints one line of JSON; exit 0
 * if all were answered.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

/* Of a response, with what came of its body in the same read. */
#define HEAD_MAX (256 << 10)

struct conn {
	int fd;
	char out[2048];
	size_t out_len, out_off;
	char head[HEAD_MAX];
	size_t head_len;
	int64_t body_left;   /* -1: in the head; -2: until the connection ends */
	long request;	     /* number of the one in flight, -1: none */
	uint64_t sent_ns, give_up_ns; /* 0: never */
	const char *again; /* behind its number */
	int close_after;
};

static struct sockaddr_storage addr;
static socklen_t addr_len;
static const char *path, *host;
static int ep;
static long total, next_request, answered, resent, failed, gave_up, by_class[6];
static int closing, impatient;
static uint64_t bytes, latency_max;

static uint64_t now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000 + ts.tv_nsec;
}

static void die(const char *what)
{
	fprintf(stderr, "load: %s: %s\n", what, strerror(errno));
	exit(2);
}

static void resolve(char *target)
{
	struct sockaddr_un *un = (struct sockaddr_un *)&addr;
	struct addrinfo hints = { .ai_socktype = SOCK_STREAM }, *ai;
	char *colon;

	host = "localhost";
	if (!strncmp(target, "unix:", 5)) {
		if (strlen(target + 5) >= sizeof(un->sun_path)) {
			errno = ENAMETOOLONG;
			die(target);
		}
		un->sun_family = AF_UNIX;
		memcpy(un->sun_path, target + 5, strlen(target + 5) + 1);
		addr_len = sizeof(*un);
		return;
	}
	colon = strrchr(target, ':');
	if (!colon) {
		errno = EINVAL;
		die(target);
	}
	*colon = 0;
	host = strdup(target); /* lives as long as the process; "[::1]" keeps its brackets in Host */
	if (!host)
		die("memory");
	if (target[0] == '[') {
		target++;
		target[strcspn(target, "]")] = 0;
	}
	if (getaddrinfo(target, colon + 1, &hints, &ai)) {
		errno = EHOSTUNREACH;
		die(target);
	}
	memcpy(&addr, ai->ai_addr, ai->ai_addrlen);
	addr_len = ai->ai_addrlen;
	freeaddrinfo(ai);
}

static void conn__open(struct conn *c)
{
	struct epoll_event ev = { .events = EPOLLIN, .data.ptr = c };
	int one = 1;

	c->fd = socket(addr.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (c->fd < 0 || connect(c->fd, (struct sockaddr *)&addr, addr_len))
		die("connect");
	if (addr.ss_family != AF_UNIX)
		setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	fcntl(c->fd, F_SETFL, O_NONBLOCK);
	if (epoll_ctl(ep, EPOLL_CTL_ADD, c->fd, &ev))
		die("epoll_ctl");
}

static void conn__request(struct conn *c, long n, const char *again)
{
	const char *mark = strchr(path, '%'), *rest = closing ? "Connection: close\r\n\r\n" : "\r\n";
	ssize_t ret;

	if (mark)
		c->out_len = snprintf(c->out, sizeof(c->out), "GET %.*s%ld%s%s HTTP/1.1\r\nHost: %s\r\nUser-Agent: load\r\n%s",
				      (int)(mark - path), path, n, again, mark + 1, host, rest);
	else
		c->out_len = snprintf(c->out, sizeof(c->out), "GET %s HTTP/1.1\r\nHost: %s\r\nUser-Agent: load\r\n%s",
				      path, host, rest);
	c->request = n;
	c->again = again;
	c->head_len = 0;
	c->body_left = -1;
	c->sent_ns = now_ns();
	c->give_up_ns = impatient && n % 4 == 1 && !*again ? c->sent_ns + (n * 7919 % 20 + 1) * 1000000 : 0;
	/* A fresh or idle connection takes 2 KB at once, always. */
	ret = send(c->fd, c->out, c->out_len, MSG_NOSIGNAL);
	if (ret >= 0 && (size_t)ret != c->out_len)
		die("short send");
}

static void conn__again(struct conn *c)
{
	close(c->fd);
	conn__open(c);
	if (c->request >= 0) {
		resent++;
		if (resent > total)
			die("the server keeps closing");
		conn__request(c, c->request, c->again);
	}
}

/* Of all connections, those whose time is over. */
static void give_up(struct conn *conns, long k)
{
	uint64_t now = now_ns();

	for (struct conn *c = conns; c < conns + k; c++) {
		if (c->request < 0 || !c->give_up_ns || now < c->give_up_ns)
			continue;
		gave_up++;
		close(c->fd);
		conn__open(c);
		conn__request(c, c->request, ".again");
	}
}

static void conn__answered(struct conn *c)
{
	uint64_t took = now_ns() - c->sent_ns;
	int code = atoi(c->head + 9);

	answered++;
	by_class[code >= 100 && code < 600 ? code / 100 : 0]++;
	if (code < 200 || code > 399)
		failed++;
	if (took > latency_max)
		latency_max = took;
	c->request = -1;
	if (c->close_after || closing) {
		close(c->fd);
		c->fd = -1;
		if (next_request < total)
			conn__open(c);
	}
	if (next_request < total)
		conn__request(c, next_request++, "");
}

/* The head is complete: how long is the body? -3: chunked, which this client reads only whole. */
static int64_t body_length(struct conn *c)
{
	const char *line = strstr(c->head, "\r\n");
	int64_t length = -2;

	c->close_after = 0;
	for (; line && line[2] != '\r'; line = strstr(line + 2, "\r\n")) {
		const char *h = line + 2;

		if (!strncasecmp(h, "content-length:", 15))
			length = strtoll(h + 15, NULL, 10);
		else if (!strncasecmp(h, "transfer-encoding: chunked", 26))
			length = -3;
		else if (!strncasecmp(h, "connection: close", 17))
			c->close_after = 1;
	}
	return length;
}

/* 1: the response is complete. */
static int conn__take(struct conn *c, const char *data, size_t len)
{
	char *end;
	size_t rest;

	bytes += len;
	if (c->body_left >= 0) {
		c->body_left -= len < (size_t)c->body_left ? (int64_t)len : c->body_left;
		return c->body_left == 0;
	}
	if (c->body_left == -2)
		return 0;
	if (c->head_len + len >= HEAD_MAX) {
		errno = EMSGSIZE;
		die("response");
	}
	memcpy(c->head + c->head_len, data, len);
	c->head_len += len;
	c->head[c->head_len] = 0;
	end = strstr(c->head, "\r\n\r\n");
	if (!end)
		return 0;
	rest = c->head_len - (end + 4 - c->head);
	c->body_left = body_length(c);
	if (c->body_left == -3) { /* small chunked answers: complete with the last chunk */
		c->body_left = -1;
		return c->head_len >= 5 && !memcmp(c->head + c->head_len - 5, "0\r\n\r\n", 5);
	}
	if (c->body_left < 0)
		return 0;
	c->body_left -= rest < (size_t)c->body_left ? (int64_t)rest : c->body_left;
	return c->body_left == 0;
}

static void conn__readable(struct conn *c)
{
	char buf[65536];
	ssize_t n = recv(c->fd, buf, sizeof(buf), 0);

	if (n < 0 && errno == EAGAIN)
		return;
	if (n <= 0) {
		if (c->body_left == -2) { /* the end of the connection was the end of the body */
			c->close_after = 1;
			conn__answered(c);
			return;
		}
		if (c->request < 0 && next_request >= total) {
			close(c->fd);
			c->fd = -1;
			return;
		}
		conn__again(c);
		return;
	}
	if (conn__take(c, buf, n))
		conn__answered(c);
}

int main(int argc, char **argv)
{
	struct epoll_event evs[256];
	struct conn *conns;
	uint64_t start, quiet;
	long k, i;
	int n;

	for (; argc > 1 && !strncmp(argv[1], "--", 2); argc--, argv++) {
		closing |= !strcmp(argv[1], "--close");
		impatient |= !strcmp(argv[1], "--impatient");
	}
	if (argc != 5) {
		fprintf(stderr, "usage: load [--close] [--impatient] HOST:PORT|unix:PATH REQUESTS CONNECTIONS PATH\n");
		return 2;
	}
	signal(SIGPIPE, SIG_IGN);
	resolve(argv[1]);
	total = atol(argv[2]);
	k = atol(argv[3]);
	path = argv[4];
	if (total < 1 || k < 1 || strlen(path) > 1024) {
		errno = EINVAL;
		die("arguments");
	}
	if (k > total)
		k = total;
	ep = epoll_create1(EPOLL_CLOEXEC);
	conns = calloc(k, sizeof(*conns));
	if (ep < 0 || !conns)
		die("start");
	for (i = 0; i < k; i++)
		conn__open(&conns[i]);
	start = quiet = now_ns();
	for (i = 0; i < k; i++)
		conn__request(&conns[i], next_request++, "");
	while (answered < total) {
		if (impatient)
			give_up(conns, k);
		n = epoll_wait(ep, evs, 256, impatient ? 1 : 1000);
		if (n > 0)
			quiet = now_ns();
		else if (now_ns() - quiet > 30000000000ULL)
			break; /* thirty seconds of silence: say what is missing */
		for (i = 0; i < n; i++)
			conn__readable(evs[i].data.ptr);
	}
	printf("{\"sent\": %ld, \"answered\": %ld, \"failed\": %ld, \"resent\": %ld, \"gave_up\": %ld, \"bytes\": %llu, "
	       "\"seconds\": %.3f, \"max_ms\": %.3f, \"2xx\": %ld, \"3xx\": %ld, \"4xx\": %ld, \"5xx\": %ld}\n",
	       next_request, answered, failed, resent, gave_up, (unsigned long long)bytes, (now_ns() - start) / 1e9,
	       latency_max / 1e6, by_class[2], by_class[3], by_class[4], by_class[5]);
	return answered == total ? 0 : 1;
}
