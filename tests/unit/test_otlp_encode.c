// SPDX-License-Identifier: Apache-2.0
/* What otlp_encode.c writes is read back by code that protoc-c generated from the official definitions. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <math.h>
#include <stdio.h>

#include "exporter/otlp_encode.h"
#include "user/base/utf8.h"
#include "opentelemetry/proto/collector/trace/v1/trace_service.pb-c.h"
#include "user/base/mem.h"

#define request_pb Opentelemetry__Proto__Collector__Trace__V1__ExportTraceServiceRequest
#define span_pb Opentelemetry__Proto__Trace__V1__Span
#define kv_pb Opentelemetry__Proto__Common__V1__KeyValue

static const struct otlp_encode_opts usual = { .scope_name = OTLP_SCOPE_NAME,
					       .scope_version = "1.2.3",
					       .schema_url = OTLP_SCHEMA_URL };

static struct resource *make_resource(const char *service)
{
	struct resource *r = resource__new();
	struct attr name = attr__str("service.name", str__of(service));

	assert_non_null(r);
	assert_int_equal(resource__add(r, &name), 0);
	resource__seal(r);
	return r;
}

static struct span *make_span(struct resource *r, uint8_t id, const char *name)
{
	struct span *s = span__new();

	assert_non_null(s);
	memset(s->trace_id, 0xa0 + id, sizeof(s->trace_id));
	memset(s->span_id, id, sizeof(s->span_id));
	s->kind = SPAN_SERVER;
	s->start_ns = 1767225600000000000ull;
	s->end_ns = s->start_ns + 1000000;
	s->name = span__dup(s, str__of(name));
	s->res = r ? resource__get(r) : NULL;
	return s;
}

static struct batch make_batch(struct span **spans, uint32_t n)
{
	struct batch b = { .spans = n ? spans[0] : NULL, .n = n };

	for (uint32_t i = 0; i + 1 < n; i++)
		spans[i]->next = spans[i + 1];
	return b;
}

static request_pb *decode(struct str bytes)
{
	request_pb *req = opentelemetry__proto__collector__trace__v1__export_trace_service_request__unpack(
		NULL, bytes.len, (const uint8_t *)bytes.p);

	assert_non_null(req);
	return req;
}

static void release(request_pb *req)
{
	opentelemetry__proto__collector__trace__v1__export_trace_service_request__free_unpacked(req, NULL);
}

/* Encodes, decodes, and checks that the generated code packs the same content into as many bytes: canonical form. */
static request_pb *round_trip(const struct batch *b)
{
	struct otlp_encoder *e = otlp_encoder__new(&usual);
	request_pb *req;
	struct str bytes;

	assert_int_equal(otlp_encoder__encode(e, b, &bytes), 0);
	req = decode(bytes);
	assert_int_equal(opentelemetry__proto__collector__trace__v1__export_trace_service_request__get_packed_size(req),
			 bytes.len);
	otlp_encoder__free(e);
	return req;
}

