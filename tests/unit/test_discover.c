// SPDX-License-Identifier: Apache-2.0
/* Selection: what is traced, what the kernel is told, what the banner says. */
#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <cmocka.h>

#include "tests/unit/procfs.h"
#include "user/base/mem.h"
#include "user/enrich/service.h"
#include "user/loader/discover.h"

#define PY "/usr/bin/python3.11"
#define SELF 900

static const struct fake tree[] = {
	{ 1, 0, 0, 5, "systemd", "/usr/lib/systemd/systemd", "/", "/sbin/init", "", NULL, 0 },
	{ 2, 0, 0, 5, "kthreadd", NULL, "/", "", "", NULL, 0x00200000 },
	{ 100, 1, 0, 10, "gunicorn", PY, "/srv/shop", PY "|/usr/bin/gunicorn|shop.wsgi", "", NULL, 0 },
	{ 101, 100, 0, 11, "gunicorn", PY, "/srv/shop", PY "|/usr/bin/gunicorn|shop.wsgi", "", NULL, 0 },
	{ 102, 101, 0, 12, "curl", "/usr/bin/curl", "/", "curl|x", "", NULL, 0 },
	{ 200, 1, 0, 20, "nginx", "/usr/sbin/nginx", "/", "nginx: master", "", NULL, 0 },
	{ 300, 1, 0, 30, "nginx", "/opt/fake", "/", "nginx", "", NULL, 0 },
	{ SELF, 1, 0, 90, "wirespan", "/usr/bin/wirespan", "/", "wirespan", "", NULL, 0 },
	{ 901, SELF, 0, 91, "cmd", "/usr/bin/cmd", "/", "cmd", "", NULL, 0 },
};

static struct proc_lookup *lookup;
static struct discover *d;
static uint32_t flags[70000];
static int calls;

static void on_flags(void *ctx, uint32_t tgid, uint32_t f)
{
	calls++;
	flags[tgid] = f;
}

static void start(struct discover_opts o)
{
	o.procfs = procfs;
	o.self = SELF;
	o.lookup = lookup;
	o.set_flags = on_flags;
	memset(flags, 0xff, sizeof(flags));
	calls = 0;
	d = discover__new(&o, NULL);
	assert_non_null(d);
	assert_int_equal(discover__scan(d), 0);
}

static void tell(enum ws_proc_what what, uint32_t tgid, uint32_t ppid, const char *comm)
{
	struct ws_ev_proc ev = {
		.ev = { .type = WS_EV_PROC, .len = sizeof(ev) }, .tgid = tgid, .ppid = ppid, .what = (uint16_t)what
	};

	snprintf(ev.comm, sizeof(ev.comm), "%s", comm);
	assert_int_equal(discover__proc_event(d, &ev), 0);
}

/* An exec of which /proc knows nothing any more. */
static void tell_short_lived(uint32_t tgid, const char *exe, const char *name, const char *args)
{
	struct ws_ev_proc *ev = calloc(1, sizeof(*ev) + 512);
	size_t n[3] = {strlen(args), strlen(exe), strlen(name)};

	assert_non_null(ev);
	*ev = (struct ws_ev_proc){.tgid = tgid, .ppid = 1, .what = WS_PROC_EXEC, .start_ns = 77000000000};
	ev->args_len = (uint16_t)n[0];
	ev->exe_len = (uint16_t)n[1];
	ev->name_len = (uint16_t)n[2];
	memcpy(ev->args, args, n[0]);
	memcpy(ev->args + n[0], exe, n[1]);
	memcpy(ev->args + n[0] + n[1], name, n[2]);
	assert_int_equal(discover__proc_event(d, ev), 0);
	free(ev);
}

static bool traced(uint32_t tgid)
{
	bool yes = discover__selected(d, tgid);

	/* the kernel was told the same */
	assert_int_equal(yes, flags[tgid] != UINT32_MAX && (flags[tgid] & WS_PROC_TRACED) != 0);
	return yes;
}

