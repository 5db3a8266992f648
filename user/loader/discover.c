// SPDX-License-Identifier: Apache-2.0
#include "user/loader/discover.h"

#include <dirent.h>
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/pidfd.h>
#include <unistd.h>

#include "user/base/glob.h"
#include "user/base/hash.h"
#include "user/base/log.h"
#include "user/enrich/proc_read.h"
#include "user/enrich/service.h"
#include "user/loader/listing.h"

#define SHOWN_MAX 64u	       /* listening sockets kept per process only to show them: --port asks for none of these */
#define SOCKS_MAX (256u << 10) /* of all processes together: 6 MiB, and as many descriptors */
#define DEAD_MAX 1024u	       /* ended processes that late spans may still ask for */

/*
 * Programs of which it was tested that a thread works on one connection's event at a time from wait to wait, so that
 * what it sends in between belongs to that event. By the executable's last component. Everything else is not in here
 * on purpose: reactors that read many sockets first and work afterwards look the same from outside.
 */
static const char *const loop_programs[] = {"nginx", NULL};

struct listener {
	uint64_t sock;
	uint32_t netns;
	uint16_t port;
};

struct entry {
	UT_hash_handle hh;
	uint32_t tgid;
	uint32_t flags; /* WS_PROC_*, as told last */
	bool told;
	bool named;    /* by --pid or as the command, or below one that is */
	bool excluded; /* it is wirespan */
	bool receiver; /* of telemetry */
	bool dead;
	bool know_service;
	char exe[256];
	char service[SERVICE_NAME_MAX];
	struct listener *socks; /* n_socks of them, n_wanted of which --port asks for */
	uint32_t n_socks, cap_socks, n_wanted;
	struct entry *next_dead;
};

struct discover {
	struct discover_opts o;
	char *procfs, *exe, *include, *exclude;
	uint32_t *pids;
	size_t n_pids;
	uint64_t ports[65536 / 64]; /* a bit each */
	bool selective, need_exe, need_service;
	pthread_mutex_t lock; /* guards entries; the control thread is the only one that changes them */
	struct entry *entries;
	struct entry *first_dead, *last_dead;
	uint32_t n_dead;
	uint32_t n_socks; /* of all entries */
	bool socks_full;  /* said */
};

/* ---- options ---------------------------------------------------------------------------------- */

static bool given(const char *s)
{
	return s && *s;
}

static bool parse_number(struct str s, unsigned long max, unsigned long *ret)
{
	unsigned long v = 0;

	if (!s.len || s.len > 10)
		return false;
	for (size_t i = 0; i < s.len; i++) {
		if (s.p[i] < '0' || s.p[i] > '9')
			return false;
		v = v * 10 + (unsigned long)(s.p[i] - '0');
	}
	*ret = v;
	return v > 0 && v <= max;
}

static int parse_pids(struct discover *d, const char *list)
{
	struct str item;
	unsigned long v;

	while (list__next(&list, ',', &item)) {
		uint32_t *pids;

		if (!parse_number(item, INT32_MAX, &v)) /* whether it runs is asked later */
			return -EINVAL;
		pids = mem__realloc(d->pids, (d->n_pids + 1) * sizeof(*pids));
		if (!pids)
			return -ENOMEM;
		d->pids = pids;
		d->pids[d->n_pids++] = (uint32_t)v;
	}
	return 0;
}

static int parse_ports(struct discover *d, const char *list)
{
	struct str item;

	while (list__next(&list, ',', &item)) {
		const char *dash = memchr(item.p, '-', item.len);
		struct str from = {item.p, dash ? (size_t)(dash - item.p) : item.len};
		unsigned long a, b;

		if (!parse_number(from, 65535, &a))
			return -EINVAL;
		b = a;
		if (dash && !parse_number((struct str){dash + 1, item.len - from.len - 1}, 65535, &b))
			return -EINVAL;
		if (b < a)
			return -EINVAL;
		for (; a <= b; a++)
			d->ports[a / 64] |= 1ull << a % 64;
	}
	return 0;
}

static int copy_string(char **ret, const char *s)
{
	if (!given(s))
		return 0;
	*ret = mem__strdup(s);
	return *ret ? 0 : -ENOMEM;
}

