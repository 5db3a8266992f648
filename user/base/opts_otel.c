// SPDX-License-Identifier: Apache-2.0
/*
 * The OTEL_* layer, and what is settled after all layers: the OTLP endpoint as one URL.
 *
 * Rules (OpenTelemetry specification, "OTLP Exporter Configuration"): a signal-specific variable beats the general one;
 * the general endpoint of OTLP/HTTP is a base to which v1/traces is appended, the signal-specific one is used as it
 * is; a URL without a port means 80 or 443; the scheme decides about TLS, and INSECURE only where gRPC has none.
 */
#include "user/base/opts_table.h"

#include <errno.h>
#include <string.h>

#include "user/base/dynbuf.h"
#include "user/base/mem.h"

#define URL_MAX 4096u
#define TRACES_PATH "v1/traces"
#define CONTROL_PATH_MAX 108 /* sun_path, unix(7) */

/* Variables that would change what is exported but that we do not follow: said, not passed over. */
static const struct {
	const char *name, *harmless, *text;
} unsupported[] = {
	{ "OTEL_CONFIG_FILE", NULL, "not supported, ignored; --config reads wirespan's own options" },
	{ "OTEL_TRACES_SAMPLER", "parentbased_always_on",
	  "not supported, ignored: kept is every span, except where a caller's trace context says that it is not sampled" },
	{ "OTEL_PROPAGATORS", "tracecontext,baggage",
	  "not supported, ignored: traceparent and b3 headers are read, and none is written" },
};

/* One name would be given to many services. A command that is run has our environment, and its names with it. */
static void say_service_name(struct opt_ctx *c, char **env)
{
	const char *item = opt__getenv(env, "OTEL_RESOURCE_ATTRIBUTES"), *where = NULL;

	for (; item && !where; item = strchr(item, ',')) {
		item += strspn(item, ", \t");
		if (strncmp(item, "service.name", 12) == 0 && item[12 + strspn(item + 12, " \t")] == '=')
			where = "OTEL_RESOURCE_ATTRIBUTES: service.name";
	}
	if (opt__getenv(env, "OTEL_SERVICE_NAME"))
		where = "OTEL_SERVICE_NAME";
	if (where && (c->o->command == CMD_TRACE || c->o->command == CMD_RECORD || c->o->command == CMD_CHECK_CONFIG))
		opt__warn(c, where, "ignored: services have their names from the environments of their own processes");
}

/* OTEL_TRACES_EXPORTER may be a list; one sink is served. */
static void set_exporter(struct opt_ctx *c, const struct opt_row *r, const char *text, struct opt_from *from)
{
	size_t len = strcspn(text, ",");
	char first[64];

	if (text[len]) {
		opt__warn(c, from->where, "one exporter is served: %.*s; the others are ignored", (int)len, text);
		if (len >= sizeof(first))
			len = sizeof(first) - 1;
		memcpy(first, text, len);
		first[len] = 0;
		text = first;
	}
	opt_value__set(c, r, text, from);
}

static void set_log_level(struct opt_ctx *c, const struct opt_row *r, const char *text, struct opt_from *from)
{
	if (strcasecmp(text, "trace") == 0)
		text = "debug";
	else if (strcasecmp(text, "warning") == 0)
		text = "warn";
	else if (strcasecmp(text, "none") == 0 || strcasecmp(text, "fatal") == 0)
		text = "error";
	opt_value__set(c, r, text, from);
}

/* The standard's 0 is a limit like any other; ours, which recordings hold too, is none. */
static void set_value_limit(struct opt_ctx *c, const struct opt_row *r, const char *text, struct opt_from *from)
{
	if (*text && strspn(text, "0") == strlen(text))
		opt__warn(c, from->where, "0 would leave every value empty: not supported, ignored");
	else
		opt_value__set(c, r, text, from);
}

