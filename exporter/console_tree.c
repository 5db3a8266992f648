// SPDX-License-Identifier: Apache-2.0
/*
 *	12:03:41.118  GET /chain  200  231 ms  frontend                      trace 4bf92f3577b34da6a3ce929d0e0e4736
 *	  frontend GET /chain                          200  231 ms  ████████████████████
 *	  └ frontend → GET sync:8081/process           200  228 ms  ████████████████████  header
 *	    └ sync     GET /process                    500  226 ms   ██████████████████▌  join
 *	\_________________ tree ________________/  status  duration  bar                   note
 *
 * Columns are as wide as their widest cell. On a terminal that is too narrow the note goes first, then the bar, the
 * duration, the status; labels are cut before that, down to LABEL_MIN columns.
 */
#include "exporter/console_tree.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "exporter/console_text.h"

#define INDENT 2u     /* of everything below the header, and of each level */
#define GAP 2u	      /* between columns */
#define DEPTH_MAX 32u /* levels that are drawn; deeper ones are numbered */
#define LABEL_MIN 24u
#define BAR_MIN 10u
#define BAR_MAX 40u
#define BAR_PIPE 20u	/* where the width is not known */
#define TREE_PIPE 100u	/* longer cells then push the columns of their line to the right */
#define NOTE_MIN 12u
#define BAR_WITH_NOTE 16u /* a bar gives way to a note down to this */

#define SGR_ERROR "\033[31m"
#define SGR_DIM "\033[2m"
#define SGR_BOLD "\033[1m"
#define SGR_OFF "\033[0m"

static const char digits[] = "0123456789abcdef";

/* A printing of one tree. */
struct view {
	const struct tree_opts *o;
	const struct tree_sink *out;
	uint64_t t0, t1;	   /* of all spans */
	unsigned int tree, status, dur, bar, note; /* widths; 0: column not shown */
	unsigned int service;	   /* width of the service names */
	unsigned int col;	   /* columns written on this line */
	bool late;
};

/* ---- structure ------------------------------------------------------------------------------- */

static uint64_t row_end(const struct tree_row *r)
{
	return r->end_ns > r->start_ns ? r->end_ns : r->start_ns;
}

static int by_id(const void *a, const void *b)
{
	return memcmp((*(struct tree_row *const *)a)->id, (*(struct tree_row *const *)b)->id, 8);
}

static int by_start(const void *a, const void *b)
{
	const struct tree_row *x = *(struct tree_row *const *)a, *y = *(struct tree_row *const *)b;

	if (x->start_ns != y->start_ns)
		return x->start_ns < y->start_ns ? -1 : 1;
	/* Started together: the longer one first; then any order that is always the same. */
	if (row_end(x) != row_end(y))
		return row_end(x) > row_end(y) ? -1 : 1;
	return memcmp(x->id, y->id, 8);
}

static uint32_t collect(const struct tree *t, struct tree_scratch *tmp)
{
	uint32_t n = 0;

	for (struct tree_row *r = t->rows; r && n < TREE_ROWS_MAX; r = r->next)
		tmp->a[n++] = r;
	return n;
}

/* Finds every span's parent; tmp is left in the order of ids. Returns how many were not found. */
static uint32_t find_parents(const struct tree *t, struct tree_scratch *tmp)
{
	uint32_t n = collect(t, tmp), missing = 0;

	qsort(tmp->a, n, sizeof(tmp->a[0]), by_id);
	for (uint32_t i = 0; i < n; i++) {
		struct tree_row key, *want = &key, *r = tmp->a[i], **found;

		r->parent = NULL;
		if (r->root)
			continue;
		memcpy(key.id, r->parent_id, 8);
		found = bsearch(&want, tmp->a, n, sizeof(tmp->a[0]), by_id);
		if (found && *found != r)
			r->parent = *found;
		else
			missing++;
	}
	return missing;
}

bool tree__complete(const struct tree *t, struct tree_scratch *tmp)
{
	bool root = false;

	if (t->cut || find_parents(t, tmp))
		return false;
	for (struct tree_row *r = t->rows; r; r = r->next)
		root |= r->root;
	return root;
}

/*
 * Span ids come from strangers, too: parents may run in circles. Whoever is not above itself in less than n steps is in
 * one (or hangs from one); cutting the link of the first found opens it.
 */
static void open_circles(struct tree_scratch *tmp, uint32_t n)
{
	for (uint32_t i = 0; i < n; i++)
		tmp->a[i]->placed = false;
	for (uint32_t i = 0; i < n; i++) {
		struct tree_row *r = tmp->a[i], *end;

		/* `other` says in whose walk a row was met, `placed` that all above it is sound. */
		for (end = r; end && !end->placed; end = end->parent) {
			if (end->other == r) {
				end->parent = NULL;
				break;
			}
			end->other = r;
		}
		for (end = r; end && !end->placed; end = end->parent)
			end->placed = true;
	}
}

