// SPDX-License-Identifier: Apache-2.0
/* The control socket and the report: what an instance says about itself, and what a client makes of it. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cmocka.h>
#include <jansson.h>

#include "user/base/mem.h"
#include "user/loader/control.h"
#include "user/loader/report.h"

static char path[64];
static char said[4096]; /* standard error of the last quiet() */

/* Runs with standard error in `said`. */
#define QUIETLY(expr)                                                                 \
	({                                                                            \
		int _saved = dup(STDERR_FILENO), _fds[2];                             \
		ssize_t _n;                                                           \
		assert_int_equal(pipe2(_fds, O_NONBLOCK), 0);                         \
		dup2(_fds[1], STDERR_FILENO);                                         \
		typeof(expr) _ret = (expr);                                           \
		int _errno = errno;                                                   \
		dup2(_saved, STDERR_FILENO);                                          \
		_n = read(_fds[0], said, sizeof(said) - 1);                           \
		said[_n > 0 ? _n : 0] = 0;                                            \
		close(_saved);                                                        \
		close(_fds[0]);                                                       \
		close(_fds[1]);                                                       \
		errno = _errno;                                                       \
		_ret;                                                                 \
	})

static void fill(struct stats *st)
{
	memset(st, 0, sizeof(*st));
	st->rows[ST_KERNEL] = (struct stats_row){ .in = 1234567, .out = 1233363, .dropped = { [DROP_RING_FULL] = 1204 } };
	st->rows[ST_ENRICH] = (struct stats_row){ .in = 20, .out = 7, .held = 2, .dropped = { [DROP_PATH_EXCLUDED] = 11 } };
	st->rows[ST_EXPORT] = (struct stats_row){ .in = 3412, .out = 3412 };
	st->requests = 3412;
	st->traces = 853;
	st->parents_proven = 2559;
	st->roots = 853;
	st->kernel_runs = 100;
	st->kernel_run_ns = 42000;
}

static void test_json_round_trip(void **state)
{
	struct stats st;
	struct report r;
	struct dynbuf out;
	json_t *root, *rows;

	fill(&st);
	dynbuf__init(&out, 1 << 20);
	assert_int_equal(report__json(&out, &st), 0);
	assert_int_equal(report__parse(&r, (char *)out.data, out.len), 0);
	assert_memory_equal(&r.st, &st, sizeof(st));
	assert_int_equal(r.pid, getpid());
	assert_string_equal(r.version, WS_VERSION);
	assert_true(r.rss_peak > 1 << 20);
	root = json_loadb((char *)out.data, out.len, 0, NULL);
	rows = json_object_get(root, "stages");
	assert_int_equal(json_array_size(rows), __ST_CNT);
	assert_string_equal(json_string_value(json_object_get(json_array_get(rows, 0), "stage")), "kernel");
	assert_true(json_is_true(json_object_get(root, "balanced")));
	json_decref(root);
	dynbuf__free(&out);
}

static void test_parse_refuses(void **state)
{
	static const char *const bad[] = { "", "{", "[]", "{}", "{\"version\":\"1\"}", "{\"stages\":[]}", "null",
					   "{\"version\":1,\"stages\":[]}", "\xff" };
	static const char newer[] = "{\"version\":\"9\\u001b[2J\",\"stages\":[1,{\"stage\":\"warp\"},{\"stage\":\"kernel\","
				    "\"in\":-5,\"dropped\":{\"what\":1,\"gap\":2}}],\"counters\":[]}";
	struct report r;

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		assert_int_equal(report__parse(&r, bad[i], strlen(bad[i])), -EBADMSG);
	assert_int_equal(report__parse(&r, newer, sizeof(newer) - 1), 0);
	assert_string_equal(r.version, "9?[2J");
	assert_int_equal(r.st.rows[ST_KERNEL].in, 0);
	assert_int_equal(r.st.rows[ST_KERNEL].dropped[DROP_GAP], 2);
}

