// SPDX-License-Identifier: Apache-2.0
#include "user/loader/uprobes.h"

#include <errno.h>
#include <string.h>

#include "user/base/hash.h"
#include "user/base/log.h"
#include "user/base/mem.h"

/* Programs of bpf/python.bpf.c and bpf/uvloop.bpf.c, by what they hook. */
static const char *const programs[__HOOK_CNT] = {
	[HOOK_CONTEXT_COPY] = "rt_context_copied",
	[HOOK_CONTEXT_NEW] = "rt_context_made",
	[HOOK_FUTURE_RESULT] = "rt_future_result",
	[HOOK_QUEUE_PUT] = "rt_queue_put",
	[HOOK_QUEUE_GET] = "rt_queue_got",
	[HOOK_UV_READ] = "rt_uv_read",
	[HOOK_UV_READ_DONE] = "rt_uv_read_done",
	[HOOK_UV_WRITE] = "rt_uv_write",
	[HOOK_UV_FLUSH] = "rt_uv_flush",
	[HOOK_UV_FLUSHED] = "rt_uv_flushed",
};

struct planted {
	UT_hash_handle hh;
	uint32_t tgid;
	size_t n;
	struct bpf_link **links;
};

struct uprobes {
	struct bpf_object *obj;
	struct planted *procs;
};

bool uprobe__is_runtime(const struct bpf_program *prog)
{
	return !strncmp(bpf_program__name(prog), "rt_", 3);
}

struct uprobes *uprobes__new(struct bpf_object *obj)
{
	struct uprobes *u = mem__zalloc(sizeof(*u));

	if (u)
		u->obj = obj;
	return u;
}

static struct planted *find(const struct uprobes *u, uint32_t tgid)
{
	struct planted *p;

	HASH_FIND(hh, u->procs, &tgid, sizeof(tgid), p);
	return p;
}

size_t uprobes__count(const struct uprobes *u, uint32_t tgid)
{
	const struct planted *p = find(u, tgid);

	return p ? p->n : 0;
}

static void pull(struct uprobes *u, struct planted *p)
{
	while (p->n)
		bpf_link__destroy(p->links[--p->n]);
	HASH_DEL(u->procs, p);
	mem__free(p->links);
	mem__free(p);
}

void uprobes__pull(struct uprobes *u, uint32_t tgid)
{
	struct planted *p = find(u, tgid);

	if (p)
		pull(u, p);
}

static int plant_one(struct uprobes *u, struct planted *p, const struct runtime_site *s)
{
	struct bpf_program *prog = bpf_object__find_program_by_name(u->obj, programs[s->hook]);
	struct bpf_uprobe_opts opts = { .sz = sizeof(opts), .retprobe = s->ret };
	struct bpf_link *link;

	if (!prog)
		return -ENOENT;
	link = bpf_program__attach_uprobe_opts(prog, (pid_t)p->tgid, s->path, s->offset, &opts);
	if (!link)
		return -errno;
	p->links[p->n++] = link;
	return 0;
}

static struct planted *find_or_add(struct uprobes *u, uint32_t tgid)
{
	struct planted *p = find(u, tgid);

	if (p)
		return p;
	p = mem__zalloc(sizeof(*p));
	if (!p)
		return NULL;
	p->tgid = tgid;
	HASH_ADD(hh, u->procs, tgid, sizeof(p->tgid), p);
	if (!p->hh.tbl) {
		mem__free(p);
		return NULL;
	}
	return p;
}

int uprobes__plant(struct uprobes *u, uint32_t tgid, const struct runtime *r)
{
	struct planted *p = find_or_add(u, tgid);
	struct bpf_link **more = p ? mem__realloc(p->links, r->n_sites * sizeof(*more)) : NULL;
	int err = more ? 0 : -ENOMEM;

	if (more)
		p->links = more;
	while (!err && p->n < r->n_sites) {
		const struct runtime_site *s = &r->sites[p->n];

		err = plant_one(u, p, s);
		if (err)
			log_debug("pid %u: %s+0x%llx: %s", tgid, s->path, (unsigned long long)s->offset, strerror(-err));
	}
	if (err && p)
		pull(u, p);
	return err;
}

void uprobes__free(struct uprobes *u)
{
	struct planted *p, *next;

	if (!u)
		return;
	HASH_ITER(hh, u->procs, p, next)
		pull(u, p);
	mem__free(u);
}
