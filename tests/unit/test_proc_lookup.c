// SPDX-License-Identifier: Apache-2.0
/* From a pid to a WS_EV_PROCINFO record: on made-up trees, and on real processes. */
#include <elf.h>
#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/wait.h>
#include <cmocka.h>

#include "tests/unit/procfs.h"
#include "user/base/mem.h"
#include "user/enrich/enrich.h"
#include "user/enrich/proc_read.h"
#include "user/enrich/procinfo.h"

#define PY "/usr/bin/python3.11"
#define ID "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

static const struct fake tree[] = {
	{ 1, 0, 0, 5, "systemd", "/usr/lib/systemd/systemd", "/", "/sbin/init", "", "0::/init.scope\n", 0 },
	{ 2, 0, 0, 5, "kthreadd", NULL, "/", "", "", NULL, 0x00200000 },
	/* gunicorn with titles that have overwritten the environment of the worker only */
	{ 100, 1, 0, 1000, "gunicorn", PY, "/srv/shop", "gunicorn: master [shop.wsgi]",
	  "A=b|OTEL_RESOURCE_ATTRIBUTES=service.version=1.2,deployment.environment.name=pre%20prod|X=y", NULL, 0 },
	{ 101, 100, 33, 1100, "gunicorn", PY, "/srv/shop", "gunicorn: worker [shop.wsgi]", "", NULL, 0 },
	/* uvicorn --workers: children of multiprocessing */
	{ 200, 1, 0, 2000, "uvicorn", PY, "/srv/cart", PY "|/usr/bin/uvicorn|app:app|--workers|2", "", NULL, 0 },
	{ 201, 200, 0, 2100, "python3", PY, "/srv/cart",
	  PY "|-c|from multiprocessing.spawn import x|--multiprocessing-fork", "", NULL, 0 },
	/* a supervisor is nobody's master */
	{ 300, 1, 0, 3000, "supervisord", PY, "/", PY "|/usr/bin/supervisord", "", NULL, 0 },
	{ 301, 300, 0, 3100, "python3", PY, "/srv/pay", "python3|-c|x", "", NULL, 0 },
	{ 302, 300, 0, 3200, "python3", PY, "/srv/pay", "python3|app.py", "", NULL, 0 },
	/* environment */
	{ 400, 1, 0, 4000, "java", "/usr/bin/java", "/", "java|-jar|x.jar",
	  "OTEL_SERVICE_NAME=ledger|OTEL_RESOURCE_ATTRIBUTES=service.name=no,service.namespace=fin,telemetry.sdk.name="
	  "lie",
	  "0::/docker/" ID "\n", 0 },
	{ 401, 1, 0, 4000, "node", "/usr/bin/node", "/srv/x", "node|y.js",
	  "OTEL_RESOURCE_ATTRIBUTES=service.name=from-attrs", NULL, 0 },
	{ 402, 1, 0, 4000, "node", "/usr/bin/node", "/srv/x", "node|y.js", "OTEL_RESOURCE_ATTRIBUTES=service.name=z,b",
	  NULL, 0 },
	{ 500, 1, 0, 5000, "nginx", "/usr/sbin/nginx (deleted)", "/", "nginx: master process nginx", "", NULL, 0 },
	{ 501, 500, 33, 5100, "nginx", "/usr/sbin/nginx", "/", "nginx: worker process", "", NULL, 0 },
	{ 600, 1, 0, 6000, "a) (b", PY, "/", "python3", "", NULL, 0 },
};

static struct proc_lookup *lookup;
#define FACTS(pid) proc_lookup__facts(lookup, (uint32_t)(pid), 0, STR_NULL, STR_NULL, &f)
static struct dynbuf record;

static int setup(void **state)
{
	struct proc_lookup_opts o = { .procfs = procfs,
				      .version = "0.1.0",
				      .resource_attributes = "team=red,service.name=all,host.name=given" };
	char etc[600];

	procfs__make();
	for (size_t i = 0; i < sizeof(tree) / sizeof(*tree); i++)
		procfs__add(&tree[i]);
	snprintf(etc, sizeof(etc), "%s/etc", procfs);
	o.etc = etc;
	lookup = proc_lookup__new(&o);
	dynbuf__init(&record, 1u << 20);
	return lookup ? 0 : -1;
}

static int teardown(void **state)
{
	proc_lookup__free(lookup);
	dynbuf__free(&record);
	procfs__remove();
	return 0;
}

