// SPDX-License-Identifier: Apache-2.0
#include "user/stream/stream.h"

#include <errno.h>
#include <sys/socket.h>

#include "user/base/hash.h"
#include "user/base/mem.h"
#include "user/model/stats.h"
#include "user/proto/proto.h"
#include "user/proto/tls_hello.h"

/* Transfers remembered per direction, to name the one that moved the first byte of a message. */
#define TRANSFERS 8
/* A closed connection stays that long: after a reset the application may read what had arrived. */
#define LINGER_NS 200000000ull
/* AF_UNIX has no event for a close. A server's end whose client has ended its direction may still answer. */
#define LINGER_UNIX_NS 60000000000ull

struct direction {
	uint64_t next_pos;   /* expected; valid if known */
	uint64_t skip_until; /* what the kernel was told: gaps below it are intended */
	uint32_t next_seq;
	bool known, ended;
	uint8_t n; /* transfers written so far, modulo wrap */
	struct transfer last[TRANSFERS];
};

struct conn {
	struct stream_conn pub; /* first: the matcher hands it back */
	struct stream *s;
	UT_hash_handle hh;
	UT_hash_handle hk; /* AF_UNIX: by kaddr */
	struct conn *prev, *next; /* in one of the stream's lists */
	struct conn **list;
	struct proto_conn *proto;
	struct direction dir[2];
	struct ws_ctl ctl;
	uint32_t open; /* requests that are not over */
	uint64_t free_at; /* 0: alive */
	bool midway; /* met, or met again, when bytes had moved already */
	bool abandoned; /* closed by its own end while the peer had not ended its direction */
	int end_err;
	bool stopped, announced;
	bool read_inside; /* encrypted: its plaintext is a connection of its own */
	uint32_t dial_tid;
	struct ws_token dial;
};

struct stream {
	struct stream_opts opts;
	struct stream_next next;
	struct conn *table;
	struct conn *lru;     /* open ones, least recently used first */
	struct conn *closing; /* closed ones that linger, oldest first */
	struct conn *waning;  /* AF_UNIX servers' ends whose client may be gone, oldest first */
	struct conn *by_kaddr;
	struct conn *last; /* that conn_find() found: a request is read, and its answer written at once */
	uint32_t count;
	uint64_t now;
};

/* ---- table --------------------------------------------------------------------------------- */

static void list_unlink(struct conn **head, struct conn *c)
{
	if (c->next == c) {
		*head = NULL;
	} else {
		c->prev->next = c->next;
		c->next->prev = c->prev;
		if (*head == c)
			*head = c->next;
	}
}

static void list_append(struct conn **head, struct conn *c)
{
	if (!*head) {
		c->prev = c->next = *head = c;
		return;
	}
	c->prev = (*head)->prev;
	c->next = *head;
	c->prev->next = c;
	(*head)->prev = c;
}

static void list_move(struct conn **head, struct conn *c)
{
	if (c->list == head && (*head)->prev == c)
		return; /* it is the last already */
	if (c->list)
		list_unlink(c->list, c);
	c->list = head;
	list_append(head, c);
}

static struct conn *conn_find(struct stream *s, uint64_t id)
{
	struct conn *c = s->last;

	if (c && c->pub.info.id == id)
		return c;
	HASH_FIND(hh, s->table, &id, sizeof(id), c);
	s->last = c;
	return c;
}

static void conn_free(struct conn *c, uint64_t now)
{
	struct stream *s = c->s;

	proto_conn__free(c->proto, now);
	stats.tls_opaque += c->pub.encrypted && !c->read_inside;
	if (c->announced)
		s->next.conn_gone(s->next.ctx, &c->pub, now);
	HASH_DEL(s->table, c);
	if (s->last == c)
		s->last = NULL;
	if (c->hk.tbl)
		HASH_DELETE(hk, s->by_kaddr, c);
	list_unlink(c->list, c);
	s->count--;
	mem__free(c->pub.info.sni);
	mem__free(c);
}