/* Hangs the rows together, siblings by start time. Returns the first root; roots are siblings. */
static struct tree_row *grow(const struct tree *t, struct tree_scratch *tmp)
{
	struct tree_row *roots = NULL;
	uint32_t n;

	find_parents(t, tmp);
	n = collect(t, tmp);
	qsort(tmp->a, n, sizeof(tmp->a[0]), by_start);
	for (uint32_t i = 0; i < n; i++) {
		tmp->a[i]->child = NULL;
		tmp->a[i]->other = NULL;
	}
	open_circles(tmp, n);
	for (uint32_t i = n; i-- > 0;) {
		struct tree_row *r = tmp->a[i], **head = r->parent ? &r->parent->child : &roots;

		r->sibling = *head;
		*head = r;
	}
	return roots;
}

/* The next row from top to bottom. */
static struct tree_row *walk(struct tree_row *r)
{
	if (r->child) {
		r->child->depth = r->depth + 1;
		return r->child;
	}
	while (r && !r->sibling)
		r = r->parent;
	if (!r)
		return NULL;
	r->sibling->depth = r->depth;
	return r->sibling;
}

/* ---- output ---------------------------------------------------------------------------------- */

static void put_raw(struct view *v, const char *s)
{
	v->out->put(v->out->ctx, s, strlen(s));
}

/* Visible text; nothing of it beyond the right edge. */
static void put_text(struct view *v, const char *s)
{
	unsigned int cols = text__columns(s);
	size_t len = strlen(s);

	if (v->o->width && v->col + cols > v->o->width) {
		len = text__fit(s, v->o->width - v->col);
		cols = v->o->width - v->col; /* nothing may follow */
	}
	v->out->put(v->out->ctx, s, len);
	v->col += cols;
}

static void put_styled(struct view *v, const char *sgr, const char *s)
{
	bool on = v->o->color && sgr && *s;

	if (on)
		put_raw(v, sgr);
	put_text(v, s);
	if (on)
		put_raw(v, SGR_OFF);
}

static void pad_to(struct view *v, unsigned int col)
{
	static const char spaces[] = "                                ";

	while (v->col < col && (!v->o->width || v->col < v->o->width)) {
		unsigned int n = col - v->col;

		put_text(v, spaces + (n >= sizeof(spaces) - 1 ? 0 : sizeof(spaces) - 1 - n));
	}
}

static void end_line(struct view *v)
{
	put_raw(v, "\n");
	v->col = 0;
}

/* As much of s as fits into `cols`, with an ellipsis where something is missing. */
static void put_cut(struct view *v, const char *sgr, const char *s, unsigned int cols)
{
	const char *dots = v->o->utf8 ? "…" : "...";
	unsigned int dots_cols = text__columns(dots);
	char part[1024];
	size_t len;

	if (text__columns(s) <= cols) {
		put_styled(v, sgr, s);
		return;
	}
	if (cols < dots_cols)
		return;
	len = text__fit(s, cols - dots_cols);
	if (len > sizeof(part) - 4)
		len = sizeof(part) - 4; /* cannot be: labels are shorter than that */
	memcpy(part, s, len);
	memcpy(part + len, dots, strlen(dots) + 1);
	put_styled(v, sgr, part);
}

/* ---- lines ----------------------------------------------------------------------------------- */

static unsigned int drawn_depth(const struct tree_row *r)
{
	return r->depth > DEPTH_MAX ? DEPTH_MAX : r->depth;
}

static void depth_mark(char out[16], const struct tree_row *r)
{
	out[0] = 0;
	if (r->depth > DEPTH_MAX)
		snprintf(out, 16, "+%u ", r->depth - DEPTH_MAX);
}

/* Width of what is before the label. */
static unsigned int lead_width(const struct view *v, const struct tree_row *r)
{
	char mark[16];

	depth_mark(mark, r);
	return INDENT + drawn_depth(r) * INDENT + (unsigned int)strlen(mark) + v->service + 1 +
	       (r->client ? v->o->utf8 ? 2 : 3 : 0);
}

/* Why a line stands where it stands. Of a late span the parent was printed before. */
static const char *row_note(const struct view *v, const struct tree_row *r)
{
	return r->root || r->parent || v->late ? r->note : "parent elsewhere";
}

