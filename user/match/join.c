// SPDX-License-Identifier: Apache-2.0
/*
 * The same bytes seen at both ends on one node. TCP: the client's address and port, which survive DNAT, and the
 * sequence number of the request's first byte. That tells connections with equal ports in two namespaces apart, unless
 * they were opened within microseconds: the kernel's first number is a hash of addresses and ports and the time in
 * steps of 64 ns (net/core/secure_seq.c). Which happens where twins are started together, on addresses that every
 * namespace has: loopback's count for one namespace only. AF_UNIX: the server's end and the number of bytes before.
 */
#include "user/match/exchange.h"

#include <sys/socket.h>

#define JOIN_WAIT_NS 1000000000ull
/* What a call that sends may take from the first byte's departure to its return, by which it is stamped. */
#define SEND_NS 100000000ull
/* One of more than a socket's buffer takes waits for the reader, who may answer before: as long as a join is waited for. */
#define SEND_AT_ONCE 65536

static void end_key(struct client_end *e, const struct conn_addr *a)
{
	memset(&e->key, 0, sizeof(e->key));
	memcpy(e->key.ip, a->ip, 16);
	e->key.port = a->port;
}

void ends__add(struct match *m, const struct stream_conn *c, int n)
{
	struct client_end probe, *e;

	end_key(&probe, &c->info.local);
	HASH_FIND(hh, m->ends, &probe.key, sizeof(probe.key), e);
	if (!e) {
		if (n < 0)
			return;
		e = mem__zalloc(sizeof(*e));
		if (!e)
			return;
		e->key = probe.key;
		e->sock = c->info.id;
		HASH_ADD(hh, m->ends, key, sizeof(e->key), e);
		if (!e->hh.tbl) {
			mem__free(e);
			return;
		}
	}
	e->n += n;
	if (e->n > 1)
		e->sock = 0;
	if (!e->n) {
		HASH_DEL(m->ends, e);
		mem__free(e);
	}
}

/*
 * Is its client of this node, and to be heard of? A process is traced until it is decided that it is not to be: the
 * connections that it has made by then are known, and nothing comes of them any more.
 */
static bool local_client(struct match *m, const struct stream_conn *c)
{
	const struct stream_conn *client;
	struct client_end probe, *e;

	end_key(&probe, &c->info.remote);
	HASH_FIND(hh, m->ends, &probe.key, sizeof(probe.key), e);
	if (!e || !e->sock || !m->opts.selection)
		return e != NULL;
	client = stream__find(m->opts.stream(m->opts.ctx), e->sock);
	return !client || m->opts.selection(m->opts.ctx, client->info.tgid) != MATCH_UNSELECTED;
}

/* 127.0.0.0/8, mapped, or ::1 */
static bool is_loopback(const uint8_t *ip)
{
	static const uint8_t mapped[12] = { [10] = 0xff, [11] = 0xff }, one[16] = { [15] = 1 };

	return (!memcmp(ip, mapped, sizeof(mapped)) && ip[12] == 127) || !memcmp(ip, one, sizeof(one));
}

/* False: this end cannot be joined. */
static bool make_key(struct join_key *k, const struct exchange *x, const struct stream_conn *c)
{
	const struct conn_addr *a = x->server ? &c->info.remote : &c->info.local;

	memset(k, 0, sizeof(*k));
	if (c->ambiguous)
		return false;
	if (c->info.family == AF_UNIX) {
		uint64_t ends[2] = { x->server ? c->kaddr : c->peer_kaddr, x->server ? c->peer_kaddr : c->kaddr };

		/* Both ends count from the connection's first byte only if both were seen being born. */
		if (!c->info.born || !ends[0] || !ends[1])
			return false;
		memcpy(k->ip, ends, sizeof(ends));
		k->kind = 1;
		k->pos = x->pos;
		return true;
	}
	if (!(c->info.tls ? x->wired : c->seqpos) || !a->port)
		return false;
	memcpy(k->ip, a->ip, 16);
	k->port = a->port;
	k->kind = c->info.tls ? 2 : 0;
	k->pos = c->info.tls ? x->wire : (uint32_t)x->pos;
	k->netns = is_loopback(a->ip) ? c->info.netns : 0;
	return true;
}

