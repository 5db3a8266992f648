/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The matcher: pairs requests with responses, finds out which request caused which, and turns each
 * exchange into a span.
 *
 * Parents (see README, "How parents are proven"): an edge is drawn only on evidence, and each edge
 * names it. Nothing here depends on the order in which two sockets' events arrive, so a span is
 * given its identity only when everything that could still change it has been heard:
 *
 *   server span   waits until the client span on this node is found (join), or until it is certain
 *                 that there is none; then the traceparent that came with the request; then a root.
 *   client span   waits until the evidence for its parent is confirmed: a thread's request is the
 *                 parent only once the same thread has answered it.
 *
 * What is left out is decided there as well, so that no span names a parent that is not exported. Whatever was done
 * for a request that is left out by its path, or because it ships telemetry, is left out with it; what was done for
 * somebody who is not selected begins here, as a root.
 *
 * Unit of the books (MATCH): exchanges. in: requests seen; out: spans passed on; held: the rest.
 */
#ifndef WS_MATCH_H
#define WS_MATCH_H

#include "user/base/siphash.h"
#include "user/model/span.h"
#include "user/stream/stream.h"

/* What proved a parent. The order is the order of the options and of the accuracy table. */
#define MATCH_EVIDENCE(X)                                                       \
	X(JOIN, "join")	    /* the same bytes on this node: same connection, same position */ \
	X(HEADER, "header") /* trace context on the wire */                     \
	X(THREAD, "thread") /* the thread that read the request wrote this, and answered */ \
	X(INHERITED, "thread-inherited") /* a thread that lived within the request */ \
	X(CONTEXT, "context") /* the runtime's own logical context (CPython) */ \
	X(GOROUTINE, "goroutine") /* the goroutine that read the request wrote this */ \
	X(GOROUTINE_INHERITED, "goroutine-inherited") /* one that was made by it, and ended with its work */ \
	X(CARRIED, "request-context") /* Go: the call came with the context object of this request, or one derived from it */ \
	X(GREENLET, "greenlet") /* CPython: the greenlet that read the request wrote this, and answered */ \
	X(VIRTUAL, "virtual-thread") /* the JVM's virtual thread that read the request wrote this */ \
	X(TURN, "turn")	    /* libuv: the callback that read the request wrote this */ \
	X(TURN_CONTINUED, "turn-continued") /* … one that read the answer to a call of its, and nothing was ever crossed */ \
	X(EXECUTOR, "executor") /* a work item that was handed to another thread */ \
	X(CONTENT, "content") /* a proxy passed on exactly what this request, and no other, asked for */ \
	X(CALLBACK, "callback") /* run-to-completion loop: this callback */     \
	X(DIAL, "dial")	    /* run-to-completion loop: the callback that dialled */ \
	X(SINGLE, "single") /* the only request that lived in this process */

enum match_evidence {
	EVIDENCE_NONE,
#define X(e, name) EVIDENCE_##e,
	MATCH_EVIDENCE(X)
#undef X
	__EVIDENCE_CNT
};

const char *match__evidence_name(enum match_evidence e);
/* Bit mask for a comma-separated list of names; -EINVAL for an unknown one. NULL: 0. */
int match__evidence_mask(const char *list, uint32_t *ret_mask);

enum match_selection {
	MATCH_UNSELECTED,
	MATCH_SELECTED,
	MATCH_RECEIVER,	 /* it receives telemetry */
	MATCH_UNDECIDED, /* ask again */
};

struct match_opts {
	struct siphash_key key;	 /* of span and trace ids */
	uint32_t max_requests;	 /* exchanges held at the most */
	uint32_t evidence_off;	 /* 1 << enum match_evidence */
	uint32_t links_max;	 /* to the requests that may have made a call whose parent is not proven; 0: none */
	bool trace_telemetry;	 /* --no-default-excludes */
	const char *exclude_paths; /* globs, comma-separated: what is asked for there is left out; borrowed, NULL ok */
	/* Is this process selected (--pid, --exe, --port)? NULL: all are. */
	enum match_selection (*selection)(void *ctx, uint32_t tgid);
	struct stream *(*stream)(void *ctx); /* to resolve tokens */
	/* Is this process a proxy that passes requests on as they came? NULL: none is. */
	bool (*is_proxy)(void *ctx, uint32_t tgid);
	/* A process has taken telemetry: told once. NULL ok. */
	void (*telemetry_receiver)(void *ctx, uint32_t tgid);
	/* The next stage: owns the span. */
	void (*next)(void *ctx, struct span *s, uint64_t now);
	void *ctx;
};

struct match;

struct match *match__new(const struct match_opts *o);
void match__free(struct match *m);

/* Behind struct stream_next; ctx is the struct match. */
void match__msg(void *m, struct stream_conn *c, const struct msg *msg, const struct transfer *t);
void match__conn_new(void *m, struct stream_conn *c, uint64_t ts);
void match__conn_gone(void *m, struct stream_conn *c, uint64_t ts);
void match__conn_opaque(void *m, struct stream_conn *c);
void match__connect_failed(void *m, struct stream_conn *c, int err, const struct ws_token *token, uint32_t tid,
			   uint64_t start_ts, uint64_t ts);
void match__ingress(void *m, struct stream_conn *c, const struct ws_ev_data *ev);
void match__proc(void *m, const struct ws_ev_proc *ev);
void match__work(void *m, const struct ws_ev_work *ev);

void match__clock(struct match *m, int64_t wall_offset);
void match__tick(struct match *m, uint64_t now);
/* End of input: whatever waits is decided with what is known. Connections must be gone before. */
void match__flush(struct match *m, uint64_t now);

#endif
