/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Connections and their bytes: takes kernel events, keeps the connection table, puts each direction
 * in order, announces holes, and feeds the protocol table. What the parsers find goes on to the
 * matcher together with who moved the bytes.
 *
 * Order: the sequence number of each socket and direction tells a lost event (counted), the position
 * tells bytes that went around the hooks. Ordering by time would be wrong: a send is stamped after
 * the call, so on loopback the peer's read can be older.
 */
#ifndef WS_STREAM_H
#define WS_STREAM_H

#include "bpf/event.h"
#include "user/model/conn.h"
#include "user/model/msg.h"

struct stream;
struct match_conn; /* the matcher's own part of a connection */

/* The transfer that moved one byte of a message: who made it, and what that thread was working on. */
struct transfer {
	uint64_t pos;
	uint32_t len;
	uint32_t tgid, tid;
	uint8_t flags; /* WS_DATA_* */
	bool wired;	/* TLS: where its record begins on the wire is known, and how far into that these bytes are */
	uint32_t wire, wire_into;
	struct ws_token token;
	struct ws_context ctx; /* what the kernel read in these bytes, if flags has WS_DATA_CONTEXT */
};

/* One connection as the matcher sees it. */
struct stream_conn {
	struct conn_info info;
	uint64_t kaddr, peer_kaddr; /* AF_UNIX: names of both ends */
	bool seqpos;		    /* positions are TCP sequence numbers */
	uint32_t peer_tgid;	    /* AF_UNIX, server: who connected; 0: not known */
	uint64_t ended_ts;	    /* when one of its ends was seen to have ended it; 0: none was */
	struct match_conn *match;   /* owned by the matcher */
	bool encrypted;		    /* its first bytes were a TLS handshake's */
	bool ambiguous;		    /* concurrent callers moved positions: no join on this connection */
	const struct transfer *newest; /* while msg() tells of a request: what brought the end of its head */
};

/* What the stage behind implements. Everything is called on the pipeline thread. */
struct stream_next {
	/* `t`: the transfer that moved the byte at m->pos; NULL if that is not known any more. */
	void (*msg)(void *ctx, struct stream_conn *c, const struct msg *m, const struct transfer *t);
	/* Established (or found) and gone. The matcher drops what it keeps at `conn_gone`. */
	void (*conn_new)(void *ctx, struct stream_conn *c, uint64_t ts);
	void (*conn_gone)(void *ctx, struct stream_conn *c, uint64_t ts);
	/* Its content is no protocol that we read. */
	void (*conn_opaque)(void *ctx, struct stream_conn *c);
	/* Bytes were read on it: a thread takes up other work. */
	void (*ingress)(void *ctx, struct stream_conn *c, const struct ws_ev_data *ev);
	/* A connect() failed: errno, the dialling thread's token, how long it took is ts - c's first time. */
	void (*connect_failed)(void *ctx, struct stream_conn *c, int err, const struct ws_token *token,
			       uint32_t tid, uint64_t start_ts, uint64_t ts);
	void (*proc)(void *ctx, const struct ws_ev_proc *ev);
	void (*work)(void *ctx, const struct ws_ev_work *ev);
	/* Listening sockets come and go; `ts`: of the event. */
	void (*listening)(void *ctx, uint64_t sock, uint32_t tgid, uint32_t netns, uint16_t port, bool on, uint64_t ts);
	/* Control table of the kernel: what to capture of one connection. NULL ok (replay). */
	void (*control)(void *ctx, uint64_t sock, const struct ws_ctl *c);
	void *ctx;
};

struct stream_opts {
	uint32_t max_connections;
};

/* NULL with ENOMEM. */
struct stream *stream__new(const struct stream_opts *o, const struct stream_next *next);
void stream__free(struct stream *s, uint64_t now); /* ends every connection */
void stream__push(struct stream *s, const struct ws_ev *ev); /* borrowed, validated by the source */
void stream__tick(struct stream *s, uint64_t now);
/* The connection with this socket id, or NULL. */
struct stream_conn *stream__find(struct stream *s, uint64_t sock);
uint32_t stream__count(const struct stream *s);

#endif
