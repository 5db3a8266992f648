// SPDX-License-Identifier: Apache-2.0
/*
 * One small state machine per socket and direction, because a header line may come in any number of pieces. It only
 * knows lines: "name: value", and lines that begin with white space and belong to the one before (RFC 9112 section 5.2).
 *
 * Bytes that were not captured are the difficulty: behind a hole inside a head nobody can tell whether the next byte
 * belongs to a cookie. There everything is blanked up to the end of the line, unless a message begins. A hole
 * outside of a head (a body that is skipped on purpose) is none: the next byte begins a line.
 *
 * Bodies are blanked where Content-Length or chunks say where they end, framing and next head excepted: a parser counts
 * them and looks no further. One that only the end of the connection ends stays: what is in it may be a head after all.
 */
#include "user/source/mask.h"

#include <ctype.h>
#include <errno.h>
#include <stdbool.h>
#include <string.h>

#include "user/base/hash.h"
#include "user/base/mem.h"
#include "user/model/chunked.h"
#include "user/model/secret.h"

#define STREAMS_MAX 131072u
#define NAME_LEN 128u /* longer than every name below */

enum state {
	ST_LINE,       /* at the first byte of a line */
	ST_NAME,       /* inside what may become a header name */
	ST_NAME_SPACE, /* white space behind it: "Cookie : x" is wrong, but servers exist that take it */
	ST_REST,       /* the rest of a line without secrets */
	ST_SECRET,     /* inside a value that is blanked */
	ST_SECRET_LF,  /* at the first byte of a line behind one: it may continue */
	ST_LENGTH,     /* the value of Content-Length, kept in `name` */
	ST_CODING,     /* of Transfer-Encoding */
	ST_FRONT,      /* behind the head of a response: its body, or, if HEAD was asked, the next head */
	ST_BODY,       /* `left` bytes of it are to come */
	ST_CHUNK_LINE, /* kept in `name` */
	ST_CHUNK,      /* as ST_BODY */
	ST_CHUNK_END,
	ST_URL_START,  /* in front of a URL: a request target, or the value of a header that is one */
	ST_URL,	       /* in front of its query */
	ST_AUTHORITY,  /* behind its "://" */
	ST_KEY,	       /* of the query; in `name`, which is full where the key is longer */
	ST_VALUE,
	ST_VALUE_SECRET,
};

struct stream_key {
	uint64_t sock;
	uint64_t dir;
};

struct stream {
	struct stream_key key;
	uint64_t next_pos; /* behind the last byte seen */
	uint32_t next_seq;
	uint8_t state;
	uint8_t name_len;
	bool in_head; /* a start line was seen, its blank line not yet */
	bool unknown; /* what came before the next byte was not seen */
	bool keep_queries;
	bool framed; /* of the head: its start line was seen as a whole, and nothing contradicts itself */
	bool response;
	bool coded, chunked; /* Transfer-Encoding; its last */
	int64_t length;	     /* Content-Length; -1: none */
	uint64_t left;
	char name[NAME_LEN]; /* of a header: lower case */
	UT_hash_handle hh;
};

struct mask {
	struct stream *streams;
	size_t n, max;
	bool keep_queries;
};

static const char *const secret_names[] = {
	"authorization", "proxy-authorization", "cookie", "cookie2", "set-cookie", "set-cookie2",
	"authentication-info", "proxy-authentication-info", "api-key", "apikey", "x-api-key", "x-apikey", "x-goog-api-key",
	"x-auth-token", "x-access-token", "x-auth-key", "x-csrf-token", "x-xsrf-token", "csrf-token", "x-session-token",
	"x-amz-security-token", "x-vault-token", "x-gitlab-token", "private-token", "job-token", "x-github-token",
	"x-forwarded-access-token", "x-id-token", "x-refresh-token", "x-session-id",
};

static const char *const url_names[] = {
	"location", "content-location", "referer", "x-original-url", "x-original-uri", "x-forwarded-uri", "x-rewrite-url",
};

static const char *const methods[] = {
	"get", "head", "post", "put", "delete", "connect", "options", "trace", "patch", "query",
};

struct mask *mask__new(size_t max_streams, bool keep_queries)
{
	struct mask *m = mem__zalloc(sizeof(*m));

