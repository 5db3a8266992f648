// SPDX-License-Identifier: Apache-2.0
/*
 * From a pid to the attributes of its resource. Control thread only: everything here may sleep on /proc.
 *
 * Order of precedence, highest first: the traced process's own OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES, what the
 * operator gave to wirespan for every resource, what was found out. telemetry.* is always ours.
 */
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/utsname.h>
#include <time.h>
#include <unistd.h>

#include "user/base/clock.h"
#include "user/base/mem.h"
#include "user/enrich/container.h"
#include "user/enrich/enrich.h"
#include "user/enrich/proc_read.h"
#include "user/enrich/procinfo.h"
#include "user/enrich/resattr.h"
#include "user/enrich/service.h"
#include "user/enrich/uuid.h"

#define CGROUP_MAX (16u * 1024)
#define MOUNTINFO_MAX (256u * 1024)
#define PASSWD_MAX (256u * 1024)
#define MASTER_DEPTH 16

struct proc_lookup {
	char procfs[256], etc[256], version[64];
	char host[65], machine_id[64], arch[65];
	uint64_t boot_s; /* wall clock at boot; 0: unknown */
	struct dynbuf buf, env, master_env;
	struct arena given_mem;
	struct resattr *given; /* --resource-attributes */
	size_t n_given;

	/* One description at a time. */
	struct proc_raw raw, up;
	struct arena mem;
	struct attr attrs[PROCINFO_ATTRS_MAX];
	size_t n_attrs;
	int err; /* of the first add that failed */
};

/* ---- the host --------------------------------------------------------------------------------- */

/* host.arch, under the names of the semantic conventions. */
static const char *arch_name(const char *machine)
{
	static const struct {
		const char *machine, *name;
	} names[] = {
		{ "x86_64", "amd64" }, { "aarch64", "arm64" }, { "i686", "x86" },  { "i386", "x86" },
		{ "armv7l", "arm32" }, { "ppc64le", "ppc64" }, { "ia64", "ia64" }, { "s390x", "s390x" },
	};

	for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++) {
		if (strcmp(machine, names[i].machine) == 0)
			return names[i].name;
	}
	return machine;
}

/* First line of a file, in printable ASCII, or "". */
static void read_line(struct proc_lookup *l, const char *path, char *ret, size_t size)
{
	size_t n = 0;

	if (proc__read_file(path, 256, &l->buf))
		l->buf.len = 0;
	while (n < l->buf.len && n + 1 < size && l->buf.data[n] > 0x20 && l->buf.data[n] < 0x7f) {
		ret[n] = (char)l->buf.data[n];
		n++;
	}
	ret[n] = '\0';
}

static void read_host(struct proc_lookup *l)
{
	char path[300];
	struct utsname u;
	const char *at;

	if (uname(&u) == 0) {
		snprintf(l->host, sizeof(l->host), "%s", u.nodename);
		snprintf(l->arch, sizeof(l->arch), "%s", arch_name(u.machine));
	}
	snprintf(path, sizeof(path), "%s/machine-id", l->etc);
	read_line(l, path, l->machine_id, sizeof(l->machine_id));
	if (!l->machine_id[0] && strcmp(l->etc, "/etc") == 0)
		read_line(l, "/var/lib/dbus/machine-id", l->machine_id, sizeof(l->machine_id));

	/* btime is near the end of a file that grows with CPUs and interrupts. */
	snprintf(path, sizeof(path), "%s/stat", l->procfs);
	if (proc__read_file(path, 1u << 20, &l->buf) || dynbuf__append(&l->buf, "", 1))
		return;
	at = strstr((const char *)l->buf.data, "\nbtime ");
	if (at)
		l->boot_s = strtoull(at + 7, NULL, 10);
}

struct proc_lookup *proc_lookup__new(const struct proc_lookup_opts *o)
{
	struct proc_lookup *l = mem__zalloc(sizeof(*l));
	int err;

	if (!l)
		return NULL;
	dynbuf__init(&l->buf, 2u << 20);
	dynbuf__init(&l->env, PROC_ENVIRON_MAX + 1);
	dynbuf__init(&l->master_env, PROC_ENVIRON_MAX + 1);
	arena__init(&l->given_mem, 1u << 20);
	arena__init(&l->mem, 1u << 20);
	snprintf(l->procfs, sizeof(l->procfs), "%s", o->procfs ? o->procfs : "/proc");
	snprintf(l->etc, sizeof(l->etc), "%s", o->etc ? o->etc : "/etc");
	snprintf(l->version, sizeof(l->version), "%s", o->version ? o->version : "");
	err = resattr__parse(str__of(o->resource_attributes), &l->given_mem, &l->given, &l->n_given);
	if (err) {
		proc_lookup__free(l);
		errno = -err;
		return NULL;
	}
	read_host(l);
	return l;
}

