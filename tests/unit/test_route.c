// SPDX-License-Identifier: Apache-2.0
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <cmocka.h>

#include "user/base/glob.h"
#include "user/base/mem.h"
#include "user/enrich/enrich.h"

static char buf[256];
static bool inferred;

static const char *look(struct route_table *t, const char *path, bool learn)
{
	size_t n;

	buf[0] = '?';
	n = route_table__find(t, str__of(path), learn, buf, sizeof(buf), &inferred);
	if (!n)
		return "";
	assert_int_equal(strlen(buf), n);
	return buf;
}

static const char *find(struct route_table *t, const char *path)
{
	return look(t, path, true);
}

static struct route_table *table(const char *patterns, uint32_t nodes, uint32_t fanout)
{
	struct route_opts o = { .patterns = patterns, .max_nodes = nodes, .fanout = fanout };
	struct route_table *t = route_table__new(&o);

	assert_non_null(t);
	return t;
}

static void test_shapes(void **state)
{
	static const char *const t[][2] = {
		{ "/", "/" },
		{ "/users", "/users" },
		{ "/users/", "/users/" },
		{ "/users/42", "/users/{id}" },
		{ "/users/42/", "/users/{id}/" },
		{ "/users/42/orders/7", "/users/{id}/orders/{id}" },
		{ "/api/v1/users", "/api/v1/users" },
		{ "/u/550e8400-e29b-41d4-a716-446655440000", "/u/{id}" },
		{ "/u/550E8400-E29B-41D4-A716-446655440000", "/u/{id}" },
		{ "/c/deadbeef1", "/c/{id}" },
		{ "/c/deadbeef", "/c/deadbeef" }, /* no digit: may be a word */
		{ "/c/5f2b8c1", "/c/5f2b8c1" },	  /* 7 digits: many-valued or not, time will tell */
		{ "/tx/0xdeadbeefcafe", "/tx/{id}" },
		{ "/d/2024-01-31", "/d/{id}" },
		{ "/d/2024-01-31T10:00:00Z", "/d/{id}" },
		{ "/at/48.85,2.35", "/at/{id}" },
		{ "/ip/10.0.0.1", "/ip/{id}" },
		{ "/t/dQw4w9WgXcQ", "/t/{id}" },
		{ "/t/01ARZ3NDEKTSV4RRFFQ69G5FAV", "/t/{id}" },
		{ "/t/a-very-long-title-of-an-article-that-somebody-has-written", "/t/{id}" },
		{ "/u/alice@example.com", "/u/{id}" },
		{ "/npm/@angular", "/npm/@angular" },
		{ "/caf%C3%A9", "/{id}" },
		{ "/x/\xc3\xa9", "/x/{id}" },
		{ "/x/<script>", "/x/{id}" },
		{ "/x/{id}", "/x/{id}" },
		{ "/x/a=b", "/x/{id}" },
		{ "/x/\x01", "/x/{id}" },
		{ "/shop;jsessionid=12345/cart", "/shop/cart" },
		{ "/static/app.js", "/static/app.js" },
		{ "/static/main.3f2a1b9c.js", "/static/main.3f2a1b9c.js" },
		{ "/img/logo.png", "/img/logo.png" },
		{ "/a/../b", "" },
		{ "/a/./b", "" },
		{ "////////", "" },
		{ "", "" },
		{ "users", "" },
		{ "*", "" },
		{ "/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a", "" }, /* 25 segments */
	};
	int bad = 0;

	for (size_t i = 0; i < sizeof(t) / sizeof(*t); i++) {
		struct route_table *r = table(NULL, 0, 0);
		const char *got = find(r, t[i][0]);

		if (strcmp(got, t[i][1]) != 0) {
			print_error("%s: got %s, want %s\n", t[i][0], got, t[i][1]);
			bad++;
		}
		route_table__free(r);
	}
	assert_int_equal(bad, 0);
}

static void test_patterns(void **state)
{
	struct route_table *t = table("/users/{id}, /shop/{*} ,/f/{name}.json,/a/{x}/b", 0, 0);

	assert_string_equal(find(t, "/users/alice"), "/users/{id}");
	assert_false(inferred);
	assert_string_equal(find(t, "/shop/a/b/c"), "/shop/{*}");
	assert_string_equal(find(t, "/f/x.json"), "/f/{name}.json");
	assert_string_equal(find(t, "/f/.json"), "/f/.json");
	assert_true(inferred);
	assert_string_equal(find(t, "/a/q/b"), "/a/{x}/b");
	assert_string_equal(find(t, "/a/q/c"), "/a/q/c");
	assert_string_equal(find(t, "/users/alice/x"), "/users/alice/x");
	assert_string_equal(find(t, "/shop/"), "/shop/");
	assert_string_equal(find(t, "/users/"), "/users/");
	route_table__free(t);
}

