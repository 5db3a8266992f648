// SPDX-License-Identifier: Apache-2.0
/*
 * Routes from raw paths.
 *
 * Patterns that the operator configured come first. For everything else a trie of path segments is learnt per service:
 * a segment that looks like a value (number, UUID, hash, date, token, address, anything encoded) becomes {id} at once;
 * a position at which more than `fanout` different segments were seen becomes {id} as a whole, with everything below
 * merged. So a template may become more general in the course of time, never more special, and their number is
 * bounded whatever a client asks for. Beyond max_nodes a new path gets no template.
 *
 * Learnt is only what a server has: a scanner's paths, answered 404, would make {id} of every part of an API for good.
 */
#include <ctype.h>
#include <errno.h>

#include "user/base/glob.h"
#include "user/base/mem.h"
#include "user/base/route_pattern.h"
#include "user/enrich/enrich.h"

#define DEFAULT_NODES 512u
#define DEFAULT_FANOUT 20u
#define ROOT_FACTOR 4u /* the first segment names the parts of an API more often than it holds values */
#define DEPTH_MAX 24u
#define SEGMENT_MAX 48u /* longer ones are values: titles, tokens, signatures */

struct node {
	struct node *next;     /* sibling */
	struct node *children; /* by literal segment */
	struct node *wild;     /* {id} */
	uint32_t n_children;
	bool collapsed; /* every segment goes to `wild` */
	bool ends;	/* a path that was learnt ends here */
	uint8_t len;
	char segment[];
};

struct route_table {
	char *patterns;
	uint32_t max_nodes, fanout, n_nodes;
	struct node *root;
};

/* ---- what a segment looks like ---------------------------------------------------------------- */

/* A file that a browser asks for; its name is fixed at build time. */
static bool is_static_file(struct str s)
{
	static const char *const exts[] = {
		"css", "js",   "mjs",  "map",	      "png",   "jpg", "jpeg", "gif",  "svg",
		"ico", "webp", "avif", "woff",	      "woff2", "ttf", "eot",  "html", "htm",
		"txt", "xml",  "json", "webmanifest", "wasm",  "pdf", "mp4",  "php",  NULL,
	};
	const char *dot = s.len ? memrchr(s.p, '.', s.len) : NULL;
	struct str ext;

	if (!dot || dot == s.p)
		return false;
	ext = (struct str){ dot + 1, s.len - (size_t)(dot + 1 - s.p) };
	for (size_t i = 0; exts[i]; i++) {
		if (str__ieq(ext, str__of(exts[i])))
			return true;
	}
	return false;
}

enum {
	DIGIT = 0x01,
	HEX = 0x02,
	UPPER = 0x04,
	LOWER = 0x08,
	NUMBER_LIKE = 0x10, /* digits and what stands between them in dates, times, versions, ranges, coordinates */
	PLAIN = 0x20,	    /* RFC 3986 section 3.3: pchar without '%', and without what starts parameters */
};

static const uint8_t classes[256] = {
	['0' ... '9'] = DIGIT | HEX | NUMBER_LIKE | PLAIN,
	['A' ... 'F'] = HEX | UPPER | PLAIN,
	['G' ... 'Z'] = UPPER | PLAIN,
	['a' ... 'f'] = HEX | LOWER | PLAIN,
	['g' ... 'z'] = LOWER | PLAIN,
	['-'] = NUMBER_LIKE | PLAIN,
	['.'] = NUMBER_LIKE | PLAIN,
	[':'] = NUMBER_LIKE | PLAIN,
	[','] = NUMBER_LIKE | PLAIN,
	['_'] = NUMBER_LIKE | PLAIN,
	['+'] = NUMBER_LIKE | PLAIN,
	['~'] = PLAIN,
	['!'] = PLAIN,
	['$'] = PLAIN,
	['\''] = PLAIN,
	['('] = PLAIN,
	[')'] = PLAIN,
	['*'] = PLAIN,
	['@'] = PLAIN,
};

struct shape {
	size_t digits, hex, upper, lower, number_like;
	bool odd; /* bytes that no literal segment of a route has */
	bool at;
};

static struct shape look_at(struct str s)
{
	struct shape sh = { .at = s.len > 1 && memchr(s.p + 1, '@', s.len - 1) };
	uint8_t all = PLAIN, any = 0;

