// SPDX-License-Identifier: Apache-2.0
/* Runs tests/proto/NAME/ *.case for every row of the protocol table; the format is in tests/proto/README.md. */
#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>

#include <cmocka.h>

#include "tests/proto/check.h"
#include "user/base/mem.h"
#include "user/proto/http1.h"
#include "user/proto/proto.h"

#define STEPS_MAX 256
#define OUT_MAX (256 * 1024)
#define SPLIT_MAX 700 /* positions tried per transfer; what lies behind are bodies */

enum step_kind { STEP_DATA, STEP_SKIP, STEP_TAIL, STEP_EOF, STEP_WAIT };

struct step {
	enum step_kind kind;
	enum proto_dir dir;
	bool lost;
	int err;
	size_t len;
	uint8_t *data;
};

struct proto_case {
	char path[512];
	char *text;	/* the file */
	char *expected; /* in text, behind "---" */
	struct conn_info conn;
	struct http1_opts opts;
	bool attrs, whole;
	struct step steps[STEPS_MAX];
	size_t n_steps;
};

enum mode { MODE_WHOLE, MODE_BYTES, MODE_SPLIT };

struct run {
	const struct proto_case *c;
	struct conn_info conn;
	struct proto_check check;
	char *out;
	size_t len;
};

/* ---- what comes out ----------------------------------------------------------------------------------- */

