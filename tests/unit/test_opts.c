// SPDX-License-Identifier: Apache-2.0
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#include "user/base/mem.h"
#include "user/base/opts.h"
#include "user/base/opts_table.h"
#include "user/match/match.h"

#define ARGS_MAX 32

static struct opts o;
static char *said; /* what the last parse() printed */
static size_t said_len;
static char *no_env[] = { NULL };

/* Words are separated by one space. */
static int parse_env(const char *line, char **env)
{
	static char words[1024], *argv[ARGS_MAX] = { "wirespan" }; /* what is to be run points into them */
	char *save = NULL;
	int argc = 1, ret;
	FILE *err;

	opts__free(&o);
	free(said);
	said = NULL;
	snprintf(words, sizeof(words), "%s", line);
	for (char *w = strtok_r(words, " ", &save); w; w = strtok_r(NULL, " ", &save))
		argv[argc++] = w;
	argv[argc] = NULL;
	err = open_memstream(&said, &said_len);
	ret = opts__parse(&o, argc, argv, env, err);
	fclose(err);
	return ret;
}

static int parse(const char *line)
{
	return parse_env(line, no_env);
}

static const char *write_config(const char *text)
{
	static char path[] = "/tmp/wirespan-test-opts.XXXXXX";
	static int made;
	FILE *f;

	if (!made)
		close(mkstemp(path));
	made = 1;
	f = fopen(path, "w");
	fputs(text, f);
	fclose(f);
	return path;
}

/* Parses "--config FILE" with this text. Messages have the path of the file replaced by F. */
static int parse_config(const char *text, const char *more, char **env)
{
	const char *path = write_config(text);
	char line[512], *hit;
	int ret;

	snprintf(line, sizeof(line), "--config %s %s", path, more);
	ret = parse_env(line, env);
	while ((hit = strstr(said, path))) {
		*hit = 'F';
		memmove(hit + 1, hit + strlen(path), strlen(hit + strlen(path)) + 1);
	}
	return ret;
}

static void test_defaults(void **state)
{
	assert_int_equal(parse(""), 0);
	assert_string_equal(said, "");
	assert_int_equal(o.command, CMD_TRACE);
	assert_int_equal(o.capture, 8192);
	assert_int_equal(o.ring_size, 4 << 20);
	assert_string_equal(o.attach, "auto");
	assert_string_equal(o.routes, "auto");
	assert_true(o.redact && o.default_excludes);
	assert_int_equal(o.queue_bytes, 8 << 20);
	assert_int_equal(o.bsp_max_batch, 512);
	assert_int_equal(o.bsp_max_queue, 0);
	assert_false(o.bsp_queue_set || o.bsp_delay_set);
	assert_int_equal(o.bsp_schedule_delay_ms, 1000);
	assert_int_equal(o.shutdown_timeout_ms, 5000);
	assert_int_equal(o.timeout_ms, 10000);
	assert_string_equal(o.control, "/run/wirespan.sock");
	assert_int_equal(o.control_mode, 0660);
	assert_int_equal(o.max_connections, 65536);
	assert_int_equal(o.attr_count_limit, 128);
	assert_int_equal(o.attr_value_limit, 0);
	assert_null(o.exporter);
	assert_null(o.endpoint);
	assert_string_equal(o.protocol, "http/protobuf");
}

static void test_flags(void **state)
{
	assert_int_equal(parse("--capture 4K --ring-size=1MiB --pid 1,2 -p 3 --no-redact --opt-in-attributes "
			       "--redact-keys=a --duration 2m -o out.json --color=NEVER"), 0);
	assert_int_equal(o.capture, 4096);
	assert_int_equal(o.ring_size, 1 << 20);
	assert_string_equal(o.pid, "1,2,3");
	assert_false(o.redact);
	assert_true(o.opt_in_attributes);
	assert_int_equal(o.duration_ms, 120000);
	assert_string_equal(o.output, "out.json");
	assert_string_equal(o.exporter, "json");
	assert_string_equal(o.color, "never");
	assert_int_equal(parse("--control off --control-mode 0666 --format json"), 0);
	assert_null(o.control);
	assert_int_equal(o.control_mode, 0666);
	assert_string_equal(o.exporter, "json");
}