/* Makes room by ending the connection that was idle longest. It may come back. */
static void make_room(struct stream *s)
{
	if (s->count < s->opts.max_connections)
		return;
	if (!s->closing)
		__atomic_store_n(&stats.evicted, stats.evicted + 1, __ATOMIC_RELAXED);
	conn_free(s->closing ? s->closing : s->waning ? s->waning : s->lru, s->now);
}

static struct conn *conn_new(struct stream *s, uint64_t id)
{
	struct conn *c;

	make_room(s);
	c = mem__zalloc(sizeof(*c));
	if (!c)
		return NULL;
	c->s = s;
	c->pub.info.id = id;
	c->ctl.sock = id;
	HASH_ADD(hh, s->table, pub.info.id, sizeof(c->pub.info.id), c);
	if (!c->hh.tbl) { /* out of memory inside the table */
		mem__free(c);
		return NULL;
	}
	list_move(&s->lru, c);
	s->count++;
	return c;
}

/* ---- what the protocol table tells ------------------------------------------------------------ */

static void control_write(struct conn *c)
{
	if (c->s->next.control)
		c->s->next.control(c->s->next.ctx, c->pub.info.id, &c->ctl);
}

static enum ws_dir socket_dir(const struct conn *c, enum proto_dir dir)
{
	bool server = c->pub.info.role == WS_ROLE_SERVER;

	return (dir == PROTO_REQUEST) == server ? WS_RX : WS_TX;
}

/* The newest but `back`. */
static const struct transfer *transfer_at(const struct direction *d, unsigned int back)
{
	return &d->last[(d->n - 1u - back) % TRANSFERS];
}

static const struct transfer *transfer_find(const struct direction *d, uint64_t pos)
{
	/* From the newest on, which it nearly always is. */
	for (unsigned int i = 0; i < TRANSFERS; i++) {
		const struct transfer *t = transfer_at(d, i);

		if (t->len && pos >= t->pos && pos - t->pos < t->len)
			return t;
	}
	return NULL;
}

static void on_msg(void *ctx, const struct msg *m)
{
	struct conn *c = ctx;
	enum proto_dir dir = m->kind == MSG_REQUEST || m->kind == MSG_REQUEST_END ? PROTO_REQUEST : PROTO_RESPONSE;
	const struct direction *d = &c->dir[socket_dir(c, dir)];
	const struct transfer *t = NULL;

	if (m->kind == MSG_REQUEST || m->kind == MSG_RESPONSE)
		t = transfer_find(d, m->pos);
	c->open += m->kind == MSG_REQUEST;
	c->open -= m->kind == MSG_RESPONSE_END || m->kind == MSG_ABORT;
	c->pub.newest = transfer_at(d, 0);
	c->s->next.msg(c->s->next.ctx, &c->pub, m, t);
	c->pub.newest = NULL;
}

static void on_skip_hint(void *ctx, enum proto_dir dir, uint64_t from_pos, uint64_t n)
{
	struct conn *c = ctx;
	enum ws_dir d = socket_dir(c, dir);
	uint64_t until = n > UINT64_MAX - from_pos ? UINT64_MAX : from_pos + n;

	c->dir[d].skip_until = until;
	/* AF_UNIX: nobody tells what was written by the end. Transfers are told without their bytes; no request follows. */
	if (until == UINT64_MAX && d == WS_TX && c->pub.info.family == AF_UNIX)
		c->ctl.mode = WS_CTL_COUNT;
	else
		c->ctl.skip_until[d] = until;
	control_write(c);
}

static void on_role(void *ctx, enum ws_role role)
{
	struct conn *c = ctx;

	c->pub.info.role = role;
	c->ctl.role = role;
	control_write(c);
}

static void on_stop(void *ctx)
{
	struct conn *c = ctx;

	c->stopped = true;
	c->ctl.mode = WS_CTL_STOP;
	control_write(c);
	c->s->next.conn_opaque(c->s->next.ctx, &c->pub);
}

static bool conn_attach_proto(struct conn *c)
{
	struct proto_events ev = {
		.sink = { on_msg, c },
		.skip_hint = on_skip_hint,
		.role = on_role,
		.stop = on_stop,
		.ctx = c,
	};

	c->proto = proto_conn__new(&c->pub.info, &ev);
	return c->proto != NULL;
}

