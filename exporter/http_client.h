/* SPDX-License-Identifier: Apache-2.0 */
/* One HTTP connection to one collector (libcurl), used by one thread; another thread may interrupt it. */
#ifndef WS_EXPORTER_HTTP_CLIENT_H
#define WS_EXPORTER_HTTP_CLIENT_H

#include "exporter/exporter.h"

#define HTTP_MAX_RESPONSE ((size_t)4 << 20) /* OTLP specification 1.11: at most 4 MiB are to be read */

struct http_client_opts {
	const struct exporter_opts *exporter; /* TLS files, time-out, headers; borrowed during the call */
	const char *path;     /* replaces the URL's path, or NULL */
	bool http2_only;      /* prior knowledge without TLS, ALPN with it */
	const char *const *headers; /* "Name: value", NULL at the end; sent before the user's */
	/* Each field of the response, trailers included; not of interim (1xx) ones. NULL ok. */
	void (*field)(void *ctx, struct str name, struct str value);
	void *ctx;
};

struct http_response {
	long status;	      /* 0: none came, `error` says why */
	bool http2;
	bool interrupted;
	bool not_http;	      /* it answered in another protocol, or closed without an answer */
	bool complete;	      /* the body ended as it should */
	bool too_large;	      /* longer than HTTP_MAX_RESPONSE */
	struct str body;      /* the client's, until the next post */
	char type[64];	      /* Content-Type, lower case, without parameters; "" none */
	char retry_after[64]; /* "" none */
	char error[256];      /* of the transfer, for a log line; "" none */
};

struct http_client;

/* NULL with errno (EINVAL, EACCES, ENOENT; logged. ENOMEM). */
struct http_client *http_client__new(const struct http_client_opts *o);
void http_client__free(struct http_client *c); /* NULL ok */
/* "http://collector:4318", without credentials and path. */
const char *http_client__origin(const struct http_client *c);
void http_client__post(struct http_client *c, struct str body, struct http_response *ret);
/* Any thread: the post under way, and every later one, returns at once, with `interrupted`. */
void http_client__interrupt(struct http_client *c);

#endif