static void test_commands(void **state)
{
	assert_int_equal(parse("record f.ws --keep-secrets"), 0);
	assert_int_equal(o.command, CMD_RECORD);
	assert_string_equal(o.file, "f.ws");
	assert_true(o.keep_secrets);
	assert_int_equal(parse("--format json stats"), 0);
	assert_int_equal(o.command, CMD_STATS);
	assert_null(o.exporter);
	assert_int_equal(parse("--capture 512 -- curl --pid x"), 0);
	assert_int_equal(o.command, CMD_RUN);
	assert_string_equal(o.argv_run[0], "curl");
	assert_string_equal(o.argv_run[2], "x");
	assert_null(o.argv_run[3]);
	assert_null(o.pid);
	assert_int_equal(parse("completion fish"), 0);
	assert_string_equal(o.shell, "fish");
	assert_int_equal(parse("man"), 0);
	assert_int_equal(o.command, CMD_MAN);
	assert_int_equal(parse("--ring-size 7 --help"), 0);
	assert_int_equal(o.command, CMD_HELP);
	assert_int_equal(parse("replay f --help-all"), 0);
	assert_int_equal(o.command, CMD_HELP_ALL);
	assert_int_equal(parse("-V"), 0);
	assert_int_equal(o.command, CMD_VERSION);
	assert_string_equal(o.log_level, "info");
}

static void assert_mistake(const char *line, const char *want)
{
	assert_int_equal(parse(line), 2);
	assert_string_equal(said, want);
}

static void test_mistakes(void **state)
{
	assert_mistake("recrod f", "wirespan: unknown command recrod: did you mean record?\n"
				   "wirespan: unknown command f: to trace a program, wirespan -- f; see wirespan --help\n");
	assert_mistake("record", "wirespan: record: needs an argument: wirespan record FILE\n");
	assert_mistake("features x", "wirespan: features: unexpected argument x\n");
	assert_mistake("features -- x", "wirespan: features: does not go with -- CMD\n");
	assert_mistake("completion tcsh", "wirespan: completion: tcsh is not one of bash, zsh, fish\n");
	assert_mistake("--", "wirespan: --: needs a command: wirespan -- CMD [ARGS]\n");
	assert_mistake("--no-redct", "wirespan: unknown option --no-redct: did you mean --no-redact?\n");
	assert_mistake("--ring_size 4M", "wirespan: unknown option --ring_size: did you mean --ring-size?\n"
					 "wirespan: unknown command 4M: to trace a program, wirespan -- 4M; see wirespan "
					 "--help\n");
	assert_mistake("-x", "wirespan: unknown option -x: see wirespan --help\n");
	assert_mistake("--pid --port 80", "wirespan: --pid: needs a value: --pid LIST\n");
	assert_mistake("--pid=", "wirespan: --pid: needs a value: --pid LIST\n");
	assert_mistake("--redact=maybe", "wirespan: --redact: maybe is neither true nor false\n");
	assert_mistake("--no-redact=x", "wirespan: --no-redact: takes no value\n");
	/* All at once. */
	assert_mistake("--capture 255 --ring-size 3M --attach x --port 80,99999 --duration 5 --max-requests -- true",
		       "wirespan: --max-requests: needs a value: --max-requests N\n"
		       "wirespan: --capture: 255 is out of range 256..8KiB\n"
		       "wirespan: --ring-size: 3M is not a power of two, such as 4MiB\n"
		       "wirespan: --attach: x is not one of auto, fentry, socket, kprobe, syscall\n"
		       "wirespan: --port: '99999' is not a port (1..65535) or a range such as 8000-8010\n"
		       "wirespan: --duration: 5 is not a number with its unit: give a unit of ms, s, m, h, as in 500ms\n");
	assert_mistake("--queue-size 99999999999999999999G",
		       "wirespan: --queue-size: 99999999999999999999G is out of range 64KiB..64GiB\n");
	assert_mistake("--endpoint ftp://x", "wirespan: --endpoint: ftp is not a scheme for OTLP: http or https\n");
	assert_mistake("--endpoint http:///x",
		       "wirespan: --endpoint: http:///x names no host, as in http://collector:4318\n");
	assert_mistake("--headers secret", "wirespan: --headers: an item is not of the form key=value\n");
	assert_mistake("--headers content-Length=3", "wirespan: --headers: content-Length is not for you to say: the exporter's "
		       "own depends on what it sends\n");
	assert_mistake("--headers a=%zz", "wirespan: --headers: the value of a is not percent-encoded\n");
	assert_mistake("--client-key k", "wirespan: client-key: needs client-certificate as well\n");
	assert_mistake("--evidence-off thread,luck",
		       "wirespan: --evidence-off: luck is not one of join, header, thread, thread-inherited, "
		       "context, goroutine, goroutine-inherited, request-context, greenlet, virtual-thread, turn, turn-continued, "
		       "executor, content, callback, dial\n");
	assert_mistake("--evidence-off Thread",
		       "wirespan: --evidence-off: Thread is not one of join, header, thread, thread-inherited, "
		       "context, goroutine, goroutine-inherited, request-context, greenlet, virtual-thread, turn, turn-continued, "
		       "executor, content, callback, dial\n");
	assert_mistake("--exclude a,,b", "wirespan: --exclude: an item of the list is empty\n");
	assert_mistake("--config /nonexistent/c.yaml",
		       "wirespan: /nonexistent/c.yaml: cannot open configuration file: No such file or directory\n");
	assert_mistake("--config /tmp", "wirespan: /tmp: not a configuration file: is a directory\n");
}