static int take_opts(struct discover *d, const struct discover_opts *o, const char **bad)
{
	int err;

	d->o = *o;
	err = copy_string(&d->procfs, given(o->procfs) ? o->procfs : "/proc");
	if (!err)
		err = copy_string(&d->exe, o->exe);
	if (!err)
		err = copy_string(&d->include, o->include);
	if (!err)
		err = copy_string(&d->exclude, o->exclude);
	if (err)
		return err;
	*bad = "--pid";
	err = parse_pids(d, o->pid);
	if (err)
		return err;
	*bad = "--port";
	err = parse_ports(d, o->port);
	if (err)
		return err;
	*bad = NULL;
	/* An option that is given but names nothing (" , ") selects nothing: no reason to trace all. */
	d->need_service = d->include || d->exclude;
	d->need_exe = d->exe || d->need_service;
	d->selective = d->exe || d->include || d->exclude || given(o->pid) || given(o->port) || o->run_pid;
	return 0;
}

struct discover *discover__new(const struct discover_opts *o, const char **ret_bad)
{
	struct discover *d = mem__zalloc(sizeof(*d));
	const char *bad = NULL;
	int err;

	if (!d)
		return NULL;
	pthread_mutex_init(&d->lock, NULL);
	err = take_opts(d, o, &bad);
	if (ret_bad)
		*ret_bad = bad;
	if (err) {
		discover__free(d);
		errno = -err;
		return NULL;
	}
	return d;
}

static void entry__free(struct entry *e)
{
	if (!e)
		return;
	mem__free(e->socks);
	mem__free(e);
}

void discover__free(struct discover *d)
{
	struct entry *e, *tmp;

	if (!d)
		return;
	HASH_ITER(hh, d->entries, e, tmp)
	{
		HASH_DEL(d->entries, e);
		entry__free(e);
	}
	pthread_mutex_destroy(&d->lock);
	mem__free(d->procfs);
	mem__free(d->exe);
	mem__free(d->include);
	mem__free(d->exclude);
	mem__free(d->pids);
	mem__free(d);
}

/* ---- the decision ----------------------------------------------------------------------------- */

static struct entry *find(struct discover *d, uint32_t tgid)
{
	struct entry *e;

	HASH_FIND(hh, d->entries, &tgid, sizeof(tgid), e);
	return e;
}

static bool match_exe(const char *globs, const struct entry *e)
{
	struct str exe = str__of(e->exe);

	return exe.len && (glob__match_list(globs, exe) || glob__match_list(globs, path__base(exe)));
}

static bool match_either(const char *globs, const struct entry *e)
{
	return match_exe(globs, e) || (e->service[0] && glob__match_list(globs, str__of(e->service)));
}

/* Is there an option that says which processes are to be traced, beside --include? */
static bool names_some(const struct discover *d)
{
	return d->exe || given(d->o.pid) || given(d->o.port) || d->o.run_pid;
}

static uint32_t decide(const struct discover *d, const struct entry *e)
{
	bool any = names_some(d);
	uint32_t flags = 0;

	if (e->dead)
		return 0;
	if (str__in(path__base(str__of(e->exe)), loop_programs))
		flags |= WS_PROC_LOOP;
	if (e->excluded || (d->exclude && match_either(d->exclude, e)))
		return flags | WS_PROC_EXCLUDED;
	if (any && !e->named && !e->n_wanted && !(d->exe && match_exe(d->exe, e)))
		return flags;
	if (d->include &&
	    !match_either(d->include, e)) /* of who has such a port the kernel would ask at every accept() */
		return e->n_wanted ? flags | WS_PROC_EXCLUDED : flags;
	return flags | WS_PROC_TRACED;
}

/* The lock is not held: the callback may do what it wants. */
static void tell(struct discover *d, struct entry *e)
{
	uint32_t flags = decide(d, e);
	bool changed = !e->told || flags != e->flags;

	if (!changed)
		return;
	pthread_mutex_lock(&d->lock);
	e->flags = flags;
	e->told = true;
	pthread_mutex_unlock(&d->lock);
	if (d->o.set_flags)
		d->o.set_flags(d->o.ctx, e->tgid, flags);
}

