// SPDX-License-Identifier: Apache-2.0
/*
 * Work that outlives its request: background tasks (CPython).
 *
 * A request that was answered in a context of its own, which was made for it and has answered nothing else, is kept for
 * a while: what that very context calls later is its work. A worker that a request was the first to need works in
 * another context, or answers others. So the call waits until every request that was open when it began has been
 * answered, by somebody else.
 *
 * So does a call of a task that waited and was woken by the read of its request, where nothing tells whether that task is
 * the connection's own: one that was there from the start, or that a connection was the first to need, takes what others
 * have left as well, and answers them. Nothing tells until several tasks of that server have answered, each on its own connection,
 * and once one has answered on another's.
 */
#include <sys/socket.h>

#include "user/base/hash.h"
#include "user/match/exchange.h"

/* The newest so many of a process are kept … */
#define SLOTS 1024u
/* … and for that long. */
#define KEPT_NS 60000000000ull
/* So long a call waits for those that were open. */
#define HELD_NS 10000000000ull

#define MAY_BE_OTHERS "others were open that it may be for"
#define OVER_AND_MAY_BE_OTHERS "its request was over, and " MAY_BE_OTHERS

struct after {
	uint32_t numbers[SLOTS]; /* of their contexts, 0: free */
	struct exchange *x[SLOTS]; /* counted */
	uint32_t next;
};

static uint32_t number_of(const struct ws_token *t)
{
	return t && t->kind == WS_TOK_CONTEXT && !(t->flags & (WS_TOKEN_WOKEN | WS_TOKEN_ITEM)) ? t->context : 0;
}

static struct exchange *find(const struct proc *p, const struct ws_token *t, uint32_t number)
{
	for (uint32_t i = 0; p && p->after && number && i < SLOTS; i++)
		if (p->after->numbers[i] == number && p->after->x[i]->sock == t->sock && token__brings(t, p->after->x[i]))
			return p->after->x[i];
	return NULL;
}

static void forget(struct after *a, uint32_t slot)
{
	exchange__put(a->x[slot]);
	a->x[slot] = NULL;
	a->numbers[slot] = 0;
}

static void forget_exchange(struct after *a, const struct exchange *s)
{
	for (uint32_t i = 0; i < SLOTS; i++)
		if (a->x[i] == s) {
			forget(a, i);
			return;
		}
}

static void keep(struct after *a, struct exchange *s)
{
	uint32_t slot = a->next++ % SLOTS;

	forget(a, slot);
	a->x[slot] = exchange__get(s);
	a->numbers[slot] = s->context;
}

static void unlink_held(struct exchange **at)
{
	struct exchange *x = *at;

	*at = x->child_next;
	x->child_next = NULL;
}

/* Of this request; or, without one, of this process and begun since then: nobody's. */
static void refuse_held(struct match *m, const struct exchange *server, uint32_t tgid, uint64_t since, const char *why)
{
	struct exchange **at = &m->after, *x;

	while ((x = *at)) {
		if (server ? x->parent != server : x->tgid != tgid || x->start < since) {
			at = &x->child_next;
			continue;
		}
		unlink_held(at);
		parent__refuse(x, why);
		exchange__put(x);
	}
}

/* This context belongs to another request, which may be open or over. */
static void answers_another(struct exchange *server, const struct ws_token *t, uint32_t number)
{
	struct stream_conn *sc = stream__find(server->m->opts.stream(server->m->opts.ctx), t->sock);
	struct exchange *s = find(server->proc, t, number), *open;
	bool many;

	if (s) {
		refuse_held(server->m, s, 0, 0, ANSWERS_OTHERS);
		forget_exchange(server->proc->after, s);
		return;
	}
	open = sc && sc->match ? token__request(sc->match, t, &many) : NULL;
	if (open)
		open->shared = true;
}

static void refuse_woken(struct exchange **at, uint32_t tgid, uint32_t woken)
{
	struct exchange *x;

	while ((x = *at)) {
		if (x->tgid != tgid || x->woken != woken) {
			at = &x->child_next;
			continue;
		}
		unlink_held(at);
		parent__refuse(x, ANSWERS_OTHERS);
		exchange__put(x);
	}
}

/* Where this end listens, never 0: a process may have several servers, each with tasks of another kind. */
static uint64_t server_of(const struct conn_info *c)
{
	uint64_t port = c->local.port;

	return 1 | (c->family == AF_UNIX ? hash__bytes64(0, c->path, strlen(c->path)) : hash__bytes64(c->netns, &port, sizeof(port)));
}

