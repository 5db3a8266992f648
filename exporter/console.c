// SPDX-License-Identifier: Apache-2.0
/*
 * Traces on a terminal. Spans of one trace arrive one after the other, its root usually last, from several processes;
 * they are kept until the trace
 *
 *	- looks complete (a root, no parent missing) and was quiet for COMPLETE_NS, or
 *	- was quiet for QUIET_NS: a parent is elsewhere, or still running, or
 *	- is AGE_NS old, or
 *	- is the oldest one when there is no room left,
 *
 * and are printed then. What comes later is collected by the same rules and says that it is late.
 *
 * Spans count as exported when they are taken; those that could not be written are booked back (EXPORT, WRITE_FAILED).
 */
#include "exporter/exporter.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/random.h>
#include <unistd.h>

#include "exporter/console_text.h"
#include "exporter/console_tree.h"
#include "user/base/clock.h"
#include "user/base/log.h"
#include "user/base/mem.h"
#include "user/base/siphash.h"
#include "user/model/stats.h"

#define COMPLETE_NS 250000000ull
#define QUIET_NS 1000000000ull
#define AGE_NS 10000000000ull

#define TRACES_MAX 1024u
#define BUCKETS 1024u /* a power of two */
#define BYTES_MAX (4u << 20)
#define RECENT_SETS 256u /* traces that were printed: RECENT_SETS * RECENT_WAYS of them are remembered */
#define RECENT_WAYS 8u

#define SERVICE_SIZE 40u
#define LABEL_SIZE 400u
#define STATUS_SIZE 40u
#define NOTE_SIZE 120u

/* A pipe that poll() calls writable takes PIPE_BUF bytes without blocking, a terminal rather less. */
#define WRITE_CHUNK 1024u

struct trace {
	struct trace *chain;	   /* same bucket; or the free list */
	struct trace *older, *newer; /* by arrival of the first span */
	uint8_t id[16];
	uint64_t hash;
	uint64_t first_ns, last_ns; /* arrival, CLOCK_MONOTONIC */
	struct tree_row *rows, **tail;
	uint32_t n;
	uint64_t cut, cut_failed;
	size_t bytes;
	bool late, checked, complete;
};

struct recent {
	uint8_t id[16];
	uint64_t age; /* of its last use; 0: empty */
};

struct console {
	struct tree_opts view;
	void (*gone_cb)(void *ctx);
	void *gone_ctx;
	int fd, stop_fd; /* stop_fd: readable once interrupted */
	int error;	 /* why the last send() failed; 0 */
	bool gone;
	bool broken;	 /* the trace being printed could not be written */
	uint64_t lost;	 /* spans to be booked back */
	struct siphash_key key;
	struct trace *buckets[BUCKETS], *free;
	struct trace *oldest, *newest;
	size_t bytes;
	uint64_t uses;
	size_t out_len;
	char out[WRITE_CHUNK];
	struct tree_scratch scratch;
	struct recent recent[RECENT_SETS][RECENT_WAYS];
	struct trace pool[TRACES_MAX];
};

/* ---- writing --------------------------------------------------------------------------------- */

static void write_failed(struct console *c, int err)
{
	static struct log_limit limit;

	c->broken = true;
	if (err == EPIPE) {
		if (!c->gone)
			log_error("standard output: closed by its reader: traces are lost");
		if (!c->gone && c->gone_cb)
			c->gone_cb(c->gone_ctx);
		c->gone = true;
	} else if (err != ECANCELED) {
		log__limited(&limit, LOG_LVL_ERROR, "standard output: %s: traces are lost", strerror(err));
	}
}

/* Waits until standard output takes bytes. -ECANCELED: interrupted, and it does not at once. */
static int wait_writable(struct console *c)
{
	struct pollfd p[2] = { { .fd = c->fd, .events = POLLOUT }, { .fd = c->stop_fd, .events = POLLIN } };

	for (;;) {
		if (poll(p, 2, -1) < 0) {
			if (errno == EINTR)
				continue;
			return -errno;
		}
		if (p[0].revents)
			return 0; /* errors are write's to report */
		if (p[1].revents)
			return -ECANCELED;
	}
}

