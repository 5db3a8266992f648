// SPDX-License-Identifier: Apache-2.0
#include "user/follow_tls.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>

#include "user/base/hash.h"
#include "user/base/log.h"
#include "user/base/mem.h"
#include "user/base/pidset.h"
#include "user/enrich/proc_read.h"
#include "user/loader/discover.h"
#include "user/loader/loader.h"
#include "user/loader/uprobes.h"
#include "user/tls/tls.h"

/* Taking probes out costs the kernel a grace period or more: not between two runs of a script. */
#define IDLE_NS 60000000000ull
#define LOOK_AGAIN_NS 1000000000ull
#define LIBRARIES_MAX 8 /* of one process */
#define FILES_MAX 4096u /* known ones; beyond, those that are none are forgotten, and looked into again */

/* A file that was looked into. */
struct probed {
	UT_hash_handle hh;
	struct {
		uint64_t ino;
		uint32_t major, minor;
	} key;
	struct uprobe_set *set; /* NULL: no library, or not planted now */
	bool looked_at, library;
	bool inside; /* a program that it is in: copied over in place, mostly, when there is a new one */
	const char *opaque; /* what cannot be read in it; NULL: not known */
	bool looked_through; /* at all of it: a process that has it as its executable moves TLS */
	bool switched; /* a process with greenlets has it mapped: see without_handshake() */
	uint32_t n_users;
	uint64_t idle_since;
};

struct user {
	UT_hash_handle hh;
	uint32_t tgid;
	uint32_t n;
	struct probed *files[LIBRARIES_MAX];
};

struct follow_tls {
	struct loader *loader;
	struct discover *discover;
	/* pipeline thread */
	struct pidset talking;
	struct pidset encrypted; /* looked at again in this second */
	uint64_t look_again; /* when that is over */
	/* control thread */
	struct probed *files;
	struct user *users;
	struct log_limit lim;
};

struct follow_tls *follow_tls__new(struct loader *l, struct discover *d)
{
	struct follow_tls *f = mem__zalloc(sizeof(*f));

	if (!f)
		return NULL;
	f->loader = l;
	f->discover = d;
	return f;
}

void follow_tls__free(struct follow_tls *f)
{
	struct probed *p, *next_p;
	struct user *u, *next_u;

	if (!f)
		return;
	HASH_ITER(hh, f->files, p, next_p) {
		HASH_DEL(f->files, p);
		uprobe_set__free(p->set);
		mem__free(p);
	}
	HASH_ITER(hh, f->users, u, next_u) {
		HASH_DEL(f->users, u);
		mem__free(u);
	}
	pidset__free(&f->talking);
	pidset__free(&f->encrypted);
	mem__free(f);
}

/* ---- pipeline thread -------------------------------------------------------------------------------- */

bool follow_tls__talks(struct follow_tls *f, uint32_t tgid)
{
	return pidset__add(&f->talking, tgid);
}

bool follow_tls__encrypted(struct follow_tls *f, uint32_t tgid, uint64_t now)
{
	if (now >= f->look_again) {
		pidset__free(&f->encrypted);
		f->look_again = now + LOOK_AGAIN_NS;
	}
	return pidset__add(&f->encrypted, tgid);
}

void follow_tls__forget(struct follow_tls *f, uint32_t tgid)
{
	pidset__del(&f->talking, tgid);
}

/* ---- control thread --------------------------------------------------------------------------------- */

static struct user *find_user(const struct follow_tls *f, uint32_t tgid)
{
	struct user *u;

	HASH_FIND(hh, f->users, &tgid, sizeof(tgid), u);
	return u;
}

static struct user *make_user(struct follow_tls *f, uint32_t tgid)
{
	struct user *u = find_user(f, tgid);

	if (u)
		return u;
	u = mem__zalloc(sizeof(*u));
	if (!u)
		return NULL;
	u->tgid = tgid;
	HASH_ADD(hh, f->users, tgid, sizeof(u->tgid), u);
	if (u->hh.tbl)
		return u;
	mem__free(u);
	return NULL;
}

static void forget_others(struct follow_tls *f)
{
	struct probed *p, *next;

	HASH_ITER(hh, f->files, p, next) {
		if (p->library || p->n_users)
			continue;
		HASH_DEL(f->files, p);
		mem__free(p);
	}
}

static struct probed *find_file(struct follow_tls *f, const struct mapped_file *m)
{
	struct probed key = {.key = {.ino = m->ino, .major = m->dev_major, .minor = m->dev_minor}}, *p;

	HASH_FIND(hh, f->files, &key.key, sizeof(key.key), p);
	if (p)
		return p;
	if (HASH_COUNT(f->files) >= FILES_MAX)
		forget_others(f);
	p = mem__alloc(sizeof(*p));
	if (!p)
		return NULL;
	*p = key;
	HASH_ADD(hh, f->files, key, sizeof(p->key), p);
	if (p->hh.tbl)
		return p;
	mem__free(p);
	return NULL;
}

/*
 * A handshake calls back into the program (to choose a certificate by name, say), which may switch greenlets there: where
 * a function is left in its middle the kernel must not have taken its return address (README, "What it does not do").
 * Reading and writing call nobody.
 */
