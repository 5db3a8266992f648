// SPDX-License-Identifier: Apache-2.0
/* Requests that are over, and what they left behind: background work has the parent that caused it. */
#include "user/match/exchange.h"

/* Whoever calls out later than that for a request that is over does it for reasons of its own. */
#define LATE_NS 300000000000ull

void late__add(struct exchange *server)
{
	struct match *m = server->m;
	struct late *l;

	if (!server->proc || !server->proc->contexts || !server->conn)
		return;
	if (!m->late)
		m->late = mem__zalloc(sizeof(*l) * LATE_SLOTS);
	if (!m->late)
		return;
	l = &m->late[m->n_late++ % LATE_SLOTS];
	exchange__put(l->x);
	l->x = exchange__get(server);
	l->sock = server->conn->pub->info.id;
}

struct exchange *late__find(struct match *m, const struct ws_token *t)
{
	struct exchange *found = NULL;

	for (uint32_t i = 0; m->late && i < LATE_SLOTS && m->late[i].x; i++) {
		struct exchange *x = m->late[i].x;

		if (m->late[i].sock != t->sock || x->pos >= t->pos + t->len || (x->end_pos && x->end_pos <= t->pos))
			continue;
		if (found || m->now > x->end + LATE_NS)
			return NULL;
		found = x;
	}
	return found;
}

void late__free(struct match *m)
{
	for (uint32_t i = 0; m->late && i < LATE_SLOTS; i++)
		exchange__put(m->late[i].x);
	mem__free(m->late);
	m->late = NULL;
}