static void matches_reference_vector(void **state)
{
	/* One SERVER span "GET", parent b7ad6b7169203331, flags 0x101, 1 ms, ERROR; packed by protoc's own runtime. */
	static const char hex[] =
		"0a8e010a180a160a0c736572766963652e6e616d6512060a0464656d6f12720a030a0178126b0a104bf92f3577b34da6a3ce929d0e0e"
		"4736120800f067aa0ba902b72208b7ad6b71692033312a0347455430023900002a36fe9c97174140423936fe9c97174a200a19687474"
		"702e726573706f6e73652e7374617475735f636f6465120318f4037a021802850101010000";
	static const struct otlp_encode_opts o = { .scope_name = "x" };
	static const uint8_t trace[] = { 0x4b, 0xf9, 0x2f, 0x35, 0x77, 0xb3, 0x4d, 0xa6,
					 0xa3, 0xce, 0x92, 0x9d, 0x0e, 0x0e, 0x47, 0x36 };
	static const uint8_t id[] = { 0x00, 0xf0, 0x67, 0xaa, 0x0b, 0xa9, 0x02, 0xb7 };
	static const uint8_t parent[] = { 0xb7, 0xad, 0x6b, 0x71, 0x69, 0x20, 0x33, 0x31 };
	struct resource *r = make_resource("demo");
	struct span *s = make_span(r, 0, "GET");
	struct otlp_encoder *e = otlp_encoder__new(&o);
	struct batch b = make_batch(&s, 1);
	uint64_t start;
	struct str got;

	memcpy(s->trace_id, trace, sizeof(trace));
	memcpy(s->span_id, id, sizeof(id));
	memcpy(s->parent_id, parent, sizeof(parent));
	memcpy(&start, "\x00\x00\x2a\x36\xfe\x9c\x97\x17", sizeof(start));
	s->start_ns = start;
	s->end_ns = start + 1000000;
	s->flags = 0x101;
	s->status = SPAN_ERROR;
	span__add_int(s, "http.response.status_code", 500);
	assert_int_equal(otlp_encoder__encode(e, &b, &got), 0);
	assert_int_equal(got.len, 145);
	for (size_t i = 0; i < got.len; i++) {
		char two[3];

		snprintf(two, sizeof(two), "%02x", (uint8_t)got.p[i]);
		assert_memory_equal(two, hex + i * 2, 2);
	}
	otlp_encoder__free(e);
	span__free(s);
	resource__put(r);
}

static void every_field(void **state)
{
	struct resource *r = make_resource("shop");
	struct span *s = make_span(r, 7, "GET /users/{id}");
	struct attr d = { .key = "d", .type = ATTR_DOUBLE, .d = -0.125 };
	struct attr yes = attr__bool("yes", true), no = attr__bool("no", false);
	struct batch b = make_batch(&s, 1);
	request_pb *req;
	span_pb *p;

	memset(s->parent_id, 0x11, sizeof(s->parent_id));
	s->trace_state = span__dup(s, STR("a=1,b=2"));
	s->status = SPAN_ERROR;
	s->status_message = span__dup(s, STR("reset by peer"));
	s->flags = SPAN_FLAG_HAS_IS_REMOTE | SPAN_FLAG_IS_REMOTE | 3;
	s->dropped_attrs = 300;
	s->dropped_links = 7;
	for (uint32_t i = 0; i < 9; i++) /* their array grows */
		span__add_link(s, s->trace_id, i == 8 ? s->span_id : s->parent_id, 0x100 + i);
	span__add_str(s, "s", STR("value"));
	span__add_str(s, "empty", STR(""));
	span__add_int(s, "min", INT64_MIN);
	span__add_int(s, "max", INT64_MAX);
	span__add_int(s, "zero", 0);
	span__add(s, &yes);
	span__add(s, &no);
	span__add(s, &d);

	req = round_trip(&b);
	assert_int_equal(req->n_resource_spans, 1);
	assert_string_equal(req->resource_spans[0]->schema_url, OTLP_SCHEMA_URL);
	assert_int_equal(req->resource_spans[0]->resource->n_attributes, 1);
	assert_string_equal(req->resource_spans[0]->resource->attributes[0]->value->string_value, "shop");
	assert_int_equal(req->resource_spans[0]->n_scope_spans, 1);
	assert_string_equal(req->resource_spans[0]->scope_spans[0]->scope->name, "wirespan");
	assert_string_equal(req->resource_spans[0]->scope_spans[0]->scope->version, "1.2.3");
	assert_string_equal(req->resource_spans[0]->scope_spans[0]->schema_url, OTLP_SCHEMA_URL);
	assert_int_equal(req->resource_spans[0]->scope_spans[0]->n_spans, 1);
	p = req->resource_spans[0]->scope_spans[0]->spans[0];
	assert_int_equal(p->trace_id.len, 16);
	assert_memory_equal(p->trace_id.data, s->trace_id, 16);
	assert_int_equal(p->span_id.len, 8);
	assert_memory_equal(p->span_id.data, s->span_id, 8);
	assert_memory_equal(p->parent_span_id.data, s->parent_id, 8);
	assert_string_equal(p->trace_state, "a=1,b=2");
	assert_string_equal(p->name, "GET /users/{id}");
	assert_int_equal(p->kind, SPAN_SERVER);
	assert_int_equal(p->start_time_unix_nano, s->start_ns);
	assert_int_equal(p->end_time_unix_nano, s->end_ns);
	assert_int_equal(p->dropped_attributes_count, 300);
	assert_int_equal(p->dropped_links_count, 7);
	assert_int_equal(p->n_links, 9);
	assert_memory_equal(p->links[0]->trace_id.data, s->trace_id, 16);
	assert_memory_equal(p->links[0]->span_id.data, s->parent_id, 8);
	assert_memory_equal(p->links[8]->span_id.data, s->span_id, 8);
	assert_int_equal(p->links[8]->flags, 0x108);
	assert_int_equal(p->status->code, SPAN_ERROR);
	assert_string_equal(p->status->message, "reset by peer");
	assert_int_equal(p->flags, 0x303);
	assert_int_equal(p->n_attributes, 8);
	assert_string_equal(p->attributes[0]->key, "s");
	assert_string_equal(p->attributes[0]->value->string_value, "value");
	assert_int_equal(p->attributes[1]->value->value_case,
			 OPENTELEMETRY__PROTO__COMMON__V1__ANY_VALUE__VALUE_STRING_VALUE);
	assert_string_equal(p->attributes[1]->value->string_value, "");
	assert_true(p->attributes[2]->value->int_value == INT64_MIN);
	assert_true(p->attributes[3]->value->int_value == INT64_MAX);
	assert_int_equal(p->attributes[4]->value->value_case,
			 OPENTELEMETRY__PROTO__COMMON__V1__ANY_VALUE__VALUE_INT_VALUE);
	assert_true(p->attributes[5]->value->bool_value);
	assert_int_equal(p->attributes[6]->value->value_case,
			 OPENTELEMETRY__PROTO__COMMON__V1__ANY_VALUE__VALUE_BOOL_VALUE);
	assert_false(p->attributes[6]->value->bool_value);
	assert_true(p->attributes[7]->value->double_value == -0.125);
	release(req);
	span__free(s);
	resource__put(r);
}

