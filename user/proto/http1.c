// SPDX-License-Identifier: Apache-2.0
/*
 * HTTP/1.0 and 1.1 (RFC 9112): one state machine per direction, and a queue of the requests that wait for their answer.
 *
 * Framing is exact where every byte was seen, or where arithmetic covers what was not (a body of known length). Where
 * it does not, the direction is *lost*: nothing is taken for a message there until one clearly starts at the front of
 * a transfer.
 *
 * Responses carry no name of their request; they come in the order of the requests. That order is only as good as our
 * sight of both directions, so a hole that may hide a head leaves the connection *shaken*: from then on a response is
 * believed to answer a request only if that is the only one open. One such exchange, begun after the last hole, shows
 * that both directions are in step again. While it is shaken an apparent pipeline is given up and counted, not guessed
 * at.
 */
#include "user/model/error_type.h"
#include "user/proto/http1.h"

#include <errno.h>

#include "user/base/mem.h"
#include "user/model/stats.h"
#include "user/proto/http1_attrs.h"
#include "user/model/chunked.h"
#include "user/proto/http1_head.h"
#include "user/proto/http1_state.h"
#include "user/proto/proto.h"

#define HINT_MIN 4096 /* shorter bodies are not worth a word to the kernel */
#define CHUNK_LINE_MAX 4096
/* An answer that is that much older than its request is none: the latter's record is stamped after its send. */
#define SURPLUS_NS 50000000ull
#define TRAILER_MAX HTTP1_HEAD_MAX

/* ---- messages ---------------------------------------------------------------------------------------- */

static void emit(const struct proto_io *io, const struct msg *m)
{
	io->sink.emit(io->sink.ctx, m);
}

static void emit_end(const struct proto_io *io, enum msg_kind kind, uint64_t xid, uint64_t pos, uint64_t ts)
{
	struct msg m = { .kind = kind, .xid = xid, .pos = pos, .ts_ns = ts, .scheme = "http1" };

	emit(io, &m);
}

static void emit_abort(const struct proto_io *io, uint64_t xid, uint64_t ts, const char *error)
{
	struct msg m = {
		.kind = MSG_ABORT,
		.flags = error ? MSG_ERROR : 0,
		.xid = xid,
		.ts_ns = ts,
		.scheme = "http1",
		.error_type = error,
	};

	emit(io, &m);
}

#define CLIENT_CLOSED "client_closed"

/* Short identifiers, as error.type wants them where there is no status: an error, or who ended the connection. */
static const char *error_name(int err, bool by_client)
{
	return err ? error_type__of_errno(err) : by_client ? CLIENT_CLOSED : "response_ended";
}

static void abort_first(struct http1 *h, uint64_t ts, const char *error, const struct proto_io *io)
{
	uint64_t xid = http1_open__at(h, 0)->xid;
	bool had_enough = http1_open__at(h, 0)->events && error && !strcmp(error, CLIENT_CLOSED);

	http1_open__pop(h);
	for (int i = 0; i < 2; i++) {
		if (h->flow[i].xid == xid)
			h->flow[i].xid = 0;
	}
	if (had_enough)
		emit_end(io, MSG_RESPONSE_END, xid, h->flow[PROTO_RESPONSE].end_pos, ts);
	else
		emit_abort(io, xid, ts, error);
}

static void abort_all(struct http1 *h, uint64_t ts, const char *error, const struct proto_io *io)
{
	while (h->count)
		abort_first(h, ts, error, io);
}

/* ---- losing and regaining sight ---------------------------------------------------------------------- */

static void go_lost(struct flow *f, bool chunked, uint64_t pos, uint64_t ts)
{
	f->state = LOST;
	f->lost_chunked = chunked;
	f->fresh = true;
	f->passing = false;
	f->body = -1;
	f->end_pos = pos;
	f->end_ts = ts;
}

static void shake(struct http1 *h)
{
	h->shaken = true;
	h->holes++;
}

/* Which response answers which request can no longer be told. */
static void lose_pairs(struct http1 *h, uint64_t ts, const struct proto_io *io)
{
	abort_all(h, ts, NULL, io);
	shake(h);
}

/*
 * Requests waited for their answers when the framing of the first one's was hidden, and nothing has shown its end since:
 * which of them are answered cannot be known.
 */