void opt_otel__apply(struct opt_ctx *c, char **env)
{
	for (size_t i = 0; i < opt_rows_cnt; i++) {
		const struct opt_row *r = &opt_rows[i];

		/* Weakest first: what is stronger overwrites, and what is wrong leaves the weaker one. */
		for (int j = OPT_OTEL_MAX - 1; j >= 0; j--) {
			const char *text = r->otel[j] ? opt__getenv(env, r->otel[j]) : NULL;
			struct opt_from from = { .origin = ORIGIN_OTEL, .which = (uint8_t)j, .where = r->otel[j] };

			if (!text)
				continue;
			if (r->offset == offsetof(struct opts, exporter))
				set_exporter(c, r, text, &from);
			else if (r->offset == offsetof(struct opts, log_level))
				set_log_level(c, r, text, &from);
			else if (r->offset == offsetof(struct opts, attr_value_limit))
				set_value_limit(c, r, text, &from);
			else
				opt_value__set(c, r, text, &from);
		}
	}
	for (size_t i = 0; i < sizeof(unsupported) / sizeof(unsupported[0]); i++) {
		const char *text = opt__getenv(env, unsupported[i].name);

		if (text && (!unsupported[i].harmless || strcasecmp(text, unsupported[i].harmless) != 0) &&
		    strcasecmp(text, "always_on") != 0)
			opt__warn(c, unsupported[i].name, "%s", unsupported[i].text);
	}
	say_service_name(c, env);
}

enum path_rule {
	PATH_AS_IS,	   /* OTEL_EXPORTER_OTLP_TRACES_ENDPOINT */
	PATH_BASE,	   /* OTEL_EXPORTER_OTLP_ENDPOINT: v1/traces is always appended */
	PATH_BASE_OR_FULL, /* our own option: people paste both */
};

/* Appends scheme, host and path of an OTLP/HTTP URL; a query stays behind the path. */
static int append_url(struct dynbuf *b, const char *url, const char *path, enum path_rule rule)
{
	size_t len = strcspn(path, "?#"), tail = sizeof("/" TRACES_PATH) - 1;
	bool full = rule == PATH_BASE_OR_FULL && len >= tail && memcmp(path + len - tail, "/" TRACES_PATH, tail) == 0;
	int err = dynbuf__append(b, url, (size_t)(path - url) + len);

	if (!err && (len == 0 || (path[len - 1] != '/' && rule != PATH_AS_IS && !full)))
		err = dynbuf__append_str(b, "/");
	if (!err && rule != PATH_AS_IS && !full)
		err = dynbuf__append_str(b, TRACES_PATH);
	return err ? err : dynbuf__append_str(b, path + len);
}

static int append_endpoint(struct opt_ctx *c, struct dynbuf *b, const char *url, enum path_rule rule, const char *where)
{
	bool grpc = strcmp(c->o->protocol, "grpc") == 0;
	const char *host = strstr(url, "://"), *path;
	int err = 0;

	if (!host) {
		/* A host and port alone: usual for gRPC, where INSECURE decides; for HTTP a slip that has one reading. */
		if (!grpc)
			opt__warn(c, where, "%s has no scheme, taken as http://%s", url, url);
		err = dynbuf__append_str(b, grpc && !c->o->insecure ? "https://" : "http://");
	}
	host = host ? host + 3 : url;
	path = host + strcspn(host, "/?#");
	if (!err && grpc) /* the path is that of the service, and the exporter's affair */
		err = dynbuf__append(b, url, (size_t)(path - url));
	else if (!err)
		err = append_url(b, url, path, rule);
	return err ? err : dynbuf__append(b, "", 1);
}

/* Where the value came from, as messages begin. */
static const char *where_of(const struct opts *o, const struct opt_row *r)
{
	size_t i = opt__index(r);

	return o->from[i].origin == ORIGIN_OTEL ? r->otel[o->from[i].which] : r->name;
}