static void root_omits_what_it_has_not(void **state)
{
	struct span *s = make_span(NULL, 1, "GET");
	struct batch b = make_batch(&s, 1);
	request_pb *req = round_trip(&b);
	span_pb *p = req->resource_spans[0]->scope_spans[0]->spans[0];

	assert_null(req->resource_spans[0]->resource);
	assert_int_equal(p->parent_span_id.len, 0);
	assert_null(p->status);
	assert_int_equal(p->flags, 0);
	assert_int_equal(p->n_attributes, 0);
	release(req);
	span__free(s);
}

static void groups_by_resource(void **state)
{
	/* Two objects with equal content are one resource; order of appearance and order of spans are kept. */
	struct resource *a = make_resource("a"), *a2 = make_resource("a"), *b = make_resource("b");
	struct span *s[] = { make_span(a, 1, "1"),    make_span(b, 2, "2"), make_span(a2, 3, "3"),
			     make_span(NULL, 4, "4"), make_span(b, 5, "5"), make_span(a, 6, "6") };
	struct batch batch = make_batch(s, 6);
	request_pb *req = round_trip(&batch);
	static const char *const want[] = { "136", "25", "4" };

	assert_int_equal(req->n_resource_spans, 3);
	for (size_t g = 0; g < 3; g++) {
		assert_int_equal(req->resource_spans[g]->n_scope_spans, 1);
		assert_int_equal(req->resource_spans[g]->scope_spans[0]->n_spans, strlen(want[g]));
		for (size_t i = 0; i < strlen(want[g]); i++)
			assert_int_equal(req->resource_spans[g]->scope_spans[0]->spans[i]->name[0], want[g][i]);
	}
	release(req);
	span__free_list(batch.spans);
	resource__put(a);
	resource__put(a2);
	resource__put(b);
}