static void test_bad_patterns(void **state)
{
	static const char *const bad[] = { "users", "/a,b", "/{", "/}", "/{a}{b}", "/{{a}}", "/{*}/x", "/a}b{" };

	for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
		struct route_opts o = { .patterns = bad[i] };

		if (route_table__new(&o) || errno != EINVAL)
			fail_msg("%s was taken", bad[i]);
	}
}

static void test_fanout(void **state)
{
	static const char *const names[] = { "ann", "bob", "cem", "dan", "eve", "fay" };
	struct route_table *t = table(NULL, 0, 4);
	char path[64];

	for (int i = 0; i < 4; i++) {
		snprintf(path, sizeof(path), "/users/%s/orders", names[i]);
		assert_string_equal(find(t, path), path);
		snprintf(path, sizeof(path), "/users/%s/cart", names[i]);
		assert_string_equal(find(t, path), path);
	}
	assert_string_equal(find(t, "/users/eve/orders"), "/users/{id}/orders");
	assert_true(inferred);
	/* what was given before is more general now, and stays so */
	assert_string_equal(find(t, "/users/ann/orders"), "/users/{id}/orders");
	assert_string_equal(find(t, "/users/fay/cart"), "/users/{id}/cart");
	assert_string_equal(find(t, "/users"), "/users");
	assert_string_equal(find(t, "/users/"), "/users/");
	assert_string_equal(find(t, "/other/ann"), "/other/ann");
	route_table__free(t);
}

/* Requests that found nothing: named by what is known, and nothing is learnt from them. */
static void test_not_learnt(void **state)
{
	struct route_table *t = table("/p/{x}", 0, 3);
	char path[64];

	assert_string_equal(look(t, "/users/1/orders", false), "");
	assert_string_equal(find(t, "/users/1/orders"), "/users/{id}/orders");
	for (int i = 0; i < 26 * 26; i++) {
		snprintf(path, sizeof(path), "/scan%c%c", 'a' + i % 26, 'a' + i / 26);
		assert_string_equal(look(t, path, false), "");
		snprintf(path, sizeof(path), "/users/%c%c/orders", 'a' + i % 26, 'a' + i / 26);
		assert_string_equal(look(t, path, false), "");
	}
	assert_string_equal(find(t, "/users/2/orders"), "/users/{id}/orders");
	assert_string_equal(look(t, "/users/3/orders", false), "/users/{id}/orders");
	assert_true(inferred);
	assert_string_equal(look(t, "/users/3", false), ""); /* a part of a path is none */
	assert_string_equal(look(t, "/users/3/cart", false), "");
	assert_string_equal(look(t, "/p/3", false), "/p/{x}");
	assert_false(inferred);

	for (char ch = 'a'; ch < 'e'; ch++) {
		snprintf(path, sizeof(path), "/many/%c/x", ch);
		find(t, path);
	}
	assert_string_equal(look(t, "/many/z/x", false), "/many/{id}/x");
	route_table__free(t);
}

/* Positions that had collapsed below one branch stay collapsed when the branches are merged. */
static void test_merge_keeps_collapsed(void **state)
{
	struct route_table *t = table(NULL, 0, 3);
	char path[64];

	for (int i = 0; i < 5; i++) {
		snprintf(path, sizeof(path), "/t/a/x/k%c", 'a' + i);
		find(t, path);
	}
	assert_string_equal(find(t, "/t/a/x/ka"), "/t/a/x/{id}");
	find(t, "/t/b/x/one");
	find(t, "/t/c/x/two");
	assert_string_equal(find(t, "/t/d/x/three"), "/t/{id}/x/{id}");
	assert_string_equal(find(t, "/t/b/x/one"), "/t/{id}/x/{id}");
	route_table__free(t);
}

