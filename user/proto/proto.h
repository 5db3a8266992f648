/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The protocol table: detection by content, then one parser per connection.
 *
 * A protocol is one file, user/proto/NAME.c, that ends in `const struct proto_ops proto_NAME`, one
 * line in proto_list.h, and a directory of cases, tests/proto/NAME/. Nothing else is edited.
 *
 * The core (proto.c) owns the per-connection state, re-presents unconsumed bytes, enforces max_head,
 * and checks a parser's arithmetic before it believes it.
 */
#ifndef WS_PROTO_H
#define WS_PROTO_H

#include <stdint.h>
#include <sys/types.h>

#include "user/model/conn.h"
#include "user/model/msg.h"

/*
 * Directions as a protocol sees them. The core maps them from socket directions by the role of this
 * end: on a server, requests are received; on a client, they are sent.
 */
enum proto_dir { PROTO_REQUEST, PROTO_RESPONSE };

/* Contiguous captured bytes of one direction; valid only during the call. */
struct slice {
	const uint8_t *data;
	size_t len;
	uint64_t pos;	   /* position of data[0] */
	uint64_t ts_first; /* when data[0] moved */
	uint64_t ts_ns;	   /* when the newest byte moved */
	enum proto_dir dir;
	/* The bytes that follow these are not to be seen. What is not consumed now is dropped: skip() comes next. */
	bool cut;
};

enum proto_verdict {
	PROTO_NO,	/* certainly not this protocol */
	PROTO_MAYBE,	/* more bytes are needed */
	PROTO_IS_REQUEST,  /* a request starts here: this direction carries requests */
	PROTO_IS_RESPONSE, /* a response starts here */
};

/* What a parser may tell its surroundings besides messages. */
struct proto_io {
	struct msg_sink sink;
	/*
	 * "The next n bytes of this direction, from the end of what this call consumes, are body that need
	 * not be captured": UINT64_MAX up to the end of the direction. The bytes still arrive, through
	 * ops->skip().
	 */
	void (*skip_hint)(void *ctx, enum proto_dir dir, uint64_t from_pos, uint64_t n);
	void *ctx;
	const struct conn_info *conn;
	uint64_t *xid; /* of the newest exchange of this connection: ++*xid numbers the next */
	bool clean;    /* the parser was given both directions from their first byte on */
};

/*
 * parse(): these bytes have to wait for something in the other direction. The events of two directions may overtake
 * each other: a response may be seen before its request. The core keeps them, and the skips and the end that follow
 * them, up to max_head, and presents them again when the other direction has moved.
 */
#define PROTO_HOLD (-EAGAIN)
/* parse(): this protocol ended in good order (Upgrade, CONNECT); detect anew. */
#define PROTO_END_TUNNEL (-ECONNABORTED)

/* Bytes of one direction after which a protocol that is still a MAYBE is a NO. */
#define PROTO_DETECT_MAX 2048

struct proto_ops {
	const char *name;     /* == file name == test directory == configuration key */
	/* Unconsumed bytes kept per direction, >= PROTO_DETECT_MAX; beyond it the parser is told of a skip. */
	uint32_t max_head;
	size_t conn_size;     /* per-connection state, zeroed, owned by the core */