static void many_resources(void **state)
{
	enum { N = 3000 };
	struct span *head = NULL, **link = &head;
	struct batch b = { .n = N };
	request_pb *req;

	for (int i = 0; i < N; i++) {
		char name[16];
		struct resource *r;

		snprintf(name, sizeof(name), "svc-%d", i % 1500);
		r = make_resource(name);
		*link = make_span(r, 1, name);
		link = &(*link)->next;
		resource__put(r);
	}
	b.spans = head;
	req = round_trip(&b);
	assert_int_equal(req->n_resource_spans, 1500);
	for (int i = 0; i < 1500; i++) {
		assert_int_equal(req->resource_spans[i]->scope_spans[0]->n_spans, 2);
		assert_string_equal(req->resource_spans[i]->scope_spans[0]->spans[1]->name,
				    req->resource_spans[i]->resource->attributes[0]->value->string_value);
	}
	release(req);
	span__free_list(head);
}

static void utf8_vectors(void **state)
{
	static const struct {
		const char *in, *out;
	} v[] = {
		{ "plain", "plain" },
		{ "gr\xc3\xbc\xc3\x9f dich", "gr\xc3\xbc\xc3\x9f dich" },
		{ "\xf0\x9f\x8e\x89", "\xf0\x9f\x8e\x89" },
		{ "\xf4\x8f\xbf\xbf\xee\x80\x80\xed\x9f\xbf", "\xf4\x8f\xbf\xbf\xee\x80\x80\xed\x9f\xbf" },
		{ "a\xff"
		  "b",
		  "a\xef\xbf\xbd"
		  "b" },
		{ "\xc0\xaf", "\xef\xbf\xbd\xef\xbf\xbd" },				    /* overlong '/' */
		{ "\xe0\x80\xaf", "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd" },		    /* overlong, three bytes */
		{ "\xed\xa0\x80", "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd" },		    /* surrogate */
		{ "\xf4\x90\x80\x80", "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd" }, /* U+110000 */
		{ "\xf5", "\xef\xbf\xbd" },
		{ "\xe2\x82", "\xef\xbf\xbd" }, /* cut at the end: one maximal subpart */
		{ "\xe2\x82"
		  "x",
		  "\xef\xbf\xbd"
		  "x" },
		{ "\xf0\x9f\x8e", "\xef\xbf\xbd" },
		{ "\x80\x80", "\xef\xbf\xbd\xef\xbf\xbd" },
		{ "12345678\xff", "12345678\xef\xbf\xbd" }, /* behind a word of ASCII */
		{ "", "" },
	};
	char out[64];

	for (size_t i = 0; i < sizeof(v) / sizeof(v[0]); i++) {
		struct str in = str__of(v[i].in);

		assert_int_equal(utf8__valid(in), strcmp(v[i].in, v[i].out) == 0);
		assert_int_equal(utf8__repaired_len(in), strlen(v[i].out));
		utf8__repair(in, out);
		assert_memory_equal(out, v[i].out, strlen(v[i].out));
		assert_true(utf8__valid(str__of(v[i].out)));
	}
	assert_true(utf8__valid((struct str){ "a\0b", 3 })); /* NUL is a character */
}

static void invalid_utf8_is_replaced(void **state)
{
	struct span *s = make_span(NULL, 1, "GET /\xff");
	struct batch b = make_batch(&s, 1);
	request_pb *req;

	span__add_str(s, "url.path", STR("/caf\xe9"));
	s->trace_state = span__dup(s, STR("\xc3"));
	s->status_message = span__dup(s, STR("\xed\xb0\x80"));
	req = round_trip(&b);
	assert_string_equal(req->resource_spans[0]->scope_spans[0]->spans[0]->name, "GET /" UTF8_REPLACEMENT);
	assert_string_equal(req->resource_spans[0]->scope_spans[0]->spans[0]->attributes[0]->value->string_value,
			    "/caf" UTF8_REPLACEMENT);
	assert_string_equal(req->resource_spans[0]->scope_spans[0]->spans[0]->trace_state, UTF8_REPLACEMENT);
	release(req);
	span__free(s);
}

