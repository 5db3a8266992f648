// SPDX-License-Identifier: Apache-2.0
/*
 * OTLP/gRPC: one unary call is one HTTP/2 POST of one length-prefixed message; the outcome is in the trailers, or in
 * the header fields where there is no body (grpc: doc/PROTOCOL-HTTP2.md).
 */
#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>

#include "exporter/otlp_sink.h"
#include "exporter/retry.h"
#include "exporter/rpc_status.h"
#include "user/base/mem.h"

#define METHOD "/opentelemetry.proto.collector.trace.v1.TraceService/Export"
#define FRAME_HEAD 5u /* flag: compressed; length, big-endian */
_Static_assert(FRAME_HEAD <= OTLP_HEADROOM && FRAME_HEAD <= GZIP_HEADROOM, "room for the frame's head");
#define NO_STATUS UINT32_MAX

struct otlp_grpc {
	struct otlp_sink sink;
	/* Of the call under way */
	uint32_t status; /* or NO_STATUS */
	char message[512];
	char details[8192]; /* grpc-status-details-bin, base64 */
};

static uint32_t parse_status(struct str v)
{
	uint32_t n = 0;

	if (v.len == 0 || v.len > 5)
		return GRPC_UNKNOWN;
	for (size_t i = 0; i < v.len; i++) {
		if (v.p[i] < '0' || v.p[i] > '9')
			return GRPC_UNKNOWN;
		n = n * 10 + (uint32_t)(v.p[i] - '0');
	}
	return n;
}