static void test_ports(void **state)
{
	static const char *const bad[] = { "0", "80-", "-80", "90-80", "80 81", "80,", ",", "65536", "a", "8x", "1-2-3" };
	char why[128];

	assert_int_equal(opt_check__ports("80,8000-8010, 443", why, sizeof(why)), 0);
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		assert_int_not_equal(opt_check__ports(bad[i], why, sizeof(why)), 0);
}

static void test_routes(void **state)
{
	static const char *const bad[] = { "bad", "/api/*/things", "/{", "/ok,/{a}{b}", "/ok,", "" };
	char why[256];

	assert_int_equal(opt_check__routes("/users/{id}, /files/{*} ,/f/{name}.json,/", why, sizeof(why)), 0);
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		assert_int_not_equal(opt_check__routes(bad[i], why, sizeof(why)), 0);
	assert_int_equal(parse("check-config --route-patterns /users/{id},/api/*/things"), 2);
	assert_string_equal(said, "wirespan: --route-patterns: '/api/*/things' is not a route such as /users/{id} (one {name} in "
				  "a segment) or /files/{*} (* at the end)\n");
	assert_int_equal(parse_config("route-patterns: ['/users/{id}', bad]\n", "", no_env), 2);
	assert_non_null(strstr(said, "wirespan: F:1:33: route-patterns: 'bad' is not a route such as"));
	assert_int_equal(parse_config("route-patterns: ['/users/{id}', '/files/{*}']\n", "", no_env), 0);
	assert_string_equal(o.route_patterns, "/users/{id},/files/{*}");
}

static void test_unheeded(void **state)
{
	char *env[] = { "WIRESPAN_PID=1", "WIRESPAN_FORMAT=json", NULL };

	assert_mistake("replay f.rec --pid 1 --routes off --capture 1K",
		       "wirespan: --pid: means nothing to wirespan replay\n"
		       "wirespan: --capture: means nothing to wirespan replay\n");
	assert_mistake("features --format json", "wirespan: --format: means nothing to wirespan features\n");
	assert_int_equal(parse("replay f.rec --exclude-path /health --max-requests 100 --format json -o x -d 1s"), 0);
	assert_int_equal(parse_env("replay f.rec", env), 0);
	assert_int_equal(parse_env("features --log-level debug", env), 0);
}

static void test_precedence(void **state)
{
	static const char file[] = "endpoint: http://file:1\nattribute-count-limit: 3\npid: [7, 8]\n";
	char *env[] = { "OTEL_EXPORTER_OTLP_ENDPOINT=http://general:1", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT=http://signal:1",
			"WIRESPAN_ENDPOINT=http://env:1", "WIRESPAN_PID=9", NULL };

	/* default < general < signal-specific < file < WIRESPAN_* < flag */
	assert_int_equal(parse_config(file, "--endpoint http://flag:1 --pid 10", env), 0);
	assert_string_equal(o.endpoint, "http://flag:1/v1/traces");
	assert_string_equal(o.pid, "10");
	assert_int_equal(parse_config(file, "", env), 0);
	assert_string_equal(o.endpoint, "http://env:1/v1/traces");
	assert_string_equal(o.pid, "9");
	env[2] = NULL;
	assert_int_equal(parse_config(file, "", env), 0);
	assert_string_equal(o.endpoint, "http://file:1/v1/traces");
	assert_string_equal(o.pid, "7,8");
	assert_int_equal(o.attr_count_limit, 3);
	assert_int_equal(parse_env("", env), 0);
	assert_string_equal(o.endpoint, "http://signal:1/");
	env[1] = "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT="; /* empty is unset */
	assert_int_equal(parse_env("", env), 0);
	assert_string_equal(o.endpoint, "http://general:1/v1/traces");
}