static void flush_out(struct console *c)
{
	size_t done = 0;

	while (done < c->out_len && !c->broken) {
		int err = wait_writable(c);
		ssize_t n;

		if (err) {
			write_failed(c, -err);
			break;
		}
		n = write(c->fd, c->out + done, c->out_len - done);
		if (n < 0 && errno != EINTR && errno != EAGAIN)
			write_failed(c, errno);
		else if (n > 0)
			done += (size_t)n;
	}
	c->out_len = 0;
}

static void put_out(void *ctx, const char *p, size_t n)
{
	struct console *c = ctx;

	while (n && !c->broken) {
		size_t room = sizeof(c->out) - c->out_len, part = n < room ? n : room;

		memcpy(c->out + c->out_len, p, part);
		c->out_len += part;
		p += part;
		n -= part;
		if (c->out_len == sizeof(c->out))
			flush_out(c);
	}
}

/* ---- rows ------------------------------------------------------------------------------------ */

struct label {
	char buf[2 * LABEL_SIZE];
	size_t len;
};

static void label_add(struct label *l, struct str s)
{
	size_t room = sizeof(l->buf) - l->len;

	if (s.len > room)
		s.len = room;
	if (s.len)
		memcpy(l->buf + l->len, s.p, s.len);
	l->len += s.len;
}

/* Where "://" is, if the target is a whole URL; else NULL. */
static const char *find_scheme(struct str t)
{
	const char *scheme = t.len ? memmem(t.p, t.len, "://", 3) : NULL;

	return scheme && !memchr(t.p, '?', (size_t)(scheme - t.p)) && t.p[0] != '/' ? scheme : NULL;
}

/* The path as it was asked for; but query strings and credentials are nobody's business. */
static void label_add_target(struct label *l, struct str t)
{
	const char *query = t.len ? memchr(t.p, '?', t.len) : NULL;
	const char *scheme = find_scheme(t);

	if (!scheme && (!t.len || t.p[0] != '/')) {
		label_add(l, t);
		return;
	}
	if (query)
		t.len = (size_t)(query - t.p);
	if (scheme) {
		struct str rest = { scheme + 3, (size_t)(t.p + t.len - scheme - 3) };
		const char *slash = memchr(rest.p, '/', rest.len);
		const char *at = memrchr(rest.p, '@', slash ? (size_t)(slash - rest.p) : rest.len);

		label_add(l, (struct str){ t.p, (size_t)(scheme + 3 - t.p) });
		t = at ? (struct str){ at + 1, (size_t)(rest.p + rest.len - at - 1) } : rest;
	}
	label_add(l, t);
	if (query)
		label_add(l, STR("?..."));
}

static bool is_client(const struct span *s)
{
	return s->kind == SPAN_CLIENT || s->kind == SPAN_PRODUCER;
}

static void make_label(struct label *l, const struct span *s)
{
	bool peer = is_client(s) && s->display_peer.len;

	l->len = 0;
	if (!s->op.len || (!s->target.len && !peer)) {
		label_add(l, s->name.len ? s->name : s->op.len ? s->op : STR("-"));
		return;
	}
	label_add(l, s->op);
	label_add(l, STR(" "));
	/* A CONNECT and a request to a proxy name the peer in the target. */
	if (peer && !str__eq(s->display_peer, s->target) && !find_scheme(s->target)) {
		bool joined = s->target.len && s->target.p[0] == '/';

		label_add(l, s->display_peer);
		if (s->target.len && !joined)
			label_add(l, STR(" "));
	}
	label_add_target(l, s->target);
}

static struct str make_service(const struct span *s)
{
	return s->res && s->res->service_name.len ? s->res->service_name : STR("?");
}

