// SPDX-License-Identifier: Apache-2.0
/*
 * The exporter thread with OTLP/HTTP against a server that does, request by request, what a script says. Whatever it
 * does: the books balance, and a span that was acknowledged is never sent again.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>
#include <zlib.h>

#include "exporter/exporter.h"
#include "opentelemetry/proto/collector/trace/v1/trace_service.pb-c.h"
#include "user/base/clock.h"
#include "user/base/mem.h"
#include "user/model/stats.h"

#define MS 1000000ull
#define SEC (1000 * MS)
#define MAX_IDS 4096
#define OK "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
#define PARTIAL_3_BAD "\x0a\x07\x08\x03\x12\x03\x62\x61\x64" /* otlp_partial_success_3_bad */

/* ---- the server ---------------------------------------------------------------------------------- */

struct step {
	const char *answer; /* raw bytes; NULL: never answers */
	size_t len;	    /* 0: strlen */
	size_t padding;	    /* so many 'x' follow */
	bool close;	    /* the connection ends behind it */
	bool refuses;	    /* this answer does not acknowledge */
};

struct server {
	int fd;
	uint16_t port;
	pthread_t thread;
	const struct step *steps; /* the last one repeats */
	size_t n_steps;
	bool stop; /* atomic */
	/* Written by the server's thread; read once it is joined, `requests` any time */
	int requests, connections;
	char head[4096];		   /* of the last request */
	int sent[MAX_IDS], acked[MAX_IDS]; /* by span */
	int sent_after_ack;
};

static bool wait_readable(struct server *s, int fd)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };

	while (!__atomic_load_n(&s->stop, __ATOMIC_RELAXED)) {
		if (poll(&p, 1, 10) > 0)
			return true;
	}
	return false;
}

/* Reads one request; the body is handed over. 0: the connection has ended. */
static size_t read_request(struct server *s, int fd, uint8_t **ret_body)
{
	size_t len = 0, want;
	char *end = NULL;
	uint8_t *body;

	while (!end) {
		ssize_t n;

		if (len + 1 >= sizeof(s->head) || !wait_readable(s, fd))
			return 0;
		n = read(fd, s->head + len, 1); /* slow, but never reads into the body */
		if (n <= 0)
			return 0;
		s->head[++len] = '\0';
		end = len >= 4 && memcmp(s->head + len - 4, "\r\n\r\n", 4) == 0 ? s->head + len : NULL;
	}
	want = strtoul(strcasestr(s->head, "content-length:") + 15, NULL, 10);
	body = malloc(want);
	for (len = 0; len < want;) {
		ssize_t n = wait_readable(s, fd) ? read(fd, body + len, want - len) : 0;

		if (n <= 0) {
			free(body);
			return 0;
		}
		len += n;
	}
	*ret_body = body;
	return want;
}

static void gunzip(uint8_t **body, size_t *len)
{
	z_stream z = { 0 };
	size_t cap = 8 << 20;
	uint8_t *out = malloc(cap);

	inflateInit2(&z, 15 + 16);
	z.next_in = *body;
	z.avail_in = *len;
	z.next_out = out;
	z.avail_out = cap;
	if (inflate(&z, Z_FINISH) != Z_STREAM_END)
		abort();
	*len = cap - z.avail_out;
	inflateEnd(&z);
	free(*body);
	*body = out;
}

static void count_spans(struct server *s, uint8_t *body, size_t len, bool acknowledges)
{
	Opentelemetry__Proto__Collector__Trace__V1__ExportTraceServiceRequest *req;

	if (strcasestr(s->head, "content-encoding: gzip"))
		gunzip(&body, &len);
	req = opentelemetry__proto__collector__trace__v1__export_trace_service_request__unpack(NULL, len, body);
	if (!req)
		abort();
	for (size_t r = 0; r < req->n_resource_spans; r++) {
		for (size_t i = 0; i < req->resource_spans[r]->scope_spans[0]->n_spans; i++) {
			uint32_t id;

			memcpy(&id, req->resource_spans[r]->scope_spans[0]->spans[i]->span_id.data, sizeof(id));
			s->sent[id]++;
			s->sent_after_ack += s->acked[id] > 0;
			s->acked[id] += acknowledges;
		}
	}
	opentelemetry__proto__collector__trace__v1__export_trace_service_request__free_unpacked(req, NULL);
	free(body);
}

