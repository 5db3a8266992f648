// SPDX-License-Identifier: Apache-2.0
/* Work that outlives its request: believed of the context that has answered it, and nothing else. */
#include "story.h"

#define OVER "its request was over"
#define OTHERS "its request was over, and others were open that it may be for"
#define ANSWERS_OTHERS "its context answers several requests"
#define ABANDONED "an abandoned request may still be running"

/* Reads a request; the token of the context, of that number, that was made for it. */
static struct ws_token request(struct end *e, const char *path, uint32_t context)
{
	struct ws_token tok = reads(e, 7, path);

	tok.kind = WS_TOK_CONTEXT;
	tok.context = context;
	return tok;
}

static void answered(struct end *e, const struct ws_token *tok)
{
	data(e, WS_TX, 7, OK200, tok);
}

static void call(struct end *c, const struct ws_token *tok)
{
	calls(c, 7, "/late", tok);
	gets_answer(c, 7);
}

/* Two connections to the service, and its own to another. */
static void service(struct end *s1, struct end *s2, struct end *c)
{
	start();
	front(s1, c);
	*s2 = another_front();
	s1->nonblock = s2->nonblock = c->nonblock = true;
}

static void assert_late(const char *why)
{
	end_story();
	if (why)
		assert_root(span_of(SPAN_CLIENT, "/late"), why);
	else
		assert_parent(span_of(SPAN_CLIENT, "/late"), span_of(SPAN_SERVER, "/one"), "context");
	end_test();
}

/* By the context that answered; by another one that the request made; where it is not known who answered. */
static void test_after(void **state_)
{
	const struct {
		uint32_t answers, calls;
		const char *why;
	} stories[] = { { 5, 5, NULL }, { 5, 6, OVER }, { 0, 5, OVER }, { 0, 0, OVER }, { 5, 0, OVER } };

	for (size_t i = 0; i < sizeof(stories) / sizeof(stories[0]); i++) {
		struct end s1, s2, c;
		struct ws_token tok;

		service(&s1, &s2, &c);
		tok = request(&s1, "/one", stories[i].answers);
		answered(&s1, &tok);
		tick(20);
		tok.context = stories[i].calls;
		call(&c, &tok);
		assert_late(stories[i].why);
	}
}

/* Its connection has brought another request by then. */
static void test_after_the_next(void **state_)
{
	struct ws_token one, two;
	struct end s1, s2, c;

	service(&s1, &s2, &c);
	one = request(&s1, "/one", 5);
	answered(&s1, &one);
	two = request(&s1, "/two", 6);
	answered(&s1, &two);
	call(&c, &one);
	assert_late(NULL);
}

/* While another request is open, which is then answered by its own context, or by this, or not at all, or too late. */
static void test_after_while_others_are_open(void **state_)
{
	enum { OWN, SAME, ABORTED, NEVER, BEFORE } how;

	for (how = OWN; how <= BEFORE; how++) {
		const char *why[] = { NULL, ANSWERS_OTHERS, ABANDONED, OTHERS, OVER };
		struct ws_token one, two;
		struct end s1, s2, c;

		service(&s1, &s2, &c);
		one = request(&s1, "/one", 5);
		two = request(&s2, "/two", 6);
		if (how == BEFORE) /* … who has answered another even before */
			answered(&s2, &one);
		answered(&s1, &one);
		call(&c, &one);
		tick(5000);
		collect();
		if (how != BEFORE)
			for (size_t i = 0; i < t.n; i++)
				assert_int_not_equal(t.spans[i]->kind, SPAN_CLIENT); /* waits */
		if (how == OWN)
			answered(&s2, &two);
		else if (how == SAME)
			answered(&s2, &one);
		else if (how == ABORTED)
			state(&s2, WS_SS_CLOSED, 0);
		else
			tick(6000);
		assert_late(why[how]);
	}
}

/* Kept for a minute, and as many as there is room for. */
static void test_after_long(void **state_)
{
	for (int seconds = 55; seconds < 70; seconds += 10) {
		struct end s1, s2, c;
		struct ws_token tok;

		service(&s1, &s2, &c);
		tok = request(&s1, "/one", 5);
		answered(&s1, &tok);
		tick(1000 * (uint64_t)seconds);
		call(&c, &tok);
		assert_late(seconds < 60 ? NULL : OVER);
	}
}

/* A task that waits for its connection, and serves what comes there. */
static void test_after_woken(void **state_)
{
	struct end s1, s2, c;
	struct ws_token tok;

	service(&s1, &s2, &c);
	tok = request(&s1, "/one", 5);
	tok.flags |= WS_TOKEN_WOKEN;
	answered(&s1, &tok);
	call(&c, &tok);
	assert_late(OVER);
}