void proc_lookup__free(struct proc_lookup *l)
{
	if (!l)
		return;
	dynbuf__free(&l->buf);
	dynbuf__free(&l->env);
	dynbuf__free(&l->master_env);
	arena__free(&l->given_mem);
	arena__free(&l->mem);
	mem__free(l);
}

/* ---- the name, and the master it comes from --------------------------------------------------- */

struct identity {
	struct service_guess guess;
	uint32_t master;
	uint64_t master_start;		   /* ticks */
	struct str env_service, env_attrs; /* of the process, else of its master */
};

static struct str args_of(const struct proc_raw *p)
{
	return (struct str){ p->args, p->args_len };
}

static void guess_of(const struct proc_raw *p, struct service_guess *ret)
{
	struct service_input in = { .exe = str__of(p->exe),
				    .cwd = str__of(p->cwd),
				    .comm = str__of(p->comm),
				    .args = args_of(p),
				    .flask_app = p->env_flask_app };

	service__guess(&in, ret);
}

/*
 * Walks up to the master: the topmost ancestor of the same kind of program with the same name. A process without a
 * name of its own (a rewritten title, what multiprocessing starts) takes its parent's.
 */
static void find_master(struct proc_lookup *l, struct identity *id)
{
	uint32_t ppid = l->raw.ppid;
	struct service_guess up;

	for (int depth = 0; depth < MASTER_DEPTH && ppid; depth++) {
		if (proc_raw__read(&l->up, l->procfs, ppid, &l->buf) || l->up.kernel_thread)
			break;
		if (memmem(l->up.args, l->up.args_len, "flask", 5))
			proc_raw__read_env(&l->up, l->procfs, &l->master_env);
		guess_of(&l->up, &up);
		if (up.supervisor || strcmp(up.family, id->guess.family) != 0)
			break;
		if (id->guess.worker && up.name[0]) {
			memcpy(id->guess.name, up.name, sizeof(up.name));
			id->guess.worker = up.worker;
		} else if (!id->guess.worker && strcmp(up.name, id->guess.name) != 0) {
			break;
		}
		id->master = l->up.tgid;
		id->master_start = l->up.start_ticks;
		ppid = l->up.ppid;
	}
}

static void identify(struct proc_lookup *l, struct identity *id)
{
	struct proc_raw *p = &l->raw;

	if (p->have_stat)
		proc_raw__read_env(p, l->procfs, &l->env);
	guess_of(p, &id->guess);
	id->master = p->tgid;
	id->master_start = p->start_ticks;
	id->env_service = p->env_service;
	id->env_attrs = p->env_attrs;
	if (p->have_stat)
		find_master(l, id);
	/* setproctitle writes over the environment, too: what it held is still with the master. */
	if (id->master != p->tgid && !id->env_service.len && !id->env_attrs.len &&
	    proc_raw__read(&l->up, l->procfs, id->master, &l->buf) == 0) {
		proc_raw__read_env(&l->up, l->procfs, &l->master_env);
		id->env_service = l->up.env_service;
		id->env_attrs = l->up.env_attrs;
	}
}

/* ---- attributes ------------------------------------------------------------------------------- */

static void set(struct proc_lookup *l, const char *key, struct attr a)
{
	size_t i = 0;

	a.key = key;
	while (i < l->n_attrs && strcmp(l->attrs[i].key, key) != 0)
		i++;
	if (i == l->n_attrs && l->n_attrs == PROCINFO_ATTRS_MAX)
		return; /* more than RESATTR_MAX twice and our own together: cannot be */
	if (a.type == ATTR_STR) {
		a.s = arena__dup(&l->mem, a.s);
		if (!a.s.p) {
			l->err = -ENOMEM;
			return;
		}
	}
	l->attrs[i] = a;
	l->n_attrs += i == l->n_attrs;
}

static void set_str(struct proc_lookup *l, const char *key, struct str v)
{
	if (v.len)
		set(l, key, attr__str(key, v));
}

static void set_int(struct proc_lookup *l, const char *key, int64_t v)
{
	set(l, key, attr__int(key, v));
}

static void set_host(struct proc_lookup *l)
{
	set_str(l, "host.name", str__of(l->host));
	set_str(l, "host.id", str__of(l->machine_id));
	set_str(l, "host.arch", str__of(l->arch));
	set_str(l, "os.type", STR("linux"));
}

