// SPDX-License-Identifier: Apache-2.0
/*
 * The protocol table under libFuzzer. An input is a conversation:
 *
 *   byte 0   bits 0-1 enum ws_role, bit 2 born, bit 3 opt-in attributes, bit 4 AF_UNIX, bit 5 tls
 *   byte 1   0: transfers as they are, else each is cut into pieces of that many bytes
 *   byte 2   0: memory is never short, else that many allocations succeed before one fails
 *   records  op, n (16 bit, little endian), and for data n bytes:
 *            op bit 0: enum ws_dir; op >> 1 & 7: 0-3 data, 4 the last of what was left out, 5 left out, 6 lost,
 *            7 the end with errno n & 0xff
 *
 * Every transfer lies in an allocation of exactly its size, which is gone after the call.
 */
#include <stdint.h>
#include <stdlib.h>
#include <sys/socket.h>

#include "tests/proto/check.h"
#include "user/base/mem.h"
#include "user/proto/http1.h"
#include "user/proto/proto.h"
#include "user/proto/tls_hello.h"

#define BUFFERED_MAX (2 * 64 * 1024)

struct run {
	struct conn_info conn;
	struct proto_check check;
	bool stopped;
};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void on_msg(void *ctx, const struct msg *m)
{
	struct run *r = ctx;

	if (r->stopped && m->kind != MSG_ABORT)
		r->check.wrong = "a message after stop";
	proto_check__msg(&r->check, m);
}

static void on_hint(void *ctx, enum proto_dir dir, uint64_t from, uint64_t n)
{
	struct run *r = ctx;

	if (dir > PROTO_RESPONSE || n == 0)
		r->check.wrong = "a hint about nothing";
	(void)from;
}

static void on_role(void *ctx, enum ws_role role)
{
	((struct run *)ctx)->conn.role = role;
}

static void on_stop(void *ctx)
{
	((struct run *)ctx)->stopped = true;
}

static void tail(struct proto_conn *p, enum ws_dir dir, const uint8_t *data, size_t n, uint64_t *pos, uint64_t ts)
{
	uint8_t *copy = malloc(n);

	memcpy(copy, data, n);
	proto_conn__tail(p, dir, copy, n, *pos, ts);
	free(copy);
	*pos += n;
}

/* Any bytes may stand where a TLS client's first ones are looked for. */
static bool name_is_sound(const uint8_t *data, size_t n)
{
	struct str name = tls_hello__server_name(data, n);

	return !name.len || (name.len < n && (const uint8_t *)name.p > data && (const uint8_t *)name.p + name.len <= data + n);
}

static bool push(struct proto_conn *p, enum ws_dir dir, const uint8_t *data, size_t n, size_t piece, uint64_t *pos,
		 uint64_t ts)
{
	bool sound = true;


	while (n) {
		size_t len = piece && piece < n ? piece : n;
		uint8_t *copy = malloc(len);

		memcpy(copy, data, len);
		proto_conn__push(p, dir, copy, len, *pos, ts);
		sound = sound && name_is_sound(copy, len);
		free(copy);
		*pos += len;
		data += len;
		n -= len;
	}
	return sound;
}

static void converse(struct run *r, struct proto_conn *p, const uint8_t *data, size_t size, size_t piece)
{
	uint64_t pos[2] = { 0 }, ts = 0;

	while (size >= 3) {
		enum ws_dir dir = data[0] & 1 ? WS_TX : WS_RX;
		unsigned int op = data[0] >> 1 & 7;
		size_t n = data[1] | (size_t)data[2] << 8;

		data += 3;
		size -= 3;
		ts += 10;
		if (op == 7) {
			proto_conn__eof(p, dir, ts, (int)(n & 0xff));
		} else if (op >= 5) {
			proto_conn__skip(p, dir, pos[dir], n, ts, op == 6);
			pos[dir] += n;
		} else {
			n = n < size ? n : size;
			if (op == 4 && n)
				tail(p, dir, data, n, &pos[dir], ts);
			else if (!push(p, dir, data, n, piece, &pos[dir], ts))
				r->check.wrong = "a server's name beside the bytes";
			data += n;
			size -= n;
		}
		if (proto_conn__buffered(p) > BUFFERED_MAX)
			r->check.wrong = "too much is buffered";
	}
	proto_conn__free(p, ts + 10);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct run r;
	struct proto_events ev = { { on_msg, &r }, on_hint, on_role, on_stop, &r };
	struct http1_opts opts = { .redact = true };
	struct proto_conn *p;

	if (size < 3)
		return 0;
	memset(&stats, 0, sizeof(stats));
	memset(&r, 0, sizeof(r));
	r.conn.role = (data[0] & 3) == 3 ? WS_ROLE_UNKNOWN : (enum ws_role)(data[0] & 3);
	r.conn.born = data[0] & 4;
	r.conn.family = data[0] & 16 ? AF_UNIX : AF_INET6;
	r.conn.tls = data[0] & 32;
	memcpy(r.conn.path, "/run/x", 7);
	opts.opt_in = data[0] & 8;
	http1__set_opts(&opts);
	mem__fail_after(data[2] ? data[2] - 1 : -1);
	p = proto_conn__new(&r.conn, &ev);
	if (p)
		converse(&r, p, data + 3, size - 3, data[1]);
	mem__fail_after(-1);
	proto_check__end(&r.check);
	if (r.check.wrong) {
		fprintf(stderr, "broken rule: %s\n", r.check.wrong);
		abort();
	}
	return 0;
}
