// SPDX-License-Identifier: Apache-2.0
/* JSON lines are read back with jansson, which knows nothing of how they were written. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <jansson.h>
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "exporter/exporter.h"
#include "exporter/otlp_encode.h"
#include "exporter/otlp_json.h"
#include "user/base/mem.h"
#include "user/model/stats.h"

#define MS UINT64_C(1000000)

static struct resource *make_resource(const char *service)
{
	struct resource *r = resource__new();
	struct attr name = attr__str("service.name", str__of(service));

	assert_non_null(r);
	resource__add(r, &name);
	resource__seal(r);
	return r;
}

static struct span *make_span(struct resource *r, uint8_t id)
{
	struct span *s = span__new();

	assert_non_null(s);
	memset(s->trace_id, 0xab, sizeof(s->trace_id));
	memset(s->span_id, id, sizeof(s->span_id));
	s->kind = SPAN_SERVER;
	s->start_ns = 1767225600000000000ull;
	s->end_ns = s->start_ns + 1;
	s->name = STR("GET /");
	s->res = r ? resource__get(r) : NULL;
	return s;
}

static json_t *encode(const struct batch *b, struct dynbuf *out)
{
	struct group_set groups = { 0 };
	json_error_t error;
	json_t *root;

	assert_int_equal(otlp_json__encode(&groups, b, out), 0);
	assert_int_equal(out->data[out->len - 1], '\n');
	assert_null(memchr(out->data, '\n', out->len - 1)); /* one line */
	root = json_loadb((const char *)out->data, out->len, JSON_REJECT_DUPLICATES, &error);
	if (!root)
		fail_msg("%s at %d: %.*s", error.text, error.position, (int)out->len, out->data);
	group_set__free(&groups);
	return root;
}

static json_t *span_at(json_t *root, size_t group, size_t i)
{
	json_t *rs = json_array_get(json_object_get(root, "resourceSpans"), group);
	json_t *ss = json_array_get(json_object_get(rs, "scopeSpans"), 0);

	return json_array_get(json_object_get(ss, "spans"), i);
}

static const char *text_of(json_t *o, const char *key)
{
	const char *s = json_string_value(json_object_get(o, key));

	return s ? s : "(none)";
}

static json_t *value_at(json_t *span, size_t i)
{
	return json_object_get(json_array_get(json_object_get(span, "attributes"), i), "value");
}

static void exact_line(void **state)
{
	struct resource *r = make_resource("a");
	struct span *s = make_span(r, 0xee);
	struct batch b = { .spans = s, .n = 1 };
	struct group_set groups = { 0 };
	struct dynbuf out;
	static const char want[] =
		"{\"resourceSpans\":[{\"resource\":{\"attributes\":[{\"key\":\"service.name\",\"value\":{\"stringValue\":\"a\"}}]},"
		"\"scopeSpans\":[{\"scope\":{\"name\":\"wirespan\",\"version\":\"" WS_VERSION
		"\"},\"spans\":[{\"traceId\":"
		"\"abababababababababababababababab\",\"spanId\":\"eeeeeeeeeeeeeeee\",\"name\":\"GET /\",\"kind\":2,"
		"\"startTimeUnixNano\":\"1767225600000000000\",\"endTimeUnixNano\":\"1767225600000000001\",\"status\":{}}],"
		"\"schemaUrl\":\"" OTLP_SCHEMA_URL "\"}],\"schemaUrl\":\"" OTLP_SCHEMA_URL "\"}]}\n";

	dynbuf__init(&out, 1 << 20);
	assert_int_equal(otlp_json__encode(&groups, &b, &out), 0);
	assert_int_equal(out.len, sizeof(want) - 1);
	assert_memory_equal(out.data, want, out.len);
	group_set__free(&groups);
	dynbuf__free(&out);
	span__free(s);
	resource__put(r);
}

