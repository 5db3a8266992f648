// SPDX-License-Identifier: Apache-2.0
/* Names of services, container ids, resource attributes, instance ids: everything that needs no /proc. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <cmocka.h>

#include "user/base/mem.h"
#include "user/enrich/container.h"
#include "user/enrich/resattr.h"
#include "user/enrich/service.h"
#include "user/enrich/uuid.h"

#define PY "/usr/bin/python3.11"
#define NODE "/usr/bin/node"
#define JAVA "/usr/lib/jvm/java-17/bin/java"

/* args: arguments separated by '|'; name "-": none, the process takes its parent's. */
static const struct {
	const char *exe, *cwd, *args, *flask_app, *name;
	bool worker;
} cases[] = {
	/* Python scripts and modules */
	{ PY, "/srv/shop", "python|orders.py", NULL, "orders", false },
	{ PY, "/srv/shop", "python|app.py", NULL, "shop", false },
	{ PY, "/", "python3.11|-u|/srv/shop/src/main.py", NULL, "shop", false },
	{ PY, "/srv/shop", "python|-W|ignore|-X|dev|./bin/../server.py", NULL, "shop", false },
	{ PY, "/srv/shop", "python|-m|pkg.orders", NULL, "orders", false },
	{ PY, "/srv/shop", "python|-um|shop.main|--x", NULL, "shop", false },
	{ PY, "/srv/shop", "python|-mpayments", NULL, "payments", false },
	{ PY, "/srv/shop", "python|-m|main", NULL, "shop", false },
	{ PY, "/srv/shop", "python|/opt/lib/python3/site-packages/billing/__main__.py", NULL, "billing", false },
	{ PY, "/srv/shop", "python|manage.py|runserver", NULL, "shop", false },
	{ PY, "/srv/shop", "python", NULL, "-", true },
	{ PY, "/srv/shop", "python|-", NULL, "-", true },
	{ PY, "/srv/shop", "python|-c|print(1)", NULL, "-", false },
	{ PY, "/srv/shop", "python|-c|from multiprocessing.spawn import spawn_main|--multiprocessing-fork", NULL, "-",
	  true },
	{ PY, "/srv/shop", "python|-m|joblib.externals.loky.backend.popen_loky_posix|--x", NULL, "-", true },
	{ PY, "/app", "python|main.py", NULL, "app", false },
	{ PY, "/", "python|main.py", NULL, "main", false },
	/* application servers */
	{ PY, "/srv/shop", PY "|/usr/bin/uvicorn|app:app", NULL, "shop", false },
	{ PY, "/srv/shop", PY "|/usr/bin/uvicorn|orders:app|--port|80", NULL, "orders", false },
	{ PY, "/", PY "|/usr/bin/uvicorn|shop.main:create|--factory", NULL, "shop", false },
	{ PY, "/", PY "|/usr/bin/uvicorn|--factory|--host|0.0.0.0|shop.main:create", NULL, "shop", false },
	{ PY, "/", PY "|-m|uvicorn|--reload|--port|8000|shop.orders:app", NULL, "orders", false },
	{ PY, "/", PY "|/usr/bin/uvicorn|main:app|--app-dir|/srv/cart", NULL, "cart", false },
	{ PY, "/", PY "|/usr/bin/gunicorn|shop.wsgi", NULL, "shop", false },
	{ PY, "/", PY "|/usr/bin/gunicorn3|-w|4|-b|127.0.0.1:8000|shop.wsgi:application", NULL, "shop", false },
	{ PY, "/", PY "|/usr/bin/gunicorn|-w4|-k|uvicorn.workers.UvicornWorker|-D|pay:app", NULL, "pay", false },
	{ PY, "/srv/cart", PY "|/usr/bin/gunicorn|wsgi:app", NULL, "cart", false },
	{ PY, "/", PY "|/usr/bin/gunicorn|--chdir=/srv/cart|wsgi", NULL, "cart", false },
	{ PY, "/srv/cart", PY "|/usr/bin/gunicorn|-c|gunicorn.conf.py", NULL, "cart", false },
	{ PY, "/", PY "|/usr/bin/gunicorn|pay:create_app('prod')", NULL, "pay", false },
	{ PY, "/", "gunicorn: worker [shop.wsgi]", NULL, "shop", false },
	{ PY, "/srv/cart", "gunicorn: master [wsgi:app]", NULL, "cart", false },
	{ PY, "/srv/cart", "gunicorn: worker [gunicorn]", NULL, "cart", false },
	{ PY, "/", PY "|/usr/bin/hypercorn|shop.asgi:app", NULL, "shop", false },
	{ PY, "/", PY "|/usr/bin/daphne|-p|8001|chat.asgi:application", NULL, "chat", false },
	{ PY, "/", PY "|/usr/bin/waitress-serve|--port=80|--call|billing:create", NULL, "billing", false },
	{ PY, "/srv/cart", PY "|/usr/bin/flask|run", NULL, "cart", false },
	{ PY, "/srv/cart", PY "|/usr/bin/flask|run|--port|80", "stock.py", "stock", false },
	{ PY, "/srv/cart", PY "|/usr/bin/flask|--app|shop:create_app()|run", "stock", "shop", false },
	{ PY, "/srv/cart", PY "|-m|flask|-A|src/web/app.py|run", NULL, "cart", false },
	{ PY, "/srv", PY "|/usr/bin/celery|-A|proj.celery|worker", NULL, "proj", false },
	{ PY, "/srv", "[celeryd: celery@host:MainProcess] -active- (-A proj worker)", NULL, "proj", false },
	{ PY, "/srv", "[celeryd: celery@host:ForkPoolWorker-1]", NULL, "-", true },
	{ PY, "/srv/ui", PY "|/usr/bin/streamlit|run|dash.py", NULL, "dash", false },
	{ PY, "/srv/ui", "python3 reports.py", NULL, "reports", false },
	{ PY, "/srv/ui", "orders-worker", NULL, "orders-worker", true },
	{ "", "/srv/ui", "python3|reports.py", NULL, "reports", false },
	{ "/usr/bin/uwsgi-core", "/srv/ui", "uwsgi|--module|shop.wsgi", NULL, "shop", false },
	/* Node */
	{ NODE, "/srv/shop", "node|server.js", NULL, "shop", false },
	{ NODE, "/srv/shop", "node|-r|dotenv/config|--inspect|dist/index.js", NULL, "shop", false },
	{ NODE, "/srv/shop", "node|orders.mjs", NULL, "orders", false },
	{ NODE, "/srv/shop", "node|.", NULL, "shop", false },
	{ NODE, "/srv/shop", "npm start", NULL, "shop", false },
	{ NODE, "/srv/shop", "node|/srv/shop/node_modules/.bin/next|start", NULL, "shop", false },
	{ NODE, "/", "node|/usr/lib/node_modules/n8n/bin/n8n", NULL, "n8n", false },
	{ NODE, "/srv/shop", "node|-e|1", NULL, "-", true },
	{ NODE, "/srv/shop", "node /srv/pay/main.js", NULL, "pay", false },
	/* Java */
	{ JAVA, "/", "java|-Xmx1g|-jar|/srv/orders-service-0.0.1-SNAPSHOT.jar", NULL, "orders-service", false },
	{ JAVA, "/", "java|-jar|/srv/pay/app-1.2.jar", NULL, "pay", false },
	{ JAVA, "/srv/pay", "java|-jar|app.jar", NULL, "pay", false },
	{ JAVA, "/", "java|-cp|a.jar:b.jar|com.example.shop.Main", NULL, "shop", false },
	{ JAVA, "/", "java|-cp|x|com.example.OrderService|a", NULL, "OrderService", false },
	{ JAVA, "/", "java|-Dspring.application.name=cart|-jar|x.jar", NULL, "cart", false },
	{ JAVA, "/", "java|-cp|x|org.apache.catalina.startup.Bootstrap|start", NULL, "tomcat", false },
	/* the rest */
	{ "/usr/bin/ruby3.1", "/srv/shop", "puma 6.4 (tcp://0.0.0.0:3000) [store]", NULL, "store", false },
	{ "/usr/bin/ruby3.1", "/srv/shop", "ruby|bin/rails|server", NULL, "shop", false },
	{ "/usr/bin/ruby3.1", "/srv/shop", "ruby|-I|lib|mailer.rb", NULL, "mailer", false },
	{ "/usr/bin/php8.2", "/srv/shop", "php|artisan|serve", NULL, "shop", false },
	{ "/usr/bin/php8.2", "/srv/shop", "php|-S|0.0.0.0:80|-t|/srv/blog/public", NULL, "blog", false },
	{ "/usr/sbin/php-fpm8.2", "/", "php-fpm: pool www", NULL, "php-fpm8.2", false },
	{ "/usr/bin/dotnet", "/srv", "dotnet|/srv/Cart.Api.dll", NULL, "Cart.Api", false },
	{ "/usr/bin/dotnet", "/srv/cart", "dotnet|run|--project|src/Cart.csproj", NULL, "Cart", false },
	{ "/bin/bash", "/srv/cart", "bash|./job.sh", NULL, "job", false },
	{ "/bin/dash", "/srv/cart", "sh|-c|node server.js", NULL, "dash", false },
	{ "/usr/sbin/nginx", "/", "nginx: worker process", NULL, "nginx", false },
	{ "", "/", "nginx: worker process", NULL, "nginx", false },
	{ "", "/", "/usr/sbin/nginx|-g|daemon off;", NULL, "nginx", false },
	{ "/srv/orders/server", "/", "./server", NULL, "orders", false },
	{ "/tmp/go-build1/b001/exe/main", "/srv/ledger", "/tmp/go-build1/b001/exe/main", NULL, "ledger", false },
	{ "/bin/busybox", "/", "httpd|-f", NULL, "httpd", false },
	{ "/usr/lib/erlang/erts/bin/beam.smp", "/", "beam.smp|--|-sname|mq@host", NULL, "mq", false },
	{ "", "", "", NULL, "curl", false }, /* comm */
};

