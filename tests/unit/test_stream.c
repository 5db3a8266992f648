// SPDX-License-Identifier: Apache-2.0
/* Connections: how they are met, forgotten and ended. */
#include "tests/unit/story.h"

#include "user/stream/stream.h"

static void serves(struct end *s, const char *path)
{
	reads(s, 1, path);
	answers(s, 1);
}

static int64_t status_of(const char *path)
{
	const struct attr *a = span__find(span_of(SPAN_SERVER, path), "http.response.status_code");

	return a ? a->i : 0;
}

/* More connections than the table holds: those that come back lose nothing but what is not told twice. */
static void test_evicted(void **state_)
{
	struct opts o = { .max_connections = 2 };
	struct end s[3];
	char path[32];

	start_opts(&o);
	for (int i = 0; i < 3; i++) {
		s[i] = make_end(PROC_A, WS_ROLE_SERVER, 80, (uint16_t)(40000 + i));
		announce(&s[i]);
	}
	assert_int_equal(stats.evicted, 1);
	for (int round = 0; round < 3; round++) {
		for (int i = 0; i < 3; i++) {
			snprintf(path, sizeof(path), "/%d/%d", round, i);
			serves(&s[i], path);
		}
	}
	assert_int_equal(stats.evicted, 1 + 9);
	end_story();
	assert_int_equal(t.n, 9);
	for (int round = 0; round < 3; round++) {
		for (int i = 0; i < 3; i++) {
			snprintf(path, sizeof(path), "/%d/%d", round, i);
			assert_int_equal(status_of(path), 200);
		}
	}
	assert_int_equal(stats__dropped(&stats, ST_PROTO), 0);
	end_test();
}

/* What is over makes room without a word. */
static void test_closed_is_not_evicted(void **state_)
{
	struct opts o = { .max_connections = 2 };
	struct end s;

	start_opts(&o);
	for (int i = 0; i < 10; i++) {
		s = make_end(PROC_A, WS_ROLE_SERVER, 80, (uint16_t)(40000 + i));
		announce(&s);
		serves(&s, "/");
		state(&s, WS_SS_CLOSED, 0);
	}
	assert_int_equal(stats.evicted, 0);
	end_story();
	assert_int_equal(t.n, 10);
	end_test();
}

/* A hole in a connection that was known from its beginning is one: nothing is taken for the answer behind it. */
static void test_first_answer_lost(void **state_)
{
	struct end s;

	start();
	s = make_end(PROC_A, WS_ROLE_SERVER, 80, 40000);
	announce(&s);
	reads(&s, 1, "/a");
	s.seq[WS_TX]++;
	answers(&s, 1);
	serves(&s, "/b");
	end_story();
	assert_null(span__find(span_of(SPAN_SERVER, "/a"), "http.response.status_code"));
	assert_int_equal(status_of("/b"), 200);
	end_test();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_evicted),
		cmocka_unit_test(test_closed_is_not_evicted),
		cmocka_unit_test(test_first_answer_lost),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
