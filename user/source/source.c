// SPDX-License-Identifier: Apache-2.0
#include "user/source/source.h"

#include <stdbool.h>
#include <string.h>

#include "user/base/mem.h"
#include "user/model/stats.h"
#include "user/source/recording.h"

struct source {
	struct source_opts o;
};

struct source *source__new(const struct source_opts *o)
{
	struct source *s = mem__zalloc(sizeof(*s));

	if (s)
		s->o = *o;
	return s;
}

void source__free(struct source *s)
{
	mem__free(s);
}

void source__detach(struct source *s)
{
	s->o.recorder = NULL;
}

static bool token_valid(const struct ws_token *t)
{
	return t->kind < __WS_TOK_CNT;
}

static bool data_valid(const struct ws_ev_data *d)
{
	size_t context = d->flags & WS_DATA_CONTEXT ? sizeof(struct ws_context) : 0;

	if (d->captured > WS_CAPTURE_MAX || d->tail > WS_TAIL ||
	    d->ev.len != sizeof(*d) + d->captured + context + d->tail)
		return false;
	if (d->skipped > d->size || d->captured + d->tail > d->size - d->skipped || d->dir > WS_TX)
		return false;
	/* Positions grow from a 32-bit number or from 0: none of a real connection comes near the end. */
	return d->pos <= UINT64_MAX - d->size && token_valid(&d->token);
}

static bool sock_valid(const struct ws_ev_sock *s)
{
	return s->ev.len == sizeof(*s) && s->role <= WS_ROLE_LISTENER && token_valid(&s->token);
}

static bool state_valid(const struct ws_ev_state *s)
{
	return s->ev.len == sizeof(*s) && s->state >= WS_SS_ESTABLISHED && s->state <= WS_SS_FIN_LAST;
}

static bool proc_valid(const struct ws_ev_proc *p)
{
	size_t tail = (size_t)p->args_len + p->exe_len + p->name_len;

	return p->args_len <= WS_ARGS_MAX && p->exe_len < WS_EXE_MAX && p->name_len < WS_EXE_MAX &&
	       p->ev.len == sizeof(*p) + tail && p->what >= WS_PROC_FORK && p->what < __WS_PROC_CNT;
}

static bool work_valid(const struct ws_ev_work *w)
{
	return w->ev.len == sizeof(*w) && (w->what == WS_WORK_BEGIN || w->what == WS_WORK_END) &&
	       token_valid(&w->token) && memchr(w->function, '\0', sizeof(w->function));
}

static bool procinfo_valid(const struct ws_ev_procinfo *p)
{
	return p->size <= RECORD_MAX && p->ev.len == sizeof(*p) + (size_t)p->size;
}

/* Smallest record of a type, 0: no such type. */
static size_t head_size(unsigned int type)
{
	switch (type) {
	case WS_EV_DATA:
		return sizeof(struct ws_ev_data);
	case WS_EV_SOCK:
		return sizeof(struct ws_ev_sock);
	case WS_EV_STATE:
		return sizeof(struct ws_ev_state);
	case WS_EV_PROC:
		return sizeof(struct ws_ev_proc);
	case WS_EV_WORK:
		return sizeof(struct ws_ev_work);
	case WS_EV_CLOCK:
		return sizeof(struct ws_ev_clock);
	case WS_EV_TICK:
		return sizeof(struct ws_ev);
	case WS_EV_PROCINFO:
		return sizeof(struct ws_ev_procinfo);
	case WS_EV_LOST:
		return sizeof(struct ws_ev_lost);
	case WS_EV_SELECT:
		return sizeof(struct ws_ev_select);
	default:
		return 0;
	}
}

/* The record is at least as long as the fixed part of its type. */
static bool record_valid(const struct ws_ev *ev)
{
	const void *p = ev;

	switch (ev->type) {
	case WS_EV_DATA:
		return data_valid(p);
	case WS_EV_SOCK:
		return sock_valid(p);
	case WS_EV_STATE:
		return state_valid(p);
	case WS_EV_PROC:
		return proc_valid(p);
	case WS_EV_WORK:
		return work_valid(p);
	case WS_EV_PROCINFO:
		return procinfo_valid(p);
	default:
		return ev->len == head_size(ev->type);
	}
}

static void drop(enum stats_reason why, uint64_t n)
{
	stats__in(ST_SOURCE, n);
	stats__drop(ST_SOURCE, why, n);
}

void source__push(struct source *s, const void *rec, size_t len)
{
	const struct ws_ev *ev = rec;
	size_t head;

	if (len < sizeof(*ev) || ((uintptr_t)rec & 7) != 0) {
		drop(DROP_MALFORMED, 1);
		return;
	}
	head = head_size(ev->type);
	if (!head) {
		drop(DROP_UNKNOWN_TYPE, 1);
		return;
	}
	if (ev->len > len || ev->len < head || !record_valid(ev)) {
		drop(DROP_MALFORMED, 1);
		return;
	}
	/* The unit is the kernel's event: ticks and answers of our own are no part of the books. */
	if (ev->type < __WS_EV_KERNEL_CNT) {
		stats__in(ST_SOURCE, 1);
		stats__out(ST_SOURCE, 1);
	} else if (ev->type == WS_EV_LOST) {
		drop(DROP_NOT_RECORDED, ((const struct ws_ev_lost *)rec)->count);
	}
	if (s->o.recorder)
		recorder__add(s->o.recorder, ev);
	s->o.next(s->o.ctx, ev);
}
