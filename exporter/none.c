// SPDX-License-Identifier: Apache-2.0
/* Takes everything and keeps nothing: the pipeline alone, for measurements and for OTEL_TRACES_EXPORTER=none. */
#include "exporter/exporter.h"

static int none_open(const struct exporter_opts *o, void **ret_state)
{
	*ret_state = NULL;
	return 0;
}

static enum export_result none_send(void *st, const struct batch *b, uint32_t *ret_rejected, uint64_t *ret_wait_ns)
{
	return EXPORT_OK;
}

const struct exporter_ops exporter_none = {
	.name = "none",
	.open = none_open,
	.send = none_send,
};
