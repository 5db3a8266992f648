// SPDX-License-Identifier: Apache-2.0
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "user/base/arena.h"
#include "user/base/clock.h"
#include "user/base/dynbuf.h"
#include "user/base/log.h"
#include "user/base/mem.h"
#include "user/base/pool.h"
#include "user/base/recent.h"
#include "user/base/siphash.h"
#include "user/model/conn.h"
#include "user/model/span.h"
#include "user/model/stats.h"

static void test_mem_fails_once(void **state)
{
	void *a, *b, *c;

	mem__fail_after(1);
	a = mem__alloc(10);
	errno = 0;
	b = mem__alloc(10);
	assert_non_null(a);
	assert_null(b);
	assert_int_equal(errno, ENOMEM);
	c = mem__zalloc(10);
	assert_non_null(c);
	assert_int_equal(mem__count(), 3);
	mem__free(a);
	mem__free(c);
	mem__fail_after(-1);
}

static void test_arena_pieces(void **state)
{
	char lent[128];
	struct arena a;
	char *p, *big;

	arena__init(&a, 0);
	arena__lend(&a, lent + 1, sizeof(lent) - 1);
	p = arena__alloc(&a, 3);
	assert_true(p >= lent && p < lent + sizeof(lent));
	assert_int_equal((uintptr_t)p % 8, 0);
	assert_int_equal(a.bytes, 0);
	big = arena__alloc(&a, 200000);
	memset(big, 1, 200000);
	assert_true(a.bytes >= 200000);
	for (int i = 0; i < 5000; i++) {
		p = arena__alloc(&a, (size_t)i % 97);
		assert_int_equal((uintptr_t)p % 8, 0);
		memset(p, 0xff, (size_t)i % 97);
	}
	arena__free(&a);
	assert_int_equal(a.bytes, 0);
	assert_string_equal(arena__dup(&a, STR("again")).p, "again");
	arena__free(&a);
}

static void test_arena_limit(void **state)
{
	struct arena a;
	size_t got = 0;

	arena__init(&a, 10000);
	while (arena__alloc(&a, 100))
		got += 104;
	assert_int_equal(errno, ENOMEM);
	assert_true(a.bytes <= 10000);
	assert_true(got > 8000);
	assert_null(arena__alloc(&a, SIZE_MAX - 3));
	arena__free(&a);
	mem__fail_after(0);
	assert_null(arena__dup(&a, STR("x")).p);
	mem__fail_after(-1);
}

static void test_dynbuf(void **state)
{
	struct dynbuf b;
	char big[600];

	dynbuf__init(&b, 1000);
	memset(big, 'x', sizeof(big) - 1);
	big[sizeof(big) - 1] = 0;
	assert_int_equal(dynbuf__append_str(&b, "abc"), 0);
	assert_int_equal(dynbuf__printf(&b, "%d-%s", 7, big), 0);
	assert_int_equal(b.len, 3 + 2 + 599);
	assert_memory_equal(b.data, "abc7-xxx", 8);
	assert_int_equal(dynbuf__append(&b, big, 599), -E2BIG);
	assert_int_equal(b.len, 604);
	dynbuf__consume(&b, 3);
	assert_memory_equal(b.data, "7-x", 3);
	dynbuf__consume(&b, 10000);
	assert_int_equal(b.len, 0);
	dynbuf__free(&b);
	mem__fail_after(0);
	assert_int_equal(dynbuf__append_str(&b, "x"), -ENOMEM);
	mem__fail_after(0);
	assert_int_equal(dynbuf__printf(&b, "%s", big), -ENOMEM);
	assert_int_equal(b.len, 0);
	mem__fail_after(-1);
	dynbuf__free(&b);
}