static char *print_end(const struct stats *st, const char *done, uint64_t elapsed_ns)
{
	char *text;
	size_t len;
	FILE *f = open_memstream(&text, &len);

	report__end(f, st, done, elapsed_ns, 0);
	fclose(f);
	return text;
}

static void test_end(void **state)
{
	struct stats st;
	char *text;

	fill(&st);
	text = print_end(&st, "shown", 100000000000ull);
	assert_non_null(strstr(text, "3,412 requests seen, 3,412 spans shown in 853 traces, 1,204 dropped.\n"
				     "Parents: 2,559 proven, 853 roots, 0 ambiguous.\n"
				     "Cost: "));
	assert_non_null(strstr(text, " MiB, 0.42 µs per socket event (1,234,567 events).\n"));
	assert_non_null(strstr(text, "Dropped:\n"
				     "  kernel   ring full: 1,204 events · raise --ring-size or lower --capture\n"
				     "Left out as asked:\n"
				     "  enrich   path left out by configuration: 11 spans\n"));
	assert_null(strstr(text, "balance"));
	free(text);

	memset(&st, 0, sizeof(st));
	st.requests = st.rows[ST_EXPORT].in = st.rows[ST_EXPORT].out = st.acked_batches = st.roots = 1;
	text = print_end(&st, "sent", 100000000000ull);
	assert_memory_equal(text, "1 request seen, 1 span sent, 0 dropped.\nParents: 0 proven, 1 root, 0 ambiguous.\n", 80);
	assert_null(strstr(text, "Dropped"));
	assert_null(strstr(text, "Left out"));
	assert_null(strstr(text, "µs"));
	free(text);

	/* Half of it was lost: in how many traces the rest is nobody knows. */
	st.requests = st.traces = st.rows[ST_EXPORT].in = 2;
	st.rows[ST_EXPORT].dropped[DROP_SHUTDOWN] = 1;
	text = print_end(&st, "sent", 0);
	assert_memory_equal(text, "2 requests seen, 1 span sent, 1 dropped.\n", 41);
	free(text);

	/* Nothing left: no trace either. A replay has no cost. */
	st.requests = st.traces = st.rows[ST_EXPORT].in = st.rows[ST_EXPORT].dropped[DROP_SHUTDOWN] = 2;
	st.rows[ST_EXPORT].out = 0;
	text = print_end(&st, "written", 0);
	assert_memory_equal(text, "2 requests seen, 0 spans written, 2 dropped.\nParents:", 52);
	assert_null(strstr(text, "Cost"));
	free(text);

	st.rows[ST_BATCH].in = 3;
	text = print_end(&st, "sent", 100000000000ull);
	assert_non_null(strstr(text, "The books of batch do not balance: in 3, out 0, held 0, dropped 0.\n"));
	free(text);
}

/* ---- the socket --------------------------------------------------------------------------------------- */

static int renders;

static void render(void *ctx, struct dynbuf *out)
{
	struct stats st;

	renders++;
	fill(&st);
	assert_int_equal(report__json(out, &st), 0);
}

struct server {
	struct control *c;
	pthread_t thread;
	int stop;
};

static void *run_server(void *arg)
{
	struct server *s = arg;

	while (!__atomic_load_n(&s->stop, __ATOMIC_ACQUIRE)) {
		struct pollfd p = { .fd = control__fd(s->c), .events = POLLIN };

		if (poll(&p, 1, 20) > 0)
			control__serve(s->c, render, NULL);
	}
	return NULL;
}

static void start_server(struct server *s)
{
	*s = (struct server){ .c = control__new(path, 0640) };
	assert_non_null(s->c);
	pthread_create(&s->thread, NULL, run_server, s);
}

static void stop_server(struct server *s)
{
	__atomic_store_n(&s->stop, 1, __ATOMIC_RELEASE);
	pthread_join(s->thread, NULL);
	control__free(s->c);
}