static void test_lists(void **state)
{
	char *env[] = { "WIRESPAN_PORT= 80 ,\t8000-8010,443 ", NULL };

	assert_int_equal(parse_env("--exclude a,b --exclude c", env), 0);
	assert_string_equal(o.port, "80,8000-8010,443");
	assert_string_equal(o.exclude, "a,b,c");
}

static void test_config_from_env(void **state)
{
	char var[128], *env[] = { var, NULL };

	snprintf(var, sizeof(var), "WIRESPAN_CONFIG=%s", write_config("capture: 1K\n"));
	assert_int_equal(parse_env("", env), 0);
	assert_int_equal(o.capture, 1024);
	env[0] = NULL;
	snprintf(var, sizeof(var), "check-config %s", write_config("capture: 2K\n"));
	assert_int_equal(parse(var), 0);
	assert_int_equal(o.capture, 2048);
}

static void test_yaml(void **state)
{
	assert_int_equal(parse_config("# comment\n"
				      "ring_size: 8MiB\n"
				      "redact: no\n"
				      "routes: off\n"
				      "exclude:\n  path: [/health, '/metrics']\n"
				      "duration: ~\n"
				      "default-excludes: false\n", "", no_env), 0);
	assert_int_equal(o.ring_size, 8 << 20);
	assert_false(o.redact || o.default_excludes);
	assert_string_equal(o.routes, "off");
	assert_string_equal(o.exclude_path, "/health,/metrics");
	assert_int_equal(o.duration_ms, 0);
	assert_int_equal(parse_config("", "", no_env), 0);
	assert_int_equal(parse_config("# nothing\n---\n...\n", "", no_env), 0);
}

static void assert_yaml_mistake(const char *text, const char *want)
{
	assert_int_equal(parse_config(text, "", no_env), 2);
	assert_string_equal(said, want);
}

static void test_yaml_mistakes(void **state)
{
	assert_yaml_mistake("capture: 1\n\nsampler:\n  ratio: 1.5\nring-sise: 4M\ncapture: 512\n",
			    "wirespan: F:1:10: capture: 1 is out of range 256..8KiB\n"
			    "wirespan: F:4:3: sampler.ratio: unknown option\n"
			    "wirespan: F:5:1: ring-sise: unknown option, did you mean ring-size?\n"
			    "wirespan: F:6:1: capture: is already set in line 1\n");
	assert_yaml_mistake("- a\n", "wirespan: F:1:1: not a mapping of option names to values, such as 'capture: 4096'\n");
	assert_yaml_mistake("word\n", "wirespan: F:1:1: not a mapping of option names to values, such as 'capture: 4096'\n");
	assert_yaml_mistake("capture: [1, 2]\n", "wirespan: F:1:10: capture: takes one value, not a list\n");
	assert_yaml_mistake("pid: [1, [2], {a: b}]\n", "wirespan: F:1:10: pid: an item of the list must be a plain value\n"
						       "wirespan: F:1:15: pid: an item of the list must be a plain value\n");
	assert_yaml_mistake("format: text\n", "wirespan: format: text is how stats answers; spans are shown as tree or json\n");
	assert_yaml_mistake("port:\n  - 80\n  - abc\n  - ''\n  - 99999\n",
			    "wirespan: F:3:5: port: 'abc' is not a port (1..65535) or a range such as 8000-8010\n"
			    "wirespan: F:4:5: port: an item of the list is empty\n"
			    "wirespan: F:5:5: port: '99999' is not a port (1..65535) or a range such as 8000-8010\n");
	assert_yaml_mistake("exclude: [\"a\\0\"]\n", "wirespan: F:1:11: exclude: has a NUL byte in it\n");
	assert_yaml_mistake("pid: *a\n", "wirespan: F:1:6: pid: anchors and aliases are not supported\n");
	assert_yaml_mistake("? [a]\n: 1\n", "wirespan: F:1:3: a key must be a plain word\n");
	assert_yaml_mistake("config: x\n", "wirespan: F:1:1: config: has no meaning inside a file\n");
	assert_yaml_mistake("sdk-disabled: true\n", "wirespan: F:1:1: sdk-disabled: unknown option\n");
	assert_yaml_mistake("a: {b: {c: {d: {e: {f: {g: {h: {i: 1}}}}}}}}\n",
			    "wirespan: F:1:32: a.b.c.d.e.f.g.h: nested too deeply\n");
	assert_yaml_mistake("capture: 512\n---\ncapture: 512\n", "wirespan: F:2:1: a second document: one is read\n");
	assert_yaml_mistake("capture: \"5\\0\"\n", "wirespan: F:1:10: capture: has a NUL byte in it\n");
	/* Behind a syntax error nothing is read, but what came before is checked. */
	assert_int_equal(parse_config("capture: 1\nx: [\n", "", no_env), 2);
	assert_non_null(strstr(said, "wirespan: F:1:10: capture: 1 is out of range 256..8KiB\n"));
	assert_non_null(strstr(said, "wirespan: F:3:1: "));
	assert_int_equal(parse_config("capture: \xff\n", "", no_env), 2);
	assert_non_null(strstr(said, "F: byte"));
}