/* Vectors of the SipHash paper, appendix A, and of its reference implementation. */
static void test_siphash_vectors(void **state)
{
	static const uint64_t want[] = { 0x726fdb47dd0e0e31ull, 0x74f839c593dc67fdull, 0x0d6c8009d9a94f5aull,
					 0x85676696d7fb7e2dull };
	struct siphash_key key = { 0x0706050403020100ull, 0x0f0e0d0c0b0a0908ull };
	uint8_t in[64];
	uint64_t a, b, c;

	for (int i = 0; i < 64; i++)
		in[i] = (uint8_t)i;
	for (size_t i = 0; i < 4; i++)
		assert_int_equal(siphash__bytes(&key, in, i), want[i]);
	assert_int_equal(siphash__bytes(&key, in, 15), 0xa129ca6149be45e5ull);
	memcpy(&a, in, 8);
	memcpy(&b, in + 8, 8);
	memcpy(&c, in + 16, 8);
	assert_int_equal(siphash__u64x3(&key, a, b, c), siphash__bytes(&key, in, 24));
}

static void test_clock(void **state)
{
	uint64_t a = clock__mono_ns(), b = clock__mono_ns();
	int64_t diff = (int64_t)(clock__wall_ns() - clock__mono_ns()) - clock__wall_offset();

	assert_true(b >= a);
	assert_true(diff < 1000000000 && diff > -1000000000);
}

static size_t read_log(int fd, char *buf, size_t size)
{
	ssize_t n = read(fd, buf, size - 1);

	buf[n > 0 ? n : 0] = 0;
	return n > 0 ? (size_t)n : 0;
}

static void test_log(void **state)
{
	struct log_limit lim = { 0 };
	int fds[2], saved = dup(STDERR_FILENO);
	char buf[4096], big[4000];

	memset(big, 'y', sizeof(big) - 1);
	big[sizeof(big) - 1] = 0;
	assert_int_equal(pipe2(fds, O_NONBLOCK), 0);
	dup2(fds[1], STDERR_FILENO);
	errno = EPERM;
	log_error("thing %s: %m", "a\nb\033[2J");
	assert_int_equal(errno, EPERM);
	read_log(fds[0], buf, sizeof(buf));
	assert_string_equal(buf, "wirespan: thing a?b?[2J: Operation not permitted\n");
	log_debug("not shown");
	for (int i = 0; i < 5; i++)
		log__limited(&lim, LOG_LVL_WARN, "again");
	read_log(fds[0], buf, sizeof(buf));
	assert_string_equal(buf, "wirespan: again\n");
	lim.next_ns = 0; /* a minute later */
	log__limited(&lim, LOG_LVL_WARN, "again");
	read_log(fds[0], buf, sizeof(buf));
	assert_string_equal(buf, "wirespan: again (4 more)\n");
	log_error("%s", big);
	assert_true(read_log(fds[0], buf, sizeof(buf)) < 2100);
	assert_int_equal(buf[strlen(buf) - 1], '\n');
	dup2(saved, STDERR_FILENO);
	close(saved);
	close(fds[0]);
	close(fds[1]);
}

static void test_conn_addr(void **state)
{
	struct conn_addr a = { .ip = { [10] = 0xff, 0xff, 10, 0, 0, 1 } };
	char buf[WS_UNIX_PATH_MAX + 1];

	assert_int_equal(conn_addr__format(&a, buf, sizeof(buf)), 8);
	assert_string_equal(buf, "10.0.0.1");
	a = (struct conn_addr){ .ip = { [15] = 1 } };
	conn_addr__format(&a, buf, sizeof(buf));
	assert_string_equal(buf, "::1");
	assert_int_equal(conn_addr__format(&a, buf, 2), 0);
}

static void test_stats(void **state)
{
	struct stats st = { 0 };
	enum stats_stage bad = __ST_CNT;

	assert_true(stats__check(&st, &bad));
	st.rows[ST_MATCH].in = 10;
	st.rows[ST_MATCH].out = 6;
	st.rows[ST_MATCH].held = 1;
	st.rows[ST_MATCH].dropped[DROP_GAP] = 3;
	assert_true(stats__check(&st, &bad));
	st.rows[ST_MATCH].held = 2;
	assert_false(stats__check(&st, &bad));
	assert_int_equal(bad, ST_MATCH);
	st.rows[ST_MATCH].in = 8;
	st.rows[ST_MATCH].held = -1;
	assert_false(stats__check(&st, NULL));
	assert_string_equal(stats__stage_name(ST_KERNEL), "kernel");
	assert_string_equal(stats__reason_name(DROP_RING_FULL), "ring_full");
	assert_string_equal(stats__stage_unit(ST_MATCH), "exchanges");
	assert_null(stats__reason_hint(DROP_MALFORMED));
	assert_int_equal(stats__dropped(&st, ST_MATCH), 3);
}