	for (size_t i = 0; i < s.len; i++) {
		all &= classes[(unsigned char)s.p[i]];
		any |= classes[(unsigned char)s.p[i]];
	}
	sh.odd = !(all & PLAIN);
	if (!(any & DIGIT)) /* most literal segments; nothing below says anything about them */
		return sh;
	for (size_t i = 0; i < s.len; i++) {
		uint8_t c = classes[(unsigned char)s.p[i]];

		sh.digits += (c & DIGIT) != 0;
		sh.hex += (c & HEX) != 0;
		sh.upper += (c & UPPER) != 0;
		sh.lower += (c & LOWER) != 0;
		sh.number_like += (c & NUMBER_LIKE) != 0;
	}
	return sh;
}

static bool is_uuid(struct str s)
{
	if (s.len != 36)
		return false;
	for (size_t i = 0; i < s.len; i++) {
		bool dash = i == 8 || i == 13 || i == 18 || i == 23;

		if (dash ? s.p[i] != '-' : !isxdigit((unsigned char)s.p[i]))
			return false;
	}
	return true;
}

static bool is_value(struct str s)
{
	struct shape sh = look_at(s);

	if (!s.len)
		return false; /* "/users/": the slash at the end is part of the route */
	if (s.len > SEGMENT_MAX || sh.odd || sh.at)
		return true;
	if (is_static_file(s))
		return false;
	if (sh.digits && sh.number_like == s.len)
		return true;
	if (is_uuid(s))
		return true;
	if (sh.digits && s.len >= 8 && sh.hex == s.len)
		return true;
	if (s.len > 9 && s.p[0] == '0' && (s.p[1] | 0x20) == 'x' && sh.hex == s.len - 1)
		return true;
	/* 2024-01-02T10:00:00Z, 20240102T100000 */
	if (sh.digits >= 8 && sh.number_like + 2 >= s.len)
		return true;
	/* base64, base62, ULID, YouTube's ids: letters of both cases with digits in between, or many digits */
	if (s.len >= 10 && sh.upper >= 2 && sh.lower >= 2 && sh.digits >= 2)
		return true;
	return s.len >= 16 && sh.digits >= 4;
}

/* ---- the trie --------------------------------------------------------------------------------- */

static struct node *node__new(struct route_table *t, struct str seg)
{
	struct node *n;

	if (t->n_nodes >= t->max_nodes)
		return NULL;
	n = mem__zalloc(sizeof(*n) + seg.len);
	if (!n)
		return NULL;
	n->len = (uint8_t)seg.len;
	if (seg.len)
		memcpy(n->segment, seg.p, seg.len);
	t->n_nodes++;
	return n;
}

/* Depth is bounded by DEPTH_MAX: so is the recursion. */
static void node__free(struct route_table *t, struct node *n)
{
	struct node *next;

	for (; n; n = next) {
		next = n->next;
		node__free(t, n->children);
		node__free(t, n->wild);
		mem__free(n);
		t->n_nodes--;
	}
}

static struct node *find_child(const struct node *n, struct str seg)
{
	for (struct node *c = n->children; c; c = c->next) {
		if (c->len == seg.len && memcmp(c->segment, seg.p, seg.len) == 0)
			return c;
	}
	return NULL;
}

static void collapse(struct route_table *t, struct node *n);

/* Everything below `from` comes below `to`; from is freed. Takes no memory, so it cannot fail. */
static void merge(struct route_table *t, struct node *to, struct node *from)
{
	struct node *c, *next, *same;

	for (c = from->children; c; c = next) {
		next = c->next;
		c->next = NULL;
		same = find_child(to, (struct str){ c->segment, c->len });
		if (same) {
			merge(t, same, c);
		} else {
			c->next = to->children;
			to->children = c;
			to->n_children++;
		}
	}
	from->children = NULL;
	if (from->wild && to->wild)
		merge(t, to->wild, from->wild);
	else if (from->wild)
		to->wild = from->wild;
	from->wild = NULL;
	to->collapsed |= from->collapsed;
	to->ends |= from->ends;
	node__free(t, from);
	if (to->n_children && (to->collapsed || to->n_children > t->fanout))
		collapse(t, to);
}

/* All children of n become one. The first of them serves as {id} if there is none yet. */
static void collapse(struct route_table *t, struct node *n)
{
	struct node *c = n->children, *next;

	n->collapsed = true;
	n->children = NULL;
	n->n_children = 0;
	for (; c; c = next) {
		next = c->next;
		c->next = NULL;
		if (!n->wild)
			n->wild = c;
		else
			merge(t, n->wild, c);
	}
}

/* Where enter() would go, if that is there. What has a node by its name is no value, nor under one that is collapsed. */
static struct node *follow(const struct node *n, struct str seg)
{
	struct node *c = find_child(n, seg);