/* The kernel side takes who begins to listen for traced: it has to hear what holds, changed or not. */
static void tell_again(struct discover *d, struct entry *e)
{
	if (d->selective && !(e->flags & WS_PROC_TRACED)) {
		pthread_mutex_lock(&d->lock);
		e->told = false;
		pthread_mutex_unlock(&d->lock);
	}
	tell(d, e);
}

/* ---- listening sockets ------------------------------------------------------------------------ */

static bool port_wanted(const struct discover *d, uint16_t port)
{
	return d->ports[port / 64] >> port % 64 & 1;
}

static bool socks_full(struct discover *d)
{
	if (d->n_socks < SOCKS_MAX)
		return false;
	if (!d->socks_full)
		log_warn("more than %u listening sockets: --port does not see the others", SOCKS_MAX);
	d->socks_full = true;
	return true;
}

static int reserve_socks(struct entry *e, uint32_t n)
{
	uint32_t cap = e->cap_socks ? e->cap_socks : 1;
	struct listener *socks;

	if (n <= e->cap_socks)
		return 0;
	while (cap < n)
		cap *= 2;
	socks = mem__realloc(e->socks, cap * sizeof(*socks));
	if (!socks)
		return -ENOMEM;
	e->socks = socks;
	e->cap_socks = cap;
	return 0;
}

/* All that --port asks for: as long as one of them is open, the process is traced. */
static int add_sock(struct discover *d, struct entry *e, const struct listener *l)
{
	bool wanted = port_wanted(d, l->port);
	int err;

	if (!wanted && e->n_socks - e->n_wanted >= SHOWN_MAX)
		return 0;
	if (socks_full(d))
		return 0;
	err = reserve_socks(e, e->n_socks + 1);
	if (err)
		return err;
	e->socks[e->n_socks++] = *l;
	e->n_wanted += wanted;
	d->n_socks++;
	return 0;
}

static void del_sock(struct discover *d, struct entry *e, uint32_t i)
{
	e->n_wanted -= port_wanted(d, e->socks[i].port);
	e->socks[i] = e->socks[--e->n_socks];
	d->n_socks--;
}

static void del_socks(struct discover *d, struct entry *e)
{
	d->n_socks -= e->n_socks;
	mem__free(e->socks);
	e->socks = NULL;
	e->n_socks = e->cap_socks = e->n_wanted = 0;
}

static int copy_socks(struct discover *d, struct entry *e, const struct entry *from)
{
	int err = reserve_socks(e, from->n_socks);

	for (uint32_t i = 0; i < from->n_socks && !err; i++)
		err = add_sock(d, e, &from->socks[i]);
	return err;
}

/* ---- the table -------------------------------------------------------------------------------- */

static void unlink_dead(struct discover *d, struct entry *e)
{
	struct entry **at = &d->first_dead, *before = NULL;

	while (*at && *at != e) {
		before = *at;
		at = &(*at)->next_dead;
	}
	if (!*at)
		return;
	*at = e->next_dead;
	if (d->last_dead == e)
		d->last_dead = before;
	d->n_dead--;
}

static void forget(struct discover *d, struct entry *e)
{
	pthread_mutex_lock(&d->lock);
	HASH_DEL(d->entries, e);
	pthread_mutex_unlock(&d->lock);
	if (e->dead)
		unlink_dead(d, e);
	del_socks(d, e);
	entry__free(e);
}

/* A new process; the one that had the pid before is forgotten. */
static struct entry *add(struct discover *d, uint32_t tgid)
{
	struct entry *e = find(d, tgid);
	bool failed;

	if (e)
		forget(d, e);
	e = mem__zalloc(sizeof(*e));
	if (!e)
		return NULL;
	e->tgid = tgid;
	e->excluded = tgid == d->o.self;
	e->named = tgid == d->o.run_pid && tgid;
	for (size_t i = 0; i < d->n_pids; i++)
		e->named |= d->pids[i] == tgid;
	pthread_mutex_lock(&d->lock);
	HASH_ADD(hh, d->entries, tgid, sizeof(e->tgid), e);
	failed = !e->hh.tbl;
	pthread_mutex_unlock(&d->lock);
	if (failed) {
		entry__free(e);
		return NULL;
	}
	return e;
}

