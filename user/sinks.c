// SPDX-License-Identifier: Apache-2.0
#include "user/sinks.h"

#include <errno.h>
#include <langinfo.h>
#include <locale.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "user/proto/http1.h"

/* Without OTEL_BSP_*: an incomplete batch waits that long. */
#define DEFAULT_AGE_NS 1000000000ull

static const char *exporter_kind(const struct opts *o)
{
	const char *e = o->exporter;

	if ((o->format && !strcmp(o->format, "json")) || (e && !strcmp(e, "json")))
		return "json";
	if (!e)
		e = o->endpoint ? "otlp" : "console";
	if (strcmp(e, "otlp"))
		return e;
	return o->protocol && !strcmp(o->protocol, "grpc") ? "otlp-grpc" : "otlp-http";
}

bool sinks__is_terminal_default(const struct opts *o)
{
	return !o->exporter && !o->endpoint && !strcmp(exporter_kind(o), "console");
}

struct batch_queue *sinks__queue(const struct opts *o, bool steady)
{
	bool console = !strcmp(exporter_kind(o), "console");
	struct batch_opts b = {
		.max_queue_spans = o->bsp_queue_set ? o->bsp_max_queue : 0,
		.max_queue_bytes = o->queue_bytes,
		.max_batch = o->bsp_max_batch,
		.schedule_delay_ns = o->bsp_delay_set ? o->bsp_schedule_delay_ms * 1000000 : DEFAULT_AGE_NS,
		.steady = steady,
	};

	if (console) /* people are watching; the tree has its own patience */
		b.schedule_delay_ns = 50000000;
	return batch_queue__new(&b);
}

static bool use_color(const struct opts *o)
{
	if (!strcmp(o->color, "always"))
		return true;
	/* https://no-color.org */
	return strcmp(o->color, "never") && isatty(STDOUT_FILENO) && !(getenv("NO_COLOR") && *getenv("NO_COLOR"));
}

static void reader_gone(void *ctx)
{
	kill(getpid(), SIGTERM);
}

struct exporter *sinks__exporter(const struct opts *o, struct batch_queue *q)
{
	struct winsize w = { 0 };
	struct exporter_opts e = {
		.kind = exporter_kind(o),
		.endpoint = o->endpoint,
		.headers = o->headers,
		.gzip = o->compression && !strcmp(o->compression, "gzip"),
		.ca_file = o->certificate,
		.cert_file = o->client_certificate,
		.key_file = o->client_key,
		.timeout_ns = o->timeout_ms * 1000000,
		.path = o->output ? o->output : "-",
		.color = use_color(o),
		.gone = reader_gone,
	};

	if (isatty(STDOUT_FILENO) && !ioctl(STDOUT_FILENO, TIOCGWINSZ, &w))
		e.width = w.ws_col;
	setlocale(LC_CTYPE, "");
	e.utf8 = !strcmp(nl_langinfo(CODESET), "UTF-8");
	return exporter__start(&e, q);
}

int sinks__exit_code(int err)
{
	/* Anything else is about the path, the file or the URL that was given. */
	return err == ENOMEM || err == EMFILE || err == ENFILE || err == EAGAIN ? 1 : 2;
}

const char *sinks__done(const struct opts *o)
{
	const char *kind = exporter_kind(o);

	if (!strcmp(kind, "console"))
		return "shown";
	if (!strcmp(kind, "json"))
		return "written";
	return !strcmp(kind, "none") ? "counted" : "sent";
}

int sinks__result(const struct stats *st)
{
	const struct stats_row *row = &st->rows[ST_EXPORT];

	return row->dropped[DROP_WRITE_FAILED] && !row->out ? 1 : 0;
}

void sinks__configure_spans(const struct opts *o)
{
	struct http1_opts h = {
		.opt_in = o->opt_in_attributes,
		.known_methods = o->known_methods,
		.redact = o->redact,
		.redact_keys = o->redact_keys,
	};

	span__set_limits(o->attr_count_limit, o->attr_value_limit);
	http1__set_opts(&h);
}
