// SPDX-License-Identifier: Apache-2.0
/*
 * Detection, and the bytes that a parser has not consumed yet.
 *
 * Bytes are parsed where they lie, in the caller's memory; only what a parser leaves over is copied. A direction is
 * in one of two states:
 *
 *   - open: everything that has arrived was presented. `buf` holds what the parser found too few (all of it `seen`),
 *     and is presented again, as one slice, with what arrives next.
 *   - held (PROTO_HOLD): what arrives is queued, bytes, skips and the end alike, and replayed item by item, so that
 *     every byte keeps its own time, once the other direction has moved.
 */
#include "user/proto/proto.h"

#include <errno.h>

#include "user/base/dynbuf.h"
#include "user/base/mem.h"
#include "user/model/stats.h"

#define QUEUE_MAX 16
/*
 * Transfers that may look like nothing before a connection that was met in mid-stream is given up: those that come when
 * the other direction has moved, which is where messages begin; and all, of what never pauses.
 */
#define TRIES_MIDSTREAM 8
#define TRANSFERS_MIDSTREAM 4096
/* The PROXY protocol's preamble (haproxy.org, proxy-protocol.txt): version 1 is a line, version 2 binary. */
#define PROXY_V1_MAX 107
#define PROXY_V2_MAX 1024

struct item {
	bool skip; /* else n bytes of buf */
	bool lost;
	uint64_t n;
	uint64_t ts;
};

struct queue {
	unsigned int n;
	struct item items[QUEUE_MAX];
};

struct direction {
	struct dynbuf buf;
	uint64_t pos;	   /* of the first unconsumed byte */
	uint64_t ts_first; /* when that byte moved; valid if seen > 0 */
	uint64_t ts_last;  /* when the newest of the seen bytes moved */
	size_t seen;	   /* bytes of buf that were presented and found too few */
	struct queue *queue;
	bool known;	   /* pos is valid */
	bool held;
	bool ended, end_told;
	int end_err;
	uint64_t end_ts;
};

struct proto_conn {
	struct proto_events ev;
	struct proto_io io;
	const struct proto_ops *ops; /* NULL: detection */
	void *st;
	uint64_t xid;
	enum ws_dir request_dir;
	int tries, transfers;
	const struct direction *newest; /* while none is recognised: which one moved last */
	bool stopped;
	bool tunnel;  /* the parser is done, detection is to run on what is left */
	bool adopted; /* just now: the other direction may have bytes for the parser */
	struct direction dirs[2];
};

/* ---- small things ----------------------------------------------------------------------------- */

static enum proto_dir proto_dir(const struct proto_conn *c, const struct direction *d)
{
	return d == &c->dirs[c->request_dir] ? PROTO_REQUEST : PROTO_RESPONSE;
}

static void drop_bytes(struct direction *d)
{
	d->pos += d->buf.len;
	dynbuf__reset(&d->buf);
	d->seen = 0;
}

/* Takes the first n bytes off, which must have been seen. */
static void consume(struct direction *d, size_t n)
{
	dynbuf__consume(&d->buf, n);
	d->pos += n;
	d->seen -= n;
}

static void end_parser(struct proto_conn *c, uint64_t ts)
{
	if (!c->ops)
		return;
	c->ops->fini(c->st, ts, &c->io);
	mem__free(c->st);
	c->st = NULL;
	c->ops = NULL;
}

static void stop(struct proto_conn *c, uint64_t ts)
{
	if (c->stopped)
		return;
	end_parser(c, ts);
	c->stopped = true;
	c->tunnel = false;
	for (int i = 0; i < 2; i++) {
		dynbuf__free(&c->dirs[i].buf);
		mem__free(c->dirs[i].queue);
		c->dirs[i].queue = NULL;
		c->dirs[i].held = false;
		c->dirs[i].seen = 0;
	}
	if (c->ev.stop)
		c->ev.stop(c->ev.ctx);
}

/* Bytes went by before a protocol was found: what comes next need not be the start of anything. */
static void in_midstream(struct proto_conn *c)
{
	if (c->io.clean) {
		c->tries = TRIES_MIDSTREAM;
		c->transfers = TRANSFERS_MIDSTREAM;
		c->newest = NULL;
	}
	c->io.clean = false;
}

/* ---- a parser at work --------------------------------------------------------------------------- */