static void test_pool(void **state)
{
	struct pool p = POOL_INIT(40, 2), q = POOL_INIT(40, 3);
	char *blocks[3];

	mem__fail_after(-1);
	for (int i = 0; i < 3; i++) {
		blocks[i] = pool__get(&p);
		assert_non_null(blocks[i]);
		memset(blocks[i], i, 40);
	}
	assert_int_equal(mem__count(), 3);
	for (int i = 0; i < 3; i++)
		pool__put(&p, blocks[i]); /* the third is one too many */
	pool__put(&p, NULL);
	assert_int_equal(p.n, 2);
	mem__fail_after(0);
	assert_null(pool__get(&p)); /* a kept block fails where an allocation would */
	assert_int_equal(errno, ENOMEM);
	assert_ptr_equal(pool__get(&p), blocks[1]);
	assert_ptr_equal(pool__get(&p), blocks[0]);
	memset(blocks[0], 1, 40);
	memset(blocks[1], 1, 40);
	assert_int_equal(p.n, 0);
	pool__put(&p, blocks[0]);
	pool__put(&p, blocks[1]);
	pool__move(&q, &p);
	assert_int_equal(q.n, 2);
	assert_int_equal(p.n, 0);
	pool__put(&p, mem__alloc(40));
	pool__move(&q, &p); /* in front of what is there */
	assert_int_equal(q.n, 3);
	pool__put(&p, mem__alloc(40));
	pool__move(&q, &p);
	assert_int_equal(p.n, 1); /* one too many */
	for (int i = 0; i < 3; i++)
		mem__free(pool__get(&q));
	assert_int_equal(q.n, 0);
	pool__move(&q, &q);
	pool__free(&p);
	assert_int_equal(p.n, 0);
	assert_null(p.first);
}

static void test_span_is_one_allocation(void **state)
{
	struct span *s;
	char key[18][40];

	mem__fail_after(-1);
	s = span__new();
	assert_non_null(s);
	for (int i = 0; i < 18; i++) {
		snprintf(key[i], sizeof(key[i]), "http.request.header.x%d", i);
		assert_int_equal(span__add_str(s, key[i], STR("a value of the usual length")), 0);
	}
	assert_int_equal(mem__count(), 1);
	assert_int_equal(s->bytes, 1536);
	assert_int_equal(s->n_attrs, 18);
	assert_true(str__eq(span__find(s, key[7])->s, STR("a value of the usual length")));
	assert_null(span__find(s, "none"));
	/* The last value of a key wins. */
	assert_int_equal(span__add_int(s, key[7], 5), 0);
	assert_int_equal(s->n_attrs, 18);
	assert_int_equal(span__find(s, key[7])->i, 5);
	span__free(s);
	span__free(NULL);
}

static void test_span_limits(void **state)
{
	static char keys[300][16];
	struct span *s = span__new();

	for (int i = 0; i < 300; i++) {
		snprintf(keys[i], sizeof(keys[i]), "k%d", i);
		span__add_int(s, keys[i], i);
	}
	assert_int_equal(s->n_attrs, 128);
	assert_int_equal(s->dropped_attrs, 172);
	assert_int_equal(span__find(s, "k127")->i, 127);
	assert_true(s->bytes > 1536 + 128 * sizeof(struct attr));
	span__free(s);

	span__set_limits(1, 3);
	s = span__new();
	span__add_str(s, "a", STR("h\xc3\xa9\xe2\x82\xacxyz")); /* h é € x y z */
	assert_true(str__eq(span__find(s, "a")->s, STR("h\xc3\xa9\xe2\x82\xac")));
	span__add_str(s, "a", STR("abc"));
	assert_true(str__eq(span__find(s, "a")->s, STR("abc")));
	span__add_int(s, "b", 1);
	assert_int_equal(s->dropped_attrs, 1);
	span__free(s);
	span__set_limits(128, 0);
}