/* ---- events ---------------------------------------------------------------------------------- */

static void close_later(struct stream *s, struct conn *c, struct conn **list, uint64_t ts, uint64_t linger)
{
	c->pub.ended_ts = ts;
	c->free_at = ts + linger;
	list_move(list, c);
}

/*
 * AF_UNIX: this end or the other one has ended its direction. What is answered is over; a server that was left alone
 * with a request may still work on it, and a client that only shut down its side waits for the answer.
 */
static void unix_wane(struct stream *s, struct conn *c, uint64_t ts)
{
	if (c->list == &s->closing)
		return;
	if (c->open)
		close_later(s, c, &s->waning, ts, LINGER_UNIX_NS);
	else
		close_later(s, c, &s->closing, ts, LINGER_NS);
}

/* The newest socket of that name: the memory of an older one was free again, so both of its ends are closed. */
static void name_unix(struct conn *c)
{
	struct stream *s = c->s;
	struct conn *old;

	HASH_FIND(hk, s->by_kaddr, &c->pub.kaddr, sizeof(c->pub.kaddr), old);
	if (old == c)
		return;
	if (old) {
		HASH_DELETE(hk, s->by_kaddr, old);
		memset(&old->hk, 0, sizeof(old->hk));
		if (old->list != &s->closing)
			close_later(s, old, &s->closing, s->now, LINGER_NS);
	}
	HASH_ADD(hk, s->by_kaddr, pub.kaddr, sizeof(c->pub.kaddr), c);
}

static void sock_fill(struct conn *c, const struct ws_ev_sock *e)
{
	struct conn_info *i = &c->pub.info;

	i->family = e->family;
	if (!i->role || !c->proto)
		i->role = e->role;
	i->born = e->flags & WS_SOCK_BORN;
	i->tls = e->flags & WS_SOCK_TLS;
	i->netns = e->netns;
	i->tgid = e->tgid;
	i->local.port = e->lport;
	i->remote.port = e->rport;
	memcpy(i->local.ip, e->laddr, 16);
	memcpy(i->remote.ip, e->raddr, 16);
	memcpy(i->path, e->path, sizeof(e->path));
	i->path[sizeof(e->path)] = '\0';
	c->pub.seqpos = e->flags & WS_SOCK_SEQ;
	c->pub.kaddr = e->kaddr;
	c->pub.peer_tgid = e->peer_tgid;
	c->pub.peer_kaddr = e->peer_kaddr;
	c->dial = e->token;
	c->dial_tid = e->tid;
	if (e->kaddr && e->family == AF_UNIX && !i->tls)
		name_unix(c);
}

/* The connection's own socket may have shown its handshake before the library's session was known. */
static void note_plaintext(struct stream *s, struct conn *c, uint64_t socket)
{
	struct conn *under = conn_find(s, socket);

	if (!under)
		return;
	under->read_inside = true;
	if (!c->pub.info.sni) {
		c->pub.info.sni = under->pub.info.sni;
		under->pub.info.sni = NULL;
	}
}

static void push_sock(struct stream *s, const struct ws_ev_sock *e)
{
	struct conn *c;

	if (e->role == WS_ROLE_LISTENER) {
		if (e->family != AF_UNIX)
			s->next.listening(s->next.ctx, e->sock, e->tgid, e->netns, e->lport, true, e->ev.ts);
		stats__out(ST_STREAM, 1);
		return;
	}
	c = conn_find(s, e->sock);
	if (!c)
		c = conn_new(s, e->sock);
	if (!c) {
		stats__drop(ST_STREAM, DROP_NO_MEMORY, 1);
		return;
	}
	sock_fill(c, e);
	if (c->pub.info.tls)
		note_plaintext(s, c, e->kaddr);
	if (!c->announced && !(e->flags & WS_SOCK_CONNECTING)) {
		c->announced = true;
		s->next.conn_new(s->next.ctx, &c->pub, e->ev.ts);
	}
	stats__out(ST_STREAM, 1);
}