/* Value of an attribute of the last record, as text; "" if it has none. */
static const char *value(const char *key)
{
	static char text[4][512];
	static int turn;
	char *ret = text[turn++ % 4];
	struct ws_ev_procinfo head;
	const uint8_t *data = record.data + sizeof(head);
	struct attr a;
	size_t at = 0;

	assert_true(record.len >= sizeof(head));
	memcpy(&head, record.data, sizeof(head));
	assert_int_equal(head.ev.type, WS_EV_PROCINFO);
	assert_int_equal(head.ev.len, record.len);
	assert_int_equal(head.size, record.len - sizeof(head));
	assert_int_equal(procinfo__check(data, head.size), 0);
	ret[0] = '\0';
	while (procinfo__next(data, head.size, &at, &a)) {
		if (strcmp(a.key, key) != 0)
			continue;
		if (a.type == ATTR_STR)
			snprintf(ret, 512, "%.*s", (int)a.s.len, a.s.p);
		else
			snprintf(ret, 512, "%lld", (long long)a.i);
	}
	return ret;
}

static int describe(uint32_t pid, uint64_t start_ns, struct str comm, struct str args)
{
	dynbuf__reset(&record);
	return proc_lookup__describe(lookup, pid, start_ns, comm, args, &record);
}

static void test_attributes(void **state)
{
	assert_int_equal(describe(400, 0, STR_NULL, STR_NULL), 0);
	assert_string_equal(value("service.name"), "ledger");
	assert_string_equal(value("service.namespace"), "fin");
	assert_string_equal(value("container.id"), ID);
	assert_string_equal(value("process.pid"), "400");
	assert_string_equal(value("process.parent_pid"), "1");
	assert_string_equal(value("process.executable.name"), "java");
	assert_string_equal(value("process.executable.path"), "/usr/bin/java");
	assert_string_equal(value("process.owner"), "0"); /* in a container the host's names do not count */
	assert_string_equal(value("process.creation.time"), "2023-11-14T22:14:00Z");
	assert_string_equal(value("process.command_args"), "");
	assert_string_equal(value("telemetry.sdk.name"), "wirespan");
	assert_string_equal(value("telemetry.sdk.language"), "java");
	assert_string_equal(value("telemetry.sdk.version"), "0.1.0");
	assert_string_equal(value("telemetry.distro.name"), "wirespan");
	assert_string_equal(value("host.id"), "0123456789abcdef0123456789abcdef");
	assert_string_equal(value("host.name"), "given");
	assert_string_equal(value("os.type"), "linux");
	assert_string_equal(value("team"), "red");
	assert_int_equal(strlen(value("service.instance.id")), 36);
}

static void test_names(void **state)
{
	static const struct {
		uint32_t pid;
		const char *name, *owner;
	} t[] = {
		{ 100, "shop", "root" },
		{ 101, "shop", "web" },
		{ 200, "cart", "root" },
		{ 201, "cart", "root" },
		{ 302, "pay", "root" },
		{ 301, "unknown_service:python3.11", "root" },
		{ 401, "from-attrs", "root" },
		{ 402, "y", "root" },
		{ 500, "nginx", "root" },
		{ 501, "nginx", "web" },
		{ 600, "unknown_service:python3.11", "root" },
	};
	struct proc_facts f;

	for (size_t i = 0; i < sizeof(t) / sizeof(*t); i++) {
		assert_int_equal(describe(t[i].pid, 0, STR_NULL, STR_NULL), 0);
		assert_string_equal(value("service.name"), t[i].name);
		assert_string_equal(value("process.owner"), t[i].owner);
		assert_int_equal(FACTS(t[i].pid), 0);
		assert_string_equal(f.service, t[i].name);
	}
	assert_int_equal(FACTS(500), 0);
	assert_string_equal(f.exe, "/usr/sbin/nginx");
	assert_int_equal(f.start_ns, 5000ull * 10000000);
	assert_int_equal(FACTS(2), -ESRCH); /* a kernel thread */
	assert_int_equal(FACTS(999), -ESRCH);
	/* It has ended, or another has its number: what its exec event told. */
	assert_int_equal(proc_lookup__facts(lookup, 999, 0, STR("curl"), STR("curl\0http://x/"), &f), 0);
	assert_string_equal(f.service, "curl");
	assert_int_equal(proc_lookup__facts(lookup, 500, 1, STR("curl"), STR("curl\0http://x/"), &f), 0);
	assert_string_equal(f.service, "curl");
}

/* What a worker has overwritten is still with its master; both are one instance, others are not. */
static void test_master(void **state)
{
	char master[64], other[64];

	assert_int_equal(describe(100, 0, STR_NULL, STR_NULL), 0);
	snprintf(master, sizeof(master), "%s", value("service.instance.id"));
	assert_int_equal(describe(101, 0, STR_NULL, STR_NULL), 0);
	assert_string_equal(value("service.version"), "1.2");
	assert_string_equal(value("deployment.environment.name"), "pre prod");
	assert_string_equal(value("service.instance.id"), master);
	assert_int_equal(describe(200, 0, STR_NULL, STR_NULL), 0);
	snprintf(other, sizeof(other), "%s", value("service.instance.id"));
	assert_string_not_equal(other, master);
	assert_int_equal(describe(201, 0, STR_NULL, STR_NULL), 0);
	assert_string_equal(value("service.instance.id"), other);
}