static void say(struct run *r, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static void say(struct run *r, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	r->len += (size_t)vsnprintf(r->out + r->len, OUT_MAX - r->len, fmt, ap);
	va_end(ap);
	assert_true(r->len < OUT_MAX);
}

static void say_str(struct run *r, const char *key, struct str s)
{
	say(r, "%s=", key);
	for (size_t i = 0; i < s.len; i++) {
		unsigned char c = (unsigned char)s.p[i];

		if (c < 0x20 || c >= 0x7f || c == '\\')
			say(r, "\\x%02x", c);
		else
			say(r, "%c", c);
	}
}

static void say_context(struct run *r, const struct trace_context *ctx)
{
	if (!ctx->valid)
		return;
	say(r, " ctx=");
	for (int i = 0; i < 16; i++)
		say(r, "%02x", ctx->trace_id[i]);
	say(r, "-");
	for (int i = 0; i < 8; i++)
		say(r, "%02x", ctx->span_id[i]);
	say(r, "-%02x", ctx->flags);
	if (ctx->tracestate.len)
		say_str(r, " tracestate", ctx->tracestate);
}

static void say_request(struct run *r, const struct msg *m)
{
	say_str(r, " op", m->op);
	say_str(r, " target", m->target);
	if (m->peer.len)
		say_str(r, " peer", m->peer);
	if (m->route_key)
		say(r, " route=%s", m->route_key);
	say_context(r, &m->ctx);
}

static void on_msg(void *ctx, const struct msg *m)
{
	static const char *const names[] = { "request", "request-end", "response", "response-end", "abort" };
	struct run *r = ctx;

	proto_check__msg(&r->check, m);
	say(r, "%s %llu", names[m->kind], (unsigned long long)m->xid);
	if (m->kind != MSG_ABORT)
		say(r, " @%llu", (unsigned long long)m->pos);
	say(r, " t=%llu", (unsigned long long)m->ts_ns);
	if (m->kind == MSG_REQUEST)
		say_request(r, m);
	if (m->flags & MSG_TELEMETRY)
		say(r, " telemetry");
	if (m->flags & MSG_NO_TELEMETRY)
		say(r, " no-telemetry");
	if (m->status.len)
		say_str(r, " status", m->status);
	if (m->error_type)
		say(r, " error=%s", m->error_type);
	say(r, "\n");
	for (size_t i = 0; r->c->attrs && i < m->n_attrs; i++) {
		say(r, "  ");
		if (m->attrs[i].type == ATTR_INT)
			say(r, "%s=%lld", m->attrs[i].key, (long long)m->attrs[i].i);
		else
			say_str(r, m->attrs[i].key, m->attrs[i].s);
		say(r, "\n");
	}
}

static void on_hint(void *ctx, enum proto_dir dir, uint64_t from, uint64_t n)
{
	struct run *r = ctx;

	say(r, "hint %c @%llu ", dir == PROTO_REQUEST ? '>' : '<', (unsigned long long)from);
	if (n == UINT64_MAX)
		say(r, "all\n");
	else
		say(r, "%llu\n", (unsigned long long)n);
}

static void on_role(void *ctx, enum ws_role role)
{
	struct run *r = ctx;

	r->conn.role = role;
	say(r, "role %s\n", role == WS_ROLE_CLIENT ? "client" : "server");
}

static void on_stop(void *ctx)
{
	say(ctx, "stop\n");
}

static void say_books(struct run *r)
{
	const struct stats_row *row = &stats.rows[ST_PROTO];

	say(r, "books in=%llu out=%llu", (unsigned long long)row->in, (unsigned long long)row->out);
	for (int i = 0; i < __DROP_CNT; i++) {
		if (row->dropped[i])
			say(r, " %s=%llu", stats__reason_name(i), (unsigned long long)row->dropped[i]);
	}
	if (stats.gap_bytes)
		say(r, " gap-bytes=%llu", (unsigned long long)stats.gap_bytes);
	say(r, "\n");
}

/* ---- a run -------------------------------------------------------------------------------------------- */

/* From an allocation of exactly that size, which is gone afterwards. */
static void push_exact(struct proto_conn *p, enum ws_dir dir, const uint8_t *data, size_t len, uint64_t pos,
		       uint64_t ts)
{
	uint8_t *copy = malloc(len);

	memcpy(copy, data, len);
	proto_conn__push(p, dir, copy, len, pos, ts);
	free(copy);
}

static void push_step(struct proto_conn *p, enum ws_dir dir, const struct step *s, uint64_t pos, uint64_t ts,
		      enum mode mode, size_t cut)
{
	if (mode == MODE_BYTES) {
		for (size_t i = 0; i < s->len; i++)
			push_exact(p, dir, s->data + i, 1, pos + i, ts);
	} else if (mode == MODE_SPLIT && cut < s->len) {
		push_exact(p, dir, s->data, cut, pos, ts);
		push_exact(p, dir, s->data + cut, s->len - cut, pos + cut, ts);
	} else {
		push_exact(p, dir, s->data, s->len, pos, ts);
	}
}

/* Where the requests of this conversation go on the socket: what the role says, content may say otherwise. */
static enum ws_dir socket_dir(const struct proto_case *c, enum proto_dir dir)
{
	bool client = c->conn.role == WS_ROLE_CLIENT;

	return (dir == PROTO_REQUEST) == client ? WS_TX : WS_RX;
}

static void run_case(struct run *r, const struct proto_case *c, enum mode mode, size_t cut)
{
	uint64_t pos[2] = { 0 }, ts = 0;
	struct proto_events ev = { { on_msg, r }, on_hint, on_role, on_stop, r };
	struct proto_conn *p;

	memset(&stats, 0, sizeof(stats));
	memset(&r->check, 0, sizeof(r->check));
	r->c = c;
	r->conn = c->conn;
	r->len = 0;
	http1__set_opts(&c->opts);
	p = proto_conn__new(&r->conn, &ev);
	if (!p)
		return;
	for (size_t i = 0; i < c->n_steps; i++) {
		const struct step *s = &c->steps[i];
		enum ws_dir dir = socket_dir(c, s->dir);

		ts += 10;
		switch (s->kind) {
		case STEP_DATA:
			push_step(p, dir, s, pos[dir], ts, mode, cut);
			break;
		case STEP_SKIP:
			proto_conn__skip(p, dir, pos[dir], s->len, ts, s->lost);
			break;
		case STEP_TAIL: /* of the transfer before */
			ts -= 10;
			proto_conn__tail(p, dir, s->data, s->len, pos[dir], ts);
			break;
		case STEP_EOF:
			proto_conn__eof(p, dir, ts, s->err);
			break;
		case STEP_WAIT:
			ts += s->len * 1000000;
			break;
		}
		pos[dir] += s->len;
	}
	proto_conn__free(p, ts + 10);
	say_books(r);
	proto_check__end(&r->check);
}

/* ---- reading a case ------------------------------------------------------------------------------------ */

static size_t unescape(const char *in, size_t len, uint8_t *out)
{
	size_t n = 0;

	for (size_t i = 0; i < len; i++) {
		if (in[i] != '\\') {
			out[n++] = (uint8_t)in[i];
			continue;
		}
		switch (in[++i]) {
		case 'r':
			out[n++] = '\r';
			break;
		case 'n':
			out[n++] = '\n';
			break;
		case 't':
			out[n++] = '\t';
			break;
		case '0':
			out[n++] = 0;
			break;
		case '\\':
			out[n++] = '\\';
			break;
		case 'x':
			out[n++] = (uint8_t)strtoul((char[]){ in[i + 1], in[i + 2], 0 }, NULL, 16);
			i += 2;
			break;
		case '{': {
			char *star;
			unsigned long times = strtoul(in + i + 1, &star, 10);
			const char *end = memchr(in + i, '}', len - i);

			assert_true(end && *star == '*');
			for (; times; times--)
				n += unescape(star + 1, (size_t)(end - star - 1), out + n);
			i = (size_t)(end - in);
			break;
		}
		default:
			fail_msg("unknown escape \\%c", in[i]);
		}
	}
	return n;
}

static enum proto_dir parse_dir(const char *p, const char *path)
{
	if (*p != '>' && *p != '<')
		fail_msg("%s: no direction in \"%s\"", path, p);
	return *p == '>' ? PROTO_REQUEST : PROTO_RESPONSE;
}

static void parse_step(struct proto_case *c, const char *line)
{
	static uint8_t buf[256 * 1024];
	struct step *s = &c->steps[c->n_steps++];
	bool tail = strncmp(line, "~ tail ", 7) == 0;

	assert_true(c->n_steps < STEPS_MAX);
	if (strncmp(line, "~ wait ", 7) == 0) {
		s->kind = STEP_WAIT;
		s->len = strtoul(line + 7, NULL, 10);
	} else if (line[0] == '~' && !tail) {
		s->kind = STEP_SKIP;
		s->lost = strncmp(line, "~ gap ", 6) == 0;
		if (!s->lost && strncmp(line, "~ skip ", 7) != 0)
			fail_msg("%s: what is \"%s\"?", c->path, line);
		line += s->lost ? 6 : 7;
		s->dir = parse_dir(line, c->path);
		s->len = strtoul(line + 1, NULL, 10);
	} else if (line[0] == '!') {
		s->kind = STEP_EOF;
		line += 2;
		if (strncmp(line, "reset ", 6) == 0)
			s->err = ECONNRESET;
		else if (strncmp(line, "timeout ", 8) == 0)
			s->err = ETIMEDOUT;
		else if (strncmp(line, "eof ", 4) != 0)
			fail_msg("%s: what is \"! %s\"?", c->path, line);
		s->dir = parse_dir(strchr(line, ' ') + 1, c->path);
	} else {
		s->kind = tail ? STEP_TAIL : STEP_DATA;
		line += tail ? 7 : 0;
		s->dir = parse_dir(line, c->path);
		s->len = unescape(line + 2, strlen(line) - 2, buf);
		s->data = malloc(s->len);
		memcpy(s->data, buf, s->len);
	}
}

static void set_unix(struct proto_case *c, const char *path)
{
	c->conn.family = AF_UNIX;
	snprintf(c->conn.path, sizeof(c->conn.path), "%s", path);
}

static void parse_line(struct proto_case *c, char *line)
{
	if (!*line || *line == '#')
		return;
	if (strchr("<>~!", *line))
		parse_step(c, line);
	else if (strcmp(line, "role client") == 0)
		c->conn.role = WS_ROLE_CLIENT;
	else if (strcmp(line, "role unknown") == 0)
		c->conn.role = WS_ROLE_UNKNOWN;
	else if (strcmp(line, "midstream") == 0)
		c->conn.born = false;
	else if (strcmp(line, "tls") == 0)
		c->conn.tls = true;
	else if (strcmp(line, "attrs") == 0)
		c->attrs = true;
	else if (strcmp(line, "opt-in") == 0)
		c->opts.opt_in = true;
	else if (strcmp(line, "whole") == 0)
		c->whole = true;
	else if (strncmp(line, "known-methods ", 14) == 0)
		c->opts.known_methods = strdup(line + 14);
	else if (strncmp(line, "unix ", 5) == 0)
		set_unix(c, line + 5);
	else
		fail_msg("%s: what is \"%s\"?", c->path, line);
}

static char *read_file(const char *path)
{
	FILE *f = fopen(path, "r");
	char *text = calloc(1, OUT_MAX);

	assert_non_null(f);
	assert_true(fread(text, 1, OUT_MAX - 1, f) < OUT_MAX - 1);
	fclose(f);
	return text;
}

static void case_free(struct proto_case *c)
{
	for (size_t i = 0; i < c->n_steps; i++)
		free(c->steps[i].data);
	free((char *)c->opts.known_methods);
	free(c->text);
	free(c);
}

static struct proto_case *case_read(const char *dir, const char *name)
{
	static const uint8_t ip[2][16] = { { [10] = 0xff, 0xff, 10, 0, 0, 1 }, { [10] = 0xff, 0xff, 10, 0, 0, 2 } };
	static char copy[OUT_MAX];
	struct proto_case *c = calloc(1, sizeof(*c));
	char *end, *line, *rest = copy;
	bool client;

	snprintf(c->path, sizeof(c->path), "%s/%s", dir, name);
	c->text = read_file(c->path);
	c->conn = (struct conn_info){ .id = 1, .family = AF_INET, .role = WS_ROLE_SERVER, .born = true };
	c->opts.redact = true;
	end = strstr(c->text, "---\n");
	if (!end)
		fail_msg("%s: no ---", c->path);
	c->expected = end + 4;
	memcpy(copy, c->text, (size_t)(end - c->text));
	copy[end - c->text] = '\0';
	while ((line = strsep(&rest, "\n")))
		parse_line(c, line);
	client = c->conn.role == WS_ROLE_CLIENT;
	memcpy(c->conn.local.ip, ip[!client], 16);
	memcpy(c->conn.remote.ip, ip[client], 16);
	c->conn.local.port = client ? 4000 : 80;
	c->conn.remote.port = client ? 80 : 4000;
	assert_true(c->n_steps > 0);
	return c;
}

/* ---- the modes ----------------------------------------------------------------------------------------- */

static void compare(const struct run *r, const struct proto_case *c, const char *how, size_t at)
{
	if (r->check.wrong)
		fail_msg("%s: %s %zu: broken rule: %s\n%s", c->path, how, at, r->check.wrong, r->out);
	if (strcmp(r->out, c->expected) != 0)
		fail_msg("%s: %s %zu: expected\n%s\ngot\n%s", c->path, how, at, c->expected, r->out);
}

static void update(const struct run *r, const struct proto_case *c)
{
	FILE *f;

	if (strcmp(r->out, c->expected) == 0)
		return;
	f = fopen(c->path, "w");
	assert_non_null(f);
	fwrite(c->text, 1, (size_t)(c->expected - c->text), f);
	fputs(r->out, f);
	fclose(f);
	printf("rewritten: %s\n", c->path);
}

static void fail_allocations(struct run *r, const struct proto_case *c)
{
	long n = 0, asked;

	do {
		mem__fail_after(n);
		run_case(r, c, MODE_WHOLE, 0);
		asked = mem__count();
		mem__fail_after(-1);
		if (r->check.wrong)
			fail_msg("%s: allocation %ld failed: broken rule: %s\n%s", c->path, n, r->check.wrong, r->out);
		mem__fail_after(n);
		run_case(r, c, MODE_BYTES, 0);
		if (mem__count() > asked)
			asked = mem__count();
		mem__fail_after(-1);
		if (r->check.wrong)
			fail_msg("%s: allocation %ld failed, by bytes: broken rule: %s\n%s", c->path, n,
				 r->check.wrong, r->out);
	} while (n++ < asked);
}

/* Seeds for the fuzzer: see tests/fuzz/fuzz_proto.c for the format. */
static void write_seed(const struct proto_case *c, const char *dir, const char *name)
{
	char path[1024];
	FILE *f;

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	f = fopen(path, "w");
	assert_non_null(f);
	fputc(c->conn.role | (c->conn.born ? 4 : 0) | (c->opts.opt_in ? 8 : 0), f);
	fputc(0, f); /* transfers whole */
	fputc(0, f); /* no allocation fails */
	for (size_t i = 0; i < c->n_steps; i++) {
		const struct step *s = &c->steps[i];
		int op = s->kind == STEP_TAIL ? 4 : s->data ? 0 : s->kind == STEP_SKIP ? (s->lost ? 6 : 5) : 7;
		enum ws_dir way = socket_dir(c, s->dir);
		size_t len = s->len < 65535 ? s->len : 65535;

		fputc(op << 1 | way, f);
		fputc((int)(s->kind == STEP_EOF ? (size_t)s->err : len & 0xff), f);
		fputc((int)(s->kind == STEP_EOF ? 0 : len >> 8), f);
		if (s->data)
			fwrite(s->data, 1, len, f);
	}
	fclose(f);
}

static void run_all_modes(struct run *r, const struct proto_case *c)
{
	size_t longest = 0;

	run_case(r, c, MODE_WHOLE, 0);
	if (getenv("WS_CASES_UPDATE"))
		update(r, c);
	else
		compare(r, c, "whole", 0);
	fail_allocations(r, c);
	if (c->whole || getenv("WS_CASES_UPDATE"))
		return;
	run_case(r, c, MODE_BYTES, 0);
	compare(r, c, "byte by byte", 0);
	for (size_t i = 0; i < c->n_steps; i++)
		longest = c->steps[i].kind == STEP_DATA && c->steps[i].len > longest ? c->steps[i].len : longest;
	for (size_t cut = 1; cut < longest && cut <= SPLIT_MAX; cut++) {
		run_case(r, c, MODE_SPLIT, cut);
		compare(r, c, "cut at", cut);
	}
}

static int is_case(const struct dirent *d)
{
	size_t n = strlen(d->d_name);

	return n > 5 && strcmp(d->d_name + n - 5, ".case") == 0;
}

static void test_cases(void **state)
{
	const char *seeds = getenv("WS_CASES_SEEDS");
	struct run *r = calloc(1, sizeof(*r));
	const struct proto_ops *const *table;
	size_t n;

	assert_int_equal(proto__check_table(), 0);
	table = proto__table(&n);
	assert_true(n > 0);
	r->out = malloc(OUT_MAX);
	for (size_t i = 0; i < n; i++) {
		char dir[256];
		struct dirent **names;
		int n_names;

		snprintf(dir, sizeof(dir), "tests/proto/%s", table[i]->name);
		n_names = scandir(dir, &names, is_case, alphasort);
		if (n_names <= 0)
			fail_msg("%s: no cases: each row of the table has to have some", dir);
		for (int k = 0; k < n_names; k++) {
			struct proto_case *c = case_read(dir, names[k]->d_name);

			if (seeds)
				write_seed(c, seeds, names[k]->d_name);
			run_all_modes(r, c);
			case_free(c);
			free(names[k]);
		}
		printf("%s: %d cases\n", table[i]->name, n_names);
		free(names);
	}
	free(r->out);
	free(r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_cases),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