static void put_branches(struct view *v, const struct tree_row *r)
{
	const struct tree_row *path[DEPTH_MAX + 1], *up = r;
	unsigned int depth = drawn_depth(r);
	char mark[16];

	pad_to(v, INDENT);
	while (up->depth > depth)
		up = up->parent;
	for (unsigned int d = depth; d > 0; d--, up = up->parent)
		path[d] = up;
	for (unsigned int d = 1; d <= depth; d++) {
		bool more = path[d]->sibling;

		if (d < depth)
			put_text(v, !more ? "  " : v->o->utf8 ? "│ " : "| ");
		else if (v->o->utf8)
			put_text(v, more ? "├ " : "└ ");
		else
			put_text(v, more ? "|-" : "`-");
	}
	depth_mark(mark, r);
	put_text(v, mark);
}

/* Where in the trace's time the span was, to half a column. */
static void put_bar(struct view *v, const struct tree_row *r, unsigned int from)
{
	uint64_t total = v->t1 > v->t0 ? v->t1 - v->t0 : 1;
	unsigned int half = v->bar * 2;
	unsigned int a = (unsigned int)((double)(r->start_ns - v->t0) / (double)total * half);
	unsigned int b = (unsigned int)((double)(row_end(r) - v->t0) / (double)total * half + 0.5);

	if (a >= half)
		a = half - 1;
	if (b <= a)
		b = a + 1;
	if (b > half)
		b = half;
	pad_to(v, from + a / 2);
	for (unsigned int i = a / 2; i * 2 < b; i++) {
		bool left = i * 2 >= a, right = i * 2 + 1 < b;

		put_text(v, !v->o->utf8 ? "#" : left && right ? "█" : left ? "▌" : "▐");
	}
}

static void put_row(struct view *v, const struct tree_row *r)
{
	unsigned int lead = lead_width(v, r), at = v->tree;
	const char *note = row_note(v, r);
	char dur[24];

	put_branches(v, r);
	put_text(v, r->service);
	pad_to(v, lead - (r->client ? v->o->utf8 ? 2 : 3 : 0));
	if (r->client)
		put_text(v, v->o->utf8 ? "→ " : "-> ");
	if (v->o->width)
		put_cut(v, NULL, r->label, v->tree > lead ? v->tree - lead : 0);
	else
		put_text(v, r->label);
	if (v->col > at)
		at = v->col;
	if (v->status) {
		pad_to(v, at + GAP);
		put_cut(v, r->failed ? SGR_ERROR : NULL, r->status, v->status);
		at += GAP + v->status;
	}
	if (v->dur) {
		text__duration(dur, row_end(r) - r->start_ns, v->o->utf8);
		pad_to(v, at + GAP + v->dur - text__columns(dur));
		put_text(v, dur);
		at += GAP + v->dur;
	}
	if (v->bar) {
		put_bar(v, r, at + GAP);
		at += GAP + v->bar;
	}
	if (v->note && *note) {
		pad_to(v, at + GAP);
		put_cut(v, SGR_DIM, note, v->o->width ? v->note : text__columns(note));
	}
	end_line(v);
}

static void put_header(struct view *v, const struct tree *t, const struct tree_row *r)
{
	time_t sec = (time_t)(r->start_ns / 1000000000);
	char when[32], dur[24], count[32], id[40] = "trace ";
	struct tm tm;
	size_t n = strlen(id);

	for (int i = 0; i < 16; i++) {
		id[n++] = digits[t->trace_id[i] >> 4];
		id[n++] = digits[t->trace_id[i] & 15];
	}
	id[n] = 0;
	memset(&tm, 0, sizeof(tm));
	localtime_r(&sec, &tm);
	snprintf(when, sizeof(when), "%02d:%02d:%02d.%03u", tm.tm_hour % 100, tm.tm_min % 100, tm.tm_sec % 100,
		 (unsigned int)(r->start_ns / 1000000 % 1000));
	put_styled(v, SGR_DIM, when);
	put_text(v, "  ");
	if (v->late) {
		text__count(count, t->n + t->cut);
		put_text(v, "late: ");
		put_text(v, count);
		put_text(v, t->n + t->cut == 1 ? " more span of an earlier trace" : " more spans of an earlier trace");
	} else {
		text__duration(dur, v->t1 - v->t0, v->o->utf8);
		put_styled(v, SGR_BOLD, r->label);
		put_text(v, "  ");
		put_styled(v, r->failed ? SGR_ERROR : NULL, r->status);
		put_text(v, "  ");
		put_text(v, dur);
		put_text(v, "  ");
		put_text(v, r->service);
	}
	if (!v->o->width || v->col + GAP + n <= v->o->width) {
		pad_to(v, v->o->width ? v->o->width - (unsigned int)n : v->col + GAP);
		put_styled(v, SGR_DIM, id);
	}
	end_line(v);
}