static void guess(size_t i, const char *comm, struct service_guess *g)
{
	char args[512];
	size_t n = strlen(cases[i].args);
	struct service_input in = { .exe = str__of(cases[i].exe),
				    .cwd = str__of(cases[i].cwd),
				    .comm = str__of(comm),
				    .args = { args, n },
				    .flask_app = str__of(cases[i].flask_app) };

	for (size_t k = 0; k < n; k++)
		args[k] = cases[i].args[k] == '|' ? '\0' : cases[i].args[k];
	service__guess(&in, g);
}

static void test_names(void **state)
{
	struct service_guess g;
	int bad = 0;

	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		const char *want = strcmp(cases[i].name, "-") == 0 ? "" : cases[i].name;

		guess(i, "curl", &g);
		if (strcmp(g.name, want) != 0 || g.worker != cases[i].worker) {
			print_error("%s in %s: %s: got \"%s\"%s, want \"%s\"\n", cases[i].exe, cases[i].cwd,
				    cases[i].args, g.name, g.worker ? " (worker)" : "", want);
			bad++;
		}
	}
	assert_int_equal(bad, 0);
}

/* Any cut and any byte of hostile arguments: no crash, a terminated name without control characters. */
static void test_names_hostile(void **state)
{
	static const char *const exes[] = { PY,
					    NODE,
					    JAVA,
					    "/usr/bin/ruby",
					    "/usr/bin/php",
					    "/usr/bin/dotnet",
					    "/bin/sh",
					    "/usr/bin/perl",
					    "/x/beam.smp",
					    "/x/uwsgi",
					    "/x/y",
					    "" };
	static const char alphabet[] = "-:[]()/.,=aA1 \0mcWXDjar@\x80\xff\n";
	uint32_t seed = 12345;

	for (int round = 0; round < 60000; round++) {
		size_t n = (size_t)(seed >> 8) % 40;
		char *args = n ? mem__alloc(n) : NULL; /* exact size: an overread is found */
		struct service_input in = { .exe = str__of(exes[round % 12]),
					    .cwd = str__of(round % 3 ? "/srv/../x" : ""),
					    .comm = STR("c"),
					    .args = { args, n } };
		struct service_guess g;

		for (size_t k = 0; k < n; k++) {
			seed = seed * 1664525u + 1013904223u;
			args[k] = alphabet[(seed >> 16) % (sizeof(alphabet) - 1)];
		}
		seed = seed * 1664525u + 1013904223u;
		service__guess(&in, &g);
		assert_non_null(memchr(g.name, '\0', sizeof(g.name)));
		for (const char *p = g.name; *p; p++)
			assert_true((unsigned char)*p >= 0x20);
		mem__free(args);
	}
}

