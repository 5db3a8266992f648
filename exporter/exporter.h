/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Exporters: where batches go. One file per sink, one row in exporter_list.h. They run on the
 * exporter thread and see user/model/ and user/base/ only.
 */
#ifndef WS_EXPORTER_H
#define WS_EXPORTER_H

#include "user/batch/batch.h"

struct exporter_opts {
	const char *kind;	 /* "otlp-http", "otlp-grpc", "json", "console", "none" */
	const char *endpoint;	 /* full URL, path included; otlp only */
	const char *headers;	 /* k=v,k2=v2 with percent-encoded values, or NULL */
	bool gzip;
	const char *ca_file, *cert_file, *key_file; /* PEM, or NULL */
	uint64_t timeout_ns;	 /* of one export attempt */
	uint64_t retry_initial_ns, retry_max_ns; /* back-off; 0: defaults (1 s, 30 s) */
	uint64_t give_way_ns;	 /* a batch tried for so long goes if spans are lost behind it; 0: 5 min */
	const char *path;	 /* json: file, "-" standard output */
	bool color;		 /* console */
	unsigned int width;	 /* console: columns; 0: not a terminal */
	bool utf8;
	/* Standard output was closed by its reader (wirespan | head): end the program. Exporter thread; NULL ok. */
	void (*gone)(void *ctx);
	void *gone_ctx;
};

struct exporter;

/* Result of one attempt. */
enum export_result {
	EXPORT_OK,    /* everything acknowledged, or rejected for good and counted by the exporter */
	EXPORT_RETRY, /* nothing was acknowledged: try the same batch again after *ret_wait_ns */
	/* Not delivered, and never will be; what the spans are counted as: */
	EXPORT_DROP,	  /* refused for good (REJECTED) */
	EXPORT_TOO_LARGE, /* TOO_LARGE */
	EXPORT_NO_MEMORY, /* NO_MEMORY */
	EXPORT_FAILED,	  /* local output failed (WRITE_FAILED) */
	EXPORT_GONE,	  /* so did it, and nobody reads it any more: exporter_opts.gone is called (WRITE_FAILED) */
};

struct exporter_ops {
	const char *name;
	int (*open)(const struct exporter_opts *o, void **ret_state); /* -errno, logged unless -ENOMEM */
	/*
	 * Tries once. `b` stays the caller's. On EXPORT_OK *ret_rejected (<= b->n) says how many spans the
	 * sink refused. On EXPORT_RETRY *ret_wait_ns is what the sink asked for (Retry-After), else 0.
	 */
	enum export_result (*send)(void *st, const struct batch *b, uint32_t *ret_rejected, uint64_t *ret_wait_ns);
	/*
	 * Both optional; log lines begin with "SUBJECT: WHY". The subject ("collector http://collector:4318") stays the
	 * same. Why: the cause of the last result other than EXPORT_OK, or why spans were rejected, or a remark on a
	 * success; NULL: nothing to say; "": said already. Valid until the next send.
	 */
	const char *(*subject)(void *st);
	const char *(*why)(void *st);
	/* Optional; any thread. Makes a send() that is under way, and every later one, return at once. */
	void (*interrupt)(void *st);
	void (*tick)(void *st, uint64_t now_mono_ns); /* optional; at least 5 times a second, unless a send blocks */
	void (*close)(void *st);		      /* flushes; NULL ok */
};

#define EXPORTER(x) extern const struct exporter_ops exporter_##x;
#include "exporter/exporter_list.h"
#undef EXPORTER

/* Starts the exporter thread that drains `q`. NULL with errno, logged. */
struct exporter *exporter__start(const struct exporter_opts *o, struct batch_queue *q);
/* After batch_queue__close(): waits until everything is sent, or limit_ns. True: it is. */
bool exporter__wait(struct exporter *e, uint64_t limit_ns);
/*
 * After batch_queue__close(): waits until everything is sent or `limit_ns` has passed, then stops the thread,
 * interrupting a transfer or a back-off under way. What is left is counted (EXPORT, SHUTDOWN).
 */
void exporter__stop(struct exporter *e, uint64_t limit_ns);

#endif
