// SPDX-License-Identifier: Apache-2.0
#include "user/loader/uprobes.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "user/base/hash.h"
#include "user/base/log.h"
#include "user/base/mem.h"
#include "user/loader/uprobe_multi.h"

#define SITES_MAX 1024u /* two descriptors each, if each is a link */

/* Programs of bpf/python.bpf.c, deque.bpf.c, uvloop.bpf.c, golang.bpf.c, libuv.bpf.c, openssl.bpf.c and gotls.bpf.c, by what they hook. */
static const char *const programs[__HOOK_CNT] = {
	[HOOK_CONTEXT_COPY] = "rt_context_copied",
	[HOOK_CONTEXT_NEW] = "rt_context_made",
	[HOOK_FUTURE_RESULT] = "rt_future_result",
	[HOOK_QUEUE_PUT] = "rt_queue_put",
	[HOOK_QUEUE_GET] = "rt_queue_got",
	[HOOK_QUEUE_WAIT] = "rt_queue_wait",
	[HOOK_DEQUE_PUT] = "rt_deque_put",
	[HOOK_DEQUE_GET] = "rt_deque_got",
	[HOOK_GREENLET_END] = "rt_greenlet_end",
	[HOOK_GREENLET_PUT] = "rt_greenlet_put",
	[HOOK_GREENLET_GET] = "rt_greenlet_get",
	[HOOK_UV_READ] = "rt_uv_read",
	[HOOK_UV_READ_DONE] = "rt_uv_read_done",
	[HOOK_UV_WRITE] = "rt_uv_write",
	[HOOK_UV_FLUSH] = "rt_uv_flush",
	[HOOK_UV_FLUSHED] = "rt_uv_flushed",
	[HOOK_UV_MADE] = "rt_uv_made",
	[HOOK_UV_MADE_DONE] = "rt_uv_made_done",
	[HOOK_HAZARD] = "rt_hazard",
	[HOOK_GO_NEW] = "rt_go_new",
	[HOOK_GO_EXIT] = "rt_go_exit",
	[HOOK_GO_SERVE] = "rt_go_serve",
	[HOOK_GO_ROUND_TRIP] = "rt_go_round_trip",
	[HOOK_GO_WRITE] = "rt_go_write",
	[HOOK_TURN_BEGIN] = "rt_turn_begin",
	[HOOK_TURN_END] = "rt_turn_end",
	[HOOK_TURN_SUBMIT] = "rt_turn_submit",
	[HOOK_TURN_DONE] = "rt_turn_done",
	[HOOK_TURN_REF] = "rt_turn_ref",
	[HOOK_TURN_UNREF] = "rt_turn_unref",
	[HOOK_TURN_WRITE] = "rt_turn_write",
	[HOOK_TLS_HANDSHAKE] = "rt_tls_handshake",
	[HOOK_TLS_READ] = "rt_tls_read",
	[HOOK_TLS_WRITE] = "rt_tls_write",
	[HOOK_TLS_READ_EX] = "rt_tls_read_ex",
	[HOOK_TLS_WRITE_EX] = "rt_tls_write_ex",
	[HOOK_TLS_WRITE_EX2] = "rt_tls_write_ex2",
	[HOOK_TLS_SENDFILE] = "rt_tls_sendfile",
	[HOOK_TLS_RETURN] = "rt_tls_return",
	[HOOK_TLS_FREE] = "rt_tls_free",
	[HOOK_GOTLS_HANDSHAKE] = "rt_gotls_handshake",
	[HOOK_GOTLS_WRITE] = "rt_gotls_write",
	[HOOK_GOTLS_READ] = "rt_gotls_read",
};

/* One probe. By inode: it is in every process that runs that code, and the kernel's programs look who it is. */
struct planted {
	UT_hash_handle hh;
	struct {
		uint64_t dev, ino, offset, hook;
	} key;
	struct bpf_link *link; /* NULL: one of uprobes.links holds it, with others */
};

/* A process whose runtime's sites are planted. */
struct hooked {
	UT_hash_handle hh;
	uint32_t tgid;
	size_t n_sites;
};

struct uprobes {
	struct bpf_object *obj;
	bool multi, work, cookies;
	int *links; /* descriptors */
	size_t n_links;
	struct planted *sites;
	struct hooked *procs;
};

bool uprobe__is_runtime(const struct bpf_program *prog)
{
	return !strncmp(bpf_program__name(prog), "rt_", 3);
}