static void every_field(void **state)
{
	struct resource *r = make_resource("a");
	struct span *s = make_span(r, 1);
	struct batch b = { .spans = s, .n = 1 };
	struct attr nan_attr = { .key = "nan", .type = ATTR_DOUBLE, .d = NAN };
	struct attr inf = { .key = "inf", .type = ATTR_DOUBLE, .d = -INFINITY };
	struct attr tenth = { .key = "tenth", .type = ATTR_DOUBLE, .d = 0.1 };
	struct attr third = { .key = "third", .type = ATTR_DOUBLE, .d = 1.0 / 3 };
	struct attr no = attr__bool("no", false);
	struct dynbuf out;
	json_t *root, *p;

	memset(s->parent_id, 0x0f, sizeof(s->parent_id));
	s->trace_state = STR("a=1");
	s->flags = 0x301;
	s->status = SPAN_ERROR;
	s->status_message = STR("reset");
	s->dropped_attrs = 2;
	s->dropped_links = 3;
	span__add_link(s, s->trace_id, s->parent_id, 0x103);
	span__add_link(s, s->trace_id, s->span_id, 0);
	span__add_int(s, "min", INT64_MIN);
	span__add_int(s, "zero", 0);
	span__add(s, &no);
	span__add(s, &nan_attr);
	span__add(s, &inf);
	span__add(s, &tenth);
	span__add(s, &third);
	dynbuf__init(&out, 1 << 20);
	root = encode(&b, &out);
	p = span_at(root, 0, 0);
	assert_string_equal(text_of(p, "parentSpanId"), "0f0f0f0f0f0f0f0f");
	assert_string_equal(text_of(p, "traceState"), "a=1");
	assert_int_equal(json_integer_value(json_object_get(p, "flags")), 0x301);
	assert_int_equal(json_integer_value(json_object_get(p, "droppedAttributesCount")), 2);
	assert_int_equal(json_integer_value(json_object_get(p, "droppedLinksCount")), 3);
	assert_int_equal(json_array_size(json_object_get(p, "links")), 2);
	assert_string_equal(text_of(json_array_get(json_object_get(p, "links"), 0), "spanId"), "0f0f0f0f0f0f0f0f");
	assert_string_equal(text_of(json_array_get(json_object_get(p, "links"), 1), "traceId"), text_of(p, "traceId"));
	assert_int_equal(json_integer_value(json_object_get(json_array_get(json_object_get(p, "links"), 0), "flags")), 0x103);
	assert_int_equal(json_integer_value(json_object_get(json_object_get(p, "status"), "code")), 2);
	assert_string_equal(text_of(json_object_get(p, "status"), "message"), "reset");
	assert_string_equal(text_of(value_at(p, 0), "intValue"), "-9223372036854775808");
	assert_string_equal(text_of(value_at(p, 1), "intValue"), "0");
	assert_true(json_is_false(json_object_get(value_at(p, 2), "boolValue")));
	assert_string_equal(text_of(value_at(p, 3), "doubleValue"), "NaN");
	assert_string_equal(text_of(value_at(p, 4), "doubleValue"), "-Infinity");
	assert_true(json_real_value(json_object_get(value_at(p, 5), "doubleValue")) == 0.1);
	assert_true(json_real_value(json_object_get(value_at(p, 6), "doubleValue")) == 1.0 / 3);
	json_decref(root);
	dynbuf__free(&out);
	span__free(s);
	resource__put(r);
}

/* Every byte, alone and as part of text: the line is JSON, and what was UTF-8 comes back unchanged. */
static void every_byte(void **state)
{
	struct span *s = make_span(NULL, 1);
	struct batch b = { .spans = s, .n = 1 };
	struct dynbuf out;

	dynbuf__init(&out, 1 << 20);
	for (int c = 1; c < 256; c++) {
		char text[] = "x?\"\\/\xc3\xbc";
		json_t *root;
		const char *got;

		text[1] = (char)c;
		s->name = str__of(text);
		root = encode(&b, &out);
		got = text_of(span_at(root, 0, 0), "name");
		if (c < 0x80)
			assert_string_equal(got, text);
		else
			assert_string_equal(got, "x\xef\xbf\xbd\"\\/\xc3\xbc");
		json_decref(root);
	}
	span__free(s);
	dynbuf__free(&out);
}

