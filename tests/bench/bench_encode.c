// SPDX-License-Identifier: Apache-2.0
/*
 * What one span costs to encode: a batch of 512 HTTP server spans with 18 attributes each, of three services. The
 * encoder against the same batch as a tree of protobuf-c structs in an arena, packed; both must give the same bytes.
 *
 *	bench_encode [ROUNDS]
 */
#include <stdio.h>
#include <stdlib.h>

#include "exporter/otlp_encode.h"
#include "opentelemetry/proto/collector/trace/v1/trace_service.pb-c.h"
#include "user/base/clock.h"
#include "user/base/mem.h"

#define SPANS 512
#define SERVICES 3
#define ROUNDS 400

#define REQUEST(x) Opentelemetry__Proto__Collector__Trace__V1__##x
#define TRACE(x) Opentelemetry__Proto__Trace__V1__##x
#define COMMON(x) Opentelemetry__Proto__Common__V1__##x

static struct resource *make_resource(int i)
{
	static const char *const keys[] = { "service.instance.id",
					    "process.executable.name",
					    "process.executable.path",
					    "process.command",
					    "host.name",
					    "host.id",
					    "host.arch",
					    "os.type",
					    "container.id",
					    "telemetry.sdk.name",
					    "telemetry.sdk.language",
					    "telemetry.sdk.version" };
	struct resource *r = resource__new();
	char name[32];
	struct attr a;

	snprintf(name, sizeof(name), "service-%d", i);
	a = attr__str("service.name", str__of(name));
	resource__add(r, &a);
	for (size_t k = 0; k < sizeof(keys) / sizeof(keys[0]); k++) {
		a = attr__str(keys[k], STR("4bf92f3577b34da6a3ce929d0e0e4736"));
		resource__add(r, &a);
	}
	a = attr__int("process.pid", 4711 + i);
	resource__add(r, &a);
	resource__seal(r);
	return r;
}

static struct span *make_span(struct resource *r, int i)
{
	struct span *s = span__new();

	memset(s->trace_id, 0x4b ^ i, 16);
	memset(s->span_id, 0x11 ^ i, 8);
	memset(s->parent_id, 0x12, 8);
	s->kind = SPAN_SERVER;
	s->flags = 0x103;
	s->start_ns = 1767225600000000000ull + i;
	s->end_ns = s->start_ns + 1234567;
	s->name = span__dup(s, STR("GET /users/{id}"));
	s->res = resource__get(r);
	span__add_str(s, "http.request.method", STR("GET"));
	span__add_int(s, "http.response.status_code", 200);
	span__add_str(s, "url.path", STR("/users/1234567/orders"));
	span__add_str(s, "url.query", STR("limit=20&sort=date"));
	span__add_str(s, "url.scheme", STR("http"));
	span__add_str(s, "http.route", STR("/users/{id}/orders"));
	span__add_str(s, "server.address", STR("shop.example.com"));
	span__add_int(s, "server.port", 8080);
	span__add_str(s, "client.address", STR("10.244.3.17"));
	span__add_int(s, "client.port", 51234);
	span__add_str(s, "network.peer.address", STR("10.244.3.17"));
	span__add_int(s, "network.peer.port", 51234);
	span__add_str(s, "network.protocol.name", STR("http"));
	span__add_str(s, "network.protocol.version", STR("1.1"));
	span__add_str(s, "user_agent.original",
		      STR("Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 Safari/537.36"));
	span__add_int(s, "http.response.body.size", 5120);
	span__add_str(s, "wirespan.parent.evidence", STR("join"));
	span__add(s, &(struct attr){ .key = "wirespan.route.inferred", .type = ATTR_BOOL, .b = true });
	return s;
}

/* ---- the protobuf-c way ------------------------------------------------------------------------ */

static COMMON(KeyValue) * *tree_attrs(struct arena *mem, const struct attr *attrs, size_t n)
{
	COMMON(KeyValue) **list = arena__alloc(mem, n * sizeof(*list));

	for (size_t i = 0; i < n; i++) {
		COMMON(KeyValue) *kv = arena__alloc(mem, sizeof(*kv));
		COMMON(AnyValue) *v = arena__alloc(mem, sizeof(*v));

		opentelemetry__proto__common__v1__key_value__init(kv);
		opentelemetry__proto__common__v1__any_value__init(v);
		kv->key = (char *)attrs[i].key;
		kv->value = v;
		if (attrs[i].type == ATTR_STR) {
			v->value_case = OPENTELEMETRY__PROTO__COMMON__V1__ANY_VALUE__VALUE_STRING_VALUE;
			v->string_value = (char *)attrs[i].s.p;
		} else if (attrs[i].type == ATTR_INT) {
			v->value_case = OPENTELEMETRY__PROTO__COMMON__V1__ANY_VALUE__VALUE_INT_VALUE;
			v->int_value = attrs[i].i;
		} else {
			v->value_case = OPENTELEMETRY__PROTO__COMMON__V1__ANY_VALUE__VALUE_BOOL_VALUE;
			v->bool_value = attrs[i].b;
		}
		list[i] = kv;
	}
	return list;
}