/* Gone, never there, or the number is another's: only what the exec event told counts. */
static void test_gone(void **state)
{
	struct str args = STR("python3\0/srv/mail/app.py\0");

	assert_int_equal(describe(999, 77, STR_NULL, STR_NULL), -ESRCH);
	assert_int_equal(describe(2, 0, STR_NULL, STR_NULL), -ESRCH);
	assert_int_equal(record.len, 0);
	assert_int_equal(describe(999, 77, STR("python3"), args), 0);
	assert_string_equal(value("service.name"), "mail");
	assert_string_equal(value("process.executable.path"), "");
	assert_int_equal(describe(400, 1000, STR("python3"), args), 0); /* pid 400 started at another time */
	assert_string_equal(value("service.name"), "mail");
	assert_string_equal(value("container.id"), "");
	assert_int_equal(describe(400, 4000ull * 10000000 + 4321, STR("python3"), args), 0); /* within the tick */
	assert_string_equal(value("service.name"), "ledger");
}

static void test_memory(void **state)
{
	for (long k = 0; k < 200; k++) {
		int err;

		dynbuf__free(&record);
		mem__fail_after(k);
		err = describe(101, 0, STR("x"), STR("y"));
		mem__fail_after(-1);
		assert_true(err == 0 || err == -ENOMEM);
		if (err)
			assert_int_equal(record.len, 0);
		else
			value("service.name");
	}
	for (long k = 0;; k++) {
		struct proc_lookup_opts o = { .procfs = procfs, .etc = procfs, .resource_attributes = "a=b" };
		struct proc_lookup *l;

		mem__fail_after(k);
		l = proc_lookup__new(&o);
		mem__fail_after(-1);
		if (!l)
			assert_int_equal(errno, ENOMEM);
		proc_lookup__free(l);
		if (l && k > 20)
			break;
	}
}

static void test_bad_attributes(void **state)
{
	struct proc_lookup_opts o = { .resource_attributes = "a=%zz" };

	assert_null(proc_lookup__new(&o));
	assert_int_equal(errno, EINVAL);
}

/* A hostile record: every byte flipped, every length cut. Nothing but exact encodings is taken. */
static void test_decode_hostile(void **state)
{
	size_t head = sizeof(struct ws_ev_procinfo), size, taken = 0;
	struct attr a;

	assert_int_equal(describe(400, 0, STR_NULL, STR_NULL), 0);
	size = record.len - head;
	for (size_t n = 0; n < size; n++) {
		uint8_t *copy = mem__alloc(n); /* exact size: an overread is found */

		memcpy(copy, record.data + head, n);
		assert_int_equal(procinfo__check(copy, n), -EINVAL);
		mem__free(copy);
	}
	for (size_t i = 0; i < size; i++) {
		uint8_t *copy = mem__alloc(size);

		for (int bit = 0; bit < 8; bit++) {
			size_t at = 0;

			memcpy(copy, record.data + head, size);
			copy[i] ^= (uint8_t)(1u << bit);
			if (procinfo__check(copy, size))
				continue;
			while (procinfo__next(copy, size, &at, &a))
				taken += strlen(a.key);
		}
		mem__free(copy);
	}
	assert_true(taken > 0);
}

/* An ELF file with one note: Go's linker writes type 4, owner "Go". */
static void write_elf(const char *owner, uint32_t type)
{
	struct {
		Elf64_Ehdr eh;
		Elf64_Phdr ph;
		Elf64_Nhdr first;
		char first_name[4];
		Elf64_Nhdr nh;
		char name[4];
		char id[8];
	} f = { .eh = { .e_phoff = sizeof(Elf64_Ehdr), .e_phnum = 1, .e_phentsize = sizeof(Elf64_Phdr) },
		.ph = { .p_type = PT_NOTE,
			.p_offset = sizeof(Elf64_Ehdr) + sizeof(Elf64_Phdr),
			.p_filesz = 2 * 16 + 8 },
		.first = { .n_namesz = 4, .n_type = 1 },
		.first_name = "GNU",
		.nh = { .n_namesz = 4, .n_descsz = 8, .n_type = type } };

	memcpy(f.eh.e_ident, ELFMAG, SELFMAG);
	f.eh.e_ident[EI_CLASS] = ELFCLASS64;
	memcpy(f.name, owner, strlen(owner));
	procfs__write("program", (const char *)&f, sizeof(f));
}