static void put_hidden(struct view *v, uint64_t hidden, uint64_t failed)
{
	char text[128], count[32], bad[32];

	if (!hidden)
		return;
	text__count(count, hidden);
	text__count(bad, failed);
	snprintf(text, sizeof(text), "%s %s more span%s not shown%s%s%s", v->o->utf8 ? "…" : "...", count,
		 hidden == 1 ? "" : "s", failed ? ", " : "", failed ? bad : "", failed ? " of them failed" : "");
	pad_to(v, INDENT);
	put_styled(v, failed ? SGR_ERROR : NULL, text);
	end_line(v);
}

/* ---- layout ---------------------------------------------------------------------------------- */

static unsigned int max_u(unsigned int a, unsigned int b)
{
	return a > b ? a : b;
}

static unsigned int min_u(unsigned int a, unsigned int b)
{
	return a < b ? a : b;
}

/* The widest cells of what will be shown, and the least that the tree needs. */
static void measure(struct view *v, struct tree_row *roots, unsigned int *ret_tree_min)
{
	unsigned int least = 0, n = 0;
	char dur[24];

	for (struct tree_row *r = roots; r && n < TREE_LINES_MAX; r = walk(r), n++)
		v->service = max_u(v->service, text__columns(r->service));
	n = 0;
	for (struct tree_row *r = roots; r && n < TREE_LINES_MAX; r = walk(r), n++) {
		unsigned int lead = lead_width(v, r), label = text__columns(r->label);

		text__duration(dur, row_end(r) - r->start_ns, v->o->utf8);
		v->tree = max_u(v->tree, lead + label);
		least = max_u(least, lead + min_u(label, LABEL_MIN));
		v->status = max_u(v->status, text__columns(r->status));
		v->dur = max_u(v->dur, text__columns(dur));
		v->note = max_u(v->note, text__columns(row_note(v, r)));
	}
	*ret_tree_min = least;
}

static void lay_out(struct view *v, unsigned int tree_min)
{
	unsigned int width = v->o->width, fixed, left;

	if (!width) {
		v->tree = min_u(v->tree, max_u(tree_min, TREE_PIPE));
		v->bar = BAR_PIPE;
		return;
	}
	v->bar = BAR_MIN;
	if (tree_min + GAP + v->status + GAP + v->dur + GAP + v->bar > width)
		v->bar = 0;
	if (tree_min + GAP + v->status + GAP + v->dur > width)
		v->dur = 0;
	if (tree_min + GAP + v->status > width)
		v->status = 0;
	fixed = (v->status ? GAP + v->status : 0) + (v->dur ? GAP + v->dur : 0) + (v->bar ? GAP + v->bar : 0);
	v->tree = min_u(v->tree, width > fixed ? width - fixed : 0);
	if (!v->bar) {
		v->note = 0;
		return;
	}
	/* What is left is the bar's; a note takes it back down to BAR_WITH_NOTE. */
	left = width - v->tree - fixed;
	v->bar = min_u(BAR_MAX, v->bar + left);
	left = width - v->tree - (fixed - BAR_MIN) - v->bar;
	if (v->note && left < GAP + v->note && v->bar > BAR_WITH_NOTE) {
		unsigned int give = min_u(v->bar - BAR_WITH_NOTE, GAP + v->note - left);

		v->bar -= give;
		left += give;
	}
	v->note = left >= GAP + min_u(v->note, NOTE_MIN) ? min_u(v->note, left - GAP) : 0;
}

void tree__print(const struct tree *t, const struct tree_opts *o, struct tree_scratch *tmp, const struct tree_sink *out)
{
	struct view v = { .o = o, .out = out, .t0 = UINT64_MAX, .late = t->late };
	struct tree_row *roots = grow(t, tmp), *r;
	uint64_t hidden = t->cut, failed = t->cut_failed;
	unsigned int tree_min, shown = 0;

	if (!roots)
		return;
	roots->depth = 0;
	for (r = t->rows; r; r = r->next) {
		v.t0 = r->start_ns < v.t0 ? r->start_ns : v.t0;
		v.t1 = row_end(r) > v.t1 ? row_end(r) : v.t1;
	}
	measure(&v, roots, &tree_min);
	lay_out(&v, tree_min);
	put_header(&v, t, roots);
	for (r = roots; r; r = walk(r)) {
		if (shown++ < TREE_LINES_MAX) {
			put_row(&v, r);
			continue;
		}
		hidden++;
		failed += r->failed;
	}
	put_hidden(&v, hidden, failed);
	end_line(&v);
}