static void settle_doubt(struct http1 *h, const struct proto_io *io)
{
	if (!h->doubt)
		return;
	h->doubt = false;
	lose_pairs(h, h->flow[PROTO_RESPONSE].end_ts, io);
}

/* Bytes passed unseen that may have held the start of a message. */
static void on_hole(struct http1 *h, enum proto_dir dir, uint64_t pos, uint64_t ts, const struct proto_io *io)
{
	go_lost(&h->flow[dir], false, pos, ts);
	shake(h);
	if (dir == PROTO_RESPONSE && h->count)
		lose_pairs(h, ts, io);
}

/* What cannot be read: the rest of this transfer is passed over, until a message clearly starts again. */
static ssize_t malformed(struct http1 *h, const struct slice *s, const struct proto_io *io)
{
	http1_book__drop(&h->flow[s->dir], DROP_MALFORMED);
	stats.gap_bytes += s->len;
	on_hole(h, s->dir, s->pos + s->len, s->ts_ns, io);
	h->flow[s->dir].passing = true;
	return (ssize_t)s->len;
}

/* ---- ends -------------------------------------------------------------------------------------------- */

static void end_request(struct http1 *h, uint64_t pos, uint64_t ts, const struct proto_io *io)
{
	struct flow *f = &h->flow[PROTO_REQUEST];
	struct exchange *e = f->xid ? http1_open__find(h, f->xid) : NULL;

	if (e)
		e->sizes.request_body = f->body;
	if (f->xid)
		emit_end(io, MSG_REQUEST_END, f->xid, pos, ts);
	f->xid = 0;
}

static void end_response(struct http1 *h, uint64_t pos, uint64_t ts, const struct proto_io *io)
{
	struct flow *f = &h->flow[PROTO_RESPONSE];
	struct exchange *e = h->count ? http1_open__at(h, 0) : NULL;
	struct attr attrs[HTTP1_ATTRS_MAX];
	struct msg m = { .kind = MSG_RESPONSE_END, .pos = pos, .ts_ns = ts, .scheme = "http1" };

	if (!f->xid || !e)
		return;
	m.xid = e->xid;
	e->sizes.response_body = f->body;
	http1_attrs__sizes(&m, attrs, &e->sizes);
	if (e->alone && e->holes == h->holes && f->state != LOST)
		h->shaken = false;
	http1_open__pop(h);
	f->xid = 0;
	emit(io, &m);
}

static void end_message(struct http1 *h, enum proto_dir dir, uint64_t pos, uint64_t ts, const struct proto_io *io)
{
	if (dir == PROTO_REQUEST)
		end_request(h, pos, ts, io);
	else
		end_response(h, pos, ts, io);
	h->flow[dir].state = HEAD;
}

/* A message whose framing was lost has ended somewhere before what comes now: at the last byte known of it. */
static void end_lost(struct http1 *h, enum proto_dir dir, const struct proto_io *io)
{
	struct flow *f = &h->flow[dir];

	if (f->state != LOST || !f->xid)
		return;
	if (dir == PROTO_REQUEST)
		end_request(h, f->end_pos, f->end_ts, io);
	else
		end_response(h, f->end_pos, f->end_ts, io);
	f->lost_chunked = false;
}

/* ---- requests ------------------------------------------------------------------------------------------ */

/* A message that is complete but for its body. `end` is the position behind the head. */
static void begin_body(struct http1 *h, enum proto_dir dir, const struct http1_head *head, bool none, uint64_t end,
		       uint64_t ts, const struct proto_io *io)
{
	struct flow *f = &h->flow[dir];
	int64_t length = head->content_length;

	f->body = 0;
	f->trailer = 0;
	f->believed = f->owed = false;
	if (dir == PROTO_REQUEST)
		f->end_pos = end;
	if (none) {
		end_message(h, dir, end, ts, io);
	} else if (head->cut) {
		go_lost(f, false, end, ts);
	} else if (head->chunked) {
		f->state = CHUNK_LINE;
	} else if ((length == 0 && !head->transfer_encoding) || (dir == PROTO_REQUEST && length < 0)) {
		end_message(h, dir, end, ts, io);
	} else if (length > 0 && !head->transfer_encoding) {
		f->state = BODY;
		f->left = (uint64_t)length;
		if (length >= HINT_MIN && io->skip_hint)
			io->skip_hint(io->ctx, dir, end, (uint64_t)length);
	} else {
		f->state = UNTIL_EOF;
		f->end_pos = end;
		if (io->skip_hint)
			io->skip_hint(io->ctx, dir, end, UINT64_MAX);
	}
}