static int ask(const char *format, char **ret_text)
{
	struct opts o = { .control = path, .format = (char *)format };
	size_t len;
	FILE *f = open_memstream(ret_text, &len);
	int code = QUIETLY(control__stats(&o, f));

	fclose(f);
	return code;
}

static void test_stats(void **state)
{
	struct server s;
	struct stat st;
	char *text;
	json_t *root;

	start_server(&s);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0640);
	assert_int_equal(ask("json", &text), 0);
	root = json_loads(text, 0, NULL);
	assert_non_null(root);
	json_decref(root);
	free(text);
	assert_int_equal(ask("tree", &text), 0);
	assert_non_null(strstr(text, "\nkernel   events           1,234,567       1,233,363          0        1,204\n"));
	assert_non_null(strstr(text, "ring full: 1,204 events"));
	assert_string_equal(said, "");
	free(text);
	stop_server(&s);
	assert_int_equal(access(path, F_OK), -1);
	control__free(NULL);
}

static void test_nobody(void **state)
{
	struct opts off = { .format = "tree" };
	char *text, want[256];
	int fd;

	assert_int_equal(ask("tree", &text), 1);
	snprintf(want, sizeof(want),
		 "wirespan: control socket %s: no wirespan runs here: start it, or name its socket with --control\n", path);
	assert_string_equal(said, want);
	free(text);
	fd = open(path, O_CREAT | O_WRONLY, 0600);
	close(fd);
	assert_int_equal(ask("tree", &text), 1);
	assert_string_equal(said, want);
	free(text);
	unlink(path);
	assert_int_equal(QUIETLY(control__stats(&off, stdout)), 2);
}

static int listen_at(const char *where)
{
	struct sockaddr_un a = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);

	strncpy(a.sun_path, where, sizeof(a.sun_path) - 1);
	assert_int_equal(bind(fd, (struct sockaddr *)&a, sizeof(a)), 0);
	assert_int_equal(listen(fd, 1), 0);
	return fd;
}

static void *answer_nonsense(void *arg)
{
	int fd = accept(*(int *)arg, NULL, NULL);

	assert_int_equal(write(fd, "HTTP/1.1 400\r\n", 14), 14);
	close(fd);
	return NULL;
}

static void test_somebody_else(void **state)
{
	int fd = listen_at(path);
	pthread_t t;
	char *text;

	pthread_create(&t, NULL, answer_nonsense, &fd);
	assert_int_equal(ask("json", &text), 1);
	assert_non_null(strstr(said, "the answer is not one of wirespan's"));
	assert_string_equal(text, "");
	free(text);
	pthread_join(t, NULL);
	/* And nothing of somebody else is replaced. */
	assert_null(QUIETLY(control__new(path, 0600)));
	assert_int_equal(errno, EADDRINUSE);
	close(fd);
	unlink(path);
}

static void test_second_instance(void **state)
{
	struct control *first = control__new(path, 0600);
	char want[32];

	assert_null(QUIETLY(control__new(path, 0600)));
	assert_int_equal(errno, EADDRINUSE);
	snprintf(want, sizeof(want), "(pid %d)", getpid());
	assert_non_null(strstr(said, want));
	assert_int_equal(access(path, F_OK), 0);
	control__free(first);
	assert_int_equal(access(path, F_OK), -1);
}

static void test_stale_socket(void **state)
{
	struct control *c;
	int fd = listen_at(path);

	close(fd); /* as kill -9 leaves it */
	c = QUIETLY(control__new(path, 0600));
	assert_non_null(c);
	assert_string_equal(said, "");
	/* Somebody has replaced ours: it stays. */
	unlink(path);
	fd = listen_at(path);
	control__free(c);
	assert_int_equal(access(path, F_OK), 0);
	close(fd);
	unlink(path);
}