	if (m)
		*m = (struct mask){ .max = max_streams ? max_streams : STREAMS_MAX, .keep_queries = keep_queries };
	return m;
}

static void forget(struct mask *m, struct stream *st)
{
	HASH_DELETE(hh, m->streams, st);
	m->n--;
	mem__free(st);
}

void mask__free(struct mask *m)
{
	struct stream *st, *tmp;

	if (!m)
		return;
	HASH_ITER(hh, m->streams, st, tmp)
		forget(m, st);
	mem__free(m);
}

static struct stream *find(struct mask *m, uint64_t sock, unsigned int dir)
{
	struct stream_key key = { sock, dir };
	struct stream *st;

	HASH_FIND(hh, m->streams, &key, sizeof(key), st);
	return st;
}

static struct stream *add(struct mask *m, uint64_t sock, unsigned int dir)
{
	struct stream *st;

	if (m->n >= m->max)
		return NULL;
	st = mem__zalloc(sizeof(*st));
	if (!st)
		return NULL;
	st->key = (struct stream_key){ sock, dir };
	st->keep_queries = m->keep_queries;
	HASH_ADD(hh, m->streams, key, sizeof(st->key), st);
	if (!st->hh.tbl) {
		mem__free(st);
		return NULL;
	}
	m->n++;
	return st;
}

/* tchar, RFC 9110 section 5.6.2 */
static bool is_token(unsigned char ch)
{
	return isalnum(ch) || (ch && strchr("!#$%&'*+-.^_`|~", ch));
}

static bool name_in(const struct stream *st, const char *const *names, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		if (strlen(names[i]) == st->name_len && memcmp(names[i], st->name, st->name_len) == 0)
			return true;
	}
	return false;
}

#define NAME_IN(st, names) name_in(st, names, sizeof(names) / sizeof(names[0]))

bool mask__is_header(struct str name)
{
	for (size_t i = 0; i < sizeof(secret_names) / sizeof(secret_names[0]); i++) {
		if (strlen(secret_names[i]) == name.len && strncasecmp(secret_names[i], name.p, name.len) == 0)
			return true;
	}
	return false;
}

/* What comes behind a header's colon. */
static enum state value_of(const struct stream *st)
{
	return NAME_IN(st, secret_names) ? ST_SECRET : NAME_IN(st, url_names) ? ST_URL_START : ST_REST;
}

static bool name_is(const struct stream *st, const char *name)
{
	return name_in(st, &name, 1);
}

/* The same for fields that say where the body ends. */
static enum state value_or_framing(struct stream *st)
{
	bool length = name_is(st, "content-length");

	if (!length && !name_is(st, "transfer-encoding"))
		return value_of(st);
	st->name_len = 0;
	return length ? ST_LENGTH : ST_CODING;
}

static void start_head(struct stream *st, bool whole)
{
	st->in_head = true;
	st->response = st->name_len >= 7 && memcmp(st->name, "http/1.", 7) == 0;
	st->framed = whole || st->response;
	st->coded = st->chunked = false;
	st->length = -1;
}

/* The value in `name`, without the white space around it. */
static struct str kept(const struct stream *st)
{
	struct str v = { st->name, st->name_len };

	for (; v.len && (v.p[0] == ' ' || v.p[0] == '\t'); v.len--)
		v.p++;
	while (v.len && strchr(" \t\r", v.p[v.len - 1]))
		v.len--;
	return v;
}

static void end_framing(struct stream *st)
{
	struct str v = kept(st);
	int64_t n = 0;

	if (st->state == ST_CODING) {
		st->coded = true;
		st->chunked = v.len >= 7 && memcmp(v.p + v.len - 7, "chunked", 7) == 0;
	} else {
		for (size_t i = 0; i < v.len && n >= 0; i++)
			n = isdigit((unsigned char)v.p[i]) && v.len <= 18 ? n * 10 + (v.p[i] - '0') : -1;
		if (!v.len || n < 0 || (st->length >= 0 && st->length != n))
			st->framed = false;
		st->length = n;
	}
	if (st->name_len == NAME_LEN)
		st->framed = false;
	st->state = ST_LINE;
}

/* The state behind the blank line. */
static enum state end_head(struct stream *st)
{
	bool framed = st->in_head && st->framed;