/*
 * Presents bytes until the parser consumes no more; returns what it consumed. The first `old` bytes moved at
 * ts_first, the others at ts. It may set d->held, c->tunnel, or end everything (c->stopped).
 */
static size_t present(struct proto_conn *c, struct direction *d, const uint8_t *data, size_t len, size_t old,
		      uint64_t ts_first, uint64_t ts, bool cut)
{
	size_t off = 0;
	ssize_t n;

	while (off < len) {
		struct slice s = {
			.data = data + off,
			.len = len - off,
			.pos = d->pos + off,
			.ts_first = off < old ? ts_first : ts,
			.ts_ns = ts,
			.dir = proto_dir(c, d),
			.cut = cut,
		};

		n = c->ops->parse(c->st, &s, &c->io);
		if (n == 0)
			break;
		if (n == PROTO_HOLD) {
			d->held = !cut;
			break;
		}
		if (n == PROTO_END_TUNNEL) {
			c->tunnel = true;
			break;
		}
		if (n < 0 || (size_t)n > s.len) { /* a parser that cannot count is believed in nothing else */
			stop(c, ts);
			break;
		}
		off += (size_t)n;
	}
	return off;
}

static void tell_skip(struct proto_conn *c, struct direction *d, uint64_t n, uint64_t ts, bool lost)
{
	uint64_t pos = d->pos, unseen = d->buf.len;

	drop_bytes(d);
	d->pos += n;
	if (c->ops->skip(c->st, proto_dir(c, d), pos, unseen + n, ts, lost, &c->io) < 0)
		stop(c, ts);
}

static void do_skip(struct proto_conn *c, struct direction *d, uint64_t n, uint64_t ts, bool lost)
{
	size_t done;

	if (d->buf.len) {
		done = present(c, d, d->buf.data, d->seen, d->seen, d->ts_first, d->ts_last, true);
		if (c->stopped)
			return;
		consume(d, done);
		if (c->tunnel) {
			drop_bytes(d);
			d->pos += n;
			return;
		}
	}
	tell_skip(c, d, n, ts, lost);
}

static void do_eof(struct proto_conn *c, struct direction *d)
{
	drop_bytes(d);
	dynbuf__free(&d->buf); /* nothing comes any more, and the connection may stay for long */
	mem__free(d->queue);
	d->queue = NULL;
	d->end_told = true;
	c->ops->eof(c->st, proto_dir(c, d), d->end_ts, d->end_err, &c->io);
}

/* ---- held back ---------------------------------------------------------------------------------- */

/* Too much is waiting, or there is no memory: all of it passes unseen. */
static void give_up_holding(struct proto_conn *c, struct direction *d, uint64_t more, uint64_t ts)
{
	struct queue *q = d->queue;
	uint64_t n = more;

	d->held = false;
	for (unsigned int i = 0; q && i < q->n; i++) {
		if (q->items[i].skip)
			n += q->items[i].n;
	}
	if (q)
		q->n = 0;
	tell_skip(c, d, n, ts, true);
}

static bool enqueue(struct direction *d, const struct item *item)
{
	struct item *last;

	if (!d->queue) {
		d->queue = mem__zalloc(sizeof(*d->queue));
		if (!d->queue)
			return false;
	}
	last = d->queue->n ? &d->queue->items[d->queue->n - 1] : NULL;
	if (last && last->skip == item->skip && last->lost == item->lost &&
	    (last->ts == item->ts || d->queue->n == QUEUE_MAX)) {
		last->n += item->n;
		last->ts = item->ts;
		return true;
	}
	if (d->queue->n == QUEUE_MAX)
		return false;
	d->queue->items[d->queue->n++] = *item;
	return true;
}

static void hold_data(struct proto_conn *c, struct direction *d, const uint8_t *data, size_t len, uint64_t ts)
{
	struct item item = { .n = len, .ts = ts };

	if (dynbuf__append(&d->buf, data, len) < 0) {
		give_up_holding(c, d, len, ts);
		return;
	}
	if (!enqueue(d, &item)) /* the bytes are in buf already */
		give_up_holding(c, d, 0, ts);
}