static void test_env_mistakes(void **state)
{
	char *env[] = { "WIRESPAN_CAPTURE=99999", "WIRESPAN_ATACH=auto", "WIRESPAN_ROUTES=", NULL };
	/* A Kubernetes Service named wirespan makes these. */
	char *links[] = { "WIRESPAN_PORT=tcp://10.0.0.1:80", "WIRESPAN_SERVICE_HOST=10.0.0.1",
			  "WIRESPAN_PORT_80_TCP=tcp://10.0.0.1:80", "WIRESPAN_UI_PORT=udp://10.0.0.2:1", NULL };

	assert_int_equal(parse_env("", env), 2);
	assert_string_equal(said, "wirespan: WIRESPAN_CAPTURE: 99999 is out of range 256..8KiB\n"
				  "wirespan: WIRESPAN_ATACH: no such option, ignored: did you mean WIRESPAN_ATTACH?\n");
	assert_int_equal(parse_env("", links), 0);
	assert_string_equal(said, "");
	assert_null(o.port);
	links[0] = "WIRESPAN_PORT=80";
	assert_int_equal(parse_env("", links), 0);
	assert_string_equal(o.port, "80");
}

/* Parses with these variables only, the list ended by NULL. */
static int parse_vars(char *a, char *b, char *c)
{
	char *env[] = { a, b, c, NULL };

	return parse_env("", env);
}

static void assert_endpoint(char *a, char *b, const char *want)
{
	assert_int_equal(parse_vars(a, b, NULL), 0);
	assert_string_equal(o.endpoint, want);
}

static void test_otel_endpoint(void **state)
{
	static char grpc[] = "OTEL_EXPORTER_OTLP_PROTOCOL=gRPC";
	static char insecure[] = "OTEL_EXPORTER_OTLP_INSECURE=true";

	assert_endpoint("OTEL_EXPORTER_OTLP_ENDPOINT=http://c:4318", NULL, "http://c:4318/v1/traces");
	assert_endpoint("OTEL_EXPORTER_OTLP_ENDPOINT=http://c:4318/", NULL, "http://c:4318/v1/traces");
	assert_endpoint("OTEL_EXPORTER_OTLP_ENDPOINT=http://c:4318/my/", NULL, "http://c:4318/my/v1/traces");
	assert_endpoint("OTEL_EXPORTER_OTLP_ENDPOINT=https://c/my", NULL, "https://c/my/v1/traces");
	assert_endpoint("OTEL_EXPORTER_OTLP_ENDPOINT=http://c/v1/traces", NULL, "http://c/v1/traces/v1/traces");
	assert_endpoint("OTEL_EXPORTER_OTLP_ENDPOINT=http://c/a?k=v", NULL, "http://c/a/v1/traces?k=v");
	assert_endpoint("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT=http://c:4318", NULL, "http://c:4318/");
	assert_endpoint("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT=http://c/x", NULL, "http://c/x");
	assert_endpoint("OTEL_EXPORTER_OTLP_ENDPOINT=http://c:4317", grpc, "http://c:4317");
	assert_endpoint("OTEL_EXPORTER_OTLP_ENDPOINT=http://c:4317/path", grpc, "http://c:4317");
	assert_endpoint("OTEL_EXPORTER_OTLP_ENDPOINT=c:4317", grpc, "https://c:4317");
	assert_int_equal(parse_vars("OTEL_EXPORTER_OTLP_ENDPOINT=c:4317", grpc, insecure), 0);
	assert_string_equal(o.endpoint, "http://c:4317");
	/* A scheme beats INSECURE. */
	assert_int_equal(parse_vars("OTEL_EXPORTER_OTLP_ENDPOINT=https://c:4317", grpc, insecure), 0);
	assert_string_equal(o.endpoint, "https://c:4317");
	assert_endpoint("OTEL_TRACES_EXPORTER=otlp", NULL, "http://localhost:4318/v1/traces");
	assert_endpoint("OTEL_TRACES_EXPORTER=otlp", grpc, "http://localhost:4317");
	assert_int_equal(parse_vars("OTEL_EXPORTER_OTLP_ENDPOINT=unix:///run/x", NULL, NULL), 0);
	assert_null(o.endpoint);
	assert_string_equal(said, "wirespan: OTEL_EXPORTER_OTLP_ENDPOINT: unix is not a scheme for OTLP: http or https, "
				  "ignored\n");
	/* Our own flag takes a base or the full path. */
	assert_int_equal(parse("-e http://c:4318/v1/traces"), 0);
	assert_string_equal(o.endpoint, "http://c:4318/v1/traces");
	assert_int_equal(parse("--endpoint=c:4318"), 0);
	assert_string_equal(o.endpoint, "http://c:4318/v1/traces");
	assert_string_equal(said, "wirespan: endpoint: c:4318 has no scheme, taken as http://c:4318\n");
}