static int hex_value(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

/* grpc-message is percent-encoded; what is not valid is taken as it stands, as the protocol asks. */
static void decode_message(struct str v, char *dst, size_t size)
{
	size_t out = 0;

	for (size_t i = 0; i < v.len && out + 1 < size; i++) {
		char c = v.p[i];

		if (c == '%' && i + 2 < v.len && hex_value(v.p[i + 1]) >= 0 && hex_value(v.p[i + 2]) >= 0) {
			c = (char)(hex_value(v.p[i + 1]) << 4 | hex_value(v.p[i + 2]));
			i += 2;
		}
		dst[out++] = c ? c : '?';
	}
	dst[out] = '\0';
}

static void take_field(void *ctx, struct str name, struct str value)
{
	struct otlp_grpc *g = ctx;

	if (str__ieq(name, STR("grpc-status"))) {
		g->status = parse_status(value);
	} else if (str__ieq(name, STR("grpc-message"))) {
		decode_message(value, g->message, sizeof(g->message));
	} else if (str__ieq(name, STR("grpc-status-details-bin")) && value.len < sizeof(g->details)) {
		memcpy(g->details, value.p, value.len);
		g->details[value.len] = '\0';
	}
}

static int otlp_grpc_open(const struct exporter_opts *o, void **ret_state)
{
	char timeout[64];
	const char *headers[6] = { "Content-Type: application/grpc+proto", "TE: trailers",
				   "grpc-accept-encoding: identity" };
	size_t n = 3;
	uint64_t timeout_ms = o->timeout_ns / 1000000;
	struct otlp_grpc *g = mem__zalloc(sizeof(*g));
	struct http_client_opts http = {
		.exporter = o, .path = METHOD, .http2_only = true, .headers = headers, .field = take_field, .ctx = g
	};
	int err;

	if (!g)
		return -ENOMEM;
	if (timeout_ms) {
		/* At most 8 digits; in milliseconds that is more than a day. */
		snprintf(timeout, sizeof(timeout), "grpc-timeout: %um",
			 timeout_ms < 99999999 ? (unsigned int)timeout_ms : 99999999);
		headers[n++] = timeout;
	}
	if (o->gzip)
		headers[n++] = "grpc-encoding: gzip";
	err = otlp_sink__open(&g->sink, o, &http);
	if (err) {
		mem__free(g);
		return err;
	}
	*ret_state = g;
	return 0;
}

static void otlp_grpc_close(void *st)
{
	struct otlp_grpc *g = st;

	if (!g)
		return;
	otlp_sink__close(&g->sink);
	mem__free(g);
}

/* How the call ended, whichever layer knows: the trailers, the HTTP status, or the transfer. NO_STATUS: no answer. */
static uint32_t final_status(const struct otlp_grpc *g, const struct http_response *r)
{
	if (g->status != NO_STATUS)
		return g->status;
	if (r->status && r->status != 200)
		return retry__grpc_of_http(r->status);
	if (r->status == 200 && r->complete)
		return GRPC_UNKNOWN;
	return NO_STATUS;
}

/* What may be wrong on our side, for those answers that usually mean it. */
static const char *hint_for(uint32_t status)
{
	switch (status) {
	case GRPC_UNAUTHENTICATED:
	case GRPC_PERMISSION_DENIED:
		return " (OTEL_EXPORTER_OTLP_HEADERS carries credentials)";
	case GRPC_UNIMPLEMENTED:
		return " (is this an OTLP endpoint?)";
	default:
		return "";
	}
}

static void say_failure(struct otlp_grpc *g, const struct http_response *r, uint32_t status)
{
	if (status == NO_STATUS && r->status == 0 && r->not_http) {
		otlp_sink__say(&g->sink, "%s: is this a gRPC endpoint? usually port 4317", r->error);
	} else if (status == NO_STATUS) {
		otlp_sink__say(&g->sink, "%s", r->error[0] ? r->error : "the answer broke off");
	} else if (g->status == NO_STATUS && (!r->http2 || r->status != 200)) {
		otlp_sink__say(&g->sink,
			       "HTTP status %ld and no gRPC status: is this a gRPC endpoint? usually port 4317",
			       r->status);
	} else if (g->status == NO_STATUS) {
		otlp_sink__say(&g->sink, "no gRPC status in the answer%s%s: is this a gRPC endpoint? usually port 4317",
			       r->type[0] ? ", which is " : "", r->type);
	} else {
		otlp_sink__say(&g->sink, "%s%s%.300s%s", retry__grpc_name(status), g->message[0] ? ": " : "",
			       g->message, hint_for(status));
	}
}

/* The message behind its frame head; empty if there is none that can be read. */
static struct str unframe(struct str body)
{
	uint32_t len;

	if (body.len < FRAME_HEAD || body.p[0] != 0)
		return STR_NULL; /* compressed, although we did not offer to read that */
	memcpy(&len, body.p + 1, sizeof(len));
	len = ntohl(len);
	if (len > body.len - FRAME_HEAD)
		return STR_NULL;
	return (struct str){ body.p + FRAME_HEAD, len };
}

static enum export_result judge(struct otlp_grpc *g, const struct http_response *r, uint32_t n, uint32_t *ret_rejected,
				uint64_t *ret_wait_ns)
{
	uint32_t status = final_status(g, r);
	struct rpc_status details = { 0 };
	enum export_result result;
	int len;

	if (status == GRPC_OK) {
		otlp_sink__read_success(&g->sink, unframe(r->body), n, ret_rejected);
		return EXPORT_OK;
	}
	if (r->too_large && status == NO_STATUS) {
		/* Only the trailers would have said how it went, and the next answer would be as long. */
		otlp_sink__say(&g->sink, "its answer is longer than 4 MiB");
		return EXPORT_DROP;
	}
	say_failure(g, r, status);
	if (status == NO_STATUS)
		return EXPORT_RETRY;
	len = rpc_status__unbase64(g->details, strlen(g->details));
	if (len <= 0 || rpc_status__parse(g->details, (size_t)len, &details))
		details = (struct rpc_status){ 0 };
	result = retry__grpc(status, details.has_retry_info);
	if (result == EXPORT_RETRY)
		*ret_wait_ns = details.retry_ns;
	return result;
}

static enum export_result otlp_grpc_send(void *st, const struct batch *b, uint32_t *ret_rejected, uint64_t *ret_wait_ns)
{
	struct otlp_grpc *g = st;
	struct http_response resp;
	enum export_result result;
	struct str message;
	uint32_t len;
	char *frame;

	result = otlp_sink__encode(&g->sink, b, &message);
	if (result != EXPORT_OK)
		return result;
	frame = (char *)message.p - FRAME_HEAD;
	frame[0] = g->sink.gzip ? 1 : 0;
	len = htonl((uint32_t)message.len);
	memcpy(frame + 1, &len, sizeof(len));
	g->status = NO_STATUS;
	g->message[0] = '\0';
	g->details[0] = '\0';
	http_client__post(g->sink.client, (struct str){ frame, message.len + FRAME_HEAD }, &resp);
	return judge(g, &resp, b->n, ret_rejected, ret_wait_ns);
}

static const char *otlp_grpc_subject(void *st)
{
	return ((struct otlp_grpc *)st)->sink.subject;
}

static const char *otlp_grpc_why(void *st)
{
	return otlp_sink__why(&((struct otlp_grpc *)st)->sink);
}

static void otlp_grpc_interrupt(void *st)
{
	http_client__interrupt(((struct otlp_grpc *)st)->sink.client);
}

const struct exporter_ops exporter_otlp_grpc = {
	.name = "otlp-grpc",
	.open = otlp_grpc_open,
	.send = otlp_grpc_send,
	.subject = otlp_grpc_subject,
	.why = otlp_grpc_why,
	.interrupt = otlp_grpc_interrupt,
	.close = otlp_grpc_close,
};