/* What is seen, but was answered with HOLD, becomes the first item of the queue. */
static void hold_seen(struct proto_conn *c, struct direction *d)
{
	struct item item = { .n = d->seen, .ts = d->ts_last };
	struct queue *q;

	if (!d->queue)
		d->queue = mem__zalloc(sizeof(*d->queue));
	q = d->queue;
	if (!q || q->n == QUEUE_MAX) {
		give_up_holding(c, d, 0, d->ts_last);
		return;
	}
	memmove(&q->items[1], &q->items[0], q->n * sizeof(q->items[0]));
	q->items[0] = item;
	q->n++;
	d->seen = 0;
}

/* Presents all that is seen. */
static size_t present_seen(struct proto_conn *c, struct direction *d, size_t old, uint64_t ts)
{
	size_t done = present(c, d, d->buf.data, d->seen, old, d->ts_first, ts, false);

	if (c->stopped)
		return done;
	if (done >= old)
		d->ts_first = ts;
	d->ts_last = ts;
	consume(d, done);
	if (d->held && d->seen)
		hold_seen(c, d);
	return done;
}

/* The first queued item, again. True if anything came of it. */
static bool replay_item(struct proto_conn *c, struct direction *d)
{
	struct queue *q = d->queue;
	struct item item = q->items[0];
	size_t old = d->seen;

	q->n--;
	memmove(&q->items[0], &q->items[1], q->n * sizeof(q->items[0]));
	if (item.skip) {
		do_skip(c, d, item.n, item.ts, item.lost);
		return true;
	}
	d->seen += item.n;
	if (!old)
		d->ts_first = item.ts;
	return present_seen(c, d, old, item.ts) > 0 || !d->held;
}

static bool replay(struct proto_conn *c, struct direction *d)
{
	bool moved = false;

	d->held = false;
	while (!c->stopped && !c->tunnel && !d->held && d->queue && d->queue->n)
		moved |= replay_item(c, d);
	return moved;
}

/* ---- detection ---------------------------------------------------------------------------------- */

/* Length of a PROXY preamble at the start; 0: none; negative: more bytes are needed. */
static ssize_t proxy_preamble(const uint8_t *p, size_t len)
{
	static const char v1[] = "PROXY ";
	static const uint8_t v2[] = { '\r', '\n', '\r', '\n', 0, '\r', '\n', 'Q', 'U', 'I', 'T', '\n' };
	const uint8_t *nl;
	size_t n;

	if (memcmp(p, v1, len < sizeof(v1) - 1 ? len : sizeof(v1) - 1) == 0) {
		nl = memchr(p, '\n', len < PROXY_V1_MAX ? len : PROXY_V1_MAX);
		if (!nl)
			return len < PROXY_V1_MAX ? -EAGAIN : 0;
		n = (size_t)(nl - p) + 1;
		if (n > 10 && (memcmp(p + 6, "TCP", 3) == 0 || memcmp(p + 6, "UNK", 3) == 0))
			return (ssize_t)n;
		return 0;
	}
	if (memcmp(p, v2, len < sizeof(v2) ? len : sizeof(v2)) != 0)
		return 0;
	if (len < 16)
		return -EAGAIN;
	n = 16 + ((size_t)p[14] << 8 | p[15]);
	if ((p[12] & 0xf0) != 0x20 || n > PROXY_V2_MAX)
		return 0;
	return len < n ? -EAGAIN : (ssize_t)n;
}

static enum proto_verdict detect(const uint8_t *data, size_t len, const struct proto_ops **ret_ops)
{
	const struct proto_ops *const *table;
	enum proto_verdict v;
	size_t n;

	table = proto__table(&n);
	for (size_t i = 0; i < n; i++) {
		v = table[i]->detect(data, len);
		if (v == PROTO_NO)
			continue;
		*ret_ops = table[i];
		return v;
	}
	return PROTO_NO;
}

static int adopt(struct proto_conn *c, const struct proto_ops *ops, struct direction *d, bool request)
{
	enum ws_dir dir = d == &c->dirs[WS_RX] ? WS_RX : WS_TX;
	enum ws_role role;

	c->st = mem__zalloc(ops->conn_size);
	if (!c->st)
		return -ENOMEM;
	c->ops = ops;
	c->request_dir = request ? dir : (dir == WS_RX ? WS_TX : WS_RX);
	role = c->request_dir == WS_RX ? WS_ROLE_SERVER : WS_ROLE_CLIENT;
	if (c->io.conn->role != role && c->ev.role)
		c->ev.role(c->ev.ctx, role);
	for (int i = 0; i < 2; i++)
		c->dirs[i].buf.max = ops->max_head;
	c->adopted = true;
	return 0;
}

