// SPDX-License-Identifier: Apache-2.0
#include "exporter/otlp_sink.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>

#include "opentelemetry/proto/collector/trace/v1/trace_service.pb-c.h"
#include "user/base/log.h"
#include "user/base/mem.h"

static void *pb_alloc(void *data, size_t size)
{
	return mem__alloc(size);
}

static void pb_free(void *data, void *p)
{
	mem__free(p);
}

static ProtobufCAllocator pb_allocator = { .alloc = pb_alloc, .free = pb_free };

int otlp_sink__open(struct otlp_sink *s, const struct exporter_opts *o, const struct http_client_opts *http)
{
	static const struct otlp_encode_opts encode = { .scope_name = OTLP_SCOPE_NAME,
							.scope_version = WS_VERSION,
							.schema_url = OTLP_SCHEMA_URL };
	int err;

	if (!o->endpoint) {
		log_error("OTLP exporter: no endpoint");
		return -EINVAL;
	}
	s->client = http_client__new(http);
	if (!s->client)
		return -errno;
	err = -ENOMEM;
	s->encoder = otlp_encoder__new(&encode);
	if (!s->encoder)
		goto err;
	if (o->gzip) {
		s->gzip = gzip__new();
		if (!s->gzip)
			goto err;
	}
	snprintf(s->subject, sizeof(s->subject), "collector %s", http_client__origin(s->client));
	return 0;

err:
	otlp_sink__close(s);
	return err;
}

void otlp_sink__close(struct otlp_sink *s)
{
	otlp_encoder__free(s->encoder);
	gzip__free(s->gzip);
	http_client__free(s->client);
	s->encoder = NULL;
	s->gzip = NULL;
	s->client = NULL;
}

enum export_result otlp_sink__encode(struct otlp_sink *s, const struct batch *b, struct str *ret)
{
	int err;

	s->why[0] = '\0';
	err = otlp_encoder__encode(s->encoder, b, ret);
	if (!err && s->gzip)
		err = gzip__pack(s->gzip, *ret, ret);
	if (!err)
		return EXPORT_OK;
	if (err == -E2BIG) {
		otlp_sink__say(s, "a request of more than 64 MiB is not sent: lower OTEL_BSP_MAX_EXPORT_BATCH_SIZE");
		return EXPORT_TOO_LARGE;
	}
	otlp_sink__say(s, "out of memory");
	return EXPORT_NO_MEMORY;
}

void otlp_sink__read_success(struct otlp_sink *s, struct str body, uint32_t n, uint32_t *ret_rejected)
{
	Opentelemetry__Proto__Collector__Trace__V1__ExportTraceServiceResponse *resp;
	Opentelemetry__Proto__Collector__Trace__V1__ExportTracePartialSuccess *partial;
	const char *said;

	if (body.len == 0)
		return;
	resp = opentelemetry__proto__collector__trace__v1__export_trace_service_response__unpack(
		&pb_allocator, body.len, (const uint8_t *)body.p);
	if (!resp) {
		otlp_sink__say(s, "accepted the spans, but what it answers is not OTLP: is this an OTLP receiver?");
		return;
	}
	partial = resp->partial_success;
	if (partial) {
		said = partial->error_message && partial->error_message[0] ? partial->error_message : "no reason given";
		if (partial->rejected_spans > 0) {
			*ret_rejected = partial->rejected_spans < n ? (uint32_t)partial->rejected_spans : n;
			otlp_sink__say(s, "%" PRIu32 " of %" PRIu32 " spans rejected: %.300s", *ret_rejected, n, said);
		} else if (partial->error_message && partial->error_message[0]) {
			otlp_sink__say(s, "accepted the spans with a warning: %.300s", said);
		}
	}
	opentelemetry__proto__collector__trace__v1__export_trace_service_response__free_unpacked(resp, &pb_allocator);
}

void otlp_sink__say(struct otlp_sink *s, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(s->why, sizeof(s->why), fmt, ap);
	va_end(ap);
}

const char *otlp_sink__why(const struct otlp_sink *s)
{
	return s->why[0] ? s->why : NULL;
}