/* A process: what an event tells of it, for where it has ended before it could be looked at. */
struct told {
	const char *comm;
	uint64_t start_ns;
	struct str args, exe, name; /* see struct ws_ev_proc */
};

/* The path that was executed may be a link: its directory, and the name of what it leads to. */
static void take_exe(struct entry *e, const struct told *told)
{
	struct str exe = told->exe;
	size_t dir = exe.len && exe.p[0] == '/' ? exe.len - path__base(exe).len : 0;

	snprintf(e->exe, sizeof(e->exe), "%.*s%.*s", (int)dir, exe.p, (int)told->name.len, told->name.p);
}

static void read_exe(struct discover *d, struct entry *e, const struct told *told)
{
	if (!proc__readlink(d->procfs, proc__reader(d->procfs, e->tgid), "exe", e->exe, sizeof(e->exe)) &&
	    told->name.len)
		take_exe(e, told);
}

static void read_service(struct discover *d, struct entry *e, const struct told *told)
{
	struct proc_facts facts;

	if (e->know_service || !d->o.lookup ||
	    proc_lookup__facts(d->o.lookup, e->tgid, told->start_ns, str__of(told->comm), told->args, &facts))
		return;
	snprintf(e->service, sizeof(e->service), "%s", facts.service);
	e->know_service = true;
}

/* Without globs nothing of /proc is needed, except to be sure about a program whose name is on the loop list. */
static void read_program(struct discover *d, struct entry *e, const struct told *told)
{
	e->exe[0] = '\0';
	e->service[0] = '\0';
	e->know_service = false;
	if (d->need_exe || str__in(str__of(told->comm), loop_programs))
		read_exe(d, e, told);
	if (d->need_service)
		read_service(d, e, told);
}

/* ---- the scan --------------------------------------------------------------------------------- */

struct found {
	uint32_t tgid, ppid;
	bool kernel_thread;
	char comm[WS_COMM_LEN];
};

/* Only what the decision needs, of a line of /proc/PID/stat (see proc_read.c for the rest). */
static int read_found(struct discover *d, uint32_t tgid, struct proc_raw *raw, struct dynbuf *buf, struct found *ret)
{
	int err = proc_raw__read(raw, d->procfs, tgid, buf);

	if (err)
		return err;
	*ret = (struct found){.tgid = tgid, .ppid = raw->ppid, .kernel_thread = raw->kernel_thread};
	snprintf(ret->comm, sizeof(ret->comm), "%.15s", raw->comm);
	return 0;
}

static int scan_one(struct discover *d, const struct found *f)
{
	struct entry *e;

	if (f->kernel_thread)
		return 0;
	e = add(d, f->tgid);
	if (!e)
		return -ENOMEM;
	read_program(d, e, &(struct told){.comm = f->comm});
	return 0;
}

/* What is below a process of --pid or below the command is named, too: by as many rounds as the tree is deep. */
static void name_descendants(struct discover *d, const struct found *all, size_t n)
{
	bool more = true;

	while (more) {
		more = false;
		for (size_t i = 0; i < n; i++) {
			struct entry *e = find(d, all[i].tgid), *parent = find(d, all[i].ppid);

			if (e && parent && parent->named && !e->named && e->tgid != d->o.self)
				e->named = more = true;
		}
	}
}

int discover__scan(struct discover *d)
{
	struct proc_raw *raw = mem__alloc(sizeof(*raw));
	struct found *all = NULL;
	size_t n = 0;
	struct dynbuf buf;
	struct dirent *de;
	DIR *dir = NULL;
	int err = -ENOMEM;

	dynbuf__init(&buf, 1u << 20);
	if (!raw)
		goto out;
	dir = opendir(d->procfs);
	if (!dir) {
		err = -errno;
		goto out;
	}
	err = 0;
	while (!err && (de = readdir(dir)) != NULL) {
		struct found f, *grown;
		unsigned long pid;

		if (!parse_number(str__of(de->d_name), 4194304, &pid))
			continue;
		if (read_found(d, (uint32_t)pid, raw, &buf, &f))
			continue; /* it has ended meanwhile */
		grown = mem__realloc(all, (n + 1) * sizeof(*all));
		if (!grown) {
			err = -ENOMEM;
			break;
		}
		all = grown;
		all[n++] = f;
		err = scan_one(d, &f);
	}
	name_descendants(d, all, n);
	for (size_t i = 0; i < n; i++) {
		struct entry *e = find(d, all[i].tgid);

		if (e)
			tell(d, e);
	}
out:
	if (dir)
		closedir(dir);
	dynbuf__free(&buf);
	mem__free(all);
	mem__free(raw);
	return err;
}