static void without_handshake(struct tls_file *t)
{
	size_t n = 0;

	for (size_t i = 0; i < t->n_sites; i++) {
		if (t->sites[i].hook == HOOK_TLS_HANDSHAKE) {
			mem__free(t->sites[i].path);
			mem__free(t->sites[++i].path); /* its return */
			continue;
		}
		t->sites[n++] = t->sites[i];
	}
	t->n_sites = n;
}

static void plant(struct follow_tls *f, struct probed *p, const struct mapped_file *m, uint32_t tgid, const struct tls_file *t)
{
	p->set = loader__probe(f->loader, t->sites, t->n_sites);
	if (p->set)
		log_debug("pid %u: %s: %s is read inside", tgid, m->name, t->library);
	else
		log__limited(&f->lim, LOG_LVL_WARN, "pid %u: %s: probes: %s: what it encrypts is not seen", tgid, m->name,
			     strerror(errno));
}

static bool uses(const struct user *u, const struct probed *p)
{
	for (uint32_t i = 0; i < u->n; i++)
		if (u->files[i] == p)
			return true;
	return false;
}

/* False: no memory, nothing more can be done. */
static bool look_at(struct follow_tls *f, uint32_t tgid, const struct mapped_files *maps, const struct mapped_file *m,
		    enum tls_look how)
{
	struct probed *p = find_file(f, m);
	struct tls_file t = {0};
	struct user *u;

	if (!p)
		return false;
	if (p->looked_at && !p->library && (how != TLS_LINKED || p->looked_through))
		return true; /* known to be none */
	u = find_user(f, tgid);
	if (u && u->n == LIBRARIES_MAX)
		return true;
	if (!p->switched && mapped_files__find(maps, "/greenlet/_greenlet.")) {
		p->switched = true;
		uprobe_set__free(p->set);
		p->set = NULL;
	}
	if (!p->set) {
		if (tls_file__inspect(maps, m, (pid_t)tgid, how, &t))
			return false;
		p->looked_at = true;
		p->looked_through |= how == TLS_LINKED;
		p->opaque = t.opaque;
		p->library = t.library != NULL;
		p->inside = t.inside;
		if (p->switched)
			without_handshake(&t);
		if (p->library)
			plant(f, p, m, tgid, &t);
		tls_file__free(&t);
	}
	if (!p->set || (u && uses(u, p)))
		return true;
	u = make_user(f, tgid);
	if (!u)
		return false;
	u->files[u->n++] = p;
	p->n_users++;
	return true;
}

/* `ino`: of its executable. */
static void say_opaque(struct follow_tls *f, uint32_t tgid, const struct mapped_files *maps, uint64_t ino)
{
	const char *name = tls__opaque_name(maps);

	for (size_t i = 0; i < maps->n && !name; i++) {
		const struct probed *p = ino && maps->files[i].ino == ino ? find_file(f, &maps->files[i]) : NULL;

		name = p ? p->opaque : NULL;
	}
	if (name && !find_user(f, tgid))
		log__limited(&f->lim, LOG_LVL_INFO, "pid %u: TLS by %s is not read inside: its encrypted connections are only counted",
			     tgid, name);
}

void follow_tls__process(struct follow_tls *f, uint32_t tgid, bool encrypted)
{
	pid_t pid = (pid_t)proc__reader("/proc", tgid);
	struct mapped_files maps;
	char exe[64];
	struct stat st = {0};

	if (!discover__selected(f->discover, tgid) || mapped_files__read(&maps, pid))
		return;
	snprintf(exe, sizeof(exe), "/proc/%d/exe", (int)pid);
	if (stat(exe, &st))
		st.st_ino = 0;
	for (size_t i = 0; i < maps.n; i++) {
		bool own = st.st_ino && maps.files[i].ino == st.st_ino;
		enum tls_look how = !own ? TLS_LIBRARY : encrypted && !find_user(f, tgid) ? TLS_LINKED : TLS_EXECUTABLE;

		if ((own || tls_file__is_candidate(&maps.files[i])) && !look_at(f, tgid, &maps, &maps.files[i], how))
			break;
	}
	if (encrypted)
		say_opaque(f, tgid, &maps, st.st_ino);
	mapped_files__free(&maps);
}

void follow_tls__forked(struct follow_tls *f, uint32_t parent, uint32_t tgid)
{
	const struct user *from = find_user(f, parent);
	struct user *u = from ? make_user(f, tgid) : NULL;

	if (!u || u->n)
		return;
	u->n = from->n;
	memcpy(u->files, from->files, sizeof(u->files));
	for (uint32_t i = 0; i < u->n; i++)
		u->files[i]->n_users++;
}

void follow_tls__ended(struct follow_tls *f, uint32_t tgid, uint64_t now)
{
	struct user *u = find_user(f, tgid);

	if (!u)
		return;
	for (uint32_t i = 0; i < u->n; i++)
		if (!--u->files[i]->n_users)
			u->files[i]->idle_since = u->files[i]->inside ? 0 : now;
	HASH_DEL(f->users, u);
	mem__free(u);
}

void follow_tls__tick(struct follow_tls *f, uint64_t now)
{
	struct probed *p, *next;

	HASH_ITER(hh, f->files, p, next) {
		if (p->n_users || !p->set || now < p->idle_since + IDLE_NS)
			continue;
		uprobe_set__free(p->set);
		p->set = NULL;
	}
}