/*
 * One direction's bytes, all of them, against the table. PROTO_NO: they are of no use. PROTO_IS_*: c->ops is set, and
 * the first `*ret_off` bytes are no part of it.
 */
static enum proto_verdict recognise(struct proto_conn *c, struct direction *d, const uint8_t *data, size_t len,
				    uint64_t ts, size_t *ret_off)
{
	const struct proto_ops *ops = NULL;
	enum proto_verdict v = PROTO_MAYBE;
	ssize_t off = proxy_preamble(data, len);

	if (off >= 0 && (size_t)off < len)
		v = detect(data + off, len - (size_t)off, &ops);
	if (v == PROTO_MAYBE && len < PROTO_DETECT_MAX)
		return PROTO_MAYBE;
	if (v == PROTO_MAYBE || v == PROTO_NO) {
		if (c->newest != d)
			c->tries--;
		c->newest = d;
		if (c->tries <= 0 || !--c->transfers)
			stop(c, ts);
		return PROTO_NO;
	}
	if (adopt(c, ops, d, v == PROTO_IS_REQUEST) < 0) {
		stats__in(ST_PROTO, 1);
		stats__drop(ST_PROTO, DROP_NO_MEMORY, 1);
		stop(c, ts);
		return PROTO_NO;
	}
	*ret_off = (size_t)off;
	return v;
}

/* Runs on what is buffered, after the parser before has ended or while there was none. */
static void detect_buffered(struct proto_conn *c, struct direction *d)
{
	size_t off;

	if (!d->buf.len)
		return;
	switch (recognise(c, d, d->buf.data, d->buf.len, d->ts_last, &off)) {
	case PROTO_MAYBE:
		return;
	case PROTO_NO:
		drop_bytes(d);
		return;
	default:
		consume(d, off);
		present_seen(c, d, d->seen, d->ts_last);
	}
}

/* What was held belongs to whatever comes now; bytes with holes in them tell nothing. */
static void flatten(struct proto_conn *c, struct direction *d)
{
	struct queue *q = d->queue;
	uint64_t hidden = 0;

	d->held = false;
	for (unsigned int i = 0; q && i < q->n; i++) {
		struct item *item = &q->items[i];

		if (item->skip) {
			hidden += item->n;
			continue;
		}
		if (!d->seen)
			d->ts_first = item->ts;
		d->ts_last = item->ts;
		d->seen += item->n;
	}
	if (q)
		q->n = 0;
	if (hidden) {
		drop_bytes(d);
		d->pos += hidden;
		in_midstream(c);
	}
}

static void leave_tunnel(struct proto_conn *c, uint64_t ts)
{
	c->tunnel = false;
	end_parser(c, ts);
	c->tries = 1;
	c->newest = NULL;
	c->io.clean = true;
	flatten(c, &c->dirs[0]);
	flatten(c, &c->dirs[1]);
	for (int i = 0; i < 2 && !c->stopped && !c->tunnel; i++) {
		if (!c->ops)
			detect_buffered(c, &c->dirs[i]);
	}
}

/* One round over both directions; true if that may have made more possible. */
static bool settle_once(struct proto_conn *c)
{
	bool adopted = c->adopted, moved = adopted;

	c->adopted = false;
	for (int i = 0; i < 2 && !c->stopped && !c->tunnel; i++) {
		struct direction *d = &c->dirs[i];

		if (d->held)
			moved |= replay(c, d);
		else if (adopted && d->seen)
			present_seen(c, d, d->seen, d->ts_last);
		if (d->ended && !d->end_told && !d->held && !c->stopped && !c->tunnel) {
			do_eof(c, d);
			moved = true;
		}
	}
	return moved || c->tunnel;
}

/* Lets everything happen that the last call made possible. */
static void settle(struct proto_conn *c, uint64_t ts)
{
	const struct direction *a = &c->dirs[0], *b = &c->dirs[1];

	/* Mostly nothing: both directions are open, and the parser has taken what it wants. */
	if (!(c->tunnel | c->adopted | a->held | b->held | a->ended | b->ended))
		return;
	do {
		if (c->tunnel)
			leave_tunnel(c, ts);
	} while (!c->stopped && c->ops && settle_once(c));
}

/* ---- interface ---------------------------------------------------------------------------------- */

struct proto_conn *proto_conn__new(const struct conn_info *info, const struct proto_events *ev)
{
	struct proto_conn *c = mem__zalloc(sizeof(*c));