static void groups(void **state)
{
	struct resource *a = make_resource("a"), *c = make_resource("c");
	struct span *s[] = { make_span(a, 1), make_span(c, 2), make_span(a, 3), make_span(NULL, 4) };
	struct batch b = { .spans = s[0], .n = 4 };
	struct dynbuf out;
	json_t *root;

	for (int i = 0; i < 3; i++)
		s[i]->next = s[i + 1];
	dynbuf__init(&out, 1 << 20);
	root = encode(&b, &out);
	assert_int_equal(json_array_size(json_object_get(root, "resourceSpans")), 3);
	assert_string_equal(text_of(span_at(root, 0, 1), "spanId"), "0303030303030303");
	assert_string_equal(text_of(span_at(root, 1, 0), "spanId"), "0202020202020202");
	assert_null(span_at(root, 1, 1));
	json_decref(root);
	dynbuf__free(&out);
	span__free_list(s[0]);
	resource__put(a);
	resource__put(c);
}

static void failures(void **state)
{
	struct span *s = make_span(NULL, 1);
	struct batch b = { .spans = s, .n = 1 };
	struct group_set set = { 0 };
	struct dynbuf out;
	long n;
	int err = -1;

	dynbuf__init(&out, 100);
	assert_int_equal(otlp_json__encode(&set, &b, &out), -E2BIG);
	dynbuf__free(&out);
	group_set__free(&set);
	dynbuf__init(&out, 1 << 20);
	for (n = 0; err && n < 50; n++) {
		mem__fail_after(n);
		err = otlp_json__encode(&set, &b, &out);
		mem__fail_after(-1);
		assert_true(err == 0 || err == -ENOMEM);
	}
	assert_in_range(n, 2, 49);
	group_set__free(&set);
	dynbuf__free(&out);
	span__free(s);
}

/* ---- the sink ------------------------------------------------------------------------------------ */

static const struct exporter_ops *sink = &exporter_json;

static void appends_to_a_file(void **state)
{
	char path[] = "/tmp/wirespan-test-XXXXXX", text[16384];
	int fd = mkstemp(path);
	struct span *s = make_span(NULL, 1);
	struct batch b = { .spans = s, .n = 1 };
	uint32_t rejected = 0;
	uint64_t wait = 0;
	ssize_t len;

	assert_int_equal(write(fd, "before\n", 7), 7);
	for (int i = 0; i < 2; i++) {
		struct exporter_opts o = { .kind = "json", .path = path };
		void *st;

		assert_int_equal(sink->open(&o, &st), 0);
		assert_int_equal(sink->send(st, &b, &rejected, &wait), EXPORT_OK);
		assert_null(sink->why(st));
		sink->close(st);
	}
	len = pread(fd, text, sizeof(text), 0);
	assert_memory_equal(text, "before\n{\"resourceSpans\"", 23);
	assert_int_equal(text[len - 1], '\n');
	close(fd);
	unlink(path);
	span__free(s);
}

static void closed_pipe_ends_the_program(void **state)
{
	struct exporter_opts o = { .kind = "json", .path = "-" };
	struct span *s = make_span(NULL, 1);
	struct batch b = { .spans = s, .n = 1 };
	int saved = dup(STDOUT_FILENO), ends[2];
	uint32_t rejected;
	uint64_t wait;
	void *st;
	enum export_result first, second;

	assert_int_equal(pipe(ends), 0);
	fflush(stdout);
	dup2(ends[1], STDOUT_FILENO);
	close(ends[1]);
	close(ends[0]);
	signal(SIGPIPE, SIG_IGN);
	assert_int_equal(sink->open(&o, &st), 0);
	first = sink->send(st, &b, &rejected, &wait);
	second = sink->send(st, &b, &rejected, &wait);
	dup2(saved, STDOUT_FILENO);
	close(saved);
	assert_int_equal(first, EXPORT_GONE);
	assert_int_equal(second, EXPORT_FAILED);
	assert_string_equal(sink->subject(st), "standard output");
	assert_string_equal(sink->why(st), "closed by its reader");
	sink->close(st);
	span__free(s);
}