static void resolve_endpoint(struct opt_ctx *c)
{
	const struct opt_row *r = opt__find("endpoint", strlen("endpoint"));
	size_t i = opt__index(r);
	enum path_rule rule = PATH_BASE_OR_FULL;
	struct opts *o = c->o;
	struct dynbuf b;
	char *copy = NULL;
	int err;

	if (o->from[i].origin == ORIGIN_OTEL)
		rule = o->from[i].which == 0 ? PATH_AS_IS : PATH_BASE;
	dynbuf__init(&b, URL_MAX);
	err = append_endpoint(c, &b, o->endpoint, rule, where_of(o, r));
	if (!err) {
		copy = mem__strdup((char *)b.data);
		if (!copy)
			err = -ENOMEM;
	}
	if (err == 0) {
		mem__free(o->endpoint);
		o->endpoint = copy;
	} else {
		opt__mistake(c, where_of(o, r), "%s", err == -ENOMEM ? "out of memory" : "URL too long");
	}
	dynbuf__free(&b);
}

static void replace(struct opt_ctx *c, char **field, const char *text)
{
	char *copy = mem__strdup(text);

	if (!copy) {
		opt__mistake(c, NULL, "out of memory");
		return;
	}
	mem__free(*field);
	*field = copy;
}

static enum opt_origin origin_of(const struct opts *o, const char *name)
{
	return o->from[opt__index(opt__find(name, strlen(name)))].origin;
}

/* The batch settings that depend on each other. */
static void resolve_batch(struct opt_ctx *c)
{
	struct opts *o = c->o;
	bool otel = false;

	o->bsp_queue_set = origin_of(o, "queue-spans") != ORIGIN_DEFAULT;
	o->bsp_delay_set = origin_of(o, "schedule-delay") != ORIGIN_DEFAULT;
	for (size_t i = 0; i < opt_rows_cnt; i++)
		otel |= opt_rows[i].otel[0] && strncmp(opt_rows[i].otel[0], "OTEL_BSP_", 9) == 0 &&
			o->from[i].origin == ORIGIN_OTEL;
	/* Who sets one OTEL_BSP_* variable counts on the standard's values of the others. */
	if (otel && !o->bsp_delay_set)
		o->bsp_schedule_delay_ms = 5000;
	if (o->bsp_queue_set && o->bsp_max_batch > o->bsp_max_queue) {
		if (origin_of(o, "batch-size") != ORIGIN_DEFAULT)
			opt__warn(c, "batch-size", "%u is more than the queue holds, lowered to %u", o->bsp_max_batch,
				  o->bsp_max_queue);
		o->bsp_max_batch = o->bsp_max_queue;
	}
}

void opt_otel__resolve(struct opt_ctx *c, char **env)
{
	struct opts *o = c->o;
	bool otlp;

	if (o->command != CMD_STATS && o->command != CMD_CHECK_CONFIG && strcmp(o->format, "text") == 0)
		opt__mistake(c, "format", "text is how stats answers; spans are shown as tree or json");
	/* "--format json" asks for JSON here and now, unless an exporter is named as firmly. */
	if (o->command != CMD_STATS && strcmp(o->format, "json") == 0 &&
	    (!o->exporter || strcmp(o->exporter, "console") == 0 ||
	     origin_of(o, "format") > origin_of(o, "exporter")))
		replace(c, &o->exporter, "json");
	if (o->output && strcmp(o->output, "-") != 0 && !o->exporter)
		replace(c, &o->exporter, "json");
	otlp = o->exporter && strcmp(o->exporter, "otlp") == 0;
	if (o->endpoint)
		resolve_endpoint(c);
	else if (otlp)
		replace(c, &o->endpoint,
			strcmp(o->protocol, "grpc") == 0 ? "http://localhost:4317" : "http://localhost:4318/" TRACES_PATH);
	if ((o->client_key == NULL) != (o->client_certificate == NULL))
		opt__mistake(c, o->client_key ? "client-key" : "client-certificate", "needs %s as well",
			     o->client_key ? "client-certificate" : "client-key");
	resolve_batch(c);
	/* https://no-color.org */
	if (strcmp(o->color, "auto") == 0 && opt__getenv(env, "NO_COLOR"))
		replace(c, &o->color, "never");
	if (o->control && (strcmp(o->control, "off") == 0 || !*o->control)) {
		mem__free(o->control);
		o->control = NULL;
	} else if (o->control && strlen(o->control) >= CONTROL_PATH_MAX) {
		opt__mistake(c, "control", "the path of a socket has at most %d characters", CONTROL_PATH_MAX - 1);
	}
}