	return !c && seg.len && (n->collapsed || is_value(seg)) ? n->wild : c;
}

static struct node *enter_wild(struct route_table *t, struct node *n)
{
	if (!n->wild)
		n->wild = node__new(t, STR_NULL);
	return n->wild;
}

static struct node *enter(struct route_table *t, struct node *n, struct str seg)
{
	uint32_t fanout = n == t->root ? t->fanout * ROOT_FACTOR : t->fanout;
	struct node *c = find_child(n, seg);

	if (c)
		return c;
	if (seg.len && (n->collapsed || is_value(seg)))
		return enter_wild(t, n);
	if (n->n_children >= fanout && seg.len) {
		collapse(t, n);
		return n->wild;
	}
	c = node__new(t, seg);
	if (!c)
		return NULL;
	c->next = n->children;
	n->children = c;
	n->n_children++;
	return c;
}

static struct str cut_params(struct str seg)
{
	const char *semi = seg.len ? memchr(seg.p, ';', seg.len) : NULL; /* ";jsessionid=…" (RFC 3986 section 3.3) */

	return semi ? (struct str){ seg.p, (size_t)(semi - seg.p) } : seg;
}

/*
 * A path that would not fit must not be learnt in half: nodes would be spent on what never gets a template.
 * Dot segments are left to the server that resolves them; many slashes in a row are a scanner's.
 */
static bool path_ok(struct str path)
{
	size_t depth = 0, empty = 0;
	struct str seg;

	while (route_pattern__cut(&path, &seg)) {
		seg = cut_params(seg);
		empty += !seg.len;
		if (++depth > DEPTH_MAX || str__eq(seg, STR(".")) || str__eq(seg, STR("..")) || empty > 2)
			return false;
	}
	return true;
}

static size_t put(char *buf, size_t size, size_t at, struct str s)
{
	if (at == SIZE_MAX || at + 1 + s.len >= size)
		return SIZE_MAX;
	buf[at++] = '/';
	if (s.len)
		memcpy(buf + at, s.p, s.len);
	return at + s.len;
}

static size_t infer(struct route_table *t, struct str path, bool learn, char *buf, size_t size)
{
	struct node *n = t->root;
	struct str seg;
	size_t len = 0;

	if (!path_ok(path))
		return 0;
	while (route_pattern__cut(&path, &seg)) {
		struct node *up = n;

		n = learn ? enter(t, n, cut_params(seg)) : follow(n, cut_params(seg));
		if (!n)
			return 0;
		len = put(buf, size, len, n == up->wild ? STR("{id}") : (struct str){ n->segment, n->len });
		if (len == SIZE_MAX)
			return 0;
	}
	n->ends |= learn;
	buf[len] = '\0';
	return n->ends ? len : 0;
}

/* ---- the interface ---------------------------------------------------------------------------- */

struct route_table *route_table__new(const struct route_opts *o)
{
	const char *list = o->patterns;
	struct route_table *t;
	struct str pat;

	while (list__next(&list, ',', &pat)) {
		if (!route_pattern__ok(pat)) {
			errno = EINVAL;
			return NULL;
		}
	}
	t = mem__zalloc(sizeof(*t));
	if (!t)
		return NULL;
	t->max_nodes = o->max_nodes ? o->max_nodes : DEFAULT_NODES;
	t->fanout = o->fanout ? o->fanout : DEFAULT_FANOUT;
	t->root = node__new(t, STR_NULL);
	if (o->patterns)
		t->patterns = mem__strdup(o->patterns);
	if (!t->root || (o->patterns && !t->patterns)) {
		route_table__free(t);
		errno = ENOMEM;
		return NULL;
	}
	return t;
}

void route_table__free(struct route_table *t)
{
	if (!t)
		return;
	node__free(t, t->root);
	mem__free(t->patterns);
	mem__free(t);
}

size_t route_table__find(struct route_table *t, struct str path, bool learn, char *buf, size_t size, bool *ret_inferred)
{
	const char *list = t->patterns;
	struct str pat;

	if (!path.len || path.p[0] != '/' || !size)
		return 0;
	while (list__next(&list, ',', &pat)) {
		if (!route_pattern__match(pat, path))
			continue;
		if (pat.len >= size)
			return 0;
		memcpy(buf, pat.p, pat.len);
		buf[pat.len] = '\0';
		*ret_inferred = false;
		return pat.len;
	}
	*ret_inferred = true;
	return infer(t, path, learn, buf, size);
}