	/* Required. `len` >= 1. */
	enum proto_verdict (*detect)(const uint8_t *data, size_t len);
	/*
	 * > 0: bytes consumed; 0: more bytes are needed; PROTO_HOLD: wait for the other direction;
	 * PROTO_END_TUNNEL: detection runs again, on these bytes; else < 0: give up on this connection.
	 * Called again at once with the rest while it consumes.
	 */
	ssize_t (*parse)(void *st, const struct slice *s, const struct proto_io *io);
	/*
	 * n bytes at position `pos` passed without being seen: body beyond the capture limit, sendfile, or lost events.
	 * All unconsumed bytes of that direction have been dropped before the call, and count as unseen too: `pos` is
	 * the position of the first byte that the parser has not consumed. n == 0 with `lost`: nobody knows how many;
	 * without: this direction of a connection that was met in its middle begins here, and need not begin with a message.
	 * `ts_ns` is when the last of them moved. `lost` tells events lost from bytes left out by policy.
	 * Return < 0 to give up on this connection.
	 */
	int (*skip)(void *st, enum proto_dir dir, uint64_t pos, uint64_t n, uint64_t ts_ns, bool lost,
		    const struct proto_io *io);
	/*
	 * Bytes of body or of nobody knows what have been skipped; these are the last ones of that transfer. 1: they end
	 * a message; 0: they say nothing, skip() comes next; -1: their place is known, parse() comes next. NULL: 0.
	 */
	int (*tail)(void *st, enum proto_dir dir, const uint8_t *data, size_t len, uint64_t pos, uint64_t ts_ns,
		    const struct proto_io *io);
	/*
	 * The direction has ended: in good order (err 0), or with a positive errno (reset). Unconsumed bytes
	 * were dropped before. Must emit what now ends.
	 */
	void (*eof)(void *st, enum proto_dir dir, uint64_t ts_ns, int err, const struct proto_io *io);
	/* The connection leaves the table: emit MSG_ABORT for every open exchange, free what was allocated. */
	void (*fini)(void *st, uint64_t ts_ns, const struct proto_io *io);
};

/* Fatal mistakes in the table (missing slots, doubled names): prints them, returns -EINVAL. First thing in main. */
int proto__check_table(void);
const struct proto_ops *const *proto__table(size_t *ret_n);

/*
 * The books of this stage (ST_PROTO): a *message* is one head, of a request or of a final response. It is `held` from
 * its first byte until it is complete, `out` when it was emitted, `dropped` when it was not. Interim responses are part
 * of the final one, and what follows a head (body, trailers) is part of its message. Bytes in which no message was
 * recognised are no message; those that make a parser give up count as one, malformed. Parsers keep them.
 */

/* ---- per connection ---------------------------------------------------------------------- */

struct proto_conn; /* opaque: detection state, parser state, unconsumed bytes */

struct proto_events {
	struct msg_sink sink;
	void (*skip_hint)(void *ctx, enum proto_dir dir, uint64_t from_pos, uint64_t n);
	/* Content has shown which end this is (conn_info.role was UNKNOWN or wrong). Has to set conn_info.role. */
	void (*role)(void *ctx, enum ws_role role);
	/*
	 * No protocol of the table, or the parser gave up: nothing more of this connection is wanted. No callback may
	 * free the proto_conn or push to it.
	 */
	void (*stop)(void *ctx);
	void *ctx;
};

/* `info` stays valid and current for the life of the proto_conn. NULL with ENOMEM. */
struct proto_conn *proto_conn__new(const struct conn_info *info, const struct proto_events *ev);
/* Bytes in order, without holes: holes are announced by proto_conn__skip(). */
void proto_conn__push(struct proto_conn *c, enum ws_dir dir, const uint8_t *data, size_t len, uint64_t pos,
		      uint64_t ts_ns);
void proto_conn__skip(struct proto_conn *c, enum ws_dir dir, uint64_t pos, uint64_t n, uint64_t ts_ns, bool lost);
/* Behind such a skip: the last bytes of the same transfer. */
void proto_conn__tail(struct proto_conn *c, enum ws_dir dir, const uint8_t *data, size_t len, uint64_t pos, uint64_t ts_ns);
void proto_conn__eof(struct proto_conn *c, enum ws_dir dir, uint64_t ts_ns, int err);
void proto_conn__free(struct proto_conn *c, uint64_t ts_ns); /* NULL ok; emits what is still open */
/* Name of the protocol found, or NULL. */
const char *proto_conn__name(const struct proto_conn *c);
size_t proto_conn__buffered(const struct proto_conn *c);

#endif