static bool send_all(int fd, const char *p, size_t n)
{
	while (n) {
		ssize_t done = send(fd, p, n, MSG_NOSIGNAL);

		if (done <= 0)
			return false;
		p += done;
		n -= done;
	}
	return true;
}

static void serve(struct server *s, int fd)
{
	static char padding[65536];
	uint8_t *body = NULL;
	size_t len;

	memset(padding, 'x', sizeof(padding));
	while ((len = read_request(s, fd, &body)) > 0) {
		size_t at = (size_t)s->requests < s->n_steps ? (size_t)s->requests : s->n_steps - 1;
		const struct step *step = &s->steps[at];

		count_spans(s, body, len, step->answer && !step->refuses);
		__atomic_fetch_add(&s->requests, 1, __ATOMIC_RELAXED);
		if (!step->answer) {
			wait_readable(s, fd); /* until the client gives up, or the test ends */
			return;
		}
		if (!send_all(fd, step->answer, step->len ? step->len : strlen(step->answer)))
			return;
		for (size_t left = step->padding; left;) {
			size_t n = left < sizeof(padding) ? left : sizeof(padding);

			if (!send_all(fd, padding, n))
				return;
			left -= n;
		}
		if (step->close)
			return;
	}
}

static void *run_server(void *arg)
{
	struct server *s = arg;

	while (wait_readable(s, s->fd)) {
		int fd = accept(s->fd, NULL, NULL);

		if (fd < 0)
			continue;
		s->connections++;
		serve(s, fd);
		close(fd);
	}
	return NULL;
}