static void test_no_socket_possible(void **state)
{
	char longer[200];
	int fd;

	assert_null(QUIETLY(control__new("/nonexistent/s", 0600)));
	assert_int_equal(errno, ENOENT);
	assert_non_null(strstr(said, "wirespan: control socket /nonexistent/s: No such file or directory: "));
	memset(longer, 'x', sizeof(longer) - 1);
	longer[sizeof(longer) - 1] = 0;
	assert_null(QUIETLY(control__new(longer, 0600)));
	assert_int_equal(errno, ENAMETOOLONG);
	fd = open(path, O_CREAT | O_WRONLY, 0600);
	close(fd);
	assert_null(QUIETLY(control__new(path, 0600)));
	assert_int_equal(errno, EADDRINUSE);
	assert_non_null(strstr(said, "there is something else of that name"));
	assert_int_equal(access(path, F_OK), 0);
	unlink(path);
	for (long n = 0; n < 2; n++) {
		mem__fail_after(n);
		assert_null(QUIETLY(control__new(path, 0600)));
		mem__fail_after(-1);
		assert_int_equal(errno, ENOMEM);
		assert_int_equal(access(path, F_OK), -1);
	}
}

/* Clients that say nothing, go away or never read do not hold the control thread up. */
static void test_rude_clients(void **state)
{
	struct control *c = control__new(path, 0600);
	struct sockaddr_un a = { .sun_family = AF_UNIX };
	int fds[10];

	strncpy(a.sun_path, path, sizeof(a.sun_path) - 1);
	renders = 0;
	for (int i = 0; i < 10; i++) {
		fds[i] = socket(AF_UNIX, SOCK_STREAM, 0);
		assert_int_equal(connect(fds[i], (struct sockaddr *)&a, sizeof(a)), 0);
		if (i % 2)
			close(fds[i]);
	}
	control__serve(c, render, NULL);
	assert_int_equal(renders, 1); /* one snapshot for all */
	for (int i = 0; i < 10; i += 2)
		close(fds[i]);
	control__serve(c, render, NULL); /* nobody */
	assert_int_equal(renders, 1);
	control__free(c);
}

/* Out of descriptors: the client is sent away, so that the socket is not readable for ever. */
static void test_out_of_descriptors(void **state)
{
	struct control *c = control__new(path, 0600);
	struct sockaddr_un a = { .sun_family = AF_UNIX };
	struct pollfd p = { .fd = control__fd(c), .events = POLLIN };
	int fd = socket(AF_UNIX, SOCK_STREAM, 0), probe, saved = dup(STDERR_FILENO), null = open("/dev/null", O_WRONLY);
	struct rlimit old, none;

	strncpy(a.sun_path, path, sizeof(a.sun_path) - 1);
	assert_int_equal(connect(fd, (struct sockaddr *)&a, sizeof(a)), 0);
	probe = dup(fd);
	close(probe);
	getrlimit(RLIMIT_NOFILE, &old);
	none = (struct rlimit){ .rlim_cur = (rlim_t)probe, .rlim_max = old.rlim_max };
	dup2(null, STDERR_FILENO);
	setrlimit(RLIMIT_NOFILE, &none);
	assert_int_equal(poll(&p, 1, 0), 1);
	control__serve(c, render, NULL);
	setrlimit(RLIMIT_NOFILE, &old);
	dup2(saved, STDERR_FILENO);
	assert_int_equal(poll(&p, 1, 0), 0);
	close(fd);
	close(saved);
	close(null);
	control__free(c);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_json_round_trip),
		cmocka_unit_test(test_parse_refuses),
		cmocka_unit_test(test_end),
		cmocka_unit_test(test_stats),
		cmocka_unit_test(test_nobody),
		cmocka_unit_test(test_somebody_else),
		cmocka_unit_test(test_second_instance),
		cmocka_unit_test(test_stale_socket),
		cmocka_unit_test(test_no_socket_possible),
		cmocka_unit_test(test_rude_clients),
		cmocka_unit_test(test_out_of_descriptors),
	};

	snprintf(path, sizeof(path), "/tmp/wirespan-test-control.%d", getpid());
	return cmocka_run_group_tests(tests, NULL, NULL);
}