	if (!c)
		return NULL;
	c->ev = *ev;
	c->io.sink = ev->sink;
	c->io.skip_hint = ev->skip_hint;
	c->io.ctx = ev->ctx;
	c->io.conn = info;
	c->io.xid = &c->xid;
	c->tries = info->born ? 1 : TRIES_MIDSTREAM;
	c->transfers = TRANSFERS_MIDSTREAM;
	c->io.clean = info->born;
	dynbuf__init(&c->dirs[0].buf, PROTO_DETECT_MAX);
	dynbuf__init(&c->dirs[1].buf, PROTO_DETECT_MAX);
	return c;
}

/* Keeps what was left over. */
static void keep(struct proto_conn *c, struct direction *d, const uint8_t *data, size_t len, uint64_t ts)
{
	size_t done;

	if (len == 0)
		return;
	if (!d->seen)
		d->ts_first = ts;
	if (dynbuf__append(&d->buf, data, len) == 0) {
		d->seen += len;
		d->ts_last = ts;
		return;
	}
	if (!c->ops || c->tunnel) {
		drop_bytes(d);
		d->pos += len;
		in_midstream(c);
		return;
	}
	/* No memory. The parser may still make something of these. */
	done = present(c, d, data, len, 0, ts, ts, true);
	if (c->stopped)
		return;
	d->pos += done;
	if (c->tunnel)
		d->pos += len - done;
	else
		tell_skip(c, d, len - done, ts, true);
}

static void feed_direct(struct proto_conn *c, struct direction *d, const uint8_t *data, size_t len, uint64_t ts)
{
	size_t done = present(c, d, data, len, 0, ts, ts, false);

	if (c->stopped)
		return;
	d->pos += done;
	if (done == len)
		return;
	if (d->held)
		hold_data(c, d, data + done, len - done, ts);
	else
		keep(c, d, data + done, len - done, ts);
}

/* Bytes that continue buffered ones: in pieces, if the buffer cannot take all of them at once. */
static void feed_buffered(struct proto_conn *c, struct direction *d, const uint8_t *data, size_t len, uint64_t ts)
{
	while (len && d->buf.len && !c->stopped && !c->tunnel && !d->held) {
		size_t room = d->buf.max - d->buf.len, n = len < room ? len : room, old = d->seen;

		if (n == 0 || dynbuf__append(&d->buf, data, n) < 0) {
			do_skip(c, d, 0, ts, true);
			break;
		}
		d->seen += n;
		present_seen(c, d, old, ts);
		data += n;
		len -= n;
	}
	if (!len || c->stopped)
		return;
	if (c->tunnel)
		keep(c, d, data, len, ts);
	else if (d->held)
		hold_data(c, d, data, len, ts);
	else
		feed_direct(c, d, data, len, ts);
}

/* In mid-stream what was kept may be the end of anything: a message that clearly begins here is none of its. */
static bool begins(const uint8_t *data, size_t len)
{
	const struct proto_ops *ops;
	enum proto_verdict v = detect(data, len, &ops);

	return v == PROTO_IS_REQUEST || v == PROTO_IS_RESPONSE;
}

static void detect_push(struct proto_conn *c, struct direction *d, const uint8_t *data, size_t len, uint64_t ts)
{
	size_t off;

	if (d->buf.len && !c->io.clean && begins(data, len))
		drop_bytes(d);
	if (d->buf.len) {
		size_t room = PROTO_DETECT_MAX - d->buf.len; /* not negative: so much would have been a NO */
		size_t n = len < room ? len : room;

		if (dynbuf__append(&d->buf, data, n) < 0) {
			drop_bytes(d);
			d->pos += len;
			in_midstream(c);
			return;
		}
		d->seen += n;
		d->ts_last = ts;
		detect_buffered(c, d);
		if (c->stopped || n == len)
			return;
		if (!c->ops) { /* not recognised, and this was all that could be kept */
			d->pos += len - n;
			return;
		}
		feed_buffered(c, d, data + n, len - n, ts);
		return;
	}
	switch (recognise(c, d, data, len, ts, &off)) {
	case PROTO_MAYBE:
		keep(c, d, data, len, ts);
		return;
	case PROTO_NO:
		d->pos += len;
		return;
	default:
		d->pos += off;
		feed_direct(c, d, data + off, len - off, ts);
	}
}