/* ---- events ----------------------------------------------------------------------------------- */

static int on_fork(struct discover *d, const struct ws_ev_proc *ev)
{
	struct entry *parent, *e = add(d, ev->tgid);
	char comm[WS_COMM_LEN + 1] = "";
	int err;

	if (!e)
		return -ENOMEM;
	parent = find(d, ev->ppid);
	if (parent && parent != e) {
		memcpy(e->exe, parent->exe, sizeof(e->exe));
		memcpy(e->service, parent->service, sizeof(e->service));
		e->know_service = parent->know_service;
		e->named |= parent->named;
		e->receiver = parent->receiver;
		err = copy_socks(d, e, parent);
		tell(d, e);
		return err;
	}
	memcpy(comm, ev->comm, WS_COMM_LEN);
	read_program(d, e, &(struct told){.comm = comm});
	tell(d, e);
	return 0;
}

static int on_exec(struct discover *d, const struct ws_ev_proc *ev)
{
	const char *exe = ev->args + ev->args_len;
	char comm[WS_COMM_LEN + 1] = "";
	struct told told = {.comm = comm,
			    .start_ns = ev->start_ns,
			    .args = {ev->args, ev->args_len},
			    .exe = {exe, ev->exe_len},
			    .name = {exe + ev->exe_len, ev->name_len}};
	struct entry *e = find(d, ev->tgid);

	if (!e || e->dead)
		e = add(d, ev->tgid);
	if (!e)
		return -ENOMEM;
	memcpy(comm, ev->comm, WS_COMM_LEN);
	/* Listening sockets are close-on-exec nearly everywhere; where not, the new program shows it by accept(). */
	del_socks(d, e);
	read_program(d, e, &told);
	/* The kernel side took the new program for traced until it hears better: tell, whatever was told before. */
	pthread_mutex_lock(&d->lock);
	e->told = false;
	e->receiver = false;
	pthread_mutex_unlock(&d->lock);
	tell(d, e);
	return 0;
}

static void on_exit_event(struct discover *d, uint32_t tgid)
{
	struct entry *e = find(d, tgid);

	if (!e || e->dead)
		return;
	/* e->flags stays as it was: discover__selected() still answers for spans that come late. */
	pthread_mutex_lock(&d->lock);
	e->dead = true;
	pthread_mutex_unlock(&d->lock);
	if (d->o.set_flags && e->told)
		d->o.set_flags(d->o.ctx, tgid, 0);
	del_socks(d, e);
	if (d->last_dead)
		d->last_dead->next_dead = e;
	else
		d->first_dead = e;
	d->last_dead = e;
	if (++d->n_dead > DEAD_MAX)
		forget(d, d->first_dead);
}

int discover__proc_event(struct discover *d, const struct ws_ev_proc *ev)
{
	switch (ev->what) {
	case WS_PROC_FORK:
		return on_fork(d, ev);
	case WS_PROC_EXEC:
		return on_exec(d, ev);
	case WS_PROC_EXIT:
		on_exit_event(d, ev->tgid);
		return 0;
	default:
		return 0;
	}
}

int discover__listen(struct discover *d, uint64_t sock, uint32_t tgid, uint32_t netns, uint16_t port)
{
	struct listener l = {.sock = sock, .netns = netns, .port = port};
	struct entry *e = find(d, tgid);
	int err;

	if (!e || e->dead) {
		e = add(d, tgid); /* its fork was lost */
		if (!e)
			return -ENOMEM;
		read_program(d, e, &(struct told){.comm = ""});
	}
	for (uint32_t i = 0; i < e->n_socks; i++) {
		if (e->socks[i].port == port && e->socks[i].netns == netns && (!sock || e->socks[i].sock == sock)) {
			tell_again(d, e);
			return 0;
		}
	}
	err = add_sock(d, e, &l);
	tell_again(d, e);
	return err;
}