static struct str make_status(const struct span *s)
{
	const struct attr *a;

	if (s->display_status.len)
		return s->display_status;
	if (s->status != SPAN_ERROR)
		return STR("-");
	a = span__find(s, "error.type");
	return a && a->type == ATTR_STR && a->s.len ? a->s : STR("error");
}

static bool is_zero(const uint8_t *p, size_t n)
{
	while (n && !*p) {
		p++;
		n--;
	}
	return !n;
}

static size_t make_note(char *out, size_t size, const struct span *s, bool utf8)
{
	char text[2 * NOTE_SIZE];

	if (s->orphan) {
		snprintf(text, sizeof(text), "no parent: %s", s->orphan);
		return text__clean(out, size, str__of(text), utf8);
	}
	return text__clean(out, size, str__of(s->evidence), utf8);
}

/* All that will be shown of a span, in one allocation. NULL with ENOMEM. */
static struct tree_row *row_new(const struct console *c, const struct span *s)
{
	char service[SERVICE_SIZE], text[LABEL_SIZE], status[STATUS_SIZE], note[NOTE_SIZE];
	bool utf8 = c->view.utf8;
	size_t lens[4], bytes;
	struct tree_row *r;
	struct label label;
	char *p;

	make_label(&label, s);
	lens[0] = text__clean(service, sizeof(service), make_service(s), utf8) + 1;
	lens[1] = text__clean(text, sizeof(text), (struct str){ label.buf, label.len }, utf8) + 1;
	lens[2] = text__clean(status, sizeof(status), make_status(s), utf8) + 1;
	lens[3] = make_note(note, sizeof(note), s, utf8) + 1;
	bytes = sizeof(*r) + lens[0] + lens[1] + lens[2] + lens[3];
	r = mem__zalloc(bytes);
	if (!r)
		return NULL;
	p = (char *)(r + 1);
	r->service = memcpy(p, service, lens[0]);
	r->label = memcpy(p += lens[0], text, lens[1]);
	r->status = memcpy(p += lens[1], status, lens[2]);
	r->note = memcpy(p += lens[2], note, lens[3]);
	memcpy(r->id, s->span_id, sizeof(r->id));
	memcpy(r->parent_id, s->parent_id, sizeof(r->parent_id));
	r->root = is_zero(s->parent_id, sizeof(s->parent_id));
	r->start_ns = s->start_ns;
	r->end_ns = s->end_ns;
	r->client = is_client(s);
	r->failed = s->status == SPAN_ERROR;
	r->bytes = bytes;
	return r;
}

static void rows_free(struct tree_row *r)
{
	struct tree_row *next;

	for (; r; r = next) {
		next = r->next;
		mem__free(r);
	}
}

/* ---- traces ---------------------------------------------------------------------------------- */

static uint64_t hash_id(const struct console *c, const uint8_t *id)
{
	return siphash__bytes(&c->key, id, 16); /* keyed: ids come from the network */
}

/* Was this trace printed lately? Remembers it if `add`. */
static bool recent_trace(struct console *c, const uint8_t *id, uint64_t hash, bool add)
{
	struct recent *set = c->recent[hash / BUCKETS % RECENT_SETS], *victim = set;

	for (unsigned int i = 0; i < RECENT_WAYS; i++) {
		if (set[i].age && !memcmp(set[i].id, id, 16)) {
			set[i].age = ++c->uses;
			return true;
		}
		if (set[i].age < victim->age)
			victim = &set[i];
	}
	if (add) {
		memcpy(victim->id, id, 16);
		victim->age = ++c->uses;
	}
	return false;
}

static struct trace *trace_find(struct console *c, const uint8_t *id, uint64_t hash)
{
	struct trace *t = c->buckets[hash % BUCKETS];

	while (t && memcmp(t->id, id, 16))
		t = t->chain;
	return t;
}

