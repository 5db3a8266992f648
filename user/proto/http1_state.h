/* SPDX-License-Identifier: Apache-2.0 */
/* What http1.c knows of one connection: a state machine for each direction, and the requests that wait for their answer. */
#ifndef WS_PROTO_HTTP1_STATE_H
#define WS_PROTO_HTTP1_STATE_H

#include "user/model/stats.h"
#include "user/proto/http1_attrs.h"
#include "user/proto/proto.h"

#define RING_INLINE 16
#define RING_MAX 1024 /* requests in flight on one connection */

enum state {
	HEAD,
	BODY,	    /* `left` bytes of a body of known length */
	CHUNK_LINE, /* the size of a chunk */
	CHUNK_DATA, /* `left` bytes of a chunk */
	CHUNK_END,  /* the line end behind it */
	TRAILER,
	UNTIL_EOF,
	LOST, /* no framing; `xid` may still be open */
};

struct flow {
	enum state state;
	bool counted;	   /* the head that has begun is held on the books */
	bool waits;	   /* … and waits for its request */
	bool lost_chunked; /* LOST inside a chunked body whose end may still be seen */
	bool fresh;	   /* LOST, and nothing seen since the last skip */
	bool passing;	   /* LOST: what cannot be read passes, and is counted */
	bool believed;	   /* the last message's end was: a body may hold what looks like a last chunk */
	bool owed;	   /* the last request's body was not sent, and may still come */
	uint64_t xid;	   /* of the message whose body passes; 0: nobody's */
	uint64_t left;
	size_t scan;	/* http1_head__parse */
	size_t trailer; /* bytes of trailers so far */
	int64_t body;	/* bytes of the body so far, -1: not known */
	uint64_t end_pos, end_ts; /* LOST, UNTIL_EOF: behind the newest byte that was accounted for */
};

struct exchange {
	uint64_t xid;
	uint64_t begun; /* when its first byte moved */
	bool head, connect, upgrade;
	bool expect; /* its body may not come */
	bool events;	/* its response has no end of its own */
	bool alone;	/* no other request was open when its response began */
	uint8_t media;	/* enum http1_media; OTHER: it ships no telemetry */
	uint32_t holes; /* http1.holes when it began */
	struct http1_sizes sizes;
};

struct http1 {
	struct flow flow[2];
	struct exchange *ring; /* inline_ring, or of cap entries on the heap */
	uint32_t first, count, cap;
	struct exchange inline_ring[RING_INLINE];
	struct http1_peers peers;
	bool started;
	bool shaken;
	uint32_t holes; /* that have shaken it so far */
	bool tunnel;
	bool doubt; /* bytes have passed unseen in which the first answer may have ended, and others have begun */
	bool request_ended;
	int err;	 /* of the end of the request direction */
	uint64_t end_ts; /* of the first end of a direction */
};

/* The i-th of the open requests, the oldest first; i < count. */
static inline struct exchange *http1_open__at(struct http1 *h, uint32_t i)
{
	return &h->ring[(h->first + i) & (h->cap - 1)];
}

/* NULL: it is open no more. */
struct exchange *http1_open__find(struct http1 *h, uint64_t xid);
/* A new one, zeroed, behind the others; NULL, *ret_err: ENOMEM or EOVERFLOW, negative. */
struct exchange *http1_open__push(struct http1 *h, int *ret_err);
/* Takes the oldest off. */
void http1_open__pop(struct http1 *h);

/* Books of heads. begin: one has begun, and is held; out: it was passed on; drop: it was not, or will never be complete. */
void http1_book__begin(struct flow *f);
void http1_book__out(struct flow *f);
void http1_book__drop(struct flow *f, enum stats_reason reason);

#endif