void discover__unlisten(struct discover *d, uint64_t sock)
{
	struct entry *e, *tmp;

	if (!sock)
		return;
	HASH_ITER(hh, d->entries, e, tmp)
	{
		for (uint32_t i = 0; i < e->n_socks; i++) {
			if (e->socks[i].sock != sock)
				continue;
			del_sock(d, e, i);
			tell(d, e);
			break;
		}
	}
}

bool discover__receives(struct discover *d, uint32_t tgid, char *name, size_t size)
{
	struct entry *e = find(d, tgid);

	if (!e)
		e = add(d, tgid);
	if (!e || e->dead || e->receiver || e->excluded || names_some(d) || d->include)
		return false;
	read_service(d, e, &(struct told){.comm = ""});
	snprintf(name, size, "%s", e->service[0] ? e->service : "unknown_service");
	pthread_mutex_lock(&d->lock);
	e->receiver = true;
	pthread_mutex_unlock(&d->lock);
	return true;
}

/* ---- answers ---------------------------------------------------------------------------------- */

const uint64_t *discover__ports(const struct discover *d)
{
	return given(d->o.port) ? d->ports : NULL;
}

bool discover__selective(const struct discover *d)
{
	return d->selective;
}

bool discover__selected(struct discover *d, uint32_t tgid)
{
	struct entry *e;
	bool yes;

	pthread_mutex_lock(&d->lock);
	e = find(d, tgid);
	yes = e && e->told ? (e->flags & WS_PROC_TRACED) != 0 : !d->selective;
	pthread_mutex_unlock(&d->lock);
	return yes;
}

bool discover__is_receiver(struct discover *d, uint32_t tgid)
{
	struct entry *e;
	bool yes;

	pthread_mutex_lock(&d->lock);
	e = find(d, tgid);
	yes = e && e->receiver;
	pthread_mutex_unlock(&d->lock);
	return yes;
}

/* Each service once per port. The names belong to the entries. */
static size_t collect(struct discover *d, struct listed *list, size_t max)
{
	struct entry *e, *tmp;
	size_t n = 0;

	HASH_ITER(hh, d->entries, e, tmp)
	{
		if (!e->n_socks || !(decide(d, e) & WS_PROC_TRACED))
			continue;
		read_service(d, e, &(struct told){.comm = ""});
		for (uint32_t i = 0; i < e->n_socks && n < max; i++) {
			size_t k = 0;

			while (k < n && (list[k].port != e->socks[i].port || strcmp(list[k].service, e->service) != 0))
				k++;
			if (k == n)
				list[n++] = (struct listed){e->socks[i].port, e->service};
		}
	}
	return n;
}

size_t discover__services(struct discover *d, char *buf, size_t size)
{
	struct listed list[256];

	return listing__print(list, collect(d, list, sizeof(list) / sizeof(*list)), buf, size);
}

/* ---- processes that are named ----------------------------------------------------------------------- */

static bool is_process(long pid)
{
	int fd = pidfd_open((pid_t)pid, 0), err = errno;

	if (fd >= 0)
		close(fd);
	/* EINVAL, ENOENT: a thread. Anything else says nothing about the process. */
	return fd >= 0 || (err != ESRCH && err != EINVAL && err != ENOENT);
}

int discover__check_pids(const char *list)
{
	const char *p;
	bool any = false;
	char *end;

	if (!list || !*list)
		return 0;
	for (p = list; *p && !any; p = *end ? end + 1 : end)
		any = is_process(strtol(p, &end, 10));
	if (!any) {
		log_error("--pid %s: no such process: ps -e lists those that run; --exe and --port also find what starts later",
			  list);
		return 2;
	}
	for (p = list; *p; p = *end ? end + 1 : end) {
		long pid = strtol(p, &end, 10);

		if (!is_process(pid))
			log_warn("--pid %ld: no such process; the others are traced", pid);
	}
	return 0;
}