/* Whether in one piece or one by one, a list ends up the same. */
static void test_span_add_list(void **state)
{
	static char long_value[4000];
	struct attr list[] = { attr__str("a", STR("1")), attr__int("b", 2), attr__str("http.route", STR_NULL),
			       attr__bool("c", true), attr__str("d", (struct str){ long_value, sizeof(long_value) }),
			       { .key = "not.counted", .type = ATTR_INT, .i = 7 } };
	size_t n = sizeof(list) / sizeof(list[0]);
	struct span *s;

	memset(long_value, 'v', sizeof(long_value));
	for (int with = 0; with < 2; with++) {
		s = span__new();
		if (with) /* not the first any more: one by one */
			span__add_int(s, "b", 1);
		span__add_list(s, list, n);
		assert_int_equal(s->n_attrs, n);
		assert_int_equal(s->dropped_attrs, 0);
		assert_true(s->bytes > 1536 + sizeof(long_value));
		for (size_t i = 0; i < n; i++) {
			const struct attr *a = span__find(s, list[i].key);

			assert_non_null(a);
			assert_int_equal(a->key_len, strlen(list[i].key));
			assert_int_equal(a->type, list[i].type);
			if (a->type == ATTR_STR) {
				assert_true(str__eq(a->s, list[i].s));
				assert_ptr_not_equal(a->s.p, list[i].s.p);
				assert_int_equal(a->s.p[a->s.len], '\0');
			}
		}
		span__add_int(s, "http.route", 3); /* found although it came in a list */
		assert_int_equal(s->n_attrs, n);
		assert_int_equal(span__find(s, "http.route")->i, 3);
		span__free(s);
	}
	s = span__new();
	mem__fail_after(0);
	span__add_list(s, list, n); /* the piece for all fails, then one by one it goes */
	mem__fail_after(-1);
	assert_int_equal(s->n_attrs, n);
	assert_int_equal(s->dropped_attrs, 0);
	span__free(s);
}

static void test_span_add_list_limits(void **state)
{
	static char keys[40][16];
	struct attr many[40], text = attr__str("d", STR("vvv"));
	struct span *s;

	for (int i = 0; i < 40; i++) {
		snprintf(keys[i], sizeof(keys[i]), "k%d", i);
		many[i] = attr__int(keys[i], i);
	}
	span__set_limits(30, 0);
	s = span__new();
	span__add_list(s, many, 40); /* more than fit in the block, and more than are allowed */
	assert_int_equal(s->n_attrs, 30);
	assert_int_equal(s->dropped_attrs, 10);
	span__free(s);
	span__set_limits(128, 2);
	many[5] = text;
	s = span__new();
	span__add_list(s, many, 10);
	assert_int_equal(s->n_attrs, 10);
	assert_int_equal(span__find(s, "d")->s.len, 2);
	span__free(s);
	span__set_limits(128, 0);
}

static void test_span_without_memory(void **state)
{
	static char keys[60][16];
	char big[3000];

	memset(big, 'x', sizeof(big));
	for (int i = 0; i < 60; i++)
		snprintf(keys[i], sizeof(keys[i]), "k%d", i);
	for (long n = 0; n < 5; n++) {
		struct span *s;
		uint32_t added = 0;

		mem__fail_after(n);
		s = span__new();
		if (!s) {
			assert_int_equal(n, 0);
			assert_int_equal(errno, ENOMEM);
			continue;
		}
		for (int i = 0; i < 60; i++)
			added += span__add_str(s, keys[i], (struct str){ big, i % 2 ? 3 : sizeof(big) }) == 0;
		assert_int_equal(s->n_attrs, added);
		assert_int_equal(s->dropped_attrs, 60 - added);
		assert_true(added >= 58);
		span__free(s);
	}
	mem__fail_after(-1);
}

static struct resource *make_resource(const char *const *kv, int n)
{
	struct resource *r = resource__new();

	for (int i = 0; r && i < n; i++) {
		struct attr a = attr__str(kv[2 * i], str__of(kv[2 * i + 1]));

		if (resource__add(r, &a)) {
			resource__put(r);
			return NULL;
		}
	}
	if (r)
		resource__seal(r);
	return r;
}

