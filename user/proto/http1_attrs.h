/* SPDX-License-Identifier: Apache-2.0 */
/* HTTP/1 heads as semantic conventions name them (OpenTelemetry semantic conventions, HTTP spans, stable). */
#ifndef WS_PROTO_HTTP1_ATTRS_H
#define WS_PROTO_HTTP1_ATTRS_H

#include "user/model/conn.h"
#include "user/model/msg.h"
#include "user/proto/http1_head.h"

#define HTTP1_ATTRS_MAX 25

/* Addresses of a connection as text; they seldom change, and formatting is dear. Zeroed at first. */
struct http1_peers {
	struct conn_addr local, remote; /* that the texts were made of */
	bool has_local, has_remote;
	char local_text[WS_UNIX_PATH_MAX + 1], remote_text[WS_UNIX_PATH_MAX + 1];
};

struct http1_sizes {
	int64_t request_head, request_body; /* bytes; body -1: not known */
	int64_t response_head, response_body;
};

/*
 * Fills op, target, peer, route_key, ctx, flags and attributes of a MSG_REQUEST. What they point to is in the head, in
 * `attrs`, `peers`, or memory of this thread that holds until the next call.
 */
void http1_attrs__request(struct msg *m, struct attr *attrs, const struct http1_head *h, const struct conn_info *conn,
			  struct http1_peers *peers);
/* What a request that may ship telemetry says it is made of; a receiver answers in the same, if it says anything. */
enum http1_media { HTTP1_MEDIA_OTHER, HTTP1_MEDIA_PROTOBUF, HTTP1_MEDIA_JSON, HTTP1_MEDIA_GRPC, HTTP1_MEDIA_OWN };
enum http1_media http1_attrs__telemetry(const struct msg *m, const struct http1_head *h);
/* A response that goes on until its client has had enough (HTML standard, server-sent events). */
bool http1_attrs__is_events(const struct http1_head *h);
/* What this response says of such a request: MSG_TELEMETRY, MSG_NO_TELEMETRY, or neither, 0. */
uint32_t http1_attrs__telemetry_answer(const struct http1_head *h, enum http1_media asked);
/* The opt-in attributes of a MSG_RESPONSE_END. */
void http1_attrs__sizes(struct msg *m, struct attr *attrs, const struct http1_sizes *z);

#endif
