// SPDX-License-Identifier: Apache-2.0
/* OTLP/HTTP with protobuf bodies (OTLP specification 1.11, "OTLP/HTTP"). */
#include <errno.h>
#include <stdio.h>

#include "exporter/otlp_sink.h"
#include "exporter/retry.h"
#include "exporter/rpc_status.h"
#include "user/base/clock.h"
#include "user/base/mem.h"

#define TYPE "application/x-protobuf"

static int otlp_http_open(const struct exporter_opts *o, void **ret_state)
{
	static const char *const plain[] = { "Content-Type: " TYPE, NULL };
	static const char *const packed[] = { "Content-Type: " TYPE, "Content-Encoding: gzip", NULL };
	struct http_client_opts http = { .exporter = o, .headers = o->gzip ? packed : plain };
	struct otlp_sink *s = mem__zalloc(sizeof(*s));
	int err;

	if (!s)
		return -ENOMEM;
	err = otlp_sink__open(s, o, &http);
	if (err) {
		mem__free(s);
		return err;
	}
	*ret_state = s;
	return 0;
}

static void otlp_http_close(void *st)
{
	if (!st)
		return;
	otlp_sink__close(st);
	mem__free(st);
}

/* What may be wrong on our side, for those answers that usually mean it. */
static const char *hint_for(long status)
{
	switch (status) {
	case 401:
	case 403:
		return " (OTEL_EXPORTER_OTLP_HEADERS carries credentials)";
	case 404:
	case 405:
		return " (is the path right? usually port 4318, /v1/traces)";
	case 413:
		return " (lower OTEL_BSP_MAX_EXPORT_BATCH_SIZE)";
	default:
		if (status >= 300 && status <= 399)
			return " (redirects are not followed: set the endpoint to the new place)";
		return "";
	}
}

static const char *phrase_for(long status)
{
	static const struct {
		long status;
		const char *phrase;
	} known[] = {
		{ 400, " Bad Request" },
		{ 401, " Unauthorized" },
		{ 403, " Forbidden" },
		{ 404, " Not Found" },
		{ 405, " Method Not Allowed" },
		{ 413, " Content Too Large" },
		{ 415, " Unsupported Media Type" },
		{ 429, " Too Many Requests" },
		{ 500, " Internal Server Error" },
		{ 501, " Not Implemented" },
		{ 502, " Bad Gateway" },
		{ 503, " Service Unavailable" },
		{ 504, " Gateway Timeout" },
	};

	for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++) {
		if (known[i].status == status)
			return known[i].phrase;
	}
	return "";
}

/* The reason that the server gave: google.rpc.Status, else the first line of a short text. */
static struct str message_of(const struct http_response *r)
{
	struct rpc_status status;
	struct str text = r->body;
	const char *end;

	if (strcmp(r->type, TYPE) == 0)
		return rpc_status__parse(r->body.p, r->body.len, &status) ? STR_NULL : status.message;
	if (strcmp(r->type, "text/plain") != 0 && strcmp(r->type, "application/json") != 0)
		return STR_NULL;
	end = text.len ? memchr(text.p, '\n', text.len) : NULL;
	if (end)
		text.len = (size_t)(end - text.p);
	return text;
}

static void say_status(struct otlp_sink *s, const struct http_response *r)
{
	struct str message = message_of(r);
	int len = message.len < 200 ? (int)message.len : 200;

	otlp_sink__say(s, "%ld%s%s%.*s%s", r->status, phrase_for(r->status), len ? ": " : "", len, len ? message.p : "",
		       hint_for(r->status));
}

static enum export_result judge(struct otlp_sink *s, const struct http_response *r, uint32_t n, uint32_t *ret_rejected,
				uint64_t *ret_wait_ns)
{
	enum export_result result;

	if (r->status == 0) {
		otlp_sink__say(s, "%s%s", r->error,
			       r->not_http ? ": is this an OTLP/HTTP endpoint? usually port 4318" : "");
		return EXPORT_RETRY;
	}
	result = retry__http(r->status);
	if (result != EXPORT_OK) {
		say_status(s, r);
		if (result == EXPORT_RETRY && r->retry_after[0] &&
		    retry__parse_after(r->retry_after, clock__wall_ns(), ret_wait_ns))
			*ret_wait_ns = 0;
		return result;
	}
	/* The status acknowledges; what follows cannot take that back, and asking again would send the spans twice. */
	if (r->too_large)
		otlp_sink__say(s, "accepted the spans, but its answer is longer than 4 MiB");
	else if (!r->complete)
		otlp_sink__say(s, "accepted the spans, but its answer broke off: %s", r->error);
	else if (strcmp(r->type, "text/html") == 0) {
		otlp_sink__say(s, "answers with a web page: not an OTLP receiver");
		return EXPORT_DROP;
	} else
		otlp_sink__read_success(s, r->body, n, ret_rejected);
	return EXPORT_OK;
}

static enum export_result otlp_http_send(void *st, const struct batch *b, uint32_t *ret_rejected, uint64_t *ret_wait_ns)
{
	struct otlp_sink *s = st;
	struct http_response resp;
	enum export_result result;
	struct str body;

	result = otlp_sink__encode(s, b, &body);
	if (result != EXPORT_OK)
		return result;
	http_client__post(s->client, body, &resp);
	return judge(s, &resp, b->n, ret_rejected, ret_wait_ns);
}

static const char *otlp_http_subject(void *st)
{
	return ((struct otlp_sink *)st)->subject;
}

static const char *otlp_http_why(void *st)
{
	return otlp_sink__why(st);
}

static void otlp_http_interrupt(void *st)
{
	http_client__interrupt(((struct otlp_sink *)st)->client);
}

const struct exporter_ops exporter_otlp_http = {
	.name = "otlp-http",
	.open = otlp_http_open,
	.send = otlp_http_send,
	.subject = otlp_http_subject,
	.why = otlp_http_why,
	.interrupt = otlp_http_interrupt,
	.close = otlp_http_close,
};