static void test_all(void **state)
{
	start((struct discover_opts){ 0 });
	assert_false(discover__selective(d));
	assert_true(traced(1));
	assert_true(traced(100));
	assert_true(traced(901));
	assert_false(traced(SELF));
	assert_int_equal(flags[SELF], WS_PROC_EXCLUDED);
	assert_int_equal(flags[2], UINT32_MAX);	   /* kernel threads are nobody's business */
	assert_true(discover__selected(d, 12345)); /* unknown */
	assert_int_equal(flags[200], WS_PROC_TRACED | WS_PROC_LOOP);
	assert_int_equal(flags[300], WS_PROC_TRACED); /* a name is not enough */
	tell(WS_PROC_FORK, 400, 200, "nginx");
	assert_int_equal(flags[400], WS_PROC_TRACED | WS_PROC_LOOP);
	discover__free(d);
}

static void test_receiver(void **state)
{
	static const struct discover_opts named[] = {
		{ .pid = "100" }, { .exe = "*/python*" }, { .include = "shop" }, { .run_pid = 100 },
	};
	char name[SERVICE_NAME_MAX];

	start((struct discover_opts){ .exclude = "nothing" });
	assert_false(discover__receives(d, SELF, name, sizeof(name)));
	assert_true(discover__receives(d, 100, name, sizeof(name)));
	assert_string_equal(name, "shop");
	assert_false(discover__receives(d, 100, name, sizeof(name))); /* said once */
	assert_true(discover__is_receiver(d, 100));
	assert_true(traced(100)); /* seen on, so that what is left out is counted */
	tell(WS_PROC_FORK, 401, 100, "gunicorn");
	assert_true(discover__is_receiver(d, 401));
	tell(WS_PROC_EXEC, 401, 100, "sh");
	assert_false(discover__is_receiver(d, 401));
	assert_false(discover__is_receiver(d, 101));
	discover__free(d);
	for (size_t i = 0; i < sizeof(named) / sizeof(*named); i++) {
		start(named[i]);
		assert_true(traced(100));
		assert_false(discover__receives(d, 100, name, sizeof(name)));
		assert_false(discover__is_receiver(d, 100));
		discover__free(d);
	}
}

static void test_pid(void **state)
{
	start((struct discover_opts){ .pid = "100, 300" });
	assert_true(discover__selective(d));
	assert_true(traced(100));
	assert_true(traced(101)); /* below it */
	assert_true(traced(102));
	assert_true(traced(300));
	assert_false(traced(200));
	assert_int_equal(flags[200], WS_PROC_LOOP);
	assert_false(discover__selected(d, 12345));
	tell(WS_PROC_FORK, 500, 101, "gunicorn");
	assert_true(traced(500));
	tell(WS_PROC_EXEC, 500, 101, "sh");
	assert_true(traced(500));
	tell(WS_PROC_EXIT, 500, 101, "");
	assert_int_equal(flags[500], 0);
	assert_true(discover__selected(d, 500)); /* for spans that come late */
	tell(WS_PROC_FORK, 500, 1, "x");	 /* the number is used again */
	assert_false(traced(500));
	discover__free(d);
}

static void test_run(void **state)
{
	start((struct discover_opts){ .run_pid = 901 });
	assert_true(traced(901));
	assert_false(traced(SELF));
	assert_false(traced(100));
	tell(WS_PROC_FORK, 902, 901, "cmd");
	tell(WS_PROC_EXEC, 902, 901, "other");
	assert_true(traced(902));
	tell(WS_PROC_FORK, 903, SELF, "wirespan");
	assert_false(traced(903));
	discover__free(d);
}

static void test_exe(void **state)
{
	start((struct discover_opts){ .exe = "nginx,/usr/bin/python*" });
	assert_true(traced(200));
	assert_true(traced(100));
	assert_false(traced(300));
	tell(WS_PROC_FORK, 501, 100, "gunicorn");
	assert_true(traced(501));
	procfs__add(&(struct fake){ 501, 100, 0, 50, "curl", "/usr/bin/curl", "/", "curl", "", NULL, 0 });
	tell(WS_PROC_EXEC, 501, 100, "curl");
	assert_false(traced(501));
	discover__free(d);
	procfs__del(501);
}

static void test_globs(void **state)
{
	start((struct discover_opts){ .include = "shop,ngin?" });
	assert_true(traced(100));
	assert_true(traced(200));
	assert_false(traced(102));
	discover__free(d);
	start((struct discover_opts){ .exclude = "shop" });
	assert_false(traced(101));
	assert_int_equal(flags[101], WS_PROC_EXCLUDED);
	assert_true(traced(200));
	discover__free(d);
	start((struct discover_opts){ .pid = "100,200", .exclude = "nginx" });
	assert_true(traced(100));
	assert_false(traced(200));
	discover__free(d);
	start((struct discover_opts){ .pid = " , " }); /* given, but nothing */
	assert_false(traced(100));
	discover__free(d);
}