static void test_go(void **state)
{
	struct fake go = { 700, 1, 0, 7000, "program", NULL, "/", "./program", "", NULL, 0 };
	char path[600];

	snprintf(path, sizeof(path), "%s/program", procfs);
	go.exe = path;
	write_elf("Go", 4);
	procfs__add(&go);
	assert_int_equal(describe(700, 0, STR_NULL, STR_NULL), 0);
	assert_string_equal(value("telemetry.sdk.language"), "go");
	assert_string_equal(value("process.runtime.name"), "go");
	write_elf("GNU", 4);
	assert_int_equal(describe(700, 0, STR_NULL, STR_NULL), 0);
	assert_string_equal(value("telemetry.sdk.language"), "native");
	procfs__write("program", "\177ELF", 4); /* cut short */
	assert_int_equal(describe(700, 0, STR_NULL, STR_NULL), 0);
	assert_string_equal(value("telemetry.sdk.language"), "native");
	procfs__del(700);
}

/* The real thing: this test, its fork, and a shell that ends while it is looked at. */
static void test_real(void **state)
{
	struct proc_lookup_opts o = { .version = "0.1.0" };
	struct proc_lookup *fake = lookup;
	struct proc_facts f;
	char name[64];
	int status;
	pid_t pid;

	lookup = proc_lookup__new(&o);
	assert_non_null(lookup);
	assert_int_equal(describe((uint32_t)getpid(), 0, STR_NULL, STR_NULL), 0);
	assert_string_equal(value("service.name"), "test_proc_lookup");
	assert_string_equal(value("telemetry.sdk.language"), "native");
	snprintf(name, sizeof(name), "%d", (int)getpid());
	assert_string_equal(value("process.pid"), name);

	pid = fork();
	if (pid == 0) {
		pause();
		_exit(0);
	}
	assert_int_equal(FACTS(pid), 0);
	assert_string_equal(f.service, "test_proc_lookup");
	assert_int_equal(f.ppid, getpid());
	kill(pid, SIGKILL);
	assert_int_equal(waitid(P_PID, (id_t)pid, &(siginfo_t){ 0 }, WEXITED | WNOWAIT), 0);
	/* a zombie still has a stat file, but neither arguments nor an executable */
	assert_int_equal(describe((uint32_t)pid, f.start_ns, STR("app"), STR("python3\0orders.py\0")), 0);
	assert_string_equal(value("process.executable.path"), "");
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(describe((uint32_t)pid, f.start_ns, STR("app"), STR("python3\0orders.py\0")), 0);
	assert_string_equal(value("service.name"), "orders");
	proc_lookup__free(lookup);
	lookup = fake;
}

static void *stay(void *unused)
{
	pause();
	return unused;
}

/* Its first thread has ended, another goes on: /proc/PID is a zombie's, the process is none. */
static void test_first_thread_ended(void **state)
{
	struct proc_lookup *fake = lookup;
	struct proc_lookup_opts o = { 0 };
	char path[64], text[256] = "";
	struct proc_facts f;
	pid_t pid = fork();
	pthread_t t;
	int status;

	(void)state;
	if (pid == 0) {
		pthread_create(&t, NULL, stay, NULL);
		pthread_exit(NULL);
	}
	snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
	while (!strstr(text, ") Z ")) {
		FILE *in = fopen(path, "r");

		assert_non_null(in);
		assert_non_null(fgets(text, sizeof(text), in));
		fclose(in);
	}
	assert_int_not_equal(proc__reader("/proc", (uint32_t)pid), pid);
	assert_int_equal(proc__reader("/proc", (uint32_t)getpid()), getpid());
	lookup = proc_lookup__new(&o);
	assert_int_equal(FACTS(pid), 0);
	assert_string_equal(f.service, "test_proc_lookup");
	assert_int_equal(describe((uint32_t)pid, f.start_ns, STR_NULL, STR_NULL), 0);
	assert_non_null(strstr(value("process.executable.path"), "test_proc_lookup"));
	proc_lookup__free(lookup);
	lookup = fake;
	kill(pid, SIGKILL);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(proc__reader("/proc", (uint32_t)pid), pid);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_attributes),     cmocka_unit_test(test_names),
		cmocka_unit_test(test_master),	       cmocka_unit_test(test_gone),
		cmocka_unit_test(test_memory),	       cmocka_unit_test(test_bad_attributes),
		cmocka_unit_test(test_decode_hostile), cmocka_unit_test(test_go),
		cmocka_unit_test(test_real),	       cmocka_unit_test(test_first_thread_ended),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
