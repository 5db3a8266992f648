// SPDX-License-Identifier: Apache-2.0
/* The table. Flags, variables, file keys, --help, completion, man page and check-config are all made from it. */
#include "user/base/opts_table.h"

#include <ctype.h>
#include <stdint.h>
#include <stdio.h>

#include "bpf/limits.h"

#define AT(field) offsetof(struct opts, field)
#define KIB 1024ull
#define MIB (1024 * KIB)
#define GIB (1024 * MIB)
#define DAY_MS (24ull * 3600 * 1000)

#define SELECTION "Selection"
#define CAPTURE "Capture"
#define SPANS "Spans"
#define EXPORT "Export"
#define RUNNING "Running"

#define OTLP(name) { "OTEL_EXPORTER_OTLP_TRACES_" name, "OTEL_EXPORTER_OTLP_" name }

#define _STR(x) #x
#define TO_STR(x) _STR(x)

const struct opt_row opt_rows[] = {
	/* ---- selection ---- */
	{ .name = "pid", .letter = 'p', .type = OPT_LIST, .offset = AT(pid), .group = SELECTION, .arg = "LIST",
	  .check = opt_check__pids, .top = 2, .help = "trace these processes and their children: 123,456" },
	{ .name = "exe", .type = OPT_LIST, .offset = AT(exe), .group = SELECTION, .arg = "GLOB",
	  .help = "trace processes whose executable matches: '/opt/shop/*', python3*" },
	{ .name = "port", .type = OPT_LIST, .offset = AT(port), .group = SELECTION, .arg = "LIST",
	  .check = opt_check__ports, .top = 3, .help = "trace the processes that listen there: 80,8000-8010" },
	{ .name = "include", .type = OPT_LIST, .offset = AT(include), .group = SELECTION, .arg = "GLOB",
	  .help = "of what --pid, --exe and --port name together, or of all: only services or executables that match" },
	{ .name = "exclude", .type = OPT_LIST, .offset = AT(exclude), .group = SELECTION, .arg = "GLOB",
	  .help = "leave out services or executables that match" },
	{ .name = "exclude-path", .type = OPT_LIST, .offset = AT(exclude_path), .group = SELECTION, .arg = "GLOB",
	  .top = 4, .flags = OPT_SPANS, .help = "leave out requests whose path matches: /health,/metrics" },
	{ .name = "default-excludes", .type = OPT_BOOL, .offset = AT(default_excludes), .group = SELECTION, .dflt = "true",
	  .flags = OPT_SPANS, .help = "leave out OTLP requests and the processes that receive them" },

	/* ---- capture ---- */
	{ .name = "attach", .type = OPT_ENUM, .offset = AT(attach), .group = CAPTURE, .arg = "PLAN", .dflt = "auto",
	  .choices = "auto|fentry|socket|kprobe|syscall", .help = "hooks to use; auto takes the best that this kernel grants" },
	{ .name = "capture", .type = OPT_SIZE, .offset = AT(capture), .group = CAPTURE, .arg = "BYTES",
	  .dflt = TO_STR(WS_CAPTURE_MAX), .min = 256, .max = WS_CAPTURE_MAX, .flags = OPT_NARROW,
	  .help = "bytes taken of each message head; bodies are only counted" },
	{ .name = "ring-size", .type = OPT_SIZE, .offset = AT(ring_size), .group = CAPTURE, .arg = "BYTES", .dflt = "4MiB",
	  .min = 64 * KIB, .max = GIB, .check = opt_check__power_of_two,
	  .help = "all event buffers together; a power of two" },
	{ .name = "tls", .type = OPT_BOOL, .offset = AT(tls), .group = CAPTURE, .dflt = "true",
	  .help = "look inside TLS connections: probes in OpenSSL, GnuTLS and Go's" },
	{ .name = "max-connections", .type = OPT_U32, .offset = AT(max_connections), .group = CAPTURE, .arg = "N",
	  .dflt = "65536", .min = 64, .max = 4u << 20, .flags = OPT_SPANS, .help = "connections watched at the same time" },
	{ .name = "max-requests", .type = OPT_U32, .offset = AT(max_requests), .group = CAPTURE, .arg = "N",
	  .dflt = "65536", .min = 64, .max = 4u << 20, .flags = OPT_SPANS, .help = "requests open at the same time" },

	/* ---- spans ---- */
	{ .name = "routes", .type = OPT_ENUM, .offset = AT(routes), .group = SPANS, .arg = "MODE", .dflt = "auto",
	  .choices = "auto|off", .flags = OPT_SPANS, .help = "infer /users/{id} from the paths seen, or name spans by the bare method" },
	{ .name = "route-patterns", .type = OPT_LIST, .offset = AT(route_patterns), .group = SPANS, .arg = "LIST",
	  .check = opt_check__routes, .flags = OPT_SPANS, .help = "routes that are known: /users/{id},/files/{*}" },
	{ .name = "opt-in-attributes", .type = OPT_BOOL, .offset = AT(opt_in_attributes), .group = SPANS, .dflt = "false",
	  .flags = OPT_SPANS, .help = "add what the conventions leave to choice: body sizes, client.port" },
	{ .name = "evidence-off", .type = OPT_LIST, .offset = AT(evidence_off), .group = SPANS, .arg = "LIST",
	  .choices = "join|header|thread|thread-inherited|context|goroutine|goroutine-inherited|request-context|greenlet|"
		     "virtual-thread|turn|turn-continued|executor|content|callback|dial",
	  .flags = OPT_SPANS, .help = "kinds of evidence that may not prove a parent" },
	{ .name = "evidence-single", .type = OPT_BOOL, .offset = AT(evidence_single), .group = SPANS, .dflt = "false",
	  .flags = OPT_SPANS, .help = "the one request alive in an event loop is the parent: wrong where work outlives requests" },
	{ .name = "executor-spans", .type = OPT_BOOL, .offset = AT(executor_spans), .group = SPANS, .dflt = "false",
	  .help = "INTERNAL spans for work handed to a thread pool (CPython): how long it waited, how long it ran" },
	{ .name = "link-candidates", .type = OPT_BOOL, .offset = AT(link_candidates), .group = SPANS, .dflt = "false",
	  .flags = OPT_SPANS, .help = "calls without a parent link to the requests open in their process" },
	{ .name = "known-methods", .type = OPT_LIST, .offset = AT(known_methods), .group = SPANS, .arg = "LIST",
	  .otel = { "OTEL_INSTRUMENTATION_HTTP_KNOWN_METHODS" },
	  .flags = OPT_SPANS, .help = "HTTP methods named as such instead of _OTHER; replaces the default list" },
	{ .name = "redact", .type = OPT_BOOL, .offset = AT(redact), .group = SPANS, .dflt = "true",
	  .flags = OPT_SPANS, .help = "replace secrets in URLs by REDACTED" },
	{ .name = "redact-keys", .type = OPT_LIST, .offset = AT(redact_keys), .group = SPANS, .arg = "LIST",
	  .flags = OPT_SPANS, .help = "further query keys whose values are secret" },
	{ .name = "resource-attributes", .type = OPT_LIST, .offset = AT(resource_attributes), .group = SPANS, .arg = "K=V,…",
	  .check = opt_check__pairs, .otel = { "OTEL_RESOURCE_ATTRIBUTES" },
	  .help = "added to every resource, percent-encoded" },
	{ .name = "attribute-count-limit", .type = OPT_U32, .offset = AT(attr_count_limit), .group = SPANS, .arg = "N",
	  .dflt = "128", .max = 65535, .otel = { "OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT", "OTEL_ATTRIBUTE_COUNT_LIMIT" },
	  .flags = OPT_SPANS, .help = "attributes per span; more are dropped and counted" },
	{ .name = "attribute-value-limit", .type = OPT_U32, .offset = AT(attr_value_limit), .group = SPANS, .arg = "N",
	  .dflt = "0", .max = UINT32_MAX,
	  .otel = { "OTEL_SPAN_ATTRIBUTE_VALUE_LENGTH_LIMIT", "OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT" },
	  .flags = OPT_SPANS, .help = "characters per value; 0: no limit" },
	{ .name = "link-count-limit", .type = OPT_U32, .offset = AT(link_count_limit), .group = SPANS, .arg = "N",
	  .dflt = "128", .max = 1024, .otel = { "OTEL_SPAN_LINK_COUNT_LIMIT" },
	  .flags = OPT_SPANS, .help = "links per span; more are dropped and counted" },

	/* ---- export ---- */
	{ .name = "endpoint", .letter = 'e', .type = OPT_STR, .offset = AT(endpoint), .group = EXPORT, .arg = "URL",
	  .check = opt_check__url, .otel = { "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT" },
	  .top = 1, .help = "send spans to this OTLP collector: http://collector:4318" },
	{ .name = "exporter", .type = OPT_ENUM, .offset = AT(exporter), .group = EXPORT, .arg = "NAME",
	  .choices = "otlp|console|json|none", .otel = { "OTEL_TRACES_EXPORTER" },
	  .help = "where spans go; unset: otlp if an endpoint is set, else console" },
	{ .name = "format", .type = OPT_ENUM, .offset = AT(format), .group = EXPORT, .arg = "NAME", .dflt = "tree",
	  .choices = "tree|json|text", .top = 5, .help = "show trees, or write OTLP JSON lines; stats: text or JSON" },
	{ .name = "output", .letter = 'o', .type = OPT_FILE, .offset = AT(output), .group = EXPORT, .arg = "FILE",
	  .dflt = "-", .help = "file for JSON lines; -: standard output" },
	{ .name = "protocol", .type = OPT_ENUM, .offset = AT(protocol), .group = EXPORT, .arg = "NAME",
	  .dflt = "http/protobuf", .choices = "http/protobuf|grpc", .otel = OTLP("PROTOCOL"), .help = "how OTLP travels" },
	{ .name = "headers", .type = OPT_LIST, .offset = AT(headers), .group = EXPORT, .arg = "K=V,…",
	  .check = opt_check__headers, .otel = OTLP("HEADERS"), .flags = OPT_SECRET,
	  .help = "sent with every export, values percent-encoded" },
	{ .name = "certificate", .type = OPT_FILE, .offset = AT(certificate), .group = EXPORT, .arg = "FILE",
	  .otel = OTLP("CERTIFICATE"), .help = "PEM certificates that the collector's is checked against" },
	{ .name = "client-key", .type = OPT_FILE, .offset = AT(client_key), .group = EXPORT, .arg = "FILE",
	  .otel = OTLP("CLIENT_KEY"), .help = "PEM key for mutual TLS" },
	{ .name = "client-certificate", .type = OPT_FILE, .offset = AT(client_certificate), .group = EXPORT, .arg = "FILE",
	  .otel = OTLP("CLIENT_CERTIFICATE"), .help = "PEM certificate for mutual TLS" },
	{ .name = "insecure", .type = OPT_BOOL, .offset = AT(insecure), .group = EXPORT, .dflt = "false",
	  .otel = OTLP("INSECURE"), .help = "no TLS for a gRPC endpoint without a scheme" },
	{ .name = "compression", .type = OPT_ENUM, .offset = AT(compression), .group = EXPORT, .arg = "NAME",
	  .dflt = "none", .choices = "none|gzip", .otel = OTLP("COMPRESSION"), .help = "of export requests" },
	{ .name = "timeout", .type = OPT_DURATION, .offset = AT(timeout_ms), .group = EXPORT, .arg = "TIME",
	  .dflt = "10s", .min = 1, .max = DAY_MS, .otel = OTLP("TIMEOUT"), .help = "for one export attempt" },
	{ .name = "schedule-delay", .type = OPT_DURATION, .offset = AT(bsp_schedule_delay_ms), .group = EXPORT,
	  .arg = "TIME", .dflt = "1s", .max = DAY_MS, .otel = { "OTEL_BSP_SCHEDULE_DELAY" },
	  .help = "age at which an incomplete batch leaves; 5s where another OTEL_BSP_* variable is set" },
	{ .name = "export-timeout", .type = OPT_DURATION, .offset = AT(bsp_export_timeout_ms), .group = EXPORT,
	  .arg = "TIME", .dflt = "30s", .min = 1, .max = DAY_MS, .otel = { "OTEL_BSP_EXPORT_TIMEOUT" },
	  .help = "for one batch with its retries while stopping" },
	{ .name = "queue-spans", .type = OPT_U32, .offset = AT(bsp_max_queue), .group = EXPORT, .arg = "N", .min = 1,
	  .max = 16u << 20, .otel = { "OTEL_BSP_MAX_QUEUE_SIZE" }, .help = "spans that may wait; unset: bounded by bytes only" },
	{ .name = "batch-size", .type = OPT_U32, .offset = AT(bsp_max_batch), .group = EXPORT, .arg = "N", .dflt = "512",
	  .min = 1, .max = 65536, .otel = { "OTEL_BSP_MAX_EXPORT_BATCH_SIZE" }, .help = "spans per export" },
	{ .name = "queue-size", .type = OPT_SIZE, .offset = AT(queue_bytes), .group = EXPORT, .arg = "BYTES",
	  .dflt = "8MiB", .min = 64 * KIB, .max = 64 * GIB, .help = "memory of the spans that may wait for export" },
	{ .name = "shutdown-timeout", .type = OPT_DURATION, .offset = AT(shutdown_timeout_ms), .group = EXPORT,
	  .arg = "TIME", .dflt = "5s", .max = DAY_MS, .help = "for sending what is left when stopping" },
	{ .name = "sdk-disabled", .type = OPT_BOOL, .offset = AT(sdk_disabled), .group = EXPORT, .dflt = "false",
	  .otel = { "OTEL_SDK_DISABLED" }, .flags = OPT_ENV_ONLY, .help = "true: trace nothing" },

	/* ---- running ---- */
	{ .name = "config", .letter = 'c', .type = OPT_FILE, .offset = AT(config), .group = RUNNING, .arg = "FILE",
	  .flags = OPT_NO_FILE, .help = "YAML file with any of these options: 'ring-size: 8MiB'" },
	{ .name = "log-level", .type = OPT_ENUM, .offset = AT(log_level), .group = RUNNING, .arg = "LEVEL", .dflt = "info",
	  .choices = "error|warn|info|debug", .otel = { "OTEL_LOG_LEVEL" }, .help = "what is said on standard error" },
	{ .name = "control", .type = OPT_FILE, .offset = AT(control), .group = RUNNING, .arg = "PATH",
	  .dflt = "/run/wirespan.sock", .help = "socket that wirespan stats asks; off: none" },
	{ .name = "control-mode", .type = OPT_MODE, .offset = AT(control_mode), .group = RUNNING, .arg = "MODE",
	  .dflt = "0660", .max = 0777, .help = "permissions of that socket; 0666 lets every user ask" },
	{ .name = "color", .type = OPT_ENUM, .offset = AT(color), .group = RUNNING, .arg = "WHEN", .dflt = "auto",
	  .choices = "auto|always|never", .help = "auto: on a terminal, unless NO_COLOR is set" },
	{ .name = "duration", .letter = 'd', .type = OPT_DURATION, .offset = AT(duration_ms), .group = RUNNING,
	  .arg = "TIME", .max = 365 * DAY_MS, .help = "stop by itself after this time; 0: when it is told to" },
	{ .name = "keep-secrets", .type = OPT_BOOL, .offset = AT(keep_secrets), .group = RUNNING, .dflt = "false",
	  .help = "record: keep credentials (headers, cookies, URLs, command lines) and bodies of known length" },
};
const size_t opt_rows_cnt = sizeof(opt_rows) / sizeof(opt_rows[0]);
_Static_assert(sizeof(opt_rows) / sizeof(opt_rows[0]) <= OPTS_MAX, "raise OPTS_MAX");