struct uprobes *uprobes__new(struct bpf_object *obj, bool multi, bool work, bool cookies)
{
	struct uprobes *u = mem__zalloc(sizeof(*u));

	if (!u)
		return NULL;
	u->obj = obj;
	u->multi = multi;
	u->work = work;
	u->cookies = cookies;
	return u;
}

static struct hooked *find(const struct uprobes *u, uint32_t tgid)
{
	struct hooked *p;

	HASH_FIND(hh, u->procs, &tgid, sizeof(tgid), p);
	return p;
}

ssize_t uprobes__count(const struct uprobes *u, uint32_t tgid)
{
	const struct hooked *p = find(u, tgid);

	return p ? (ssize_t)p->n_sites : -1;
}

void uprobes__forget(struct uprobes *u, uint32_t tgid)
{
	struct hooked *p = find(u, tgid);

	if (!p)
		return;
	HASH_DEL(u->procs, p);
	mem__free(p);
}

static int remember(struct uprobes *u, uint32_t tgid, size_t n_sites)
{
	struct hooked *p = find(u, tgid);

	if (!p) {
		p = mem__zalloc(sizeof(*p));
		if (!p)
			return -ENOMEM;
		p->tgid = tgid;
		HASH_ADD(hh, u->procs, tgid, sizeof(p->tgid), p);
		if (!p->hh.tbl) {
			mem__free(p);
			return -ENOMEM;
		}
	}
	p->n_sites = n_sites;
	return 0;
}

static struct bpf_program *program_of(const struct uprobes *u, const struct runtime_site *s)
{
	return bpf_object__find_program_by_name(u->obj, programs[s->hook]);
}

static struct bpf_link *attach(struct uprobes *u, const struct runtime_site *s)
{
	struct bpf_program *prog = program_of(u, s);
	LIBBPF_OPTS(bpf_uprobe_opts, opts, .retprobe = s->ret, .bpf_cookie = u->cookies ? s->cookie : 0);

	if (!prog) {
		errno = ENOENT;
		return NULL;
	}
	return bpf_program__attach_uprobe_opts(prog, -1, s->path, s->offset, &opts);
}

/* *ret: the site's entry in the table, made if there was none; NULL if its probe is planted. 0 or -errno. */
static int add_site(struct uprobes *u, const struct runtime_site *s, struct planted **ret)
{
	struct planted *p, probe = { .key = { .offset = s->offset, .hook = s->hook } };
	struct stat st;

	*ret = NULL;
	if (stat(s->path, &st))
		return -errno;
	probe.key.dev = st.st_dev;
	probe.key.ino = st.st_ino;
	HASH_FIND(hh, u->sites, &probe.key, sizeof(probe.key), p);
	if (p)
		return 0;
	if (HASH_COUNT(u->sites) >= SITES_MAX)
		return -E2BIG;
	p = mem__alloc(sizeof(*p));
	if (!p)
		return -ENOMEM;
	*p = probe;
	HASH_ADD(hh, u->sites, key, sizeof(p->key), p);
	if (!p->hh.tbl) {
		mem__free(p);
		return -ENOMEM;
	}
	*ret = p;
	return 0;
}

static void del_site(struct uprobes *u, struct planted *p)
{
	HASH_DEL(u->sites, p);
	bpf_link__destroy(p->link);
	mem__free(p);
}

static int plant_one(struct uprobes *u, const struct runtime_site *s)
{
	struct planted *p;
	int err = add_site(u, s, &p);

	if (err || !p)
		return err;
	p->link = attach(u, s);
	if (p->link)
		return 0;
	err = -errno;
	del_site(u, p);
	return err;
}

static int hold(struct uprobes *u, int fd)
{
	int *grown = mem__realloc(u->links, (u->n_links + 1) * sizeof(*grown));

	if (!grown) {
		close(fd);
		return -ENOMEM;
	}
	u->links = grown;
	u->links[u->n_links++] = fd;
	return 0;
}

static bool together(const struct runtime_site *a, const struct runtime_site *b)
{
	return a->hook == b->hook && a->ret == b->ret && !strcmp(a->path, b->path);
}