static void test_otel_service_name(void **state)
{
	static const char ignored[] = ": ignored: services have their names from the environments of their own processes\n";
	char *env[] = { "OTEL_SERVICE_NAME=x", NULL };

	assert_int_equal(parse_vars("OTEL_SERVICE_NAME=x", "OTEL_RESOURCE_ATTRIBUTES=a=b,service.name=y", NULL), 0);
	assert_int_equal(strncmp(said, "wirespan: OTEL_SERVICE_NAME", 27), 0);
	assert_string_equal(said + 27, ignored);
	assert_string_equal(o.resource_attributes, "a=b,service.name=y");
	assert_int_equal(parse_vars("OTEL_RESOURCE_ATTRIBUTES=a=b, service.name =y", NULL, NULL), 0);
	assert_int_equal(strncmp(said, "wirespan: OTEL_RESOURCE_ATTRIBUTES: service.name", 48), 0);
	assert_string_equal(said + 48, ignored);
	assert_int_equal(parse_vars("OTEL_RESOURCE_ATTRIBUTES=service.namespace=y,a=service.name", NULL, NULL), 0);
	assert_string_equal(said, "");
	assert_int_equal(parse_env("-- true", env), 0); /* it has the variable as well */
	assert_string_equal(said, "");
}

static void test_otel_values(void **state)
{
	assert_int_equal(parse_vars("OTEL_SDK_DISABLED=TRUE", "OTEL_EXPORTER_OTLP_COMPRESSION=GZIP",
				    "OTEL_EXPORTER_OTLP_TIMEOUT=250"), 0);
	assert_true(o.sdk_disabled);
	assert_string_equal(o.compression, "gzip");
	assert_int_equal(o.timeout_ms, 250);
	assert_int_equal(parse_vars("OTEL_SDK_DISABLED=1", "OTEL_EXPORTER_OTLP_TIMEOUT=10s",
				    "OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT=-5"), 0);
	assert_false(o.sdk_disabled);
	assert_int_equal(o.timeout_ms, 10000);
	assert_int_equal(o.attr_count_limit, 128);
	assert_string_equal(said, "wirespan: OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT: -5 is not a whole number, ignored\n"
				  "wirespan: OTEL_EXPORTER_OTLP_TIMEOUT: 10s is not a whole number, ignored\n"
				  "wirespan: OTEL_SDK_DISABLED: 1 is neither true nor false, ignored\n");
	/* What is wrong leaves the weaker value. */
	assert_int_equal(parse_vars("OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT=x", "OTEL_ATTRIBUTE_COUNT_LIMIT=7", NULL), 0);
	assert_int_equal(o.attr_count_limit, 7);
	assert_int_equal(parse_vars("OTEL_SPAN_ATTRIBUTE_VALUE_LENGTH_LIMIT=0", "OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT=7", NULL), 0);
	assert_int_equal(o.attr_value_limit, 7);
	assert_string_equal(said, "wirespan: OTEL_SPAN_ATTRIBUTE_VALUE_LENGTH_LIMIT: 0 would leave every value empty: not "
				  "supported, ignored\n");
	assert_int_equal(parse_vars("OTEL_RESOURCE_ATTRIBUTES=a=b,c=%2C", NULL, NULL), 0);
	assert_string_equal(o.resource_attributes, "a=b,c=%2C");
	assert_int_equal(parse_vars("OTEL_RESOURCE_ATTRIBUTES=a=b,c", NULL, NULL), 0);
	assert_null(o.resource_attributes);
	assert_int_equal(parse_vars("OTEL_EXPORTER_OTLP_HEADERS=api-key=s%20cret", "OTEL_LOG_LEVEL=TRACE", NULL), 0);
	assert_string_equal(o.headers, "api-key=s%20cret");
	assert_string_equal(o.log_level, "debug");
	assert_int_equal(parse_vars("OTEL_TRACES_EXPORTER=none,otlp", NULL, NULL), 0);
	assert_string_equal(o.exporter, "none");
	assert_int_equal(parse_vars("OTEL_TRACES_EXPORTER=zipkin", "OTEL_EXPORTER_OTLP_PROTOCOL=http/json", NULL), 0);
	assert_null(o.exporter);
	assert_string_equal(o.protocol, "http/protobuf");
	assert_int_equal(parse_vars("OTEL_TRACES_SAMPLER=traceidratio", NULL, NULL), 0);
	assert_string_equal(said, "wirespan: OTEL_TRACES_SAMPLER: not supported, ignored: kept is every span, except where a "
				  "caller's trace context says that it is not sampled\n");
	assert_int_equal(parse_vars("OTEL_PROPAGATORS=b3", NULL, NULL), 0);
	assert_string_equal(said, "wirespan: OTEL_PROPAGATORS: not supported, ignored: traceparent and b3 headers are "
				  "read, and none is written\n");
	assert_int_equal(parse_vars("OTEL_PROPAGATORS=tracecontext,baggage", NULL, NULL), 0);
	assert_string_equal(said, "");
	assert_int_equal(parse_vars("OTEL_TRACES_SAMPLER=always_on", "NO_COLOR=1", NULL), 0);
	assert_string_equal(said, "");
	assert_string_equal(o.color, "never");
}