const struct opt_command opt_commands[] = {
	{ "features", NULL, CMD_FEATURES, "what works on this machine, and what would grant the rest" },
	{ "stats", NULL, CMD_STATS, "the books of the running instance" },
	{ "record", "FILE", CMD_RECORD, "trace, and keep what was seen in FILE" },
	{ "replay", "FILE", CMD_REPLAY, "trace again from FILE, without root" },
	{ "check-config", "[FILE]", CMD_CHECK_CONFIG, "every option, its value and where it came from" },
	{ "help", NULL, CMD_HELP, "this text; --help-all: every option" },
	{ "man", NULL, CMD_MAN, "the manual page, as troff" },
	{ "completion", "SHELL", CMD_COMPLETION, "completion for bash, zsh or fish" },
};
const size_t opt_commands_cnt = sizeof(opt_commands) / sizeof(opt_commands[0]);

/* '_' and '.' stand for '-': ring_size, and a section with a key below it. */
static bool same_name(const char *row, const char *name, size_t len)
{
	for (size_t i = 0; i < len; i++) {
		char ch = name[i] == '_' || name[i] == '.' ? '-' : name[i];

		if (row[i] != ch) /* also at the end of `row` */
			return false;
	}
	return row[len] == 0;
}

const struct opt_row *opt__find(const char *name, size_t len)
{
	for (size_t i = 0; i < opt_rows_cnt; i++) {
		if (!(opt_rows[i].flags & OPT_ENV_ONLY) && same_name(opt_rows[i].name, name, len))
			return &opt_rows[i];
	}
	return NULL;
}

