/* SPDX-License-Identifier: Apache-2.0 */
/* What holds for the messages of every parser, whatever the bytes were (user/model/msg.h). */
#ifndef TESTS_PROTO_CHECK_H
#define TESTS_PROTO_CHECK_H

#include <stdio.h>
#include <stdlib.h>

#include "user/model/msg.h"
#include "user/model/stats.h"

#define CHECK_XIDS 65536

struct proto_check {
	uint64_t newest;
	uint8_t seen[CHECK_XIDS]; /* by xid: bits 1 << kind */
	const char *wrong;
};

#define CHECK(cond)                                  \
	do {                                         \
		if (!(cond) && !c->wrong)            \
			c->wrong = #cond;            \
	} while (0)

static inline void proto_check__msg(struct proto_check *c, const struct msg *m)
{
	uint8_t bit = (uint8_t)(1u << m->kind), over = 1 << MSG_RESPONSE_END | 1 << MSG_ABORT, *seen;

	CHECK(m->xid > 0);
	if (m->xid >= CHECK_XIDS)
		return;
	seen = &c->seen[m->xid];
	CHECK(!(*seen & bit));
	switch (m->kind) {
	case MSG_REQUEST:
		CHECK(m->xid == c->newest + 1);
		c->newest = m->xid;
		CHECK(m->op.len > 0);
		break;
	case MSG_REQUEST_END:
		CHECK(*seen & 1 << MSG_REQUEST);
		CHECK(!(*seen & 1 << MSG_ABORT));
		break;
	case MSG_RESPONSE:
		CHECK(*seen & 1 << MSG_REQUEST);
		CHECK(!(*seen & over));
		break;
	case MSG_RESPONSE_END:
		CHECK(*seen & 1 << MSG_RESPONSE);
		CHECK(!(*seen & over));
		break;
	case MSG_ABORT:
		CHECK(*seen & 1 << MSG_REQUEST);
		CHECK(!(*seen & over));
		break;
	}
	CHECK(m->scheme && m->scheme[0]);
	CHECK(!(m->flags & MSG_ERROR) == !m->error_type);
	for (size_t i = 0; i < m->n_attrs; i++) {
		/* Every byte is touched, for the sanitizers. */
		if (m->attrs[i].type == ATTR_STR && m->attrs[i].s.len)
			CHECK(memchr(m->attrs[i].s.p, 0, m->attrs[i].s.len) != (void *)c);
		CHECK(m->attrs[i].key && m->attrs[i].key[0]);
		for (size_t k = 0; k < i; k++)
			CHECK(strcmp(m->attrs[i].key, m->attrs[k].key) != 0);
	}
	*seen |= bit;
}

/* After proto_conn__free(). */
static inline void proto_check__end(struct proto_check *c)
{
	enum stats_stage stage;

	for (uint64_t i = 1; i <= c->newest && i < CHECK_XIDS; i++)
		CHECK(c->seen[i] & (1 << MSG_RESPONSE_END | 1 << MSG_ABORT));
	CHECK(stats.rows[ST_PROTO].held == 0);
	CHECK(stats__check(&stats, &stage));
}
#undef CHECK

#endif