static void test_short_lived(void **state)
{
	static const struct {
		const char *glob, *exe, *name;
		bool selected;
	} t[] = {
		{"curl", "/usr/bin/curl", "curl", true},
		{"/usr/bin/*", "/usr/bin/curl", "curl", true},
		{"python3.11", "/usr/bin/python3", "python3.11", true},
		{"/usr/bin/python3.11", "/usr/bin/python3", "python3.11", true},
		{"python3", "/usr/bin/python3", "python3.11", false}, /* as if /proc had been read */
		{"curl", "./curl", "curl", true},
		{"/*", "bin/curl", "curl", false}, /* where that was is not known */
		{"curl", "", "", false},
		{"curl", "/usr/bin/curl", "", false},
	};

	for (size_t i = 0; i < sizeof(t) / sizeof(*t); i++) {
		start((struct discover_opts){.exe = t[i].glob});
		tell_short_lived(700, t[i].exe, t[i].name, "");
		assert_int_equal(traced(700), t[i].selected);
		discover__free(d);
		start((struct discover_opts){.exclude = t[i].glob});
		tell_short_lived(700, t[i].exe, t[i].name, "");
		assert_int_equal(traced(700), !t[i].selected);
		discover__free(d);
	}
	start((struct discover_opts){.include = "shop"}); /* a service by its arguments */
	tell_short_lived(700, "/usr/bin/shop", "shop", "shop");
	assert_true(traced(700));
	discover__free(d);
}

static void test_port(void **state)
{
	int before;

	start((struct discover_opts){ .port = "80,8000-8010" });
	assert_false(traced(100));
	assert_int_equal(discover__listen(d, 7, 100, 1, 8005), 0);
	assert_true(traced(100));
	assert_false(traced(101)); /* it had been forked before; what it accepts shows it */
	assert_int_equal(discover__listen(d, 7, 101, 1, 8005), 0);
	assert_true(traced(101));
	before = calls;
	assert_int_equal(discover__listen(d, 7, 101, 1, 8005), 0);
	assert_int_equal(calls, before); /* nothing new */
	assert_int_equal(discover__listen(d, 8, 300, 1, 9000), 0);
	assert_false(traced(300));
	before = calls;
	assert_int_equal(discover__listen(d, 9, 300, 1, 9001), 0);
	assert_int_equal(calls, before + 1); /* the kernel side has taken it for traced */
	assert_false(traced(300));
	tell(WS_PROC_FORK, 502, 100, "gunicorn");
	assert_true(traced(502));
	tell(WS_PROC_FORK, 503, 502, "gunicorn");
	tell(WS_PROC_EXEC, 503, 502, "curl");
	assert_false(traced(503));
	assert_int_equal(discover__listen(d, 8, 200, 1, 9000), 0);
	assert_false(traced(200));
	discover__unlisten(d, 7);
	assert_false(traced(100));
	assert_false(traced(502));
	discover__free(d);
}

/* A program that was given its listener: accept() shows it, with the socket's id or without. */
static void test_port_given(void **state)
{
	start((struct discover_opts){ .port = "8005" });
	assert_int_equal(discover__listen(d, 7, 100, 1, 8005), 0);
	tell(WS_PROC_EXEC, 100, 1, "gunicorn");
	assert_false(traced(100));
	assert_int_equal(discover__listen(d, 7, 100, 1, 8005), 0);
	assert_true(traced(100));
	assert_int_equal(discover__listen(d, 0, 101, 1, 8005), 0);
	assert_int_equal(discover__listen(d, 0, 101, 1, 8005), 0);
	assert_true(traced(101));
	discover__unlisten(d, 7);
	assert_false(traced(100));
	assert_true(traced(101)); /* which one it has is not known */
	tell(WS_PROC_EXEC, 101, 1, "gunicorn");
	assert_false(traced(101));
	discover__free(d);
}