/*
 * telemetry.sdk.language: strictly the language of the SDK, which no SDK is here; like other tracers of foreign
 * processes we say that of the traced program, and "native" for compiled code of unknown origin.
 */
static void set_telemetry(struct proc_lookup *l, const char *language)
{
	set_str(l, "telemetry.sdk.name", STR("wirespan"));
	set_str(l, "telemetry.sdk.language", str__of(language ? language : "native"));
	set_str(l, "telemetry.sdk.version", str__of(l->version));
	set_str(l, "telemetry.distro.name", STR("wirespan"));
	set_str(l, "telemetry.distro.version", str__of(l->version));
}

/* Name of a user of the host. In a container the same number may be somebody else: it stays a number there. */
static void set_owner(struct proc_lookup *l, uint32_t uid, bool contained)
{
	char path[300], number[16], *line, *save = NULL;

	snprintf(number, sizeof(number), "%u", uid);
	snprintf(path, sizeof(path), "%s/passwd", l->etc);
	if (!contained && proc__read_file(path, PASSWD_MAX, &l->buf) == 0 && dynbuf__append(&l->buf, "", 1) == 0) {
		line = strtok_r((char *)l->buf.data, "\n", &save);
		for (; line; line = strtok_r(NULL, "\n", &save)) {
			/* passwd(5): name:password:uid:… */
			char *colon = strchr(line, ':'), *field = colon ? strchr(colon + 1, ':') : NULL;

			if (field && strtoul(field + 1, NULL, 10) == uid && field[1] >= '0' && field[1] <= '9') {
				set_str(l, "process.owner", (struct str){ line, (size_t)(colon - line) });
				return;
			}
		}
	}
	set_str(l, "process.owner", str__of(number));
}

/* A Go binary has a note of type 4, owner "Go" (cmd/link: the build id). Bounded: 64 headers, 1 KiB of each note. */
static bool is_go(const char *path)
{
	uint8_t note[1024];
	Elf64_Ehdr eh;
	Elf64_Phdr ph;
	bool found = false;
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);

	if (fd < 0)
		return false;
	if (pread(fd, &eh, sizeof(eh), 0) != (ssize_t)sizeof(eh) || memcmp(eh.e_ident, ELFMAG, SELFMAG) != 0 ||
	    eh.e_ident[EI_CLASS] != ELFCLASS64 || eh.e_phentsize != sizeof(ph))
		goto out;
	for (unsigned int i = 0; i < eh.e_phnum && i < 64 && !found; i++) {
		off_t at = (off_t)(eh.e_phoff + i * sizeof(ph));
		ssize_t n;

		if (at < 0 || pread(fd, &ph, sizeof(ph), at) != (ssize_t)sizeof(ph))
			break;
		if (ph.p_type != PT_NOTE || (off_t)ph.p_offset < 0)
			continue;
		n = pread(fd, note, ph.p_filesz < sizeof(note) ? ph.p_filesz : sizeof(note), (off_t)ph.p_offset);
		for (ssize_t k = 0; n >= 16 && k <= n - 16 && !found;) {
			Elf64_Nhdr nh;
			uint64_t size;

			memcpy(&nh, note + k, sizeof(nh));
			found = nh.n_namesz == 4 && nh.n_type == 4 && memcmp(note + k + sizeof(nh), "Go\0\0", 4) == 0;
			size = sizeof(nh) + (((uint64_t)nh.n_namesz + 3) & ~3ull) +
			       (((uint64_t)nh.n_descsz + 3) & ~3ull);
			k += size < sizeof(note) ? (ssize_t)size : n;
		}
	}
out:
	close(fd);
	return found;
}

