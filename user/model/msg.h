/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a protocol parser tells the matcher. Everything in a msg is borrowed: valid only during the
 * emit call.
 *
 * A request and its response are one *exchange*, numbered by the parser per connection (xid, from 1,
 * in the order of requests). For each exchange a parser emits, in this order per direction:
 *
 *   MSG_REQUEST       head complete           (exactly once)
 *   MSG_REQUEST_END   last byte of request
 *   MSG_RESPONSE      head complete
 *   MSG_RESPONSE_END  last byte of response   (the exchange is over)
 *   MSG_ABORT         instead of what is missing: the connection ended or was lost from sight
 *
 * Responses may overtake the end of their request. A response without a request is never emitted.
 */
#ifndef WS_MODEL_MSG_H
#define WS_MODEL_MSG_H

#include "user/model/attr.h"
#include "user/model/context.h"

enum msg_kind { MSG_REQUEST, MSG_REQUEST_END, MSG_RESPONSE, MSG_RESPONSE_END, MSG_ABORT };

/* msg.flags */
#define MSG_ERROR 0x01	   /* status is an error by the rules of the protocol and of this side */
#define MSG_TELEMETRY 0x02 /* request: it may ship telemetry (OTLP); response: it did, to a receiver */
#define MSG_DISCARD 0x04   /* request: no span, and why is in `reason` */
#define MSG_NO_TELEMETRY 0x08 /* response to what may ship telemetry: nobody takes any there */

struct msg {
	enum msg_kind kind;
	uint32_t flags;
	uint64_t xid;
	uint64_t pos;	  /* first byte of the message (REQUEST, RESPONSE) or behind the last (…_END) */
	uint64_t ts_ns;	  /* when that byte moved, CLOCK_MONOTONIC */
	const char *scheme; /* parser's name: proto_ops.name */

	/* REQUEST */
	struct str op;	   /* low-cardinality operation, span name's first word: "GET", "HTTP" */
	struct str target; /* raw path or equivalent, for routes and for the terminal; may be empty */
	struct str peer;   /* for the terminal: host[:port] a client asked for; may be empty */
	const char *route_key; /* attribute that takes the route found for `target`, NULL: no routes */
	/*
	 * Hash of what a forwarding proxy passes on as it is, besides op and target: query, user agent. Compared within a
	 * process only; never exported.
	 */
	uint64_t content;
	/*
	 * Hash of the whole request as it is passed on: method, target, fields that are meant for the server at the end
	 * (RFC 9110, 7.6.1) and that proxies have no reason to touch. 0: not known. Compared likewise.
	 */
	uint64_t request_key;
	struct trace_context ctx;

	/* RESPONSE, ABORT */
	struct str status;	/* short text for the terminal: "200" */
	const char *error_type; /* error.type, NULL without an error; static or borrowed */

	/* REQUEST, RESPONSE, RESPONSE_END; no key comes twice in one message */
	const struct attr *attrs;
	size_t n_attrs;
};

struct msg_sink {
	void (*emit)(void *ctx, const struct msg *m);
	void *ctx;
};

#endif