/* Those of the runtime's sites, from the first on, that one link can hold and that are not planted. */
static int plant_group(struct uprobes *u, const struct runtime_site *first, const struct runtime_site *end)
{
	struct bpf_program *prog = program_of(u, first);
	uint64_t offsets[UPROBE_MULTI_MAX];
	struct planted *added[UPROBE_MULTI_MAX];
	size_t n = 0;
	int err = prog ? 0 : -ENOENT;

	for (const struct runtime_site *s = first; s < end && n < UPROBE_MULTI_MAX && !err; s++) {
		if (!together(first, s))
			continue;
		err = add_site(u, s, &added[n]);
		if (!err && added[n])
			offsets[n++] = s->offset;
	}
	if (!err && n) {
		int fd = uprobe_multi__attach(bpf_program__fd(prog), first->path, offsets, n, first->ret, first->cookie);

		err = fd < 0 ? fd : hold(u, fd);
	}
	while (err && n)
		del_site(u, added[--n]);
	return err;
}

int uprobes__plant(struct uprobes *u, uint32_t tgid, const struct runtime *r)
{
	for (size_t i = 0; i < r->n_sites; i++) {
		const struct runtime_site *s = &r->sites[i];
		int err;

		if (s->hook == HOOK_QUEUE_WAIT && !u->work)
			continue;
		err = u->multi ? plant_group(u, s, r->sites + r->n_sites) : plant_one(u, s);
		if (err) {
			log_debug("pid %u: %s+0x%llx: %s", tgid, s->path, (unsigned long long)s->offset, strerror(-err));
			return err;
		}
	}
	return remember(u, tgid, r->n_sites);
}

/* ---- sets that come out again ------------------------------------------------------------------------ */

struct uprobe_set {
	int *fds; /* links of uprobe_multi.h */
	size_t n_fds;
	struct bpf_link *links[]; /* one a site, elsewhere */
};

void uprobe_set__free(struct uprobe_set *set)
{
	if (!set)
		return;
	for (size_t i = 0; i < set->n_fds; i++)
		if (set->fds)
			close(set->fds[i]);
		else
			bpf_link__destroy(set->links[i]);
	mem__free(set->fds);
	mem__free(set);
}

/* Of the first site's kind, from there on: as one link. */
static int set_add_multi(struct uprobes *u, struct uprobe_set *set, const struct runtime_site *first,
			 const struct runtime_site *end)
{
	struct bpf_program *prog = program_of(u, first);
	uint64_t offsets[UPROBE_MULTI_MAX];
	size_t n = 0;
	int fd;

	for (const struct runtime_site *s = first; s < end && n < UPROBE_MULTI_MAX; s++)
		if (together(first, s))
			offsets[n++] = s->offset;
	fd = prog ? uprobe_multi__attach(bpf_program__fd(prog), first->path, offsets, n, first->ret, first->cookie) : -ENOENT;
	if (fd < 0)
		return fd;
	set->fds[set->n_fds++] = fd;
	return 0;
}

static bool has_before(const struct runtime_site *sites, const struct runtime_site *s)
{
	for (const struct runtime_site *p = sites; p < s; p++)
		if (together(p, s))
			return true;
	return false;
}

struct uprobe_set *uprobes__attach(struct uprobes *u, const struct runtime_site *sites, size_t n)
{
	struct uprobe_set *set = mem__zalloc(sizeof(*set) + n * sizeof(set->links[0]));
	int err = 0;

	if (set && u->multi)
		set->fds = mem__zalloc(n * sizeof(*set->fds));
	if (!set || (u->multi && !set->fds)) {
		mem__free(set);
		errno = ENOMEM;
		return NULL;
	}
	for (size_t i = 0; i < n && !err; i++) {
		if (u->multi) {
			err = has_before(sites, &sites[i]) ? 0 : set_add_multi(u, set, &sites[i], sites + n);
			continue;
		}
		set->links[set->n_fds] = attach(u, &sites[i]);
		if (set->links[set->n_fds])
			set->n_fds++;
		else
			err = -errno;
	}
	if (!err)
		return set;
	uprobe_set__free(set);
	errno = -err;
	return NULL;
}

void uprobes__free(struct uprobes *u)
{
	struct planted *p, *next;
	struct hooked *h, *next_h;

	if (!u)
		return;
	while (u->n_links)
		close(u->links[--u->n_links]);
	mem__free(u->links);
	HASH_ITER(hh, u->sites, p, next)
		del_site(u, p);
	HASH_ITER(hh, u->procs, h, next_h) {
		HASH_DEL(u->procs, h);
		mem__free(h);
	}
	mem__free(u);
}