/* Heads that different receivers frame differently (RFC 9112, 6.1 to 6.3). */
static bool request_is_sound(const struct http1_head *head)
{
	if (head->cut)
		return true;
	return !head->transfer_encoding || (head->chunked && head->version[2] != '0');
}

static ssize_t on_request(struct http1 *h, const struct slice *s, const struct http1_head *head, size_t len,
			  const struct proto_io *io)
{
	struct flow *f = &h->flow[PROTO_REQUEST];
	struct attr attrs[HTTP1_ATTRS_MAX];
	struct msg m = { .kind = MSG_REQUEST, .pos = s->pos, .ts_ns = s->ts_first, .scheme = "http1" };
	struct exchange *e;
	int err = 0;

	if (!request_is_sound(head))
		return malformed(h, s, io);
	if (h->count == 1) /* who sends the next request has the answer to the last one */
		end_lost(h, PROTO_RESPONSE, io);
	e = http1_open__push(h, &err);
	if (!e) {
		http1_book__drop(f, err == -ENOMEM ? DROP_NO_MEMORY : DROP_EXCHANGE_TABLE_FULL);
		return err;
	}
	e->xid = m.xid = ++*io->xid;
	e->holes = h->holes;
	e->begun = s->ts_first;
	e->head = str__eq(head->method, STR("HEAD"));
	e->connect = str__eq(head->method, STR("CONNECT"));
	e->upgrade = head->upgrade && head->version[2] != '0';
	e->expect = head->expect;
	e->sizes = (struct http1_sizes){ .request_head = (int64_t)len, .request_body = -1, .response_body = -1 };
	http1_attrs__request(&m, attrs, head, io->conn, &h->peers);
	e->media = http1_attrs__telemetry(&m, head);
	http1_book__out(f);
	f->xid = e->xid;
	emit(io, &m);
	begin_body(h, PROTO_REQUEST, head, false, s->pos + len, s->ts_ns, io);
	return (ssize_t)len;
}

/* ---- responses ----------------------------------------------------------------------------------------- */

static void emit_response(struct exchange *e, const struct slice *s, const struct http1_head *head,
			  const struct proto_io *io)
{
	char text[4] = { (char)('0' + head->status / 100), (char)('0' + head->status / 10 % 10),
			 (char)('0' + head->status % 10), '\0' };
	struct attr attr = attr__int("http.response.status_code", head->status);
	struct msg m = {
		.kind = MSG_RESPONSE,
		.xid = e->xid,
		.pos = s->pos,
		.ts_ns = s->ts_first,
		.scheme = "http1",
		.status = { text, 3 },
		.attrs = &attr,
		.n_attrs = 1,
	};

	if (head->status >= (io->conn->role == WS_ROLE_CLIENT ? 400 : 500)) {
		m.flags = MSG_ERROR;
		m.error_type = text;
	}
	m.flags |= http1_attrs__telemetry_answer(head, e->media);
	e->events = http1_attrs__is_events(head);
	emit(io, &m);
}

/* A response that no request is known for. Its length cannot be known either: HEAD may have been asked. */
static ssize_t on_unmatched(struct http1 *h, const struct slice *s, size_t len)
{
	struct flow *f = &h->flow[PROTO_RESPONSE];

	http1_book__drop(f, DROP_UNMATCHED);
	f->xid = 0;
	go_lost(f, false, s->pos + len, s->ts_ns);
	return (ssize_t)len;
}

/* Answered before any of a body that it had asked leave for: whether that still comes its first bytes show. */
static void end_unsent(struct http1 *h, const struct exchange *e, uint64_t ts, const struct proto_io *io)
{
	struct flow *f = &h->flow[PROTO_REQUEST];
	bool unsent = (f->state == BODY && !f->body) || f->state == CHUNK_LINE;

	if (!e->expect || !unsent || f->body)
		return;
	end_message(h, PROTO_REQUEST, f->end_pos, ts, io);
	f->owed = true;
}

