// SPDX-License-Identifier: Apache-2.0
/* Both ends of a connection on one node: what is the same request, and what only looks like it. */
#include "tests/unit/story.h"

static void pair(struct end *c, struct end *s, uint16_t family)
{
	*c = make_end(PROC_A, WS_ROLE_CLIENT, family == AF_UNIX ? 0 : 50000, family == AF_UNIX ? 0 : 8080);
	*s = make_end(PROC_B, WS_ROLE_SERVER, family == AF_UNIX ? 0 : 8080, family == AF_UNIX ? 0 : 50000);
	c->family = s->family = family;
	if (family != AF_UNIX)
		return;
	c->pos[0] = c->pos[1] = s->pos[0] = s->pos[1] = 0;
	c->kaddr = s->peer = 0xc0;
	s->kaddr = c->peer = 0x50;
}

static void whole_request(struct end *c, struct end *s, const char *path)
{
	calls(c, 1, path, NULL);
	reads(s, 2, path);
	answers(s, 2);
	gets_answer(c, 1);
}

static void assert_not_joined(const char *path)
{
	assert_root(span_of(SPAN_CLIENT, path), NULL);
	assert_root(span_of(SPAN_SERVER, path), NULL);
}

/* The key fits by chance (reused ports and numbers), the request is another one. */
static void test_other_request(void **state_)
{
	static const struct {
		const char *sent, *read, *sent_path, *read_path;
	} v[] = {
		{ "GET /x HTTP/1.1\r\nHost: b\r\n\r\n", "GET /y HTTP/1.1\r\nHost: b\r\n\r\n", "/x", "/y" },
		{ "GET /x HTTP/1.1\r\nHost: b\r\n\r\n", "DELETE /x HTTP/1.1\r\nHost: b\r\n\r\n", "/x", "/x" },
	};

	for (size_t i = 0; i < sizeof(v) / sizeof(v[0]); i++) {
		struct end c, s;

		start();
		pair(&c, &s, AF_INET);
		announce(&c);
		announce(&s);
		data(&c, WS_TX, 1, v[i].sent, NULL);
		data(&s, WS_RX, 2, v[i].read, NULL);
		answers(&s, 2);
		assert_int_equal(stats.rows[ST_MATCH].out, 1); /* nor does it wait for a better one */
		gets_answer(&c, 1);
		end_story();
		assert_root(span_of(SPAN_CLIENT, v[i].sent_path), NULL);
		assert_root(span_of(SPAN_SERVER, v[i].read_path), NULL);
		end_test();
	}
}

/* TLS: plaintext is counted by each end for itself; a record begins at one place on the wire, and has one text. */
static void test_tls(void **state_)
{
	static const struct {
		struct end client, server;
		bool joined;
	} v[] = {
		{ { .tls = true, .wired = true, .wire = 77 }, { .tls = true, .wired = true, .wire = 77 }, true },
		{ { .tls = true, .wired = true, .wire = 77, .wire_into = 5 },
		  { .tls = true, .wired = true, .wire = 77, .wire_into = 5 }, true },
		{ { .tls = true, .wired = true, .wire = 77 }, { .tls = true, .wired = true, .wire = 78 }, false },
		{ { .tls = true, .wired = true, .wire = 77 }, { .tls = true, .wired = true, .wire = 77, .wire_into = 5 }, false },
		{ { .tls = true, .wired = true, .wire = 77 }, { .tls = true }, false },
		{ { .tls = true }, { .tls = true }, false },
		{ { .tls = true, .wired = true }, { .tls = false }, false }, /* the other end is in the clear, at the same number */
	};

	for (size_t i = 0; i < sizeof(v) / sizeof(v[0]); i++) {
		struct end c, s;

		start();
		pair(&c, &s, AF_INET);
		c.tls = v[i].client.tls;
		c.wired = v[i].client.wired;
		c.wire = v[i].client.wire;
		c.wire_into = v[i].client.wire_into;
		s.tls = v[i].server.tls;
		s.wired = v[i].server.wired;
		s.wire = v[i].server.wire;
		s.wire_into = v[i].server.wire_into;
		s.pos[WS_RX] = 1ull << 32; /* as it would be in the clear */
		c.pos[WS_TX] = 4711;
		announce(&c);
		announce(&s);
		whole_request(&c, &s, "/x");
		tick(2000);
		end_story();
		if (v[i].joined)
			assert_parent(span_of(SPAN_SERVER, "/x"), span_of(SPAN_CLIENT, "/x"), "join");
		else
			assert_not_joined("/x");
		end_test();
	}
}