/* Keyed: addresses and sequence numbers are chosen by whoever connects. */
static struct exchange **bucket(struct match *m, struct join_table *t, const struct join_key *k)
{
	return &t->buckets[hash__bytes(m->opts.key.k0, k, sizeof(*k)) % JOIN_BUCKETS];
}

static struct exchange *bucket_find(struct exchange *first, const struct join_key *k)
{
	while (first && memcmp(&first->key, k, sizeof(*k)) != 0)
		first = first->join_next;
	return first;
}

static void bucket_add(struct exchange **bucket, struct exchange *x)
{
	x->join_next = *bucket;
	if (*bucket)
		(*bucket)->join_at = &x->join_next;
	*bucket = x;
	x->join_at = bucket;
}

static bool is_anothers(const struct exchange *server, uint32_t tgid)
{
	uint32_t connected = server->conn ? server->conn->pub->peer_tgid : 0;

	return connected && connected != tgid;
}

static bool was_over(const struct exchange *server, const struct exchange *client)
{
	uint64_t ended = server->conn ? server->conn->pub->ended_ts : server->end;
	uint64_t send = client->sent > SEND_AT_ONCE ? JOIN_WAIT_NS : SEND_NS;

	return (ended && ended < client->start) || (!server->open && server->end + send < client->start);
}

/*
 * The same bytes say the same request; anything else is not the other half. And of one connection's requests the next
 * is written when the last has been answered: read before that, or after its own answer, other bytes stood at that
 * place. (AF_UNIX: what one end moved in a way that nobody saw is not counted, and addresses of sockets are used again
 * at once: what was over before was another connection's.)
 */
static bool is_pair(const struct exchange *client, const struct exchange *server)
{
	if (!str__eq(client->span->op, server->span->op) || !str__eq(client->span->target, server->span->target))
		return false;
	if (client->key.kind == 1 && (was_over(server, client) || is_anothers(server, client->tgid)))
		return false;
	return server->start >= client->floor && (client->open || server->start <= client->end);
}

static void link_pair(struct exchange *client, struct exchange *server)
{
	uint32_t off = client->m->opts.evidence_off;

	server->join_until = 0;
	if (off & 1u << EVIDENCE_JOIN)
		return;
	server->parent = exchange__get(client);
	server->edge = EDGE_FINAL;
	server->evidence = EVIDENCE_JOIN;
	/* The client's record is stamped after its send: on loopback that can be after the server's read. */
	if (client->start > server->start)
		client->start = server->start;
}

void join__offer(struct match *m, struct exchange *x, const struct stream_conn *c)
{
	struct exchange **mine, *other;

	if (!make_key(&x->key, x, c))
		return;
	mine = bucket(m, x->server ? &m->servers : &m->clients, &x->key);
	other = bucket_find(*mine, &x->key);
	if (other) { /* two with one key: whatever that is, it proves nothing */
		if (!x->key.kind) {
			join__withdraw(other);
			other->join_until = 0;
		}
		return;
	}
	other = bucket_find(*bucket(m, x->server ? &m->clients : &m->servers, &x->key), &x->key);
	if (other) {
		struct exchange *client = x->server ? other : x, *server = x->server ? x : other;

		join__withdraw(other);
		if (is_pair(client, server)) {
			link_pair(client, server);
			return;
		}
		other->join_until = 0;
		if (!x->key.kind) /* a sequence number comes once; the place of an AF_UNIX socket is taken again */
			return;
	}
	bucket_add(mine, x);
	if (x->server && (c->info.family == AF_UNIX || local_client(m, c)))
		x->join_until = x->start + JOIN_WAIT_NS;
}

void join__withdraw(struct exchange *x)
{
	if (!x->join_at)
		return;
	*x->join_at = x->join_next;
	if (x->join_next)
		x->join_next->join_at = x->join_at;
	x->join_at = NULL;
}
