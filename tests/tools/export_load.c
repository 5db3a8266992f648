// SPDX-License-Identifier: Apache-2.0
/*
 * Runs batch queue and exporter alone, as the program does: pushes numbered spans, stops, prints the books as JSON.
 *
 *	export_load KIND ENDPOINT [NAME=VALUE…]
 *
 * KIND as in exporter_opts; ENDPOINT is the path for json. Names: spans, batch, gzip, headers, ca, cert, key,
 * timeout_ms, limit_ms. A span's number is in its span id, big-endian.
 */
#include <endian.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "exporter/exporter.h"
#include "user/base/clock.h"
#include "user/model/stats.h"

#define MS UINT64_C(1000000)

struct load {
	struct exporter_opts o;
	uint32_t spans, batch;
	uint64_t limit_ns;
};

static int set_option(struct load *l, char *text)
{
	char *value = strchr(text, '=');

	if (!value)
		return -1;
	*value++ = '\0';
	if (strcmp(text, "spans") == 0)
		l->spans = (uint32_t)strtoul(value, NULL, 10);
	else if (strcmp(text, "batch") == 0)
		l->batch = (uint32_t)strtoul(value, NULL, 10);
	else if (strcmp(text, "gzip") == 0)
		l->o.gzip = value[0] == '1';
	else if (strcmp(text, "headers") == 0)
		l->o.headers = value;
	else if (strcmp(text, "ca") == 0)
		l->o.ca_file = value;
	else if (strcmp(text, "cert") == 0)
		l->o.cert_file = value;
	else if (strcmp(text, "key") == 0)
		l->o.key_file = value;
	else if (strcmp(text, "timeout_ms") == 0)
		l->o.timeout_ns = strtoull(value, NULL, 10) * MS;
	else if (strcmp(text, "limit_ms") == 0)
		l->limit_ns = strtoull(value, NULL, 10) * MS;
	else
		return -1;
	return 0;
}

static struct span *make_span(struct resource *res, uint64_t number)
{
	struct span *s = span__new();
	uint64_t id = htobe64(number);

	if (!s)
		return NULL;
	memset(s->trace_id, 0x4b, sizeof(s->trace_id));
	memcpy(s->span_id, &id, sizeof(id));
	s->kind = SPAN_CLIENT;
	s->start_ns = clock__wall_ns();
	s->end_ns = s->start_ns + MS;
	s->name = span__dup(s, STR("GET /n\xc3\xbc\xff")); /* its last byte is not UTF-8 */
	span__add_int(s, "http.response.status_code", 200);
	span__add_str(s, "url.path", STR("/n"));
	s->res = resource__get(res);
	return s;
}

static void print_books(void)
{
	const struct stats_row *b = &stats.rows[ST_BATCH], *e = &stats.rows[ST_EXPORT];
	enum stats_stage bad;

	printf("{\"balanced\":%s,\"batch_in\":%" PRIu64 ",\"in\":%" PRIu64 ",\"out\":%" PRIu64 ",\"retries\":%" PRIu64,
	       stats__check(&stats, &bad) ? "true" : "false", b->in, e->in, e->out, stats.export_retries);
	for (int r = 0; r < __DROP_CNT; r++) {
		if (b->dropped[r] + e->dropped[r])
			printf(",\"%s\":%" PRIu64, stats__reason_name(r), b->dropped[r] + e->dropped[r]);
	}
	printf("}\n");
}

int main(int argc, char **argv)
{
	struct load l = { .o = { .timeout_ns = 5000 * MS, .retry_initial_ns = 20 * MS, .retry_max_ns = 100 * MS },
			  .spans = 100,
			  .batch = 40,
			  .limit_ns = 10000 * MS };
	struct attr service = attr__str("service.name", STR("load"));
	struct resource *res = resource__new();
	struct batch_queue *q;
	struct exporter *e;
	bool bad = argc < 3;

	for (int i = 3; i < argc; i++)
		bad |= set_option(&l, argv[i]) != 0;
	if (bad || !res) {
		fprintf(stderr, "usage: export_load KIND ENDPOINT [NAME=VALUE...]\n");
		return 2;
	}
	l.o.kind = argv[1];
	l.o.endpoint = l.o.path = argv[2];
	resource__add(res, &service);
	resource__seal(res);
	q = batch_queue__new(&(struct batch_opts){ .max_batch = l.batch, .schedule_delay_ns = 1000 * MS });
	e = q ? exporter__start(&l.o, q) : NULL;
	if (!e)
		return 1;
	for (uint64_t i = 1; i <= l.spans; i++) {
		struct span *s = make_span(res, i);

		if (!s)
			return 1;
		batch_queue__push(q, s, clock__mono_ns());
	}
	batch_queue__close(q);
	exporter__stop(e, l.limit_ns);
	batch_queue__free(q);
	resource__put(res);
	print_books();
	return 0;
}