static void end_direction(struct conn *c, enum ws_dir dir, uint64_t ts, int err)
{
	if (c->dir[dir].ended)
		return;
	c->dir[dir].ended = true;
	if (c->proto && !c->stopped)
		proto_conn__eof(c->proto, dir, ts, err);
}

/*
 * AF_UNIX: one end has read an end of file, so the other has closed or shut down. A client that has
 * read it is done with the connection; a server may still have to answer.
 */
static void unix_ended(struct stream *s, struct conn *c, uint64_t ts)
{
	bool client = c->pub.info.role == WS_ROLE_CLIENT;
	struct conn *peer = NULL;

	if (c->pub.peer_kaddr)
		HASH_FIND(hk, s->by_kaddr, &c->pub.peer_kaddr, sizeof(c->pub.peer_kaddr), peer);
	if (peer)
		end_direction(peer, WS_TX, ts, 0);
	if (client) {
		close_later(s, c, &s->closing, ts, LINGER_NS);
		if (peer)
			close_later(s, peer, &s->closing, ts, LINGER_NS);
	} else {
		unix_wane(s, c, ts);
		if (peer)
			unix_wane(s, peer, ts);
	}
}

/* Bytes up to `to` passed without an event: as it was asked for (skip_until), what is beyond that was lost. */
static void pass_over(struct conn *c, enum ws_dir dir, uint64_t to, uint64_t ts)
{
	struct direction *d = &c->dir[dir];
	uint64_t from = d->next_pos, wanted = d->skip_until < to ? d->skip_until : to;

	if (wanted > from) {
		proto_conn__skip(c->proto, dir, from, wanted - from, ts, false);
		from = wanted;
	}
	if (to > from) {
		stats.gap_bytes += to - from;
		proto_conn__skip(c->proto, dir, from, to - from, ts, true);
	}
	d->next_pos = to;
}

/* The end of what was written says how much that was. */
static void catch_up(struct conn *c, uint64_t pos, uint64_t ts)
{
	struct direction *d = &c->dir[WS_TX];

	if (d->known && !d->ended && !c->stopped && c->proto && pos > d->next_pos)
		pass_over(c, WS_TX, pos, ts);
}

static void push_state(struct stream *s, const struct ws_ev_state *e)
{
	struct conn *c = conn_find(s, e->sock);

	stats__out(ST_STREAM, 1);
	if (e->state == WS_SS_UNLISTEN)
		s->next.listening(s->next.ctx, e->sock, 0, 0, 0, false, e->ev.ts);
	if (!c)
		return; /* a listener, or a connection that was never announced */
	if (e->state == WS_SS_FIN_SENT || e->state == WS_SS_FIN_LAST || e->state == WS_SS_ABANDONED || e->state == WS_SS_CLOSED)
		catch_up(c, e->tx_pos, e->ev.ts);
	switch (e->state) {
	case WS_SS_FIN_LAST:
		/* Who has hung up on a server that did not look. (A client may close with an answer unread.) */
		if (c->pub.info.role == WS_ROLE_SERVER)
			end_direction(c, WS_RX, e->ev.ts, 0);
		/* fall through */
	case WS_SS_FIN_SENT:
		end_direction(c, WS_TX, e->ev.ts, 0);
		break;
	case WS_SS_ABANDONED:
		/* The kernel may keep it for minutes, until a peer that is gone has failed to acknowledge the FIN. */
		end_direction(c, WS_TX, e->ev.ts, 0);
		c->abandoned = true;
		close_later(s, c, &s->closing, e->ev.ts, LINGER_NS);
		break;
	case WS_SS_FAILED:
		s->next.connect_failed(s->next.ctx, &c->pub, e->err, &c->dial, c->dial_tid, WS_SOCK_SINCE(e->sock), e->ev.ts);
		conn_free(c, e->ev.ts);
		break;
	case WS_SS_CLOSED:
		if (c->list == &s->closing)
			break;
		close_later(s, c, &s->closing, e->ev.ts, LINGER_NS);
		c->end_err = e->err;
		if (!e->err)
			end_direction(c, WS_TX, e->ev.ts, 0);
		break;
	}
}