static int gone_calls;

static void count_gone(void *ctx)
{
	__atomic_fetch_add((int *)ctx, 1, __ATOMIC_RELAXED);
}

/* A full disk, or what looks like one to write(2). */
static void file_that_cannot_grow(void **state)
{
	char path[] = "/tmp/wirespan-test-XXXXXX", text[8192];
	int fd = mkstemp(path);
	struct span *s = make_span(NULL, 1);
	struct batch b = { .spans = s, .n = 1 };
	struct exporter_opts o = { .kind = "json", .path = path };
	struct rlimit before, small;
	uint32_t rejected;
	uint64_t wait;
	struct stat st_buf;
	void *st;

	getrlimit(RLIMIT_FSIZE, &before);
	small = before;
	small.rlim_cur = 500; /* room for one line, not for two */
	signal(SIGXFSZ, SIG_IGN);
	assert_int_equal(sink->open(&o, &st), 0);
	assert_int_equal(sink->send(st, &b, &rejected, &wait), EXPORT_OK);
	fstat(fd, &st_buf);
	setrlimit(RLIMIT_FSIZE, &small);
	assert_int_equal(sink->send(st, &b, &rejected, &wait), EXPORT_FAILED);
	setrlimit(RLIMIT_FSIZE, &before);
	assert_string_equal(sink->why(st), "File too large");
	/* Nothing of the failed line remains, and the next one stands by itself. */
	assert_int_equal(sink->send(st, &b, &rejected, &wait), EXPORT_OK);
	assert_int_equal(pread(fd, text, sizeof(text), 0), st_buf.st_size * 2);
	assert_memory_equal(text, text + st_buf.st_size, st_buf.st_size);
	sink->close(st);
	close(fd);
	unlink(path);
	span__free(s);
}

static void gone_is_told_once(void **state)
{
	struct exporter_opts o = { .kind = "json", .path = "-", .gone = count_gone, .gone_ctx = &gone_calls };
	struct batch_queue *q = batch_queue__new(&(struct batch_opts){ .max_batch = 1 });
	int saved_out = dup(STDOUT_FILENO), saved_err = dup(STDERR_FILENO), ends[2];
	enum stats_stage bad;
	struct exporter *e;

	stats = (struct stats){ 0 };
	assert_int_equal(pipe(ends), 0);
	fflush(stdout);
	dup2(ends[1], STDOUT_FILENO);
	close(ends[1]);
	close(ends[0]);
	signal(SIGPIPE, SIG_DFL); /* the exporter thread must not die of it, whatever main does with it */
	freopen("/dev/null", "w", stderr);
	e = exporter__start(&o, q);
	for (int i = 0; i < 5; i++)
		batch_queue__push(q, make_span(NULL, 1), 0);
	batch_queue__close(q);
	exporter__stop(e, 2000 * MS);
	batch_queue__free(q);
	dup2(saved_out, STDOUT_FILENO);
	dup2(saved_err, STDERR_FILENO);
	close(saved_out);
	close(saved_err);
	assert_int_equal(gone_calls, 1);
	assert_int_equal(stats.rows[ST_EXPORT].dropped[DROP_WRITE_FAILED], 5);
	assert_true(stats__check(&stats, &bad));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(exact_line),
		cmocka_unit_test(every_field),
		cmocka_unit_test(every_byte),
		cmocka_unit_test(groups),
		cmocka_unit_test(failures),
		cmocka_unit_test(appends_to_a_file),
		cmocka_unit_test(file_that_cannot_grow),
		cmocka_unit_test(closed_pipe_ends_the_program),
		cmocka_unit_test(gone_is_told_once),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