/* Two pairs with the same addresses, ports and numbers, in two namespaces at the same time, that ask for the same. */
static void test_twins(void **state_)
{
	for (int differ = 0; differ < 2; differ++) {
		struct end c[2], s[2];

		start();
		for (int i = 0; i < 2; i++) {
			pair(&c[i], &s[i], AF_INET);
			c[i].tgid = 700 + (uint32_t)i;
			s[i].tgid = 710 + (uint32_t)i;
			c[i].loopback = s[i].loopback = 4026531840u + (uint32_t)(differ ? i : 0);
			announce(&c[i]);
			announce(&s[i]);
		}
		calls(&c[0], 1, "/x", NULL);
		calls(&c[1], 2, "/x", NULL);
		reads(&s[1], 3, "/x");
		reads(&s[0], 4, "/x");
		for (int i = 0; i < 2; i++) {
			answers(&s[i], 4 - (uint32_t)i);
			gets_answer(&c[i], 1 + (uint32_t)i);
		}
		end_story();
		assert_int_equal(t.n, 4);
		for (size_t i = 0; i < t.n; i++) {
			const struct span *x = t.spans[i];

			if (x->kind != SPAN_SERVER)
				continue;
			assert_int_equal(x->evidence != NULL, differ); /* in one namespace such twins cannot be */
			for (size_t k = 0; k < t.n && differ; k++)
				if (t.spans[k]->kind == SPAN_CLIENT)
					assert_int_equal(!memcmp(t.spans[k]->span_id, x->parent_id, 8),
							 t.spans[k]->tgid + 10 == x->tgid);
		}
		end_test();
	}
}

/* Found in the middle of its life, an end has missed some bytes: "the first byte seen" is not the same at both. */
static void test_unix_found(void **state_)
{
	enum { NONE, CLIENT, SERVER, BOTH };

	for (int which = NONE; which <= BOTH; which++) {
		struct end c, s;

		start();
		pair(&c, &s, AF_UNIX);
		c.found = which & CLIENT;
		s.found = which & SERVER;
		announce(&c);
		announce(&s);
		whole_request(&c, &s, "/u");
		end_story();
		if (which == NONE)
			assert_parent(span_of(SPAN_SERVER, "/u"), span_of(SPAN_CLIENT, "/u"), "join");
		else
			assert_not_joined("/u");
		end_test();
	}
}

/* AF_UNIX: which connection it is, is known by the server's end only. */
static void test_unix_other_end(void **state_)
{
	for (int unknown = 0; unknown < 2; unknown++) {
		struct end c, s;

		start();
		pair(&c, &s, AF_UNIX);
		c.peer = unknown ? 0 : 0x51;
		s.kaddr = unknown ? 0 : 0x50;
		announce(&c);
		announce(&s);
		whole_request(&c, &s, "/u");
		end_story();
		assert_not_joined("/u");
		end_test();
	}
}

/* Two threads write, or read, one connection at once: whose bytes are where is not known. */
static void test_ambiguous(void **state_)
{
	static const uint16_t families[] = { AF_INET, AF_UNIX };

	for (int i = 0; i < 4; i++) {
		struct end c, s;

		start();
		pair(&c, &s, families[i / 2]);
		announce(&c);
		announce(&s);
		whole_request(&c, &s, "/before");
		*(i % 2 ? &c.ambiguous : &s.ambiguous) = true;
		whole_request(&c, &s, "/during");
		c.ambiguous = s.ambiguous = false;
		whole_request(&c, &s, "/after"); /* positions stay doubtful */
		end_story();
		assert_parent(span_of(SPAN_SERVER, "/before"), span_of(SPAN_CLIENT, "/before"), "join");
		assert_not_joined("/during");
		assert_not_joined("/after");
		end_test();
	}
}

/* A count of bytes is no name that both ends share over TCP. */
static void test_without_sequence_numbers(void **state_)
{
	for (int which = 0; which < 2; which++) {
		struct end c, s;

		start();
		pair(&c, &s, AF_INET);
		*(which ? &c.no_seq : &s.no_seq) = true;
		announce(&c);
		announce(&s);
		whole_request(&c, &s, "/j");
		end_story();
		assert_not_joined("/j");
		end_test();
	}
}

