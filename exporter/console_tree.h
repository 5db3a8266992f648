/* SPDX-License-Identifier: Apache-2.0 */
/* One trace as an indented tree with columns. Only layout: knows no clock, no output and no limits of time. */
#ifndef WS_EXPORTER_CONSOLE_TREE_H
#define WS_EXPORTER_CONSOLE_TREE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define TREE_ROWS_MAX 1000u /* that one tree holds */
#define TREE_LINES_MAX 200u /* that one tree prints; the rest is a count */

/* What is shown of a span. The strings went through text__clean(). */
struct tree_row {
	struct tree_row *next; /* for whoever owns it */
	size_t bytes;	       /* its memory, for whoever owns it */
	uint8_t id[8], parent_id[8];
	uint64_t start_ns, end_ns; /* Unix time */
	bool root;		   /* parent_id is all zero */
	bool client;		   /* what it calls is an arrow away */
	bool failed;
	const char *service, *label, *status, *note;

	/* Set while a tree is laid out. */
	struct tree_row *parent, *child, *sibling, *other;
	bool placed;
	unsigned int depth;
};

struct tree_opts {
	bool color, utf8;
	unsigned int width; /* columns; 0: no limit */
};

/* A trace as it stands. */
struct tree {
	const uint8_t *trace_id; /* 16 bytes */
	struct tree_row *rows;	 /* list */
	uint32_t n;		 /* <= TREE_ROWS_MAX */
	uint64_t cut, cut_failed; /* spans that were not kept */
	bool late;		 /* the trace was printed before */
};

struct tree_sink {
	void (*put)(void *ctx, const char *p, size_t n);
	void *ctx;
};

/* Pointers to rows, in some order; lent by the caller so that printing needs no memory. */
struct tree_scratch {
	struct tree_row *a[TREE_ROWS_MAX];
};

/* Has a root, and every other span its parent. */
bool tree__complete(const struct tree *t, struct tree_scratch *tmp);
void tree__print(const struct tree *t, const struct tree_opts *o, struct tree_scratch *tmp,
		 const struct tree_sink *out);

#endif