static void trace_unlink(struct console *c, struct trace *t)
{
	struct trace **slot = &c->buckets[t->hash % BUCKETS];

	while (*slot != t)
		slot = &(*slot)->chain;
	*slot = t->chain;
	*(t->older ? &t->older->newer : &c->oldest) = t->newer;
	*(t->newer ? &t->newer->older : &c->newest) = t->older;
	c->bytes -= t->bytes;
	t->chain = c->free;
	c->free = t;
}

/* Terminals change their size. */
static void follow_width(struct console *c)
{
	struct winsize w;

	if (c->view.width && !ioctl(c->fd, TIOCGWINSZ, &w) && w.ws_col)
		c->view.width = w.ws_col;
}

/* Prints a trace and forgets all of it but its id. */
static void trace_finish(struct console *c, struct trace *t)
{
	const struct tree_sink sink = { .put = put_out, .ctx = c };
	struct tree tree = { .trace_id = t->id, .rows = t->rows, .n = t->n, .cut = t->cut,
			     .cut_failed = t->cut_failed, .late = t->late };

	c->broken = c->gone;
	if (!c->broken) {
		follow_width(c);
		tree__print(&tree, &c->view, &c->scratch, &sink);
		flush_out(c);
	}
	if (c->broken)
		c->lost += t->n + t->cut;
	c->out_len = 0;
	recent_trace(c, t->id, t->hash, true);
	rows_free(t->rows);
	trace_unlink(c, t);
}

/* Cannot fail: the pool has a trace for everybody, after the oldest has left. */
static struct trace *trace_get(struct console *c, const uint8_t *id, uint64_t now)
{
	uint64_t hash = hash_id(c, id);
	struct trace *t = trace_find(c, id, hash);

	if (t)
		return t;
	if (!c->free)
		trace_finish(c, c->oldest);
	t = c->free;
	c->free = t->chain;
	*t = (struct trace){ .hash = hash, .first_ns = now, .chain = c->buckets[hash % BUCKETS],
			     .older = c->newest, .late = recent_trace(c, id, hash, false) };
	memcpy(t->id, id, 16);
	t->tail = &t->rows;
	c->buckets[hash % BUCKETS] = t;
	*(c->newest ? &c->newest->newer : &c->oldest) = t;
	c->newest = t;
	return t;
}

/*
 * A trace that is larger than can be shown keeps its first spans and what holds them together: roots, and parents of
 * spans that are kept. Children come before their parents, because they end first.
 */
static bool trace_wants(const struct trace *t, const struct tree_row *r)
{
	if (t->n < TREE_ROWS_MAX * 3 / 4)
		return true;
	if (t->n >= TREE_ROWS_MAX)
		return false;
	if (r->root)
		return true;
	for (const struct tree_row *x = t->rows; x; x = x->next) {
		if (!memcmp(x->parent_id, r->id, sizeof(r->id)))
			return true;
	}
	return false;
}

/* Takes the row. */
static void trace_add(struct console *c, const uint8_t *id, struct tree_row *r, uint64_t now)
{
	struct trace *t;

	while (c->oldest && c->bytes + r->bytes > BYTES_MAX)
		trace_finish(c, c->oldest);
	t = trace_get(c, id, now);
	t->last_ns = now;
	t->checked = false;
	r->next = NULL;
	if (!trace_wants(t, r)) {
		t->cut++;
		t->cut_failed += r->failed;
		mem__free(r);
		return;
	}
	*t->tail = r;
	t->tail = &r->next;
	t->n++;
	t->bytes += r->bytes;
	c->bytes += r->bytes;
}

static bool trace_is_due(struct console *c, struct trace *t, uint64_t now)
{
	uint64_t quiet = now > t->last_ns ? now - t->last_ns : 0;
	struct tree tree = { .trace_id = t->id, .rows = t->rows, .n = t->n, .cut = t->cut };

	if (quiet >= QUIET_NS || (now > t->first_ns && now - t->first_ns >= AGE_NS))
		return true;
	if (quiet < COMPLETE_NS)
		return false;
	if (!t->checked) {
		t->complete = t->late || tree__complete(&tree, &c->scratch);
		t->checked = true;
	}
	return t->complete;
}