static TRACE(Span) * tree_span(struct arena *mem, struct span *s)
{
	TRACE(Span) *p = arena__alloc(mem, sizeof(*p));

	opentelemetry__proto__trace__v1__span__init(p);
	p->trace_id = (ProtobufCBinaryData){ 16, s->trace_id };
	p->span_id = (ProtobufCBinaryData){ 8, s->span_id };
	p->parent_span_id = (ProtobufCBinaryData){ 8, s->parent_id };
	p->name = (char *)s->name.p;
	p->kind = (TRACE(Span__SpanKind))s->kind;
	p->start_time_unix_nano = s->start_ns;
	p->end_time_unix_nano = s->end_ns;
	p->flags = s->flags;
	p->n_attributes = s->n_attrs;
	p->attributes = tree_attrs(mem, s->attrs, s->n_attrs);
	return p;
}

/* One resource after the other, found by a walk over the batch for each. Returns the packed length. */
static size_t encode_tree(const struct batch *b, struct resource **res, uint8_t *out)
{
	REQUEST(ExportTraceServiceRequest) req;
	TRACE(ResourceSpans) rs[SERVICES], *rs_list[SERVICES];
	TRACE(ScopeSpans) ss[SERVICES], *ss_list[SERVICES];
	Opentelemetry__Proto__Resource__V1__Resource resource[SERVICES];
	COMMON(InstrumentationScope) scope;
	struct arena mem;
	size_t len;

	arena__init(&mem, 0);
	opentelemetry__proto__collector__trace__v1__export_trace_service_request__init(&req);
	opentelemetry__proto__common__v1__instrumentation_scope__init(&scope);
	scope.name = OTLP_SCOPE_NAME;
	scope.version = "0";
	for (int g = 0; g < SERVICES; g++) {
		opentelemetry__proto__trace__v1__resource_spans__init(&rs[g]);
		opentelemetry__proto__trace__v1__scope_spans__init(&ss[g]);
		opentelemetry__proto__resource__v1__resource__init(&resource[g]);
		resource[g].n_attributes = res[g]->n_attrs;
		resource[g].attributes = tree_attrs(&mem, res[g]->attrs, res[g]->n_attrs);
		ss[g].scope = &scope;
		ss[g].schema_url = rs[g].schema_url = OTLP_SCHEMA_URL;
		ss[g].spans = arena__alloc(&mem, b->n * sizeof(*ss[g].spans));
		for (struct span *s = b->spans; s; s = s->next) {
			if (s->res == res[g])
				ss[g].spans[ss[g].n_spans++] = tree_span(&mem, s);
		}
		ss_list[g] = &ss[g];
		rs_list[g] = &rs[g];
		rs[g].resource = &resource[g];
		rs[g].scope_spans = &ss_list[g];
		rs[g].n_scope_spans = 1;
	}
	req.resource_spans = rs_list;
	req.n_resource_spans = SERVICES;
	/* The size must be known for the buffer, as it would be in production. */
	len = opentelemetry__proto__collector__trace__v1__export_trace_service_request__get_packed_size(&req);
	opentelemetry__proto__collector__trace__v1__export_trace_service_request__pack(&req, out);
	arena__free(&mem);
	return len;
}

int main(int argc, char **argv)
{
	struct otlp_encode_opts o = { .scope_name = OTLP_SCOPE_NAME,
				      .scope_version = "0",
				      .schema_url = OTLP_SCHEMA_URL };
	int rounds = argc > 1 ? atoi(argv[1]) : ROUNDS;
	struct otlp_encoder *e = otlp_encoder__new(&o);
	struct batch b = { .n = SPANS };
	struct span **link = &b.spans;
	struct resource *res[SERVICES];
	uint8_t *packed;
	uint64_t start, direct_ns, tree_ns;
	struct str bytes = STR_NULL;
	size_t len = 0;

	if (rounds <= 0 || !e)
		return 2;
	for (int i = 0; i < SERVICES; i++)
		res[i] = make_resource(i);
	for (int i = 0; i < SPANS; i++, link = &(*link)->next)
		*link = make_span(res[i % SERVICES], i);
	if (otlp_encoder__encode(e, &b, &bytes))
		return 1;
	packed = mem__alloc(bytes.len * 2);
	if (encode_tree(&b, res, packed) != bytes.len || memcmp(packed, bytes.p, bytes.len) != 0) {
		fprintf(stderr, "bench_encode: the two encodings differ\n");
		return 1;
	}
	start = clock__mono_ns();
	for (int i = 0; i < rounds; i++)
		otlp_encoder__encode(e, &b, &bytes);
	direct_ns = clock__mono_ns() - start;
	start = clock__mono_ns();
	for (int i = 0; i < rounds; i++)
		len = encode_tree(&b, res, packed);
	tree_ns = clock__mono_ns() - start;
	printf("%zu bytes per span, 18 attributes\n", bytes.len / SPANS);
	printf("back to front      %7.3f us per span\n", direct_ns / 1e3 / rounds / SPANS);
	printf("protobuf-c structs %7.3f us per span\n", tree_ns / 1e3 / rounds / SPANS);
	span__free_list(b.spans);
	for (int i = 0; i < SERVICES; i++)
		resource__put(res[i]);
	mem__free(packed);
	otlp_encoder__free(e);
	return len == bytes.len ? 0 : 1;
}