static ssize_t on_response(struct http1 *h, const struct slice *s, const struct http1_head *head, size_t len,
			   const struct proto_io *io)
{
	struct flow *f = &h->flow[PROTO_RESPONSE];
	struct exchange *e;
	bool none, ends_http;

	if (head->status < 200 && head->status != 101) {
		/* Interim: the beginning of the message whose head is yet to come. */
		http1_book__begin(f);
		f->scan = 0;
		if (head->cut)
			go_lost(f, false, s->pos + len, s->ts_ns);
		return (ssize_t)len;
	}
	if (h->shaken && h->count > 1)
		lose_pairs(h, s->ts_ns, io);
	e = h->count ? http1_open__at(h, 0) : NULL;
	if (!e || s->ts_first + SURPLUS_NS < e->begun)
		return on_unmatched(h, s, len);
	if (h->flow[PROTO_REQUEST].xid == e->xid) {
		end_lost(h, PROTO_REQUEST, io);
		end_unsent(h, e, s->ts_ns, io);
	}
	e->alone = h->count == 1;
	e->sizes.response_head = (int64_t)len;
	f->xid = e->xid;
	http1_book__out(f);
	emit_response(e, s, head, io);
	ends_http = head->status == 101 || (e->connect && head->status / 100 == 2);
	none = ends_http || e->head || head->status == 204 || head->status == 304;
	begin_body(h, PROTO_RESPONSE, head, none, s->pos + len, s->ts_ns, io);
	h->tunnel |= ends_http;
	return (ssize_t)len;
}

/* A chunked body whose framing is hidden seems to end here: known again, because this was seen. */
static void believe_end(struct http1 *h, enum proto_dir dir, uint64_t pos, uint64_t ts, const struct proto_io *io)
{
	struct flow *f = &h->flow[dir];

	f->state = TRAILER;
	end_message(h, dir, pos, ts, io);
	f->believed = true;
}

/* ---- heads --------------------------------------------------------------------------------------------- */

/* Behind CONNECT and Upgrade it is for the response to say what the next bytes are; they wait for its end. */
static bool awaits_switch(struct http1 *h)
{
	struct exchange *last = h->count ? http1_open__at(h, h->count - 1) : NULL;

	return last && (last->connect || last->upgrade);
}

static ssize_t too_long(struct http1 *h, const struct slice *s, const struct proto_io *io)
{
	struct flow *f = &h->flow[s->dir];

	http1_book__drop(f, DROP_TRUNCATED);
	on_hole(h, s->dir, s->pos + s->len, s->ts_ns, io);
	return (ssize_t)s->len;
}

/* Where no answer is due a request may have any method; else this may be a body. */
static int is_head(const struct http1 *h, const struct slice *s)
{
	return s->dir == PROTO_REQUEST ? http1_head__is_request(s->data, s->len, h->count > 0) :
					 http1_head__is_response(s->data, s->len);
}

/* The body goes on behind the end that was believed. Its exchange is over; what follows is not to suffer from it. */
static ssize_t disbelieve(struct http1 *h, const struct slice *s, const struct proto_io *io)
{
	h->flow[s->dir].believed = h->flow[s->dir].owed = false;
	stats.gap_bytes += s->len;
	on_hole(h, s->dir, s->pos + s->len, s->ts_ns, io);
	h->flow[s->dir].passing = true;
	return (ssize_t)s->len;
}

static bool begins(const struct http1 *h, const struct slice *s)
{
	return is_head(h, s) >= 0 || (s->dir == PROTO_REQUEST && http1_head__resembles_request(s->data, s->len) >= 0);
}

/* Behind a hole: the rest of something that was under way. Whoever waits for an answer still does. */
static ssize_t pass_by(struct http1 *h, const struct slice *s)
{
	stats.gap_bytes += s->len;
	go_lost(&h->flow[s->dir], false, s->pos + s->len, s->ts_ns);
	h->flow[s->dir].passing = true;
	return (ssize_t)s->len;
}