	st->in_head = st->framed = false;
	st->name_len = 0;
	if (framed && st->chunked)
		return ST_CHUNK_LINE;
	if (!framed || st->coded || st->length <= 0)
		return ST_LINE;
	st->left = (uint64_t)st->length;
	return st->response ? ST_FRONT : ST_BODY;
}

static void end_chunk_line(struct stream *st)
{
	struct str line = kept(st);
	int64_t size = chunked__size((const uint8_t *)line.p, line.len);

	st->left = size > 0 ? (uint64_t)size : 0;
	st->in_head = size == 0; /* trailers */
	st->state = size > 0 ? ST_CHUNK : ST_LINE;
}

static bool has_version(const char *p, const char *end)
{
	const char *lf = memchr(p, '\n', (size_t)(end - p));

	return memmem(p, (size_t)((lf ? lf : end) - p), " HTTP/1.", 8) != NULL;
}

/* The word in st->name is followed by a space: does that make it a start line? `p`: what follows, of this event. */
static bool begins_message(const struct stream *st, const char *p, const char *end)
{
	if (NAME_IN(st, methods) || (st->name_len >= 7 && memcmp(st->name, "http/1.", 7) == 0))
		return true;
	return has_version(p, end);
}

/* A start line at this very byte? */
static bool is_start(const char *p, const char *end)
{
	struct stream probe = { 0 };

	while (p < end && (*p == '\r' || *p == '\n')) /* RFC 9112 section 2.2: empty lines may precede it */
		p++;
	for (; p < end && (is_token((unsigned char)*p) || *p == '/') && probe.name_len < NAME_LEN; p++)
		probe.name[probe.name_len++] = (char)tolower((unsigned char)*p);
	return p < end && *p == ' ' && probe.name_len && begins_message(&probe, p, end);
}

/* A byte that is not blanked: which state comes after it. */
static void step(struct stream *st, unsigned char ch, const char *rest, const char *end)
{
	switch (st->state) {
	case ST_SECRET_LF:
	case ST_LINE:
		st->name_len = 0;
		if (ch == ' ' || ch == '\t') /* what it continues may be framing */
			st->framed = false;
		st->state = ch == '\n' ? end_head(st) : ch == '\r' ? ST_LINE : is_token(ch) ? ST_NAME : ST_REST;
		if (st->state == ST_NAME)
			st->name[st->name_len++] = (char)tolower(ch);
		return;
	case ST_NAME:
		if (ch == ' ' && begins_message(st, rest, end)) {
			start_head(st, has_version(rest, end));
			st->state = ST_URL_START;
		} else if (ch == ' ' || ch == '\t') {
			st->state = ST_NAME_SPACE;
		} else if (ch == ':') {
			st->state = value_or_framing(st);
		} else if ((is_token(ch) || ch == '/') && st->name_len < NAME_LEN) {
			st->name[st->name_len++] = (char)tolower(ch);
		} else {
			st->state = ch == '\n' ? ST_LINE : ST_REST;
		}
		return;
	case ST_NAME_SPACE:
		if (name_is(st, "content-length") || name_is(st, "transfer-encoding"))
			st->framed = false; /* some take it, some do not */
		if (ch == ':')
			st->state = value_of(st);
		else if (ch != ' ' && ch != '\t')
			st->state = ch == '\n' ? ST_LINE : ST_REST;
		return;
	case ST_LENGTH:
	case ST_CODING:
	case ST_CHUNK_LINE:
		if (ch == '\n' && st->state == ST_CHUNK_LINE)
			end_chunk_line(st);
		else if (ch == '\n')
			end_framing(st);
		else if (st->name_len < NAME_LEN)
			st->name[st->name_len++] = (char)tolower(ch);
		return;
	case ST_CHUNK_END:
		if (ch != '\r')
			st->state = ch == '\n' ? ST_CHUNK_LINE : ST_REST;
		st->name_len = 0;
		return;
	default:
		if (ch == '\n')
			st->state = ST_LINE;
		return;
	}
}

/* User and password, up to the "@" of the authority. Returns what follows the authority, as far as it is here. */
static char *blank_userinfo(struct stream *st, char *p, char *end)
{
	char *stop = p, *at = p;

	for (; stop < end && *stop && !strchr("/?# \t\r\n", *stop); stop++) {
		if (*stop == '@')
			at = stop;
	}
	if (stop < end)
		st->state = ST_URL;
	else
		at = end; /* cut off: whether there is an "@" shows when it is too late */
	for (; p < at; p++) {
		if (*p != ':' && *p != '@')
			*p = '*';
	}
	return stop;
}