/* After the batch of these spans was counted as sent. */
static void book_lost(struct console *c)
{
	if (!c->lost)
		return;
	stats__out(ST_EXPORT, -c->lost);
	stats__drop(ST_EXPORT, DROP_WRITE_FAILED, c->lost);
	c->lost = 0;
}

/* ---- exporter -------------------------------------------------------------------------------- */

static int console__open(const struct exporter_opts *o, void **ret_state)
{
	struct console *c = mem__zalloc(sizeof(*c));
	int err = -ENOMEM;

	if (!c)
		goto err;
	c->view = (struct tree_opts){ .color = o->color, .utf8 = o->utf8, .width = o->width };
	c->gone_cb = o->gone;
	c->gone_ctx = o->gone_ctx;
	c->fd = STDOUT_FILENO;
	for (unsigned int i = 0; i < TRACES_MAX; i++) {
		c->pool[i].chain = c->free;
		c->free = &c->pool[i];
	}
	if (getrandom(&c->key, sizeof(c->key), GRND_NONBLOCK) != sizeof(c->key))
		c->key = (struct siphash_key){ clock__mono_ns(), (uint64_t)(uintptr_t)c }; /* early at boot */
	c->stop_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (c->stop_fd < 0) {
		err = -errno;
		goto err;
	}
	*ret_state = c;
	return 0;
err:
	log_error("console: %s", strerror(-err));
	mem__free(c);
	return err;
}

/* Takes all spans of the batch or none, so that what is counted is what happened. */
static enum export_result console__send(void *st, const struct batch *b, uint32_t *ret_rejected, uint64_t *ret_wait_ns)
{
	struct tree_row *rows = NULL, **tail = &rows, *row;
	struct console *c = st;
	uint64_t now = clock__mono_ns();

	*ret_rejected = 0;
	*ret_wait_ns = 0;
	c->error = c->gone ? EPIPE : 0;
	if (c->gone)
		return EXPORT_FAILED; /* who waits for it was told already, by write_failed() */
	for (const struct span *s = b->spans; s; s = s->next) {
		row = row_new(c, s);
		if (!row) {
			rows_free(rows);
			c->error = ENOMEM;
			return EXPORT_NO_MEMORY;
		}
		*tail = row;
		tail = &row->next;
	}
	for (const struct span *s = b->spans; s; s = s->next) {
		row = rows;
		rows = row->next;
		trace_add(c, s->trace_id, row, now);
	}
	return EXPORT_OK;
}

static const char *console__why(void *st)
{
	const struct console *c = st;

	if (c->error == EPIPE)
		return ""; /* write_failed() has said it */
	return c->error ? strerrordesc_np(c->error) : NULL;
}

static const char *console__subject(void *st)
{
	return "standard output";
}

static void console__interrupt(void *st)
{
	struct console *c = st;
	uint64_t one = 1;

	/* Can only fail because it is readable already. */
	if (write(c->stop_fd, &one, sizeof(one)) < 0)
		return;
}

static void console__tick(void *st, uint64_t now_mono_ns)
{
	struct console *c = st;
	struct trace *t, *newer;

	for (t = c->oldest; t; t = newer) {
		newer = t->newer;
		if (trace_is_due(c, t, now_mono_ns))
			trace_finish(c, t);
	}
	book_lost(c);
}

static void console__close(void *st)
{
	struct console *c = st;

	if (!c)
		return;
	while (c->oldest)
		trace_finish(c, c->oldest);
	book_lost(c);
	close(c->stop_fd);
	mem__free(c);
}

const struct exporter_ops exporter_console = {
	.name = "console",
	.open = console__open,
	.send = console__send,
	.subject = console__subject,
	.why = console__why,
	.interrupt = console__interrupt,
	.tick = console__tick,
	.close = console__close,
};