static bool is_told(const char *path)
{
	collect();
	for (size_t i = 0; i < t.n; i++)
		if (t.spans[i]->kind == SPAN_CLIENT && str__eq(t.spans[i]->target, str__of(path)))
			return true;
	return false;
}

/* A read's own task, or one for everybody? Not known: it is told by whom else it answers, before or after its own. */
static void test_task_of_unknown_age(void **state_)
{
	enum { OWN, FIRST, LAST, NEVER } how;

	for (how = OWN; how <= NEVER; how++) {
		const char *why[] = { NULL, ANSWERS_OTHERS, ANSWERS_OTHERS, "others were open that it may be for" };
		struct ws_token one, two;
		struct end s1, s2, c;

		service(&s1, &s2, &c);
		two = request(&s2, "/two", 0);
		one = request(&s1, "/one", 0);
		one.flags |= WS_TOKEN_WOKEN | WS_TOKEN_UNSURE;
		one.by = 5;
		call(&c, &one);
		if (how == LAST)
			answered(&s2, &one);
		answered(&s1, &one);
		for (int i = 0; i < 5; i++)
			tick(1000);
		assert_true(how == LAST || !is_told("/late")); /* waits */
		if (how == OWN)
			answered(&s2, &two);
		else if (how == FIRST)
			answered(&s2, &one);
		else if (how == NEVER)
			tick(6000);
		assert_late(why[how]);
	}
}

/* A task of its own has served a connection to this server, from its one request to its end. */
static void served_by(uint32_t task, uint16_t port)
{
	struct end s = make_end(PROC_A, WS_ROLE_SERVER, port, 40001);
	struct ws_token tok;

	announce(&s);
	tok = request(&s, "/earlier", 0);
	tok.flags |= WS_TOKEN_WOKEN;
	tok.by = task;
	answered(&s, &tok);
	state(&s, WS_SS_CLOSED, 0);
}

/*
 * One that a read woke: its connection's own, as the others of this server are, or one that a connection was the first
 * to need? Once several have each served one it is believed at once, until one answers for two.
 */
static void test_tasks_of_their_own(void **state_)
{
	enum { MANY, FEW, SAME, GATHERS, ELSEWHERE } how;

	for (how = MANY; how <= ELSEWHERE; how++) {
		struct ws_token one, two;
		struct end s1, s2, c;

		service(&s1, &s2, &c);
		for (uint32_t i = 0; i < (how == FEW ? 2 : 6); i++)
			served_by(how == SAME ? 20 : 20 + i, how == ELSEWHERE ? 81 : 80);
		two = request(&s2, "/two", 0);
		if (how == GATHERS) {
			struct end s3 = another_front();
			struct ws_token three = request(&s3, "/three", 0);

			three.flags |= WS_TOKEN_WOKEN;
			three.by = 40;
			answered(&s2, &three);
			answered(&s3, &three);
			two = request(&s2, "/two-again", 0);
		}
		one = request(&s1, "/one", 0);
		one.flags |= WS_TOKEN_WOKEN;
		one.by = 5;
		call(&c, &one);
		answered(&s1, &one);
		for (int i = 0; i < 5; i++)
			tick(1000);
		assert_int_equal(is_told("/late"), how == MANY);
		answered(&s2, how == FEW || how == ELSEWHERE ? &one : &two);
		assert_late(how == FEW || how == ELSEWHERE ? ANSWERS_OTHERS : NULL);
	}
}

/* It is the connection's own, but answers elsewhere as well: what it calls then is not only that connection's. */
static void test_task_that_answers_elsewhere(void **state_)
{
	struct end s1, s2, c;
	struct ws_token one;

	service(&s1, &s2, &c);
	request(&s2, "/two", 0);
	one = request(&s1, "/one", 0);
	one.flags |= WS_TOKEN_WOKEN;
	one.by = 5;
	answered(&s2, &one);
	call(&c, &one);
	answered(&s1, &one);
	assert_late(ANSWERS_OTHERS);
}

/* The process ends while a call waits. */
static void test_after_exit(void **state_)
{
	struct ws_token one;
	struct end s1, s2, c;

	service(&s1, &s2, &c);
	one = request(&s1, "/one", 5);
	request(&s2, "/two", 6);
	answered(&s1, &one);
	call(&c, &one);
	proc(PROC_A, PROC_A, WS_PROC_EXIT);
	assert_late(OTHERS);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_after),
		cmocka_unit_test(test_after_the_next),
		cmocka_unit_test(test_after_while_others_are_open),
		cmocka_unit_test(test_after_long),
		cmocka_unit_test(test_after_woken),
		cmocka_unit_test(test_task_of_unknown_age),
		cmocka_unit_test(test_tasks_of_their_own),
		cmocka_unit_test(test_task_that_answers_elsewhere),
		cmocka_unit_test(test_after_exit),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