static bool key_is_secret(const struct stream *st)
{
	return !st->keep_queries && (st->name_len == NAME_LEN || secret__is_key((struct str){ st->name, st->name_len }));
}

/* The next byte of a URL, or its authority as a whole; returns what follows. */
static char *blank_url(struct stream *st, char *p, char *end)
{
	static const char slashes[] = "://";

	if (st->state == ST_AUTHORITY)
		return blank_userinfo(st, p, end);
	if (*p == '\n' || *p == '\r' || *p == ' ' || *p == '\t') {
		if (*p == '\n' || st->state != ST_URL_START)
			st->state = *p == '\n' ? ST_LINE : ST_REST;
		return p + 1;
	}
	if (st->state == ST_URL_START) {
		st->state = ST_URL;
		st->name_len = 0; /* how much of "://" was seen */
	}
	if (st->state == ST_URL && (*p == '?' || *p == '#')) {
		st->state = ST_KEY;
		st->name_len = 0;
	} else if (st->state == ST_URL) {
		st->name_len = *p == slashes[st->name_len] ? st->name_len + 1 : *p == ':';
		if (st->name_len == 3) {
			st->state = ST_AUTHORITY;
			st->name_len = 0;
		}
	} else if (*p == '&' || *p == ';') {
		st->state = ST_KEY;
		st->name_len = 0;
	} else if (st->state == ST_KEY && *p == '=') {
		st->state = key_is_secret(st) ? ST_VALUE_SECRET : ST_VALUE;
	} else if (st->state == ST_KEY && st->name_len < NAME_LEN) {
		st->name[st->name_len++] = *p;
	} else if (st->state == ST_VALUE_SECRET) {
		*p = '*';
	}
	return p + 1;
}

/* Bytes that are passed over, blanked or lost. */
static void pass_body(struct stream *st, uint64_t n)
{
	st->left -= n;
	if (!st->left) {
		st->name_len = 0;
		st->state = st->state == ST_CHUNK ? ST_CHUNK_END : ST_LINE;
	}
}

/* A byte behind the head of a response. What begins a status line is kept: there was no body, or one that begins so. */
static char *blank_front(struct stream *st, char *p)
{
	static const char version[] = "http/1.";

	if (st->name_len == 0 && (*p == '\r' || *p == '\n')) {
		pass_body(st, 1);
		return p + 1;
	}
	if (tolower((unsigned char)*p) != version[st->name_len]) {
		st->state = ST_BODY;
		return p;
	}
	st->name[st->name_len] = version[st->name_len];
	st->name_len++;
	if (--st->left == 0 || st->name_len == sizeof(version) - 1)
		st->state = ST_NAME;
	return p + 1;
}

/* The next bytes where a body may be; returns what follows. */
static char *blank_body(struct stream *st, char *p, char *end)
{
	size_t n = (size_t)(end - p);

	if (st->state == ST_FRONT)
		return blank_front(st, p);
	n = n < st->left ? n : (size_t)st->left;
	memset(p, '*', n);
	pass_body(st, n);
	return p + n;
}

static void blank(struct stream *st, char *p, size_t len)
{
	char *end = p + len;

	while (p < end) {
		if (st->state == ST_FRONT || st->state == ST_BODY || st->state == ST_CHUNK) {
			p = blank_body(st, p, end);
			continue;
		}
		if (st->state == ST_CHUNK_LINE && !st->name_len && !isxdigit((unsigned char)*p))
			st->state = ST_LINE; /* the next head: HEAD was asked */
		if (st->state == ST_REST) { /* most bytes: on to the end of the line */
			p = memchr(p, '\n', (size_t)(end - p));
			if (!p)
				return;
			st->state = ST_LINE;
			p++;
			continue;
		}
		if (st->state >= ST_URL_START) {
			p = blank_url(st, p, end);
			continue;
		}
		if (st->state == ST_SECRET_LF && (*p == ' ' || *p == '\t'))
			st->state = ST_SECRET;
		if (st->state != ST_SECRET) {
			step(st, (unsigned char)*p, p + 1, end);
		} else if (*p == '\n') {
			st->state = ST_SECRET_LF;
		} else if (*p != '\r' && *p != ' ' && *p != '\t') {
			*p = '*';
		}
		p++;
	}
}