#define ID "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
#define ID2 "fedcba9876543210fedcba9876543210fedcba9876543210fedcba9876543210"

static void test_container_ids(void **state)
{
	static const struct {
		const char *text, *id;
		bool mounts;
	} t[] = {
		{ "0::/\n", "", false },
		{ "", "", false },
		{ "0::/user.slice/user-1000.slice/session-1.scope\n", "", false },
		{ "0::/docker/" ID "\n", ID, false },
		{ "0::/system.slice/docker-" ID ".scope\n", ID, false },
		{ "12:cpu,cpuacct:/docker/" ID "\n1:name=systemd:/docker/" ID "\n0::/\n", ID, false },
		{ "11:memory:/kubepods/burstable/pod1234-56/" ID "\n", ID, false },
		{ "0::/kubepods.slice/kubepods-pod1.slice/cri-containerd-" ID ".scope\n", ID, false },
		{ "0::/system.slice/containerd.service/kubepods-pod1.slice:cri-containerd:" ID "\n", ID, false },
		{ "0::/kubepods.slice/x.slice/crio-" ID ".scope\n", ID, false },
		{ "0::/kubepods.slice/x.slice/crio-conmon-" ID ".scope\n", "", false },
		{ "0::/machine.slice/libpod-" ID ".scope/container\n", ID, false },
		{ "0::/../" ID "\n", ID, false },
		{ "0::/docker/" ID "/docker/" ID2 "\n", ID2, false }, /* docker in docker: the inner one */
		{ "0::/docker/" ID "/init.scope", ID, false },
		{ "0::/docker/0" ID "\n", "", false },
		{ "0::/ecs/9c8bd7f0d1ca44d2b7d1f5a4f3a3a3a3/9c8bd7f0d1ca44d2b7d1f5a4f3a3a3a3-1234567890\n",
		  "9c8bd7f0d1ca44d2b7d1f5a4f3a3a3a3-1234567890", false },
		{ "nonsense", "", false },
		{ "1:", "", false },
		{ "36 35 98:0 /var/lib/docker/containers/" ID "/hostname /etc/hostname rw - ext4 /dev/vda rw\n", ID,
		  true },
		{ "36 35 98:0 /containers/storage/overlay-containers/" ID
		  "/userdata/hosts /etc/hosts rw - tmpfs t rw\n",
		  ID, true },
		{ "36 35 0:30 /docker/" ID " /sys/fs/cgroup ro - cgroup2 cgroup rw\n", ID, true },
		/* the host, which sees the file systems of its containers */
		{ "36 35 0:30 / /var/lib/docker/containers/" ID "/mounts/shm rw - tmpfs shm rw\n", "", true },
		{ "36 35 0:30 /x /etc/hosts rw - tmpfs shm rw\n", "", true },
		{ "36 35", "", true },
	};

	for (size_t i = 0; i < sizeof(t) / sizeof(*t); i++) {
		struct str text = str__of(t[i].text), id;

		id = t[i].mounts ? container__id_of_mountinfo(text) : container__id_of_cgroup(text);
		if (!str__eq(id, str__of(t[i].id)))
			fail_msg("%s: got %.*s", t[i].text, (int)id.len, id.len ? id.p : "");
	}
}