static void test_bounds(void **state)
{
	struct route_table *t = table(NULL, 50, 20);
	char path[64];
	size_t none = 0;

	for (int i = 0; i < 1000; i++) {
		snprintf(path, sizeof(path), "/r%c/s%c/t%c", 'a' + i % 26, 'a' + i / 26 % 26, 'a' + i / 676);
		none += find(t, path)[0] == '\0';
	}
	assert_true(none > 0);
	assert_string_equal(find(t, "/ra/sa/ta"), "/ra/sa/ta");
	/* a buffer that is too small gives none, and nothing behind it is written */
	assert_int_equal(route_table__find(t, STR("/ra/sa/ta"), true, path, 9, &inferred), 0);
	assert_int_equal(route_table__find(t, STR("/ra/sa/ta"), true, path, 10, &inferred), 9);
	assert_int_equal(route_table__find(t, STR("/ra/sa/ta"), true, path, 0, &inferred), 0);
	route_table__free(t);
}

/* Number of templates for hostile paths: bounded by the nodes; a template never becomes more special. */
static void test_hostile(void **state)
{
	struct route_table *t = table("/p/{a}.x", 200, 6);
	uint32_t seed = 99;
	static const char alphabet[] = "//abcdefXYZ019.-%;=\x80\x01{}";

	for (int round = 0; round < 50000; round++) {
		size_t n = seed % 60;
		char *path = mem__alloc(n + 1), first[256];
		size_t a, b;

		path[0] = '/';
		for (size_t i = 1; i <= n; i++) {
			seed = seed * 1664525u + 1013904223u;
			path[i] = alphabet[(seed >> 16) % (sizeof(alphabet) - 1)];
		}
		seed = seed * 1664525u + 1013904223u;
		a = route_table__find(t, (struct str){ path, n + 1 }, true, first, sizeof(first), &inferred);
		b = route_table__find(t, (struct str){ path, n + 1 }, true, buf, sizeof(buf), &inferred);
		if (a) {
			assert_int_equal(a, b);
			assert_memory_equal(first, buf, a);
			for (size_t i = 0; i < a; i++)
				assert_true((unsigned char)first[i] > 0x20 && (unsigned char)first[i] < 0x7f);
		}
		mem__free(path);
	}
	route_table__free(t);
}

static void test_memory(void **state)
{
	struct route_opts o = { .patterns = "/x/{id}" };

	for (long k = 0;; k++) {
		struct route_table *t;

		mem__fail_after(k);
		t = route_table__new(&o);
		if (!t) {
			mem__fail_after(-1);
			assert_int_equal(errno, ENOMEM);
			assert_true(k < 10);
			continue;
		}
		find(t, "/a/b/5/c"); /* a failure here gives no template, the next look-up is whole again */
		mem__fail_after(-1);
		assert_string_equal(find(t, "/a/b/5/c"), "/a/b/{id}/c");
		route_table__free(t);
		if (k > 10)
			break;
	}
}

static void test_globs(void **state)
{
	static const struct {
		const char *pat, *text;
		bool yes;
	} t[] = {
		{ "/health", "/health", true },
		{ "/health", "/healthz", false },
		{ "/health*", "/healthz/x", true },
		{ "*", "", true },
		{ "*a*b", "xxaxxb", true },
		{ "*a*b", "xxaxxbc", false },
		{ "?", "", false },
		{ "[a-c]x", "bx", true },
		{ "[!a-c]x", "bx", false },
		{ "[]]", "]", true },
		{ "[", "[", true },
		{ "[a", "[a", true },
		{ "\\*", "*", true },
		{ "\\*", "x", false },
		{ "a\\", "a\\", true },
		{ "", "", true },
		{ "", "x", false },
	};

	for (size_t i = 0; i < sizeof(t) / sizeof(*t); i++) {
		if (glob__match(str__of(t[i].pat), str__of(t[i].text)) != t[i].yes)
			fail_msg("%s against %s", t[i].pat, t[i].text);
	}
	assert_true(glob__match_list("a, b* ,c", STR("bcd")));
	assert_false(glob__match_list(" , ,", STR("")));
	assert_false(glob__match_list(NULL, STR("x")));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_shapes),
		cmocka_unit_test(test_patterns),
		cmocka_unit_test(test_bad_patterns),
		cmocka_unit_test(test_fanout),
		cmocka_unit_test(test_not_learnt),
		cmocka_unit_test(test_merge_keeps_collapsed),
		cmocka_unit_test(test_bounds),
		cmocka_unit_test(test_hostile),
		cmocka_unit_test(test_memory),
		cmocka_unit_test(test_globs),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