/* Looks at what lies between the bytes before and this event. */
static void enter(struct stream *st, const struct ws_ev_data *d)
{
	const char *data = (const char *)d->data;
	/* An event lost on the way, or one that was overtaken: what it held is not known. */
	bool unknown = st->unknown || d->seq != st->next_seq;
	uint64_t pos = d->pos + d->skipped;

	if (!unknown && pos == st->next_pos)
		return;
	if ((st->state == ST_BODY || st->state == ST_CHUNK) && !st->unknown && pos >= st->next_pos &&
	    pos - st->next_pos <= st->left) {
		pass_body(st, pos - st->next_pos);
		return;
	}
	st->framed = false;
	if (!unknown && !st->in_head && st->state != ST_SECRET && st->state != ST_SECRET_LF)
		st->state = ST_LINE;
	else
		st->state = is_start(data, data + d->captured) ? ST_LINE : ST_SECRET;
}

/* The end of a transfer may be in a secret as well; kept is what a parser looks for there, without its trailers. */
static void mask_tail(const struct ws_ev_data *d, uint8_t *tail)
{
	static const char last_chunk[] = "\r\n0\r\n\r\n";
	const size_t n = sizeof(last_chunk) - 1;
	size_t keep;
	bool last = chunked__last_at_end(tail, d->tail, false, &keep);

	memset(tail, '*', d->tail);
	if (last)
		memcpy(tail + d->tail - n, last_chunk, n);
}

static void mask_data(struct mask *m, struct ws_ev_data *d)
{
	struct stream *st = find(m, d->sock, d->dir);
	uint8_t *tail = (uint8_t *)d + d->ev.len - d->tail;
	bool whole = d->tail && d->skipped + d->captured + d->tail == d->size; /* it follows what is captured */

	if (d->tail && !whole)
		mask_tail(d, tail);
	if (!st) {
		st = add(m, d->sock, d->dir);
		if (st)
			st->unknown = true;
	}
	if (!st) {
		/* Without a memory of the line before nothing is known to be harmless. */
		memset(d->data, '*', d->captured);
		if (whole)
			memset(tail, '*', d->tail);
		return;
	}
	if (d->captured) {
		enter(st, d);
		blank(st, (char *)d->data, d->captured);
		st->unknown = false;
		st->next_pos = d->pos + d->skipped + d->captured;
		if (whole) {
			blank(st, (char *)tail, d->tail);
			st->next_pos += d->tail;
		}
	} else if (d->seq != st->next_seq) {
		st->unknown = true;
	}
	st->next_seq = d->seq + 1;
}

static void mask_sock(struct mask *m, const struct ws_ev_sock *s)
{
	if (s->role == WS_ROLE_LISTENER)
		return;
	for (unsigned int dir = WS_RX; dir <= WS_TX; dir++) {
		struct stream *st = find(m, s->sock, dir);

		if (st)
			continue;
		st = add(m, s->sock, dir);
		if (!st)
			return;
		/* One that was there before us may be in the middle of a head. */
		st->unknown = !(s->flags & WS_SOCK_BORN);
		st->next_pos = dir == WS_RX ? s->rx_pos : s->tx_pos;
	}
}

void mask__event(struct mask *m, struct ws_ev *ev)
{
	if (ev->type == WS_EV_DATA) {
		mask_data(m, (struct ws_ev_data *)(void *)ev);
	} else if (ev->type == WS_EV_SOCK) {
		mask_sock(m, (const struct ws_ev_sock *)(const void *)ev);
	} else if (ev->type == WS_EV_PROC) {
		struct ws_ev_proc *proc = (void *)ev;

		mask__args(proc->args, proc->args_len);
	} else if (ev->type == WS_EV_STATE) {
		const struct ws_ev_state *s = (const void *)ev;

		for (unsigned int dir = WS_RX; s->state == WS_SS_CLOSED && dir <= WS_TX; dir++) {
			struct stream *st = find(m, s->sock, dir);

			if (st)
				forget(m, st);
		}
	}
}