static void lengths_of_every_width(void **state)
{
	/* Lengths that take one, two and three bytes, and the steps between them. */
	static const size_t lens[] = { 1, 100, 126, 127, 128, 129, 16383, 16384, 70000, 2097151, 2097152 };
	static char big[2097152];

	memset(big, 'x', sizeof(big));
	for (size_t i = 0; i < sizeof(lens) / sizeof(lens[0]); i++) {
		struct span *s = make_span(NULL, 1, "n");
		struct batch b = make_batch(&s, 1);
		request_pb *req;

		span__add_str(s, "k", (struct str){ big, lens[i] });
		req = round_trip(&b);
		assert_int_equal(
			strlen(req->resource_spans[0]->scope_spans[0]->spans[0]->attributes[0]->value->string_value),
			lens[i]);
		release(req);
		span__free(s);
	}
}

static void too_large(void **state)
{
	size_t size = (size_t)5 << 20;
	char *big = mem__alloc(size);
	struct span *s[14];
	struct batch b;
	struct str bytes;
	struct otlp_encoder *e = otlp_encoder__new(&usual);

	memset(big, 'x', size);
	for (int i = 0; i < 14; i++) {
		s[i] = make_span(NULL, 1, "n");
		s[i]->name = (struct str){ big, size };
	}
	b = make_batch(s, 14); /* 70 MiB */
	assert_int_equal(otlp_encoder__encode(e, &b, &bytes), -E2BIG);
	s[11]->next = NULL; /* 60 MiB */
	b.n = 12;
	assert_int_equal(otlp_encoder__encode(e, &b, &bytes), 0);
	assert_true(bytes.len > 12 * size);
	s[11]->next = s[12];
	span__free_list(s[0]);
	otlp_encoder__free(e);
	mem__free(big);
}

static void empty_batch(void **state)
{
	struct otlp_encoder *e = otlp_encoder__new(&usual);
	struct batch b = { 0 };
	struct str bytes;

	assert_int_equal(otlp_encoder__encode(e, &b, &bytes), 0);
	assert_int_equal(bytes.len, 0);
	otlp_encoder__free(e);
	otlp_encoder__free(NULL);
}

static void failed_allocations(void **state)
{
	struct resource *r = make_resource("a");
	struct span *s[600];
	struct batch b;
	struct str bytes;
	long n;

	for (int i = 0; i < 600; i++)
		s[i] = make_span(r, 1, "a name that makes the buffer grow a few times until everything is in it");
	b = make_batch(s, 600);
	for (n = 0; n < 100; n++) {
		struct otlp_encoder *e;
		int err;

		mem__fail_after(n);
		e = otlp_encoder__new(&usual);
		err = e ? otlp_encoder__encode(e, &b, &bytes) : -ENOMEM;
		mem__fail_after(-1);
		if (e && err) { /* usable again after a failure */
			assert_int_equal(otlp_encoder__encode(e, &b, &bytes), 0);
			release(decode(bytes));
		}
		otlp_encoder__free(e);
		if (!err)
			break;
		assert_int_equal(err, -ENOMEM);
	}
	assert_in_range(n, 6, 99);
	span__free_list(s[0]);
	resource__put(r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(matches_reference_vector),
		cmocka_unit_test(every_field),
		cmocka_unit_test(root_omits_what_it_has_not),
		cmocka_unit_test(groups_by_resource),
		cmocka_unit_test(many_resources),
		cmocka_unit_test(utf8_vectors),
		cmocka_unit_test(invalid_utf8_is_replaced),
		cmocka_unit_test(lengths_of_every_width),
		cmocka_unit_test(too_large),
		cmocka_unit_test(empty_batch),
		cmocka_unit_test(failed_allocations),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