static void test_otel_batches(void **state)
{
	assert_int_equal(parse_vars("OTEL_BSP_MAX_QUEUE_SIZE=100", NULL, NULL), 0);
	assert_true(o.bsp_queue_set);
	assert_int_equal(o.bsp_max_queue, 100);
	assert_int_equal(o.bsp_max_batch, 100);
	assert_int_equal(o.bsp_schedule_delay_ms, 5000);
	assert_string_equal(said, "");
	assert_int_equal(parse_vars("OTEL_BSP_MAX_QUEUE_SIZE=100", "OTEL_BSP_MAX_EXPORT_BATCH_SIZE=200",
				    "OTEL_BSP_SCHEDULE_DELAY=0"), 0);
	assert_int_equal(o.bsp_max_batch, 100);
	assert_int_equal(o.bsp_schedule_delay_ms, 0);
	assert_true(o.bsp_delay_set);
	assert_string_equal(said, "wirespan: batch-size: 200 is more than the queue holds, lowered to 100\n");
	assert_int_equal(parse_vars("OTEL_BSP_MAX_QUEUE_SIZE=0", NULL, NULL), 0);
	assert_false(o.bsp_queue_set);
}

/* Every value that check-config shows is one that the same option takes; secrets are not among them. */
static void test_print_values(void **state)
{
	char *env[] = { "OTEL_EXPORTER_OTLP_HEADERS=authorization=Bearer%20xyzzy,k=xyzzy", NULL };
	char *text = NULL;
	size_t len;
	FILE *f = open_memstream(&text, &len);

	assert_int_equal(parse_config("capture: 4K\n", "--port 80 --timeout 1500ms -e http://bob:xyzzy@c:1/a@b", env), 0);
	opts__print_values(&o, f);
	fclose(f);
	assert_null(strstr(text, "xyzzy"));
	assert_non_null(strstr(text, "\ncapture                  4KiB                             file, line 1\n"));
	assert_non_null(strstr(text, "\nport                     80                               flag\n"));
	assert_non_null(strstr(text, "\ntimeout                  1500ms                           flag\n"));
	assert_non_null(strstr(text, "\nendpoint                 http://*********@c:1/a@b/v1/traces flag"));
	assert_non_null(strstr(text, "authorization=****,k=****        OTEL_EXPORTER_OTLP_HEADERS\n"));
	free(text);
	for (size_t i = 0; i < opt_rows_cnt; i++) {
		struct opts again = { 0 };
		struct opt_ctx c = { .o = &again, .err = stderr };
		struct opt_from from = { .origin = ORIGIN_FLAG, .where = opt_rows[i].name };
		char value[256], back[256];

		opt_value__format(&o, &opt_rows[i], value, sizeof(value));
		if (!*value || (opt_rows[i].flags & OPT_SECRET) || (opt_rows[i].type == OPT_DURATION && !o.duration_ms))
			continue;
		opt_value__set(&c, &opt_rows[i], value, &from);
		assert_int_equal(c.mistakes, 0);
		opt_value__format(&again, &opt_rows[i], back, sizeof(back));
		assert_string_equal(back, value);
		opts__free(&again);
	}
}