static void set_creation_time(struct proc_lookup *l, uint64_t ticks)
{
	time_t at = (time_t)(l->boot_s + ticks / (1000000000ull / PROC_TICK_NS));
	struct tm tm;
	char text[32];

	if (l->boot_s && ticks && gmtime_r(&at, &tm) && strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%SZ", &tm))
		set_str(l, "process.creation.time", str__of(text));
}

static void set_process(struct proc_lookup *l, const struct service_guess *guess, bool contained)
{
	const struct proc_raw *p = &l->raw;
	const char *language = guess->language, *runtime = guess->runtime;
	char path[300];

	if (!language && p->exe[0]) {
		snprintf(path, sizeof(path), "%s/%u/exe", l->procfs, p->reader);
		if (is_go(path))
			language = runtime = "go";
	}
	set_int(l, "process.pid", p->tgid);
	if (p->have_stat)
		set_int(l, "process.parent_pid", p->ppid);
	set_str(l, "process.executable.name", path__base(str__of(p->exe[0] ? p->exe : p->comm)));
	set_str(l, "process.executable.path", str__of(p->exe));
	if (p->have_uid)
		set_owner(l, p->uid, contained);
	set_creation_time(l, p->start_ticks);
	set_str(l, "process.runtime.name", str__of(runtime));
	set_telemetry(l, language);
}

/* Into ret (CONTAINER_ID_MAX + 1 bytes), "" if there is none. */
static void find_container(struct proc_lookup *l, char *ret)
{
	struct str id = STR_NULL;

	bool hidden = true;

	ret[0] = '\0';
	if (!l->raw.have_stat)
		return;
	if (!proc__read(l->procfs, l->raw.reader, "cgroup", CGROUP_MAX, &l->buf) && l->buf.len) {
		id = container__id_of_cgroup((struct str){ (const char *)l->buf.data, l->buf.len });
		hidden = memmem(l->buf.data, l->buf.len, ":/\n", 3) != NULL; /* it is what it sees as the root */
	}
	if (!id.len && hidden && !proc__read(l->procfs, l->raw.reader, "mountinfo", MOUNTINFO_MAX, &l->buf) && l->buf.len)
		id = container__id_of_mountinfo((struct str){ (const char *)l->buf.data, l->buf.len });
	if (id.len)
		snprintf(ret, CONTAINER_ID_MAX + 1, "%.*s", (int)id.len, id.p);
}

/*
 * service.instance.id: the same for a master and its workers, another after a restart. A container's id is as much; a
 * process outside has its master's pid and start time, the machine's id making them unique in the world.
 */
static void set_instance(struct proc_lookup *l, const struct identity *id, const char *container)
{
	/* The namespace that the semantic conventions name for it. */
	static const uint8_t space[16] = { 0x4d, 0x63, 0x00, 0x9a, 0x8d, 0x0f, 0x11, 0xee,
					   0xaa, 0xd7, 0x4c, 0x79, 0x6e, 0xd8, 0xe3, 0x20 };
	const char *machine = l->machine_id[0] ? l->machine_id : l->host;
	char name[256], uuid[37];

	if (container[0])
		snprintf(name, sizeof(name), "%s/%s", machine, container);
	else
		snprintf(name, sizeof(name), "%s/%u/%llu", machine, id->master, (unsigned long long)id->master_start);
	uuid__v5(space, str__of(name), uuid);
	set_str(l, "service.instance.id", str__of(uuid));
}

static void set_service_name(struct proc_lookup *l, const struct service_guess *guess)
{
	char name[SERVICE_NAME_MAX + 32];
	const char *exe = l->raw.exe[0] ? strrchr(l->raw.exe, '/') : NULL;

	if (guess->name[0])
		snprintf(name, sizeof(name), "%s", guess->name);
	else if ((exe && exe[1]) || l->raw.comm[0])
		snprintf(name, sizeof(name), "unknown_service:%.*s", SERVICE_NAME_MAX,
			 exe && exe[1] ? exe + 1 : l->raw.comm);
	else
		snprintf(name, sizeof(name), "unknown_service");
	set_str(l, "service.name", str__of(name));
}

static bool key_ok(const char *key)
{
	size_t n = strlen(key);

	for (size_t i = 0; i < n; i++) {
		if ((unsigned char)key[i] <= 0x20 || (unsigned char)key[i] >= 0x7f)
			return false;
	}
	/* What sent the data cannot be said by those who did not send it. */
	return n && n <= UINT8_MAX && strncmp(key, "telemetry.", 10) != 0;
}

static void set_given(struct proc_lookup *l)
{
	for (size_t i = 0; i < l->n_given; i++) {
		const char *key = l->given[i].key;

		/* One name for all services would make them one. */
		if (key_ok(key) && strcmp(key, "service.name") != 0 && strcmp(key, "service.instance.id") != 0)
			set_str(l, key, l->given[i].value);
	}
}

static void set_own(struct proc_lookup *l, const struct identity *id)
{
	struct resattr *own;
	size_t n;
	int err = resattr__parse(id->env_attrs, &l->mem, &own, &n);

	if (err == -ENOMEM)
		l->err = err;
	for (size_t i = 0; i < n; i++) {
		if (key_ok(own[i].key))
			set_str(l, own[i].key, own[i].value);
	}
	if (id->env_service.len && resattr__text_valid(id->env_service))
		set_str(l, "service.name", id->env_service);
}

/* ---- the interface ---------------------------------------------------------------------------- */

static void take_event(struct proc_lookup *l, uint32_t tgid, uint64_t start_ns)
{
	l->raw = (struct proc_raw){ .tgid = tgid, .reader = tgid, .start_ticks = start_ns / PROC_TICK_NS };
}

/* What /proc has no longer, or not yet: a zombie has no arguments left, a process in the middle of an exec none yet. */
static void fill_from_event(struct proc_lookup *l, struct str comm, struct str args)
{
	if (!l->raw.comm[0] && comm.len)
		snprintf(l->raw.comm, sizeof(l->raw.comm), "%.*s", (int)strnlen(comm.p, comm.len), comm.p);
	if (!l->raw.args_len && args.len) {
		l->raw.args_len = args.len < PROC_ARGS_MAX ? args.len : PROC_ARGS_MAX;
		memcpy(l->raw.args, args.p, l->raw.args_len);
	}
}

/* 0: l->raw is that process, or what the exec event told of it. */
static int read_process(struct proc_lookup *l, uint32_t tgid, uint64_t start_ns, struct str comm, struct str args)
{
	int err = proc_raw__read(&l->raw, l->procfs, tgid, &l->buf);

	if (!err && start_ns && l->raw.start_ticks != start_ns / PROC_TICK_NS)
		err = -ESRCH; /* another one has the number by now */
	if (!err && l->raw.kernel_thread)
		return -ESRCH;
	if (err == -ENOMEM || (err && !comm.len && !args.len))
		return err;
	if (err)
		take_event(l, tgid, start_ns);
	fill_from_event(l, comm, args);
	return 0;
}

static void find_attributes(struct proc_lookup *l)
{
	char container[CONTAINER_ID_MAX + 1];
	struct identity id = { 0 };

	arena__free(&l->mem);
	l->n_attrs = 0;
	l->err = 0;
	find_container(l, container);
	identify(l, &id);
	set_service_name(l, &id.guess);
	set_instance(l, &id, container);
	set_host(l);
	set_str(l, "container.id", str__of(container));
	set_process(l, &id.guess, container[0] != '\0');
	set_given(l);
	set_own(l, &id);
}

static int append_record(struct proc_lookup *l, uint64_t ts, uint64_t start_ns, struct dynbuf *out)
{
	struct ws_ev_procinfo head = { .ev = { .type = WS_EV_PROCINFO, .ts = ts },
				       .tgid = l->raw.tgid,
				       .start_ns = start_ns ? start_ns : l->raw.start_ticks * PROC_TICK_NS };
	size_t before = out->len;
	int err = dynbuf__append(out, &head, sizeof(head));

	if (!err)
		err = procinfo__encode(out, l->attrs, l->n_attrs);
	if (err) {
		out->len = before;
		return err;
	}
	head.size = (uint32_t)(out->len - before - sizeof(head));
	head.ev.len = (uint32_t)(out->len - before);
	memcpy(out->data + before, &head, sizeof(head));
	return 0;
}

int proc_lookup__describe(struct proc_lookup *l, uint32_t tgid, uint64_t start_ns, struct str comm, struct str args,
			  struct dynbuf *out)
{
	uint64_t ts = clock__mono_ns();
	int err = read_process(l, tgid, start_ns, comm, args);

	if (err)
		return err;
	find_attributes(l);
	/* The number may have gone to another process while we read: then nothing of /proc counts. */
	if (l->raw.have_stat && proc_raw__reused(&l->raw, l->procfs, &l->buf)) {
		take_event(l, tgid, start_ns);
		fill_from_event(l, comm, args);
		find_attributes(l);
	}
	err = l->err ? l->err : append_record(l, ts, start_ns, out);
	arena__free(&l->mem);
	return err;
}

int proc_lookup__facts(struct proc_lookup *l, uint32_t tgid, uint64_t start_ns, struct str comm, struct str args,
		       struct proc_facts *ret)
{
	struct identity id = { 0 };
	int err = read_process(l, tgid, start_ns, comm, args);

	if (err)
		return err;
	*ret = (struct proc_facts){ .ppid = l->raw.ppid, .start_ns = l->raw.start_ticks * PROC_TICK_NS };
	snprintf(ret->exe, sizeof(ret->exe), "%.*s", (int)sizeof(ret->exe) - 1, l->raw.exe);
	l->n_attrs = 0;
	l->err = 0;
	identify(l, &id);
	set_service_name(l, &id.guess);
	set_own(l, &id);
	for (size_t i = 0; i < l->n_attrs; i++) {
		if (strcmp(l->attrs[i].key, "service.name") == 0 && l->attrs[i].type == ATTR_STR)
			snprintf(ret->service, sizeof(ret->service), "%.*s", (int)l->attrs[i].s.len, l->attrs[i].s.p);
	}
	arena__free(&l->mem);
	return l->err;
}
