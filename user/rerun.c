// SPDX-License-Identifier: Apache-2.0
/* replay FILE: a recording through the whole pipeline, giving the same spans each time. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "user/base/log.h"
#include "user/live.h"
#include "user/loader/report.h"
#include "user/pipeline.h"
#include "user/sinks.h"
#include "user/source/recording.h"
#include "user/source/source.h"

#define STEP 256 /* records at a time */

static int feed(struct replay *r, struct source *s, const struct opts *o)
{
	char why[RECORDING_WHY_MAX];
	int more;

	while ((more = replay__step(r, s, STEP, why)) > 0)
		;
	if (more < 0)
		log_error("%s", why);
	if (replay__lost(r))
		log_warn("%s: %llu events are missing from the recording", o->file,
			 (unsigned long long)replay__lost(r));
	return more < 0 ? 1 : 0;
}

/* A recording can be replayed once more: better that than a part which passes for all. */
static int result(void)
{
	return stats__dropped(&stats, ST_BATCH) || stats__dropped(&stats, ST_EXPORT) ? 1 : 0;
}

int rerun__run(struct opts *o)
{
	struct pipeline_hooks hooks = { 0 };
	struct source_opts so = { .next = pipeline__event };
	struct exporter *exporter = NULL;
	struct pipeline *pipeline = NULL;
	struct source *source = NULL;
	const void *saved;
	size_t saved_len;
	char why[RECORDING_WHY_MAX];
	struct batch_queue *q = NULL;
	struct siphash_key key;
	struct replay *r;
	int code = 1;

	r = replay__open(o->file, why);
	if (!r) {
		log_error("%s", why);
		return 1;
	}
	memcpy(&key, replay__key(r), sizeof(key));
	saved = replay__options(r, &saved_len);
	if (opts__load_spans(o, saved, saved_len, stderr)) /* what changes spans comes from the recording */
		goto out;
	sinks__configure_spans(o);
	q = sinks__queue(o, true); /* as fast as the exporter, and the same batches each time */
	pipeline = q ? pipeline__new(o, &key, &hooks, q) : NULL;
	so.ctx = pipeline;
	source = pipeline ? source__new(&so) : NULL;
	if (!source) {
		log_error("cannot replay: %s", strerror(errno));
		goto out;
	}
	exporter = sinks__exporter(o, q);
	if (!exporter) {
		code = sinks__exit_code(errno);
		goto out;
	}
	code = feed(r, source, o);
	pipeline__finish(pipeline);
out:
	if (exporter) {
		batch_queue__close(q);
		exporter__stop(exporter, o->shutdown_timeout_ms * 1000000);
		batch_queue__free(q);
		q = NULL;
		report__end(stderr, &stats, sinks__done(o), 0, 0);
		code = code ? code : result();
	}
	source__free(source);
	pipeline__free(pipeline);
	batch_queue__free(q);
	replay__free(r);
	return code;
}