/* Two clients with one key: the second one proves nothing, and does not displace the first. */
static void test_one_key_twice(void **state_)
{
	struct end c, c2, s;

	start();
	pair(&c, &s, AF_INET);
	pair(&c2, &s, AF_INET);
	announce(&c);
	announce(&c2);
	announce(&s);
	calls(&c, 1, "/first", NULL);
	calls(&c2, 1, "/second", NULL);
	reads(&s, 2, "/second");
	answers(&s, 2);
	gets_answer(&c, 1);
	gets_answer(&c2, 1);
	end_story();
	assert_root(span_of(SPAN_CLIENT, "/first"), NULL);
	assert_not_joined("/second");
	end_test();
}

/* A server span waits for the client's record only where that client is on this node, and not for ever. */
static void test_waits_for_local_clients(void **state_)
{
	enum { REMOTE, LOCAL, LOCAL_GONE };

	for (int client = REMOTE; client <= LOCAL_GONE; client++) {
		struct end c, s;

		start();
		pair(&c, &s, AF_INET);
		if (client != REMOTE)
			announce(&c);
		if (client == LOCAL_GONE) {
			state(&c, WS_SS_CLOSED, 0);
			tick(300);
		}
		announce(&s);
		reads(&s, 2, "/j");
		answers(&s, 2);
		assert_int_equal(stats.rows[ST_MATCH].out, client != LOCAL);
		assert_int_equal(stats.rows[ST_MATCH].held, client == LOCAL);
		tick(900);
		assert_int_equal(stats.rows[ST_MATCH].held, client == LOCAL);
		tick(200);
		assert_int_equal(stats.rows[ST_MATCH].held, 0);
		end_story();
		assert_root(span_of(SPAN_SERVER, "/j"), NULL);
		end_test();
	}
}

/* The client's record comes last, behind the answer, and is waited for. */
static void test_late_client(void **state_)
{
	struct end c, s;

	start();
	pair(&c, &s, AF_INET);
	announce(&c);
	announce(&s);
	reads(&s, 2, "/j");
	answers(&s, 2);
	tick(900);
	calls(&c, 1, "/j", NULL);
	gets_answer(&c, 1);
	end_story();
	assert_parent(span_of(SPAN_SERVER, "/j"), span_of(SPAN_CLIENT, "/j"), "join");
	assert_int_equal(span_of(SPAN_CLIENT, "/j")->start_ns, span_of(SPAN_SERVER, "/j")->start_ns);
	end_test();
}

/* AF_UNIX: what is read before it was written was other bytes; but a long write ends after much of it was read. */
static void test_unix_long_write(void **state_)
{
	static const struct {
		uint32_t sent;
		uint64_t later;
		bool joined;
	} v[] = { { 1000, 50, true }, { 1000, 400, false }, { 100000, 400, true }, { 100000, 1500, false } };

	for (size_t i = 0; i < sizeof(v) / sizeof(*v); i++) {
		char *sent = calloc(1, v[i].sent + 1);
		struct end c, s;
		int n;

		start();
		pair(&c, &s, AF_UNIX);
		announce(&c);
		announce(&s);
		memset(sent, 'x', v[i].sent);
		n = snprintf(sent, v[i].sent, "PUT /w HTTP/1.1\r\nHost: b\r\nContent-Length: 200000\r\n\r\n");
		data(&s, WS_RX, 2, sent, NULL);
		answers(&s, 2);
		tick(v[i].later);
		sent[n] = 'x';
		data(&c, WS_TX, 1, sent, NULL);
		gets_answer(&c, 1);
		end_story();
		if (v[i].joined)
			assert_parent(span_of(SPAN_SERVER, "/w"), span_of(SPAN_CLIENT, "/w"), "join");
		else
			assert_not_joined("/w");
		end_test();
		free(sent);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_other_request),
		cmocka_unit_test(test_tls),
		cmocka_unit_test(test_twins),
		cmocka_unit_test(test_unix_found),
		cmocka_unit_test(test_unix_other_end),
		cmocka_unit_test(test_ambiguous),
		cmocka_unit_test(test_without_sequence_numbers),
		cmocka_unit_test(test_one_key_twice),
		cmocka_unit_test(test_waits_for_local_clients),
		cmocka_unit_test(test_late_client),
		cmocka_unit_test(test_unix_long_write),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
