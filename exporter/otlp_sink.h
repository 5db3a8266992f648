/* SPDX-License-Identifier: Apache-2.0 */
/* What OTLP/HTTP and OTLP/gRPC have in common. */
#ifndef WS_EXPORTER_OTLP_SINK_H
#define WS_EXPORTER_OTLP_SINK_H

#include "exporter/gzip.h"
#include "exporter/http_client.h"
#include "exporter/otlp_encode.h"

struct otlp_sink {
	struct otlp_encoder *encoder;
	struct gzip *gzip; /* NULL: not compressed */
	struct http_client *client;
	char subject[320];
	char why[640];
};

/* -errno, logged unless -ENOMEM; then nothing is to be closed. */
int otlp_sink__open(struct otlp_sink *s, const struct exporter_opts *o, const struct http_client_opts *http);
void otlp_sink__close(struct otlp_sink *s);
/* The request's bytes, compressed if asked for, with OTLP_HEADROOM in front. EXPORT_OK, _TOO_LARGE or _NO_MEMORY. */
enum export_result otlp_sink__encode(struct otlp_sink *s, const struct batch *b, struct str *ret);
/*
 * Reads the ExportTraceServiceResponse of a request that succeeded: *ret_rejected of `n` spans were refused, and `why`
 * says what the server said. What cannot be read changes nothing about the success, but is remarked on.
 */
void otlp_sink__read_success(struct otlp_sink *s, struct str body, uint32_t n, uint32_t *ret_rejected);
void otlp_sink__say(struct otlp_sink *s, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
const char *otlp_sink__why(const struct otlp_sink *s); /* NULL: nothing to say */

#endif