static void test_resource(void **state)
{
	static const char *const one[] = { "service.name", "a", "host.name", "b" };
	static const char *const two[] = { "host.name", "b", "service.name", "a" };
	static const char *const other[] = { "host.name", "a", "service.name", "b" };
	struct resource *a = make_resource(one, 2), *b = make_resource(two, 2), *c = make_resource(other, 2);
	struct attr again = attr__str("service.name", STR("z"));
	struct span *s = span__new();

	assert_int_equal(a->hash, b->hash);
	assert_int_not_equal(a->hash, c->hash);
	assert_true(str__eq(a->service_name, STR("a")));
	resource__add(b, &again);
	assert_int_equal(b->n_attrs, 2);
	assert_true(str__eq(b->service_name, STR("z")));
	s->res = resource__get(a);
	resource__put(a);
	assert_int_equal(a->refs, 1);
	span__free_list(s);
	resource__put(b);
	resource__put(c);
	resource__put(NULL);
}

static void test_resource_without_memory(void **state)
{
	static char text[40][2][16];
	const char *kv[80];
	struct resource *r = NULL;
	long n;

	for (int i = 0; i < 40; i++) {
		snprintf(text[i][0], 16, "k%d", i);
		snprintf(text[i][1], 16, "v%d", i);
		kv[2 * i] = text[i][0];
		kv[2 * i + 1] = text[i][1];
	}
	for (n = 0; !r && n < 100; n++) {
		mem__fail_after(n);
		r = make_resource(kv, 40);
	}
	assert_non_null(r);
	assert_true(n > 2);
	assert_int_equal(r->n_attrs, 40);
	resource__put(r);
	mem__fail_after(-1);
}

/* Kept for one period at least and two at the most, and without memory always. */
static void test_recent(void **state)
{
	static const struct recent_size size = { .bits = 4096, .period = 100 };
	struct recent r = { 0 };
	int others = 0;

	assert_false(recent__has(&r, &size, 1ull << 33 | 7, 0));
	for (uint64_t i = 1; i <= 64; i++)
		recent__add(&r, &size, i * 0x9E3779B97F4A7C15ull, 10);
	for (uint64_t i = 1; i <= 64; i++)
		assert_true(recent__has(&r, &size, i * 0x9E3779B97F4A7C15ull, 109));
	for (uint64_t i = 65; i <= 1064; i++)
		others += recent__has(&r, &size, i * 0x9E3779B97F4A7C15ull, 109);
	assert_true(others < 20);
	assert_true(recent__has(&r, &size, 0x9E3779B97F4A7C15ull, 110)); /* the old one now */
	recent__add(&r, &size, 5, 120);
	assert_true(recent__has(&r, &size, 0x9E3779B97F4A7C15ull, 209));
	assert_false(recent__has(&r, &size, 0x9E3779B97F4A7C15ull, 210));
	assert_true(recent__has(&r, &size, 5, 210));
	assert_false(recent__has(&r, &size, 5, 1000)); /* nobody has asked for a long time */
	recent__free(&r);
	for (int fail = 0; fail < 2; fail++) {
		mem__fail_after(fail);
		recent__add(&r, &size, 1, 0);
		mem__fail_after(-1);
		assert_true(recent__has(&r, &size, 2, 0));
		recent__free(&r);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_recent),
		cmocka_unit_test(test_mem_fails_once),
		cmocka_unit_test(test_arena_pieces),
		cmocka_unit_test(test_arena_limit),
		cmocka_unit_test(test_dynbuf),
		cmocka_unit_test(test_siphash_vectors),
		cmocka_unit_test(test_clock),
		cmocka_unit_test(test_log),
		cmocka_unit_test(test_conn_addr),
		cmocka_unit_test(test_stats),
		cmocka_unit_test(test_pool),
		cmocka_unit_test(test_span_is_one_allocation),
		cmocka_unit_test(test_span_limits),
		cmocka_unit_test(test_span_add_list),
		cmocka_unit_test(test_span_add_list_limits),
		cmocka_unit_test(test_span_without_memory),
		cmocka_unit_test(test_resource),
		cmocka_unit_test(test_resource_without_memory),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