const struct opt_row *opt__find_letter(char letter)
{
	for (size_t i = 0; i < opt_rows_cnt; i++) {
		if (letter && opt_rows[i].letter == letter)
			return &opt_rows[i];
	}
	return NULL;
}

bool opt__is_heeded(const struct opt_row *r, enum command c)
{
	/* Selection and capture are over in a recording, except for what changes spans made from the same events. */
	if (c == CMD_REPLAY)
		return (r->flags & OPT_SPANS) || (strcmp(r->group, SELECTION) != 0 && strcmp(r->group, CAPTURE) != 0);
	return c != CMD_FEATURES || strcmp(r->group, RUNNING) == 0;
}

size_t opt__index(const struct opt_row *r)
{
	return (size_t)(r - opt_rows);
}

void opt__env_name(const struct opt_row *r, char *buf, size_t size)
{
	snprintf(buf, size, "WIRESPAN_%s", r->name);
	for (char *p = buf; *p; p++)
		*p = *p == '-' ? '_' : (char)toupper((unsigned char)*p);
}

#define NAME_MAX_LEN 32

/* Edit distance (Levenshtein), two rows at a time; names longer than the table's are nobody's neighbour. */
static unsigned int distance(const char *a, const char *b)
{
	unsigned int prev[NAME_MAX_LEN + 1], cur[NAME_MAX_LEN + 1];
	size_t la = strlen(a), lb = strlen(b);

	if (la > NAME_MAX_LEN || lb > NAME_MAX_LEN)
		return UINT32_MAX;
	for (size_t j = 0; j <= lb; j++)
		prev[j] = (unsigned int)j;
	for (size_t i = 1; i <= la; i++) {
		cur[0] = (unsigned int)i;
		for (size_t j = 1; j <= lb; j++) {
			unsigned int best = prev[j - 1] + (a[i - 1] != b[j - 1]);

			if (prev[j] + 1 < best)
				best = prev[j] + 1;
			if (cur[j - 1] + 1 < best)
				best = cur[j - 1] + 1;
			cur[j] = best;
		}
		memcpy(prev, cur, (lb + 1) * sizeof(cur[0]));
	}
	return prev[lb];
}