static void test_resource_attributes(void **state)
{
	static const char *const bad[] = { "a",		 "a=b,c",	   "=b",	"a=%",
					   "a=%4",	 "a=%zz",	   "a=1,b=%ff", "a=%00",
					   "a=\xc0\xaf", "a=\xed\xa0\x80", "%ff=1" };
	struct resattr *r;
	struct arena mem;
	size_t n;

	arena__init(&mem, 0);
	assert_int_equal(resattr__parse(STR(" service.name = a%20b%2Cc ,x=,y=%C3%A9=,"), &mem, &r, &n), 0);
	assert_int_equal(n, 3);
	assert_string_equal(r[0].key, "service.name");
	assert_true(str__eq(r[0].value, STR("a b,c")));
	assert_true(str__eq(r[1].value, STR("")));
	assert_true(str__eq(r[2].value, STR("\xc3\xa9=")));
	for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
		n = 7;
		if (resattr__parse(str__of(bad[i]), &mem, &r, &n) != -EINVAL || n != 0)
			fail_msg("%s was taken", bad[i]);
	}
	assert_int_equal(resattr__parse(STR_NULL, &mem, &r, &n), 0);
	assert_int_equal(n, 0);
	arena__free(&mem);
	for (long k = 0; k < 6; k++) {
		mem__fail_after(k);
		resattr__parse(STR("a=b,c=d"), &mem, &r, &n);
		mem__fail_after(-1);
		arena__free(&mem);
	}
}

static void test_utf8(void **state)
{
	assert_true(resattr__text_valid(STR("a\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80")));
	assert_false(resattr__text_valid(STR("\xc3")));
	assert_false(resattr__text_valid(STR("\xe2\x82")));
	assert_false(resattr__text_valid(STR("\x80")));
	assert_false(resattr__text_valid(STR("\xf4\x90\x80\x80")));
	assert_false(resattr__text_valid(STR("\xe0\x80\x80")));
	assert_false(resattr__text_valid(STR("a\0b")));
}

/* The example of RFC 9562, appendix A.4. */
static void test_uuid(void **state)
{
	static const uint8_t dns[16] = { 0x6b, 0xa7, 0xb8, 0x10, 0x9d, 0xad, 0x11, 0xd1,
					 0x80, 0xb4, 0x00, 0xc0, 0x4f, 0xd4, 0x30, 0xc8 };
	char uuid[37];

	uuid__v5(dns, STR("www.example.com"), uuid);
	assert_string_equal(uuid, "2ed6657d-e927-568b-95e1-2665a8aea6a2");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_names),	      cmocka_unit_test(test_names_hostile),
		cmocka_unit_test(test_container_ids), cmocka_unit_test(test_resource_attributes),
		cmocka_unit_test(test_utf8),	      cmocka_unit_test(test_uuid),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
