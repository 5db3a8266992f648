/* SPDX-License-Identifier: Apache-2.0 */
/* The head of an HTTP/1 message: start line and fields (RFC 9112). */
#ifndef WS_PROTO_HTTP1_HEAD_H
#define WS_PROTO_HTTP1_HEAD_H

#include <stdint.h>
#include <sys/types.h>

#include "user/proto/context.h"

#define HTTP1_HEAD_MAX 9216 /* bytes of a head; what is longer counts as cut there */

/* Everything points into the parsed bytes, folded values into memory of this thread, until its next head. */
struct http1_head {
	struct str method, target; /* request */
	char version[4];	   /* "1.1" */
	int status;		   /* response */
	bool cut;		   /* fields are missing: the framing below is not known */
	bool upgrade, expect;
	bool transfer_encoding, chunked; /* `chunked` is the last coding */
	int64_t content_length;		 /* -1: none */
	struct str host, user_agent;
	struct str content_type; /* of a response: folds as they came */
	struct str forwarded, x_forwarded_for, x_forwarded_host, x_forwarded_proto;
	struct context_headers ctx;
	uint64_t end_to_end; /* request: hash of the fields that proxies pass on as they are, in whatever order */
};

/*
 * Parses the head that starts at data[0]. Returns its length with the blank line; 0: more bytes are needed; -EBADMSG:
 * it is none. `*scan` (0 at first) remembers between calls how far the search for the blank line has come. With `cut`,
 * what is there is all there will be: 0 then means that not even the start line is complete.
 */
ssize_t http1_head__parse(struct http1_head *h, bool request, const uint8_t *data, size_t len, bool cut, size_t *scan);

/* Is this the start of a request line or a status line? 1 yes, 0 too short to tell, -1 no. */
int http1_head__is_request(const uint8_t *data, size_t len, bool known_methods_only);
int http1_head__is_response(const uint8_t *data, size_t len);
/* What is no request line, but begins like one: a common method and a path. The same answers. */
int http1_head__resembles_request(const uint8_t *data, size_t len);

/* A field's value: 0, or -1 if it is no content length, alone or in a list of equal ones (RFC 9110, 8.6). */
int http1_head__content_length(struct str value, int64_t *ret);

extern const uint8_t http1_token_chars[256]; /* RFC 9110, 5.6.2: 1 where one is */

#endif
