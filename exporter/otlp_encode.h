/* SPDX-License-Identifier: Apache-2.0 */
/* Batch → the bytes of an ExportTraceServiceRequest (opentelemetry-proto v1.11.0). */
#ifndef WS_EXPORTER_OTLP_ENCODE_H
#define WS_EXPORTER_OTLP_ENCODE_H

#include "user/batch/batch.h"

#define OTLP_SCOPE_NAME "wirespan"
#define OTLP_SCHEMA_URL "https://opentelemetry.io/schemas/1.44.0"
#define OTLP_MAX_REQUEST ((size_t)64 << 20) /* uncompressed (OTLP specification 1.11, "OTLP/HTTP Request") */

#define OTLP_HEADROOM 5u /* a gRPC frame's head: flag and length */

struct otlp_encode_opts {
	const char *scope_name;
	const char *scope_version; /* NULL: left out */
	const char *schema_url;	   /* of resources and scopes; NULL: left out */
};

struct otlp_encoder;

/* NULL with ENOMEM. The strings are borrowed. */
struct otlp_encoder *otlp_encoder__new(const struct otlp_encode_opts *o);
void otlp_encoder__free(struct otlp_encoder *e); /* NULL ok */
/*
 * *ret is the encoder's, until its next call; OTLP_HEADROOM bytes in front of it may be overwritten. -ENOMEM; -E2BIG
 * beyond OTLP_MAX_REQUEST.
 */
int otlp_encoder__encode(struct otlp_encoder *e, const struct batch *b, struct str *ret);

#endif