/* The i-th name that may be suggested, NULL: none at this place. */
static const char *candidate(size_t i, bool commands)
{
	if (commands)
		return opt_commands[i].name;
	return opt_rows[i].flags & OPT_ENV_ONLY ? NULL : opt_rows[i].name;
}

const char *opt__nearest(const char *name, bool commands)
{
	size_t n = commands ? opt_commands_cnt : opt_rows_cnt;
	unsigned int best = 4; /* three slips at the most */
	const char *found = NULL;

	for (size_t i = 0; i < n; i++) {
		const char *cand = candidate(i, commands);
		unsigned int d = cand ? distance(name, cand) : UINT32_MAX;

		/* "exp" is no misspelt "pid": at least half must be right. */
		if (d < best && d * 2 <= strlen(cand)) {
			best = d;
			found = cand;
		}
	}
	/* "opt-in" means opt-in-attributes. */
	for (size_t i = 0; !found && i < n && strlen(name) >= 3; i++) {
		const char *cand = candidate(i, commands);

		if (cand && strncmp(name, cand, strlen(name)) == 0)
			found = cand;
	}
	return found;
}

const char *opt__getenv(char **env, const char *name)
{
	size_t len = strlen(name);

	for (; env && *env; env++) {
		if (strncmp(*env, name, len) == 0 && (*env)[len] == '=')
			return (*env)[len + 1] ? *env + len + 1 : NULL;
	}
	return NULL;
}