static void remember(struct direction *d, const struct ws_ev_data *e, uint64_t pos)
{
	struct transfer *t = &d->last[d->n++ % TRANSFERS];

	t->pos = pos;
	t->len = e->size;
	t->tgid = e->tgid;
	t->tid = e->tid;
	t->flags = e->flags;
	t->token = e->token;
	t->wired = e->wire_flags & WS_WIRE_KNOWN;
	t->wire = e->wire;
	t->wire_into = e->wire_into;
	if (e->flags & WS_DATA_CONTEXT)
		memcpy(&t->ctx, e->data + e->captured, sizeof(t->ctx));
}

/*
 * The first event of a direction, and not the first of the socket: bytes went before. In a connection that was known
 * from its birth they were lost. In one that is met in its middle, as behind an eviction, the first direction to move
 * says so for both: they went before that, and what the other one carries next may well be the answer to it.
 */
static void begin_midway(struct conn *c, const struct ws_ev_data *e)
{
	bool first = !c->dir[e->dir == WS_RX ? WS_TX : WS_RX].known;

	c->midway |= first && !c->pub.info.born;
	if (c->proto)
		proto_conn__skip(c->proto, e->dir, e->pos, 0, e->ev.ts, first || !c->midway);
}

/*
 * Accounts for what lies between the expected and the actual position, *pos. False: this event is too late. Where positions
 * are a running count two that write at the same time may be told in another order (the pipe that wakes an event loop):
 * nobody else knows in which they were moved either.
 */
static bool close_gap(struct conn *c, const struct ws_ev_data *e, uint64_t *pos)
{
	struct direction *d = &c->dir[e->dir];
	bool lost = e->seq != d->next_seq;

	*pos = e->pos;
	d->next_seq = e->seq + 1;
	if (!d->known) {
		d->known = true;
		d->next_pos = e->pos;
		if (lost)
			begin_midway(c, e);
		return true;
	}
	if (e->pos < d->next_pos && !c->pub.seqpos) {
		c->pub.ambiguous = true;
		*pos = d->next_pos;
		return true;
	}
	if (e->pos < d->next_pos)
		return false;
	pass_over(c, e->dir, e->pos, e->ev.ts);
	return true;
}

static void note_hello(struct conn *c, const struct ws_ev_data *e)
{
	struct str name = tls_hello__server_name(e->data, e->captured);

	if (name.len && !c->pub.info.sni)
		c->pub.info.sni = mem__strndup(name.p, name.len); /* without memory it is not known */
}

static void feed(struct conn *c, const struct ws_ev_data *e, uint64_t pos)
{
	uint64_t rest = e->size;

	if (e->skipped && !c->stopped) {
		proto_conn__skip(c->proto, e->dir, pos, e->skipped, e->ev.ts, false);
		pos += e->skipped;
		rest -= e->skipped;
	}
	if (e->captured && !c->stopped) {
		proto_conn__push(c->proto, e->dir, e->data, e->captured, pos, e->ev.ts);
		pos += e->captured;
		rest -= e->captured;
	}
	if (rest && rest == e->tail && !c->stopped) { /* nothing is missing in between */
		proto_conn__push(c->proto, e->dir, (const uint8_t *)e + e->ev.len - e->tail, e->tail, pos, e->ev.ts);
		return;
	}
	if (rest > e->tail && !c->stopped)
		proto_conn__skip(c->proto, e->dir, pos, rest - e->tail, e->ev.ts, false);
	if (e->tail && !c->stopped)
		proto_conn__tail(c->proto, e->dir, (const uint8_t *)e + e->ev.len - e->tail, e->tail, pos + rest - e->tail,
				 e->ev.ts);
}