/* The kernel side asks at each accept() of who is not selected: once is enough. */
static void test_port_not_included(void **state)
{
	start((struct discover_opts){ .port = "8005", .include = "nginx" });
	assert_int_equal(discover__listen(d, 7, 100, 1, 8005), 0);
	assert_false(traced(100));
	assert_int_equal(flags[100], WS_PROC_EXCLUDED);
	assert_int_equal(discover__listen(d, 8, 101, 1, 8006), 0);
	assert_int_equal(flags[101], 0);
	discover__unlisten(d, 7);
	assert_int_equal(flags[100], 0);
	discover__free(d);
}

static void test_ports(void **state)
{
	const uint64_t *ports;

	start((struct discover_opts){ .pid = "100" });
	assert_null(discover__ports(d));
	discover__free(d);
	start((struct discover_opts){ .port = "1,63-65,65535" });
	ports = discover__ports(d);
	assert_true(ports[0] == (1ull << 1 | 1ull << 63));
	assert_true(ports[1] == 3);
	assert_true(ports[1023] == 1ull << 63);
	discover__free(d);
}

/* A process may have more listening sockets than anybody shows: what --port asks for is not lost among them. */
static void test_many_sockets(void **state)
{
	start((struct discover_opts){ .port = "8000-9999" });
	for (uint16_t i = 0; i < 3000; i++)
		assert_int_equal(discover__listen(d, 1000 + i, 200, 1, 1000 + i), 0);
	assert_false(traced(200));
	for (uint16_t i = 0; i < 2000; i++)
		assert_int_equal(discover__listen(d, 10000 + i, 200, 1, 8000 + i), 0);
	assert_true(traced(200));
	tell(WS_PROC_FORK, 504, 200, "nginx");
	assert_true(traced(504));
	for (uint16_t i = 0; i < 1999; i++)
		discover__unlisten(d, 10000 + i);
	assert_true(traced(200)); /* the last one is known as well as the first */
	assert_true(traced(504));
	discover__unlisten(d, 10000 + 1999);
	assert_false(traced(200));
	assert_false(traced(504));
	discover__free(d);
}

/* Many processes share many sockets: memory has a limit, and what has ended makes room. */
static void test_socket_limit(void **state)
{
	start((struct discover_opts){ .port = "1-65535" });
	for (uint32_t i = 0; i < 4096; i++)
		assert_int_equal(discover__listen(d, 1 + i, 200, 1, 80), 0);
	for (uint32_t k = 0; k < 70; k++)
		tell(WS_PROC_FORK, 1000 + k, 200, "nginx");
	assert_true(traced(1000));
	assert_int_equal(discover__listen(d, 9999, 300, 1, 80), 0);
	assert_false(traced(300)); /* said, once */
	tell(WS_PROC_EXIT, 1000, 200, "");
	assert_int_equal(discover__listen(d, 9999, 300, 1, 80), 0);
	assert_true(traced(300));
	discover__free(d);
}

static void test_services(void **state)
{
	char buf[256];

	start((struct discover_opts){ 0 });
	assert_int_equal(discover__services(d, buf, sizeof(buf)), 0);
	assert_string_equal(buf, "");
	discover__listen(d, 1, 100, 1, 5000);
	discover__listen(d, 1, 101, 1, 5000);
	discover__listen(d, 2, 200, 1, 443);
	discover__listen(d, 3, 200, 1, 80);
	discover__listen(d, 4, 200, 2, 80); /* in another network namespace */
	discover__listen(d, 5, SELF, 1, 9999);
	assert_int_equal(discover__services(d, buf, sizeof(buf)), 2);
	assert_string_equal(buf, "nginx :80 :443, shop :5000");
	assert_int_equal(discover__services(d, buf, 16), 2);
	assert_string_equal(buf, "nginx :80 :443");
	for (uint16_t i = 0; i < 100; i++)
		discover__listen(d, 100 + i, 300, 1, 1000 + i);
	assert_int_equal(discover__services(d, buf, sizeof(buf)), 3);
	assert_non_null(strstr(buf, ":1000 :1001 :1002 :1003 :1004 :1005 :1006 :1007 …"));
	discover__free(d);
}

static void test_bad_lists(void **state)
{
	static const char *const ports[] = { "0", "65536", "80-70", "a", "80-", "-80", "1-2-3", "99999999999" };
	static const char *const pids[] = { "0", "-1", "x", "1;2", "2147483648" };
	const char *bad;

	for (size_t i = 0; i < sizeof(ports) / sizeof(*ports); i++) {
		struct discover_opts o = { .port = ports[i] };

		if (discover__new(&o, &bad) || errno != EINVAL || strcmp(bad, "--port") != 0)
			fail_msg("port %s was taken", ports[i]);
	}
	for (size_t i = 0; i < sizeof(pids) / sizeof(*pids); i++) {
		struct discover_opts o = { .pid = pids[i] };

		if (discover__new(&o, &bad) || errno != EINVAL || strcmp(bad, "--pid") != 0)
			fail_msg("pid %s was taken", pids[i]);
	}
	start((struct discover_opts){ 0 });
	discover__free(d);
}

