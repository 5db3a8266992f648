/* SPDX-License-Identifier: Apache-2.0 */
/* Batch → one ExportTraceServiceRequest in OTLP's JSON mapping, on one line, as the Collector's file exporter does. */
#ifndef WS_EXPORTER_OTLP_JSON_H
#define WS_EXPORTER_OTLP_JSON_H

#include "exporter/group.h"
#include "user/base/dynbuf.h"

/* Replaces what is in `out`; ends with a line feed. -ENOMEM, -E2BIG (out's own limit) */
int otlp_json__encode(struct group_set *groups, const struct batch *b, struct dynbuf *out);

#endif