static struct own_tasks *own_tasks_of(struct proc *p, uint64_t server)
{
	for (uint32_t i = 0; p && i < OWN_SERVERS; i++)
		if (!p->own_tasks[i].server || p->own_tasks[i].server == server)
			return &p->own_tasks[i];
	return NULL;
}

/* One that served another connection, which is still there, serves several; else it has the name of one that is gone. */
static void note_own_task(struct match *m, struct proc *p, const struct conn_info *c, uint32_t task)
{
	uint64_t server = server_of(c);
	struct own_tasks *own = own_tasks_of(p, server);

	for (uint32_t i = 0; own && i < OWN_TASKS; i++) {
		if (own->at[i].task && own->at[i].task != task)
			continue;
		if (own->at[i].task && own->at[i].sock != c->id)
			p->gathers |= stream__find(m->opts.stream(m->opts.ctx), own->at[i].sock) != NULL;
		own->server = server;
		own->at[i].task = task;
		own->at[i].sock = c->id;
		return;
	}
}

bool after__has_own_tasks(const struct exchange *server)
{
	const struct own_tasks *own = server->conn ? own_tasks_of(server->proc, server_of(&server->conn->pub->info)) : NULL;

	return own && own->at[OWN_TASKS - 1].task && !server->proc->gathers;
}

/* The task that a read on another connection has woken answers here: what it calls is not that connection's only. */
static void woken_answers(struct exchange *server, const struct ws_token *t)
{
	struct stream_conn *sc = stream__find(server->m->opts.stream(server->m->opts.ctx), t->sock);
	struct exchange *s;
	bool many;

	if (!server->conn)
		return;
	if (server->conn->pub == sc) {
		note_own_task(server->m, server->proc, &sc->info, t->by);
		return;
	}
	if (server->proc)
		server->proc->gathers = true;
	refuse_woken(&server->m->after, server->tgid, t->by);
	s = sc && sc->match ? token__request(sc->match, t, &many) : NULL;
	if (!s)
		return;
	s->shared = true;
	refuse_woken(&s->children, server->tgid, t->by);
}

void after__answered(struct exchange *server, const struct ws_token *t)
{
	uint32_t number = number_of(t);

	if (t && t->flags & WS_TOKEN_WOKEN)
		woken_answers(server, t);
	if (!number || !server->proc || !server->conn)
		return;
	if (server->conn->pub->info.id != t->sock || !token__brings(t, server)) {
		answers_another(server, t, number);
		return;
	}
	server->sock = t->sock;
	server->context = number;
}

void after__ended(struct exchange *server, bool aborted)
{
	struct proc *p = server->proc;

	if (aborted && !server->answered)
		refuse_held(server->m, NULL, server->tgid, server->start, "an abandoned request may still be running");
	if (!p || aborted || !server->context || server->shared)
		return;
	if (!p->after)
		p->after = mem__zalloc(sizeof(*p->after));
	if (p->after)
		keep(p->after, server);
}

void after__await_others(struct exchange *x)
{
	x->edge = EDGE_AFTER;
	x->child_next = x->m->after;
	x->m->after = exchange__get(x);
}

bool after__find(struct match *m, struct exchange *x, const struct ws_token *t)
{
	struct exchange *s = find(proc__find(m, x->tgid, false), t, number_of(t));

	if (!s || m->now > s->end + KEPT_NS)
		return false;
	parent__set(x, s, EVIDENCE_CONTEXT, EDGE_AFTER);
	return true;
}

/* When the first began of those that nobody has answered: what was called since then may be for that one. */
static uint64_t oldest_unanswered(const struct proc *p)
{
	uint64_t oldest = UINT64_MAX;

	for (const struct exchange *o = p->live; o; o = o->live_next)
		if (!o->answered && o->start < oldest)
			oldest = o->start;
	return oldest;
}

void after__tick(struct match *m, uint64_t now)
{
	struct exchange **at = &m->after, *x;
	const struct proc *last = NULL; /* mostly the same: its requests are gone through once */
	uint64_t oldest = 0;

	while ((x = *at)) {
		const struct proc *p = proc__find(m, x->tgid, false);
		bool wait;

		if (p && p != last) {
			oldest = oldest_unanswered(p);
			last = p;
		}
		wait = p && oldest <= x->start;
		if (wait && now < x->start + HELD_NS) {
			at = &x->child_next;
			continue;
		}
		unlink_held(at);
		if (!p || wait)
			parent__refuse(x, x->unsure ? MAY_BE_OTHERS : OVER_AND_MAY_BE_OTHERS);
		else
			x->edge = EDGE_FINAL;
		exchange__put(x);
	}
}

void after__free(struct proc *p)
{
	for (uint32_t i = 0; p->after && i < SLOTS; i++)
		exchange__put(p->after->x[i]);
	mem__free(p->after);
}