static ssize_t parse_head(struct http1 *h, const struct slice *s, const struct proto_io *io)
{
	struct flow *f = &h->flow[s->dir];
	size_t max = s->len < HTTP1_HEAD_MAX ? s->len : HTTP1_HEAD_MAX, blank = 0;
	bool request = s->dir == PROTO_REQUEST, cut = s->cut || s->len >= HTTP1_HEAD_MAX;
	struct slice part = *s;
	struct http1_head head;
	ssize_t n;

	if (request && awaits_switch(h))
		return PROTO_HOLD;
	/* RFC 9112, 2.2: empty lines before a request line are ignored; some servers send them behind a body. */
	while (blank < s->len && (s->data[blank] == '\r' || s->data[blank] == '\n'))
		blank++;
	if (blank)
		return (ssize_t)blank;
	if ((f->believed && is_head(h, s) < 0) || (f->owed && http1_head__is_request(s->data, s->len, true) < 0))
		return disbelieve(h, s, io);
	if (h->shaken && !f->counted && !begins(h, s))
		return pass_by(h, s);
	if (!request && !h->count && !h->shaken && !s->cut) {
		http1_book__begin(f);
		f->waits = true;
		return PROTO_HOLD;
	}
	f->waits = false;
	part.len = max;
	n = http1_head__parse(&head, request, s->data, max, cut, &f->scan);
	if (n < 0) {
		if (!request && h->count)
			abort_first(h, s->ts_ns, "invalid_response", io);
		return malformed(h, s, io);
	}
	if (n == 0 && cut)
		return too_long(h, &part, io);
	if (n == 0) {
		http1_book__begin(f);
		return 0;
	}
	return request ? on_request(h, s, &head, (size_t)n, io) : on_response(h, s, &head, (size_t)n, io);
}

/* ---- bodies -------------------------------------------------------------------------------------------- */

static ssize_t parse_body(struct http1 *h, const struct slice *s, const struct proto_io *io)
{
	struct flow *f = &h->flow[s->dir];
	size_t n = s->len < f->left ? s->len : (size_t)f->left;

	f->left -= n;
	f->body += (int64_t)n;
	if (f->left)
		return (ssize_t)n;
	if (f->state == CHUNK_DATA)
		f->state = CHUNK_END;
	else
		end_message(h, s->dir, s->pos + n, s->ts_ns, io);
	return (ssize_t)n;
}

static ssize_t parse_chunk_line(struct http1 *h, const struct slice *s, const struct proto_io *io)
{
	struct flow *f = &h->flow[s->dir];
	size_t used;
	ssize_t len = chunked__line(s->data, s->len, &used);
	int64_t size;

	if (len < 0)
		return s->len < CHUNK_LINE_MAX ? 0 : malformed(h, s, io);
	size = chunked__size(s->data, (size_t)len);
	if (size < 0)
		return malformed(h, s, io);
	f->left = (uint64_t)size;
	f->state = size ? CHUNK_DATA : TRAILER;
	if (size >= HINT_MIN && io->skip_hint)
		io->skip_hint(io->ctx, s->dir, s->pos + used, (uint64_t)size);
	return (ssize_t)used;
}

static ssize_t parse_chunk_end(struct http1 *h, const struct slice *s, const struct proto_io *io)
{
	struct flow *f = &h->flow[s->dir];
	size_t used;

	if (s->data[0] == '\r' && s->len < 2)
		return 0;
	if (chunked__line(s->data, s->len, &used) != 0)
		return malformed(h, s, io);
	f->state = CHUNK_LINE;
	return (ssize_t)used;
}

static ssize_t parse_trailer(struct http1 *h, const struct slice *s, const struct proto_io *io)
{
	struct flow *f = &h->flow[s->dir];
	size_t used;
	ssize_t len = chunked__line(s->data, s->len, &used);

	if (len < 0)
		return f->trailer + s->len < TRAILER_MAX ? 0 : malformed(h, s, io);
	f->trailer += used;
	if (f->trailer > TRAILER_MAX)
		return malformed(h, s, io);
	if (len == 0)
		end_message(h, s->dir, s->pos + used, s->ts_ns, io);
	return (ssize_t)used;
}

/* ---- lost ---------------------------------------------------------------------------------------------- */

static ssize_t parse_lost(struct http1 *h, const struct slice *s, const struct proto_io *io)
{
	struct flow *f = &h->flow[s->dir];
	size_t keep = 0;
	int start;

	if (s->dir == PROTO_REQUEST && awaits_switch(h) && !f->xid)
		return PROTO_HOLD;
	start = s->dir == PROTO_REQUEST ? http1_head__is_request(s->data, s->len, true) :
					  http1_head__is_response(s->data, s->len);
	/* Who has had all answers may ask with any method; while one is due this may be its body. */
	if (start < 0 && s->dir == PROTO_REQUEST && !h->count && http1_head__is_request(s->data, s->len, false) > 0)
		start = 1;
	if (start == 0 && !s->cut)
		return 0;
	if (start > 0) {
		end_lost(h, s->dir, io);
		f->state = HEAD;
		return parse_head(h, s, io);
	}
	if (f->lost_chunked && f->xid && chunked__last_at_end(s->data, s->len, f->fresh, &keep)) {
		believe_end(h, s->dir, s->pos + s->len, s->ts_ns, io);
		return (ssize_t)s->len;
	}
	if (keep == s->len && !s->cut)
		return 0;
	if (f->passing)
		stats.gap_bytes += s->len - keep;
	f->fresh = false;
	f->end_pos = s->pos + s->len - keep;
	f->end_ts = s->ts_ns;
	return (ssize_t)(s->len - keep);
}

