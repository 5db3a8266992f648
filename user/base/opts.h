/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One table behind flags, environment and configuration file. A row is an option; everything else
 * (--help, completion, man page, check-config, error texts) is made from the table in opts.c.
 *
 * Order of precedence, highest first: flag, WIRESPAN_* variable, configuration file, OTEL_* variable
 * (signal-specific before general), default.
 */
#ifndef WS_BASE_OPTS_H
#define WS_BASE_OPTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

enum command { CMD_TRACE, CMD_FEATURES, CMD_STATS, CMD_RECORD, CMD_REPLAY, CMD_CHECK_CONFIG, CMD_RUN /* -- CMD */,
	       CMD_HELP, CMD_HELP_ALL, CMD_VERSION, CMD_COMPLETION, CMD_MAN };

#define OPTS_MAX 64 /* rows of the table at the most */

/* Values as the rest of the program uses them; strings are NUL-terminated, owned by the struct. */
struct opts {
	enum command command;
	char *file;	      /* record, replay, check-config */
	char **argv_run;      /* wirespan -- CMD: NULL-terminated, borrowed from main */
	char *shell;	      /* completion */
	char *config;	      /* --config */

	/* selection */
	char *pid;	      /* "1,2,3" */
	char *exe;	      /* globs, comma-separated */
	char *port;	      /* "80,8000-8010" */
	char *include, *exclude; /* service/executable globs */
	char *exclude_path;   /* path globs: /health */
	bool default_excludes;	 /* true; --no-default-excludes clears it */

	/* capture */
	char *attach;	      /* auto, or a plan */
	uint32_t capture;     /* bytes per message head, 256..8192 */
	uint64_t ring_size;   /* bytes */
	bool tls;	      /* true */
	uint32_t max_connections, max_requests;

	/* spans */
	char *routes;	      /* "auto", "off" */
	char *route_patterns; /* comma-separated */
	bool opt_in_attributes;
	char *evidence_off;   /* comma-separated kinds of evidence that may not prove a parent */
	bool evidence_single; /* take the one request alive in an event loop as the parent */
	bool executor_spans;  /* work items that executors run have spans of their own */
	bool link_candidates; /* calls without a parent have links to the requests that may have made them */
	char *known_methods;  /* OTEL_INSTRUMENTATION_HTTP_KNOWN_METHODS, NULL: the default list */
	bool redact;	      /* true */
	char *redact_keys;    /* further query keys */
	char *resource_attributes; /* of wirespan: OTEL_RESOURCE_ATTRIBUTES */
	uint32_t attr_count_limit, attr_value_limit; /* OTEL_SPAN_ATTRIBUTE_* before OTEL_ATTRIBUTE_*; 128, 0 = none */
	uint32_t link_count_limit; /* OTEL_SPAN_LINK_COUNT_LIMIT; 128 */

	/* export */
	/* "otlp", "console", "json", "none"; NULL: none named, so console if no endpoint is set, else otlp */
	char *exporter;
	char *format;	      /* "tree", "json" */
	char *output;	      /* file for json, "-" */
	char *endpoint;	      /* resolved: full URL, for OTLP/HTTP with the path of traces; NULL: none set */
	char *protocol;	      /* "http/protobuf", "grpc" */
	char *headers, *certificate, *client_key, *client_certificate;
	bool insecure;
	char *compression;    /* "none", "gzip" */
	uint64_t timeout_ms;
	uint64_t bsp_schedule_delay_ms, bsp_export_timeout_ms;
	uint32_t bsp_max_queue, bsp_max_batch;
	bool bsp_queue_set, bsp_delay_set; /* an OTEL_BSP_* (or flag) set them */
	uint64_t queue_bytes;
	uint64_t shutdown_timeout_ms;
	bool sdk_disabled;

	/* running */
	char *log_level;
	char *control;	      /* path of the control socket, NULL: none (--control=off) */
	uint32_t control_mode; /* its permissions */
	char *color;	      /* auto, always, never */
	uint64_t duration_ms; /* stop by itself; 0: until a signal */
	bool keep_secrets;    /* record: do not blank credential headers */

	/* Where each value came from, by row of the table; for check-config. */
	struct {
		uint8_t origin, which;
		uint32_t line;
	} from[OPTS_MAX];
};

/*
 * Reads everything, in the order above. 0; or 2 with every mistake printed on `err`, all at once
 * ("wirespan: config.yaml:14:7: sampler.ratio: 1.5 is out of range 0..1"). `env` as in environ.
 */
int opts__parse(struct opts *o, int argc, char **argv, char **env, FILE *err);
void opts__free(struct opts *o);
void opts__print_help(FILE *out, bool all);
void opts__print_completion(FILE *out, const char *shell); /* "bash", "zsh", "fish" */
void opts__print_man(FILE *out);
/*
 * The options that change spans, as bytes for a recording, and back: a recorded value beats everything but a flag.
 * -ENOMEM, -E2BIG; -EINVAL with a message on `err`.
 */
struct dynbuf;
int opts__save_spans(const struct opts *o, struct dynbuf *out);
int opts__load_spans(struct opts *o, const void *data, size_t len, FILE *err);
void opts__print_values(const struct opts *o, FILE *out); /* check-config: value and origin of every option */

#endif