/* The table itself: names unique, defaults valid (test_defaults parsed them), help on one line, one screen of --help. */
static void test_table(void **state)
{
	char *text = NULL;
	size_t len, lines = 0, col = 0;
	FILE *f = open_memstream(&text, &len);

	for (size_t i = 0; i < opt_rows_cnt; i++) {
		assert_true(opt_rows[i].help && opt_rows[i].group);
		for (size_t j = i + 1; j < opt_rows_cnt; j++) {
			assert_string_not_equal(opt_rows[i].name, opt_rows[j].name);
			assert_true(opt_rows[i].offset != opt_rows[j].offset);
			assert_true(!opt_rows[i].letter || opt_rows[i].letter != opt_rows[j].letter);
		}
	}
	opts__print_help(f, false);
	fflush(f);
	for (size_t i = 0; i < len; i++) {
		col = text[i] == '\n' ? 0 : col + 1;
		lines += text[i] == '\n';
		assert_true(col <= 90);
	}
	assert_true(lines <= 28);
	opts__print_help(f, true);
	opts__print_man(f);
	opts__print_completion(f, "bash");
	opts__print_completion(f, "zsh");
	opts__print_completion(f, "fish");
	fclose(f);
	for (size_t i = 0; i < opt_rows_cnt; i++)
		assert_non_null(strstr(text, opt_rows[i].help));
	free(text);
}

/* opts cannot include the matcher; this keeps the two lists the same. "single" has a switch of its own. */
static void test_evidence_words(void **state)
{
	static const char words[] =
#define X(e, name) "|" name
		MATCH_EVIDENCE(X);
#undef X

	char all[256];

	snprintf(all, sizeof(all), "|%s|single", opt__find("evidence-off", strlen("evidence-off"))->choices);
	assert_string_equal(all, words);
}

/* Each allocation fails once: a message and 2, or a success; never a leak or a crash. */
static void test_without_memory(void **state)
{
	char *env[] = { "OTEL_EXPORTER_OTLP_ENDPOINT=http://c", "WIRESPAN_EXCLUDE=a", "NO_COLOR=1", NULL };
	long n;
	int ret = 2;

	for (n = 0; ret && n < 500; n++) {
		mem__fail_after(n);
		ret = parse_config("pid: [1, 2]\n", "record f.ws --port 80 --port 81 --format json", env);
		if (ret)
			assert_non_null(strstr(said, "out of memory"));
	}
	mem__fail_after(-1);
	assert_int_equal(ret, 0);
	assert_true(n > 10);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_defaults),
		cmocka_unit_test(test_flags),
		cmocka_unit_test(test_commands),
		cmocka_unit_test(test_mistakes),
		cmocka_unit_test(test_ports),
		cmocka_unit_test(test_routes),
		cmocka_unit_test(test_unheeded),
		cmocka_unit_test(test_precedence),
		cmocka_unit_test(test_lists),
		cmocka_unit_test(test_config_from_env),
		cmocka_unit_test(test_yaml),
		cmocka_unit_test(test_yaml_mistakes),
		cmocka_unit_test(test_env_mistakes),
		cmocka_unit_test(test_otel_endpoint),
		cmocka_unit_test(test_otel_service_name),
		cmocka_unit_test(test_otel_values),
		cmocka_unit_test(test_otel_batches),
		cmocka_unit_test(test_print_values),
		cmocka_unit_test(test_table),
		cmocka_unit_test(test_evidence_words),
		cmocka_unit_test(test_without_memory),
	};
	int ret = cmocka_run_group_tests(tests, NULL, NULL);

	opts__free(&o);
	free(said);
	unlink(write_config(""));
	return ret;
}