/* Bytes are expected at d->pos + what is waiting; a caller that leaves a hole, or repeats itself, is corrected. */
static bool align(struct proto_conn *c, enum ws_dir dir, const uint8_t **data, size_t *len, uint64_t pos, uint64_t ts)
{
	struct direction *d = &c->dirs[dir];
	uint64_t expected = d->pos + d->buf.len;

	for (unsigned int i = 0; d->queue && i < d->queue->n; i++)
		expected += d->queue->items[i].skip ? d->queue->items[i].n : 0;
	if (!d->known) {
		d->known = true;
		d->pos = pos;
	} else if (pos > expected) {
		proto_conn__skip(c, dir, expected, pos - expected, ts, true);
	} else if (pos < expected) {
		if (expected - pos >= *len)
			return false;
		*data += expected - pos;
		*len -= expected - pos;
	}
	return !c->stopped && *len > 0;
}

void proto_conn__push(struct proto_conn *c, enum ws_dir dir, const uint8_t *data, size_t len, uint64_t pos,
		      uint64_t ts_ns)
{
	struct direction *d = &c->dirs[dir];

	if (c->stopped || d->ended || !align(c, dir, &data, &len, pos, ts_ns))
		return;
	if (!c->ops)
		detect_push(c, d, data, len, ts_ns);
	else if (d->held)
		hold_data(c, d, data, len, ts_ns);
	else if (d->buf.len)
		feed_buffered(c, d, data, len, ts_ns);
	else
		feed_direct(c, d, data, len, ts_ns);
	settle(c, ts_ns);
}

void proto_conn__skip(struct proto_conn *c, enum ws_dir dir, uint64_t pos, uint64_t n, uint64_t ts_ns, bool lost)
{
	struct item item = { .skip = true, .lost = lost, .n = n, .ts = ts_ns };
	struct direction *d = &c->dirs[dir];

	if (c->stopped || d->ended)
		return;
	if (!d->known) {
		d->known = true;
		d->pos = pos;
	}
	if (!c->ops) {
		drop_bytes(d);
		d->pos += n;
		in_midstream(c);
		return;
	}
	if (!d->held)
		do_skip(c, d, n, ts_ns, lost);
	else if (!enqueue(d, &item))
		give_up_holding(c, d, n, ts_ns);
	settle(c, ts_ns);
}

void proto_conn__tail(struct proto_conn *c, enum ws_dir dir, const uint8_t *data, size_t len, uint64_t pos, uint64_t ts_ns)
{
	struct direction *d = &c->dirs[dir];
	int known = 0;

	if (c->ops && c->ops->tail && !c->stopped && !c->tunnel && !d->ended && !d->held && !d->buf.len)
		known = c->ops->tail(c->st, proto_dir(c, d), data, len, pos, ts_ns, &c->io);
	if (known < 0) {
		proto_conn__push(c, dir, data, len, pos, ts_ns);
	} else if (known) {
		d->pos += len;
		settle(c, ts_ns);
	} else {
		proto_conn__skip(c, dir, pos, len, ts_ns, false);
	}
}

void proto_conn__eof(struct proto_conn *c, enum ws_dir dir, uint64_t ts_ns, int err)
{
	struct direction *d = &c->dirs[dir];

	if (c->stopped || d->ended)
		return;
	d->ended = true;
	d->end_err = err;
	d->end_ts = ts_ns;
	if (c->ops)
		settle(c, ts_ns);
	else
		drop_bytes(d);
}

void proto_conn__free(struct proto_conn *c, uint64_t ts_ns)
{
	if (!c)
		return;
	for (int i = 0; i < 2; i++) {
		struct direction *d = &c->dirs[i];

		if (d->held && !c->stopped)
			give_up_holding(c, d, 0, ts_ns);
		if (c->ops && !c->stopped && d->ended && !d->end_told)
			do_eof(c, d);
	}
	end_parser(c, ts_ns);
	for (int i = 0; i < 2; i++) {
		dynbuf__free(&c->dirs[i].buf);
		mem__free(c->dirs[i].queue);
	}
	mem__free(c);
}

const char *proto_conn__name(const struct proto_conn *c)
{
	return c->ops ? c->ops->name : NULL;
}

size_t proto_conn__buffered(const struct proto_conn *c)
{
	return c->dirs[0].buf.len + c->dirs[1].buf.len;
}