static void test_memory(void **state)
{
	for (long k = 0; k < 150; k++) {
		struct discover_opts o = { .procfs = procfs,
					   .pid = "1,2",
					   .exe = "a",
					   .port = "80",
					   .include = "x",
					   .exclude = "y",
					   .lookup = lookup,
					   .self = SELF,
					   .set_flags = on_flags };
		struct ws_ev_proc ev = { .tgid = 700, .ppid = 100, .what = WS_PROC_FORK };
		int err;

		mem__fail_after(k);
		d = discover__new(&o, NULL);
		if (!d) {
			mem__fail_after(-1);
			assert_int_equal(errno, ENOMEM);
			continue;
		}
		err = discover__scan(d);
		assert_true(err == 0 || err == -ENOMEM);
		discover__listen(d, 1, 100, 1, 80);
		err = discover__proc_event(d, &ev);
		assert_true(err == 0 || err == -ENOMEM);
		mem__fail_after(-1);
		discover__selected(d, 700);
		discover__free(d);
	}
}

/* Many processes come and go while another thread asks. (Built with the thread sanitizer, this is the test for it.) */
static bool stop;

static void *asker(void *arg)
{
	uint32_t i = 0, yes = 0;

	while (!__atomic_load_n(&stop, __ATOMIC_RELAXED))
		yes += discover__selected(d, 10000 + i++ % 5000);
	return yes ? arg : NULL;
}

static void test_churn(void **state)
{
	pthread_t thread;

	start((struct discover_opts){ .pid = "100" });
	__atomic_store_n(&stop, false, __ATOMIC_RELAXED);
	assert_int_equal(pthread_create(&thread, NULL, asker, NULL), 0);
	for (uint32_t i = 0; i < 30000; i++) {
		uint32_t tgid = 10000 + i % 5000;

		tell(WS_PROC_FORK, tgid, i % 2 ? 100 : 1, "x");
		assert_int_equal(discover__selected(d, tgid), i % 2);
		tell(WS_PROC_EXIT, tgid, 1, "");
	}
	__atomic_store_n(&stop, true, __ATOMIC_RELAXED);
	pthread_join(thread, NULL);
	discover__free(d);
}

/* The machine that this runs on. */
static void test_real(void **state)
{
	struct discover_opts o = { .self = 1, .pid = "1" };
	char pid[16];

	snprintf(pid, sizeof(pid), "%d", (int)getpid());
	o.pid = pid;
	d = discover__new(&o, NULL);
	assert_non_null(d);
	assert_int_equal(discover__scan(d), 0);
	assert_true(discover__selected(d, (uint32_t)getpid()));
	assert_false(discover__selected(d, (uint32_t)getppid()));
	discover__free(d);
}

static int setup(void **state)
{
	struct proc_lookup_opts o = { .procfs = procfs };

	procfs__make();
	for (size_t i = 0; i < sizeof(tree) / sizeof(*tree); i++)
		procfs__add(&tree[i]);
	lookup = proc_lookup__new(&o);
	return lookup ? 0 : -1;
}

static int teardown(void **state)
{
	proc_lookup__free(lookup);
	procfs__remove();
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_all),	 cmocka_unit_test(test_pid),	   cmocka_unit_test(test_run),
		cmocka_unit_test(test_exe),	 cmocka_unit_test(test_globs),	   cmocka_unit_test(test_short_lived),
		cmocka_unit_test(test_port),
		cmocka_unit_test(test_port_given), cmocka_unit_test(test_port_not_included), cmocka_unit_test(test_ports),
		cmocka_unit_test(test_services), cmocka_unit_test(test_bad_lists), cmocka_unit_test(test_memory),
		cmocka_unit_test(test_churn),	 cmocka_unit_test(test_real),	   cmocka_unit_test(test_receiver),
		cmocka_unit_test(test_many_sockets), cmocka_unit_test(test_socket_limit),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