/* ---- the table's slots ----------------------------------------------------------------------------------- */

static struct http1 *http1_state(void *st, const struct proto_io *io)
{
	struct http1 *h = st;

	if (!h->started) {
		h->started = true;
		h->ring = h->inline_ring;
		h->cap = RING_INLINE;
		h->shaken = !io->clean;
	}
	return h;
}

static enum proto_verdict http1_detect(const uint8_t *data, size_t len)
{
	size_t i = 0;
	int request, response;

	while (i < len && (data[i] == '\r' || data[i] == '\n'))
		i++;
	if (i == len)
		return PROTO_MAYBE;
	request = http1_head__is_request(data + i, len - i, false);
	if (request > 0)
		return PROTO_IS_REQUEST;
	response = i ? -1 : http1_head__is_response(data, len);
	if (response > 0)
		return PROTO_IS_RESPONSE;
	/* What a server may take for a request is one here, too: read leniently, or counted as malformed. */
	if (request < 0 && response < 0)
		request = http1_head__resembles_request(data + i, len - i);
	if (request > 0)
		return PROTO_IS_REQUEST;
	return request == 0 || response == 0 ? PROTO_MAYBE : PROTO_NO;
}

static ssize_t http1_parse(void *st, const struct slice *s, const struct proto_io *io)
{
	struct http1 *h = http1_state(st, io);

	if (h->tunnel)
		return PROTO_END_TUNNEL;
	settle_doubt(h, io);
	switch (h->flow[s->dir].state) {
	case HEAD:
		return parse_head(h, s, io);
	case BODY:
	case CHUNK_DATA:
		return parse_body(h, s, io);
	case CHUNK_LINE:
		return parse_chunk_line(h, s, io);
	case CHUNK_END:
		return parse_chunk_end(h, s, io);
	case TRAILER:
		return parse_trailer(h, s, io);
	case UNTIL_EOF:
		h->flow[s->dir].body += (int64_t)s->len;
		h->flow[s->dir].end_pos = s->pos + s->len;
		return (ssize_t)s->len;
	default:
		return parse_lost(h, s, io);
	}
}

/* The framing of a chunked body, or of a message whose head was cut, is hidden: n bytes, up to `pos`. */
static void skip_unframed(struct http1 *h, enum proto_dir dir, uint64_t pos, uint64_t n, uint64_t ts, bool lost,
			  const struct proto_io *io)
{
	struct flow *f = &h->flow[dir];
	bool was_lost = f->state == LOST;

	if (!lost) { /* left out on purpose: one transfer's bytes, its neighbours were seen */
		go_lost(f, was_lost ? f->lost_chunked : true, pos, ts);
		if (dir == PROTO_RESPONSE && f->xid && h->count > 1) { /* whole answers may be in there */
			h->doubt = true;
			stats.gap_bytes += n;
		}
		return;
	}
	shake(h);
	/* More than this message's end may have been lost, and what ends next need not be it. */
	if (dir == PROTO_RESPONSE && f->xid) {
		abort_first(h, ts, NULL, io);
		if (h->count)
			lose_pairs(h, ts, io);
	}
	if (!was_lost)
		go_lost(f, false, pos, ts);
	f->lost_chunked = false;
}