static void push_data(struct stream *s, const struct ws_ev_data *e)
{
	struct conn *c = conn_find(s, e->sock);
	uint64_t pos;

	if (!c)
		c = conn_new(s, e->sock);
	if (!c || (!c->stopped && !c->proto && !conn_attach_proto(c))) {
		stats__drop(ST_STREAM, DROP_NO_MEMORY, 1);
		return;
	}
	if (c->list == &s->lru)
		list_move(&s->lru, c);
	c->pub.info.tgid = e->tgid;
	if (c->stopped) {
		stats__out(ST_STREAM, 1);
		return;
	}
	if (e->wire_flags & WS_WIRE_HELLO) {
		note_hello(c, e);
		stats__out(ST_STREAM, 1);
		return;
	}
	if (!c->announced) { /* its announcement was lost */
		c->announced = true;
		s->next.conn_new(s->next.ctx, &c->pub, e->ev.ts);
	}
	if (e->flags & WS_DATA_AMBIGUOUS)
		c->pub.ambiguous = true;
	if (!close_gap(c, e, &pos)) {
		stats__drop(ST_STREAM, DROP_STALE, 1);
		return;
	}
	stats__out(ST_STREAM, 1);
	if (e->flags & (WS_DATA_ERROR | WS_DATA_EOF)) {
		end_direction(c, e->dir, e->ev.ts, e->flags & WS_DATA_ERROR ? e->err : 0);
		if (c->pub.info.family == AF_UNIX && e->dir == WS_RX)
			unix_ended(s, c, e->ev.ts);
		else if (c->pub.info.family == AF_UNIX)
			unix_wane(s, c, e->ev.ts);
		return;
	}
	remember(&c->dir[e->dir], e, pos);
	if (e->wire_flags & WS_WIRE_VERSION)
		c->pub.info.tls_version = (e->wire_flags & WS_WIRE_VERSION) >> WS_WIRE_VERSION_SHIFT;
	if (e->dir == WS_RX)
		s->next.ingress(s->next.ctx, &c->pub, e);
	if (e->seq == 0 && tls_hello__begins(e->data, e->captured)) {
		c->pub.encrypted = true;
		note_hello(c, e);
	}
	feed(c, e, pos);
	c->dir[e->dir].next_pos = pos + e->size;
	if (c->list == &s->waning)
		unix_wane(s, c, e->ev.ts);
}

void stream__push(struct stream *s, const struct ws_ev *ev)
{
	if (ev->ts > s->now)
		s->now = ev->ts;
	stats__in(ST_STREAM, 1);
	switch (ev->type) {
	case WS_EV_DATA:
		push_data(s, (const struct ws_ev_data *)ev);
		return;
	case WS_EV_SOCK:
		push_sock(s, (const struct ws_ev_sock *)ev);
		return;
	case WS_EV_STATE:
		push_state(s, (const struct ws_ev_state *)ev);
		return;
	case WS_EV_PROC:
		s->next.proc(s->next.ctx, (const struct ws_ev_proc *)ev);
		break;
	case WS_EV_WORK:
		s->next.work(s->next.ctx, (const struct ws_ev_work *)ev);
		break;
	}
	stats__out(ST_STREAM, 1);
}

static void conn_end(struct conn *c)
{
	uint64_t ts = c->pub.ended_ts;

	end_direction(c, WS_TX, ts, c->end_err);
	if (!c->abandoned)
		end_direction(c, WS_RX, ts, c->end_err);
	conn_free(c, ts);
}

void stream__tick(struct stream *s, uint64_t now)
{
	struct conn *c;

	if (now > s->now)
		s->now = now;
	while ((c = s->closing) && c->free_at <= now)
		conn_end(c);
	while ((c = s->waning) && c->free_at <= now)
		conn_end(c);
}

struct stream_conn *stream__find(struct stream *s, uint64_t sock)
{
	struct conn *c = conn_find(s, sock);

	return c ? &c->pub : NULL;
}

uint32_t stream__count(const struct stream *s)
{
	return s->count;
}

struct stream *stream__new(const struct stream_opts *o, const struct stream_next *next)
{
	struct stream *s = mem__zalloc(sizeof(*s));

	if (!s)
		return NULL;
	s->opts = *o;
	s->next = *next;
	if (!s->opts.max_connections)
		s->opts.max_connections = 65536;
	return s;
}

void stream__free(struct stream *s, uint64_t now)
{
	struct conn *c, *tmp;

	if (!s)
		return;
	HASH_ITER(hh, s->table, c, tmp)
		conn_free(c, now > s->now ? now : s->now);
	mem__free(s);
}