/* port 0: any */
static void server_start(struct server *s, const struct step *steps, size_t n, uint16_t port)
{
	struct sockaddr_in a = { .sin_family = AF_INET,
				 .sin_port = htons(port),
				 .sin_addr = { htonl(INADDR_LOOPBACK) } };
	socklen_t len = sizeof(a);
	int one = 1;

	memset(s, 0, sizeof(*s));
	s->steps = steps;
	s->n_steps = n;
	s->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	setsockopt(s->fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	assert_int_equal(bind(s->fd, (struct sockaddr *)&a, sizeof(a)), 0);
	assert_int_equal(listen(s->fd, 16), 0);
	getsockname(s->fd, (struct sockaddr *)&a, &len);
	s->port = ntohs(a.sin_port);
	assert_int_equal(pthread_create(&s->thread, NULL, run_server, s), 0);
}

static void server_stop(struct server *s)
{
	__atomic_store_n(&s->stop, true, __ATOMIC_RELAXED);
	pthread_join(s->thread, NULL);
	close(s->fd);
	assert_int_equal(s->sent_after_ack, 0);
}

/* ---- the client side ----------------------------------------------------------------------------- */

struct rig {
	struct server server;
	struct batch_queue *queue;
	struct exporter *exporter;
	struct exporter_opts opts;
	char endpoint[128];
	uint32_t next_id;
	int log_fd, saved_stderr;
	char log[8192];
};

static struct rig rig;

static void capture_log(void)
{
	rig.log_fd = memfd_create("log", MFD_CLOEXEC);
	rig.saved_stderr = dup(STDERR_FILENO);
	dup2(rig.log_fd, STDERR_FILENO);
}

static void read_log(void)
{
	ssize_t n;

	dup2(rig.saved_stderr, STDERR_FILENO);
	close(rig.saved_stderr);
	n = pread(rig.log_fd, rig.log, sizeof(rig.log) - 1, 0);
	rig.log[n > 0 ? n : 0] = '\0';
	close(rig.log_fd);
}

static void push_spans(uint32_t n)
{
	for (uint32_t i = 0; i < n; i++) {
		struct span *s = span__new();

		assert_non_null(s);
		rig.next_id++;
		assert_true(rig.next_id < MAX_IDS);
		memset(s->trace_id, 1, sizeof(s->trace_id));
		memcpy(s->span_id, &rig.next_id, sizeof(rig.next_id));
		s->kind = SPAN_SERVER;
		s->name = STR("GET");
		batch_queue__push(rig.queue, s, 0);
	}
}

static void set_endpoint(uint16_t port)
{
	snprintf(rig.endpoint, sizeof(rig.endpoint), "http://user:secret@127.0.0.1:%u/v1/traces", port);
	rig.opts.endpoint = rig.endpoint;
}

/* `spans` wait in the queue before the exporter starts, so that what it says of them is the same each time. */
static void start_exporter(uint32_t max_batch, uint32_t spans)
{
	struct batch_opts bo = { .max_queue_spans = 100, .max_batch = max_batch, .schedule_delay_ns = SEC };

	rig.queue = batch_queue__new(&bo);
	push_spans(spans);
	capture_log();
	rig.exporter = exporter__start(&rig.opts, rig.queue);
	assert_non_null(rig.exporter);
}

static void start(const struct step *steps, size_t n, uint32_t max_batch, uint32_t spans)
{
	server_start(&rig.server, steps, n, 0);
	set_endpoint(rig.server.port);
	start_exporter(max_batch, spans);
}

/* Flushes, stops, and checks what is always true. */
static void finish(uint64_t limit_ns)
{
	enum stats_stage bad;
	int acked = 0;

	batch_queue__close(rig.queue);
	exporter__stop(rig.exporter, limit_ns);
	batch_queue__free(rig.queue);
	read_log();
	server_stop(&rig.server);
	assert_true(stats__check(&stats, &bad));
	assert_int_equal(stats.rows[ST_EXPORT].held, 0);
	assert_int_equal(stats.rows[ST_BATCH].held, 0);
	assert_int_equal(stats.rows[ST_BATCH].in, rig.next_id);
	assert_int_equal(stats.rows[ST_BATCH].out, stats.rows[ST_EXPORT].in);
	for (int i = 0; i < MAX_IDS; i++)
		acked += rig.server.acked[i];
	/* What counts as delivered was acknowledged; a server that rejects part of it acknowledges all of it here. */
	assert_int_equal(stats.rows[ST_EXPORT].out + stats.rows[ST_EXPORT].dropped[DROP_REJECTED] >= (uint64_t)acked,
			 true);
	assert_null(strstr(rig.log, "secret"));
}

static int set_up(void **state)
{
	unsetenv("http_proxy");
	unsetenv("all_proxy");
	stats = (struct stats){ 0 };
	memset(&rig, 0, sizeof(rig));
	rig.opts = (struct exporter_opts){
		.kind = "otlp-http", .timeout_ns = 5 * SEC, .retry_initial_ns = 10 * MS, .retry_max_ns = 40 * MS
	};
	return 0;
}

static struct stats_row *row(void)
{
	return &stats.rows[ST_EXPORT];
}

static void wait_requests(int n)
{
	for (int i = 0; i < 1000 && __atomic_load_n(&rig.server.requests, __ATOMIC_RELAXED) < n; i++)
		usleep(5000);
	assert_true(__atomic_load_n(&rig.server.requests, __ATOMIC_RELAXED) >= n);
}

#define N(a) (sizeof(a) / sizeof((a)[0]))

/* ---- tests --------------------------------------------------------------------------------------- */

static void acknowledged(void **state)
{
	static const struct step steps[] = { { .answer = OK } };

	rig.opts.headers = "authorization=Bearer%20a%2Cb, x-tenant = 7 ,x-empty=";
	start(steps, N(steps), 3, 7);
	finish(5 * SEC);
	assert_int_equal(row()->in, 7);
	assert_int_equal(row()->out, 7);
	assert_int_equal(rig.server.requests, 3);
	assert_int_equal(rig.server.connections, 1); /* kept alive */
	assert_int_equal(stats.acked_batches, 3);
	assert_int_equal(stats.export_retries, 0);
	assert_non_null(strstr(rig.server.head, "POST /v1/traces HTTP/1.1\r\n"));
	assert_non_null(strstr(rig.server.head, "Content-Type: application/x-protobuf\r\n"));
	assert_non_null(
		strstr(rig.server.head, "User-Agent: wirespan/" WS_VERSION " OTel-OTLP-Exporter-C/" WS_VERSION "\r\n"));
	assert_non_null(strstr(rig.server.head, "authorization: Bearer a,b\r\n"));
	assert_non_null(strstr(rig.server.head, "x-tenant: 7\r\n"));
	assert_non_null(strstr(rig.server.head, "x-empty:\r\n"));
	assert_null(strcasestr(rig.server.head, "expect:"));
	assert_string_equal(rig.log, "");
}

static void compressed(void **state)
{
	static const struct step steps[] = { { .answer = OK } };

	rig.opts.gzip = true;
	start(steps, N(steps), 50, 90);
	finish(5 * SEC);
	assert_int_equal(row()->out, 90);
	assert_non_null(strstr(rig.server.head, "Content-Encoding: gzip\r\n"));
}

static void partial_success(void **state)
{
	static const struct step steps[] = {
		{ .answer =
			  "HTTP/1.1 200 OK\r\nContent-Type: application/x-protobuf\r\nContent-Length: 9\r\n\r\n" PARTIAL_3_BAD }
	};

	start(steps, N(steps), 10, 10);
	finish(5 * SEC);
	assert_int_equal(rig.server.requests, 1);
	assert_int_equal(row()->out, 7);
	assert_int_equal(row()->dropped[DROP_REJECTED], 3);
	assert_non_null(strstr(rig.log, ": 3 of 10 spans rejected: bad\n"));
}

static void partial_success_of_more_than_sent(void **state)
{
	static const struct step steps[] = {
		{ .answer =
			  "HTTP/1.1 200 OK\r\nContent-Type: application/x-protobuf\r\nContent-Length: 9\r\n\r\n" PARTIAL_3_BAD }
	};

	start(steps, N(steps), 2, 2);
	finish(5 * SEC);
	assert_int_equal(row()->out, 0);
	assert_int_equal(row()->dropped[DROP_REJECTED], 2);
}

static void refused_for_good(void **state)
{
	static const struct {
		const char *answer, *said;
	} v[] = {
		{ "HTTP/1.1 400 Bad Request\r\nContent-Type: application/x-protobuf\r\nContent-Length: 11\r\n\r\n\x08\x03\x12\x07too bad",
		  "400 Bad Request: too bad (2 spans lost)" },
		{ "HTTP/1.1 400 Bad Request\r\nContent-Type: application/x-protobuf\r\nContent-Length: 4\r\n\r\n\x12\xff\xff\xff",
		  "400 Bad Request (2 spans lost)" },
		{ "HTTP/1.1 401 Unauthorized\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: 9\r\n\r\nwho?\nnext",
		  "401 Unauthorized: who? (OTEL_EXPORTER_OTLP_HEADERS" },
		{ "HTTP/1.1 404 Not Found\r\nContent-Type: text/html\r\nContent-Length: 6\r\n\r\n<html>",
		  "404 Not Found (is the path right?" },
		{ "HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n", "413 Content Too Large (lower" },
		{ "HTTP/1.1 500 Oops\r\nContent-Length: 0\r\n\r\n", "500 Internal Server Error" },
		{ "HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n",
		  "redirects are not followed" },
		{ "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 6\r\n\r\n<html>",
		  "not an OTLP receiver" },
	};

	for (size_t i = 0; i < N(v); i++) {
		struct step steps[] = { { .answer = v[i].answer, .refuses = true } };

		set_up(state);
		start(steps, N(steps), 2, 2);
		finish(5 * SEC);
		assert_int_equal(rig.server.requests, 1);
		assert_int_equal(row()->dropped[DROP_REJECTED], 2);
		assert_non_null(strstr(rig.log, v[i].said));
		assert_non_null(strstr(rig.log, "wirespan: collector http://127.0.0.1:"));
	}
}

static void retried_until_taken(void **state)
{
	static const struct step steps[] = {
		{ .answer = "HTTP/1.1 503 x\r\nContent-Length: 0\r\n\r\n", .refuses = true },
		{ .answer = "HTTP/1.1 429 x\r\nContent-Length: 0\r\n\r\n", .refuses = true },
		{ .answer = "HTTP/1.1 502 x\r\nContent-Length: 0\r\n\r\n", .refuses = true },
		{ .answer = "HTTP/1.1 504 x\r\nContent-Length: 0\r\n\r\n", .refuses = true },
		{ .answer = OK },
	};

	start(steps, N(steps), 4, 8);
	finish(5 * SEC);
	assert_int_equal(rig.server.requests, 6);
	assert_int_equal(row()->out, 8);
	assert_int_equal(stats.export_retries, 4);
	assert_non_null(strstr(rig.log, ": 503 Service Unavailable (retrying, 8 spans waiting, next try in "));
	assert_null(strstr(rig.log, "429")); /* the same trouble is said once */
	assert_non_null(strstr(rig.log, ": takes spans again after "));
}

static void retry_after_is_honoured(void **state)
{
	static const struct step steps[] = {
		{ .answer = "HTTP/1.1 429 x\r\nRetry-After: 1\r\nContent-Length: 0\r\n\r\n", .refuses = true },
		{ .answer = OK },
	};
	uint64_t began = clock__mono_ns();

	start(steps, N(steps), 1, 1);
	finish(5 * SEC);
	assert_true(clock__mono_ns() - began >= SEC);
	assert_int_equal(row()->out, 1);
}

/* Answers after which nobody knows whether the spans arrived: sent again. */
static void broken_answers(void **state)
{
	static const struct step bad[] = {
		{ .answer = "", .len = 0, .close = true, .refuses = true },
		{ .answer = "\x16\x03\x01 not HTTP at all\r\n\r\n", .close = true, .refuses = true },
		{ .answer = "HTTP/1.1 20", .close = true, .refuses = true },
		{ .answer = "HTTP/1.1 100 Continue\r\n\r\n", .close = true, .refuses = true },
		{ .answer = "HTTP/1.1 503 x\r\nContent-Length: 100\r\n\r\nshort", .close = true, .refuses = true },
	};

	for (size_t i = 0; i < N(bad); i++) {
		struct step steps[] = { bad[i], { .answer = OK } };

		set_up(state);
		start(steps, N(steps), 3, 3);
		finish(5 * SEC);
		assert_true(rig.server.requests >= 2);
		assert_int_equal(row()->out, 3);
		assert_non_null(strstr(rig.log, "(retrying, 3 spans waiting"));
		if (i < 2)
			assert_non_null(strstr(rig.log, ": is this an OTLP/HTTP endpoint? usually port 4318 (retrying"));
	}
}

/* The status acknowledged, so nothing is sent again, whatever follows. */
static void broken_behind_the_status(void **state)
{
	static const struct {
		struct step step;
		const char *said;
	} v[] = {
		{ { .answer =
			    "HTTP/1.1 200 OK\r\nContent-Type: application/x-protobuf\r\nContent-Length: 100\r\n\r\n\x0a",
		    .close = true },
		  "its answer broke off" },
		{ { .answer =
			    "HTTP/1.1 200 OK\r\nContent-Type: application/x-protobuf\r\nContent-Length: 4\r\n\r\n\xff\xff\xff\xff" },
		  "what it answers is not OTLP" },
		{ { .answer = "HTTP/1.1 200 OK\r\nContent-Length: 5242880\r\n\r\n", .padding = 5242880 },
		  "longer than 4 MiB" },
		{ { .answer = "HTTP/1.1 200 OK\r\n\r\n", .padding = 5242880, .close = true }, "longer than 4 MiB" },
	};

	for (size_t i = 0; i < N(v); i++) {
		set_up(state);
		start(&v[i].step, 1, 3, 3);
		finish(5 * SEC);
		assert_int_equal(rig.server.requests, 1);
		assert_int_equal(row()->out, 3);
		assert_non_null(strstr(rig.log, v[i].said));
	}
}

static void slow_server_times_out(void **state)
{
	static const struct step steps[] = { { .answer = NULL }, { .answer = OK } };

	rig.opts.timeout_ns = 200 * MS;
	start(steps, N(steps), 2, 2);
	finish(5 * SEC);
	assert_int_equal(rig.server.requests, 2);
	assert_int_equal(row()->out, 2);
	assert_non_null(strstr(rig.log, ": no answer within 0.2 s (retrying, 2 spans waiting"));
}

static void refused_connection_then_up(void **state)
{
	static const struct step steps[] = { { .answer = OK } };
	uint16_t port;

	server_start(&rig.server, steps, N(steps), 0);
	port = rig.server.port;
	server_stop(&rig.server); /* nobody listens there now */
	set_endpoint(port);
	start_exporter(2, 4);
	for (int i = 0; i < 1000 && __atomic_load_n(&stats.export_retries, __ATOMIC_RELAXED) < 3; i++)
		usleep(5000);
	server_start(&rig.server, steps, N(steps), port);
	finish(5 * SEC);
	assert_int_equal(row()->out, 4);
	assert_true(stats.export_retries >= 3);
	assert_non_null(strstr(rig.log, ": connection refused (retrying, 4 spans waiting, next try in "));
	assert_non_null(strstr(rig.log, ": takes spans again after "));
}

static void queue_fills_meanwhile(void **state)
{
	static const struct step steps[] = { { .answer = "HTTP/1.1 503 x\r\nContent-Length: 0\r\n\r\n",
					       .refuses = true } };

	start(steps, N(steps), 10, 10);
	wait_requests(1);
	push_spans(130); /* the queue holds 100 */
	finish(200 * MS);
	assert_int_equal(stats.rows[ST_BATCH].dropped[DROP_QUEUE_FULL], 30);
	assert_int_equal(stats.rows[ST_BATCH].dropped[DROP_SHUTDOWN], 100);
	assert_int_equal(row()->dropped[DROP_SHUTDOWN], 10);
	assert_int_equal(row()->out, 0);
}

/* A batch that is tried for long gives way, but only where spans are lost behind it. */
static void old_batch_gives_way(void **state)
{
	static const struct step steps[] = { { .answer = "HTTP/1.1 503 x\r\nContent-Length: 0\r\n\r\n",
					       .refuses = true } };

	for (int full = 0; full < 2; full++) {
		set_up(state);
		rig.opts.give_way_ns = 50 * MS;
		start(steps, N(steps), 10, 10);
		wait_requests(1);
		push_spans(full ? 130 : 20);
		wait_requests(12); /* of 40 ms back-off at most: the time is up by far */
		finish(0);
		if (full) {
			assert_true(row()->dropped[DROP_RETRIES_EXHAUSTED] >= 10);
			assert_non_null(strstr(rig.log, ": 503 Service Unavailable (10 spans lost)"));
		} else {
			assert_int_equal(row()->dropped[DROP_RETRIES_EXHAUSTED], 0);
		}
		assert_int_equal(row()->out, 0);
	}
}

static void stop_interrupts(uint64_t limit_ns)
{
	uint64_t began;

	wait_requests(1);
	began = clock__mono_ns();
	finish(limit_ns);
	assert_true(clock__mono_ns() - began < 2 * SEC);
	assert_int_equal(row()->dropped[DROP_SHUTDOWN], 2);
}

static void stop_during_back_off(void **state)
{
	static const struct step steps[] = {
		{ .answer = "HTTP/1.1 503 x\r\nRetry-After: 500\r\nContent-Length: 0\r\n\r\n", .refuses = true }
	};

	start(steps, N(steps), 2, 2);
	stop_interrupts(100 * MS);
	assert_non_null(strstr(rig.log, "next try in 5")); /* 500 s, and up to a tenth more */
}

static void stop_during_transfer(void **state)
{
	static const struct step steps[] = { { .answer = NULL } };

	rig.opts.timeout_ns = 60 * SEC;
	start(steps, N(steps), 2, 2);
	stop_interrupts(100 * MS);
}

static void stop_without_limit_left(void **state)
{
	static const struct step steps[] = { { .answer = NULL } };

	rig.opts.timeout_ns = 60 * SEC;
	start(steps, N(steps), 2, 2);
	stop_interrupts(0);
}

static void bad_options(void **state)
{
	struct batch_queue *q = batch_queue__new(&(struct batch_opts){ .max_batch = 1 });
	static const struct exporter_opts v[] = {
		{ .kind = "smoke-signals" },
		{ .kind = "otlp-http" },
		{ .kind = "otlp-http", .endpoint = "collector:4318" },
		{ .kind = "otlp-http", .endpoint = "ftp://collector/" },
		{ .kind = "otlp-http", .endpoint = "http://h/", .headers = "no value" },
		{ .kind = "otlp-http", .endpoint = "http://h/", .headers = "a=b,c d=e" },
		{ .kind = "otlp-http", .endpoint = "http://h/", .headers = "a=b%0d%0aInjected: yes" },
		{ .kind = "otlp-http", .endpoint = "http://h/", .headers = "a=b%4" },
		{ .kind = "otlp-http", .endpoint = "https://h/", .ca_file = "/nonexistent/ca.pem" },
		{ .kind = "otlp-grpc", .endpoint = "https://h/", .cert_file = "/nonexistent/cert.pem" },
		{ .kind = "json", .path = "/nonexistent/out.json" },
	};

	for (size_t i = 0; i < N(v); i++) {
		struct exporter *e;

		capture_log();
		e = exporter__start(&v[i], q);
		read_log();
		assert_null(e);
		assert_int_equal(strncmp(rig.log, "wirespan: ", 10), 0);
		assert_ptr_equal(strchr(rig.log, '\n') + 1, rig.log + strlen(rig.log)); /* one line */
	}
	batch_queue__free(q);
	exporter__stop(NULL, 0);
}

static void failed_allocations_at_start(void **state)
{
	struct batch_queue *q = batch_queue__new(&(struct batch_opts){ .max_batch = 1 });
	long n;

	rig.opts.gzip = true;
	rig.opts.headers = "a=b";
	rig.opts.endpoint = "http://127.0.0.1:1/";
	for (n = 0; n < 100; n++) {
		struct exporter *e;

		capture_log();
		mem__fail_after(n);
		e = exporter__start(&rig.opts, q);
		mem__fail_after(-1);
		read_log();
		if (e) {
			exporter__stop(e, 0);
			break;
		}
		assert_string_equal(rig.log, "wirespan: exporter \"otlp-http\": out of memory\n");
	}
	assert_in_range(n, 5, 99);
	batch_queue__free(q);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(acknowledged, set_up),
		cmocka_unit_test_setup(compressed, set_up),
		cmocka_unit_test_setup(partial_success, set_up),
		cmocka_unit_test_setup(partial_success_of_more_than_sent, set_up),
		cmocka_unit_test_setup(refused_for_good, set_up),
		cmocka_unit_test_setup(retried_until_taken, set_up),
		cmocka_unit_test_setup(retry_after_is_honoured, set_up),
		cmocka_unit_test_setup(broken_answers, set_up),
		cmocka_unit_test_setup(broken_behind_the_status, set_up),
		cmocka_unit_test_setup(slow_server_times_out, set_up),
		cmocka_unit_test_setup(refused_connection_then_up, set_up),
		cmocka_unit_test_setup(queue_fills_meanwhile, set_up),
		cmocka_unit_test_setup(old_batch_gives_way, set_up),
		cmocka_unit_test_setup(stop_during_back_off, set_up),
		cmocka_unit_test_setup(stop_during_transfer, set_up),
		cmocka_unit_test_setup(stop_without_limit_left, set_up),
		cmocka_unit_test_setup(bad_options, set_up),
		cmocka_unit_test_setup(failed_allocations_at_start, set_up),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