static int http1_skip(void *st, enum proto_dir dir, uint64_t pos, uint64_t n, uint64_t ts, bool lost,
		      const struct proto_io *io)
{
	struct http1 *h = http1_state(st, io);
	struct flow *f = &h->flow[dir];
	uint64_t covered;

	settle_doubt(h, io);
	if (n == 0 && !lost) {
		/* Shaken it is already, and what comes next may well answer what the other direction has begun with. */
		if (f->state == HEAD && !f->counted)
			go_lost(f, false, pos, ts);
		return 0;
	}
	if (!lost && (f->state == HEAD || (f->state == LOST && !f->xid)))
		stats.gap_bytes += n; /* beyond what is captured: whole messages may be in there */
	if (f->counted) /* a head of which too little was seen */
		http1_book__drop(f, f->waits ? DROP_UNMATCHED : (lost ? DROP_GAP : DROP_TRUNCATED));
	switch (f->state) {
	case UNTIL_EOF:
		f->body += (int64_t)n;
		f->end_pos = pos + n;
		return 0;
	case BODY:
	case CHUNK_DATA:
		covered = n < f->left ? n : f->left;
		f->left -= covered;
		f->body += (int64_t)covered;
		if (f->left == 0 && f->state == BODY)
			end_message(h, dir, pos + covered, ts, io);
		else if (f->left == 0)
			f->state = CHUNK_END;
		if (!lost && n > covered && f->state == HEAD)
			stats.gap_bytes += n - covered;
		if (n > covered && f->state == HEAD)
			on_hole(h, dir, pos + n, ts, io);
		else if (n > covered)
			skip_unframed(h, dir, pos + n, n - covered, ts, lost, io);
		return 0;
	case LOST:
		if (f->xid)
			skip_unframed(h, dir, pos + n, n, ts, lost, io);
		else
			on_hole(h, dir, pos + n, ts, io);
		return 0;
	case HEAD:
		on_hole(h, dir, pos + n, ts, io);
		return 0;
	default:
		skip_unframed(h, dir, pos + n, n, ts, lost, io);
		return 0;
	}
}

static int http1_tail(void *st, enum proto_dir dir, const uint8_t *data, size_t len, uint64_t pos, uint64_t ts,
		      const struct proto_io *io)
{
	struct http1 *h = http1_state(st, io);
	struct flow *f = &h->flow[dir];
	size_t keep;

	if (f->state != LOST && f->state != HEAD)
		return -1;
	if (!f->lost_chunked || !f->xid || !chunked__last_at_end(data, len, false, &keep))
		return 0;
	believe_end(h, dir, pos + len, ts, io);
	/* In one transfer the first answer has ended, too, and at the same time; of the others not even that is known. */
	settle_doubt(h, io);
	return 1;
}

static void http1_eof(void *st, enum proto_dir dir, uint64_t ts, int err, const struct proto_io *io)
{
	struct http1 *h = http1_state(st, io);
	struct flow *f = &h->flow[dir];

	settle_doubt(h, io);
	if (f->counted)
		http1_book__drop(f, f->waits ? DROP_UNMATCHED : DROP_CONN_ENDED);
	if (!h->end_ts)
		h->end_ts = ts;
	if (dir == PROTO_REQUEST) {
		/* A response may have arrived all the same, and be read yet. */
		h->request_ended = true;
		h->err = err;
		return;
	}
	if (!err && f->state == UNTIL_EOF)
		end_message(h, dir, f->end_pos, ts, io);
	else if (!err)
		end_lost(h, dir, io);
	/* A client that has only ended its own direction still waits for what the server then ends. */
	abort_all(h, ts, error_name(err ? err : h->err, h->request_ended && io->conn->role == WS_ROLE_SERVER), io);
}

static void http1_fini(void *st, uint64_t ts, const struct proto_io *io)
{
	struct http1 *h = http1_state(st, io);

	settle_doubt(h, io);
	for (int i = 0; i < 2; i++) {
		if (h->flow[i].counted)
			http1_book__drop(&h->flow[i], h->flow[i].waits ? DROP_UNMATCHED : DROP_CONN_ENDED);
	}
	/* Without an end of either direction the connection was lost from sight, and nothing is said about it. */
	abort_all(h, h->request_ended ? h->end_ts : ts, h->request_ended ? error_name(h->err, true) : NULL, io);
	if (h->ring != h->inline_ring)
		mem__free(h->ring);
}

const struct proto_ops proto_http1 = {
	.name = "http1",
	.max_head = HTTP1_HEAD_MAX,
	.conn_size = sizeof(struct http1),
	.detect = http1_detect,
	.parse = http1_parse,
	.skip = http1_skip,
	.tail = http1_tail,
	.eof = http1_eof,
	.fini = http1_fini,
};
