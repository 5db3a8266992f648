/* SPDX-License-Identifier: Apache-2.0 */
/* Private to user/match: exchanges, and what is known of processes and threads. */
#ifndef WS_MATCH_EXCHANGE_H
#define WS_MATCH_EXCHANGE_H

#include "user/base/hash.h"
#include "user/base/pool.h"
#include "user/base/recent.h"
#include "user/match/match.h"
#include "user/model/stats.h"

struct thread;
struct proc;

/* How sure the parent edge of a client exchange is. */
enum edge {
	EDGE_NONE,	  /* no parent, for good */
	EDGE_UNCONFIRMED, /* waits for the parent's answer by the same thread */
	EDGE_PROVISIONAL, /* waits for the end of a thread inside the parent */
	EDGE_AFTER,	  /* waits for the requests that were open with it, which it may be for (after.c) */
	EDGE_TURN,	  /* waits for the end of the requests that were open with its own */
	EDGE_FINAL,
};

struct join_key {
	uint8_t ip[16]; /* AF_UNIX: names of the server's end and of the client's */
	uint32_t port;
	uint32_t kind; /* 0 TCP position, 1 AF_UNIX position, 2 TLS: of a record, and in it */
	uint64_t pos;
	uint64_t netns; /* TCP over loopback: every network namespace has these addresses; else 0 */
};

/*
 * A request and its response on one end of one connection. Counted: the connection's list holds one
 * reference while it is open, children and joined exchanges hold one each.
 */
struct exchange {
	int refs;
	struct match *m;
	struct match_conn *conn; /* NULL once the connection is gone */
	struct exchange *prev, *next; /* conn->open, oldest first */
	struct exchange *wait_next;   /* finished, identity not settled yet */

	bool server, open, answered, discarded;
	bool internal; /* neither end of a connection: a work item (work.c) */
	uint64_t xid;
	uint64_t pos, end_pos;	 /* of the request; end_pos 0: not ended yet */
	uint64_t resp_pos, resp_end;
	bool wired;		 /* TLS: `wire` holds */
	uint64_t wire;		 /* where the request's record begins, and how far into it the request */
	uint32_t tgid, tid;	 /* who read (server) or wrote (client) the first byte */
	uint32_t answered_by;	 /* server: the thread that wrote the first byte of the response */
	bool nonblock;		 /* … on a descriptor that does not block */
	uint64_t reader;	 /* server: key of the thread or goroutine that read the end of the head, 0: not known */
	bool fiber;		 /* … it was a goroutine, virtual thread or greenlet */
	uint64_t start, end;	 /* CLOCK_MONOTONIC */
	uint32_t sent;		 /* client: by the call that wrote the first byte, with what else it wrote */
	uint64_t floor;		 /* client: when it had the answer before this on its connection, 0: none */
	struct span *span;

	/* server: lives in its process's and its thread's lists while open */
	struct proc *proc;
	struct thread *thread;
	struct exchange *live_prev, *live_next;
	struct exchange *children;  /* client exchanges whose edge is not confirmed */
	struct exchange *child_next;

	/* what came with the request */
	uint64_t content;     /* msg.content */
	uint64_t request_key; /* msg.request_key */
	struct ws_token used; /* server: the last callback that called out for it */
	uint32_t n_waiting;   /* server: calls of its that wait for their answer */
	bool waiting;	      /* client: counted in its parent's n_waiting */
	bool has_ctx;
	bool denied; /* whoever sent it has decided that its trace is not to be sampled, and gave it no ids */
	uint8_t ctx_trace[16], ctx_span[8], ctx_flags;

	/* parent */
	struct exchange *parent; /* counted */
	enum edge edge;
	enum match_evidence evidence;
	uint32_t woken;	     /* unconfirmed: the context or greenlet that has to answer; 0: the thread. server: that answered */
	bool taken;	     /* unconfirmed: by a task that has taken its request out of a queue, and works on no other */
	bool unsure;	     /* unconfirmed: by a task that may be there from the start, and serve several connections */
	struct exchange *via; /* client: the work item between it and the parent, counted; NULL: none */
	uint64_t began;	      /* internal: when its thread had it */
	uint64_t exit_until; /* provisional: its thread has to be gone by then; 0: the parent is still open */
	bool exited;	     /* unconfirmed: by another thread than the request's, which has ended */
	bool parked;	     /* server: its thread has waited for others before it was answered */
	bool streams;	     /* server: in match.streaming, while calls of it are unconfirmed and it is being answered */
	struct exchange *stream_next;
	uint32_t context; /* server: number of the context of its own in which it was answered, 0: none (after.c) */
	bool shared;	  /* server: a context of its own, or the task that it has woken, has answered another */
	uint32_t heirs[WS_HEIRS]; /* … or these goroutines; 0: none, or ended */
	bool alone;		  /* provisional: no other request has been alive in its process since the parent began */

	struct candidates *candidates; /* candidates.c; NULL: none, or not asked for */

	/* turns (turn.c) */
	struct exchange *turns;	      /* server: calls that wait, by child_next, newest first, each counted */
	struct exchange *settle_next; /* server: in match.settling, while calls of it wait for others */
	uint64_t settle_at, settle_look; /* when it is given up; when it is looked at next */
	bool own_turn;	  /* server: it was answered in a turn of its own */
	bool chain_broken; /* server: a call of it was refused: nor is what goes on from there believed */
	bool doubtful;	  /* client: what went on from it outlived the request */
	uint64_t sock;	  /* client: its connection, and that of the call whose answer it was made on; 0: none. server: with `context` */
	uint64_t cause, cause_at; /* turn: connection whose answer was read in it, and where that began. server: of the last that called */
	bool direct;		  /* … it was that of the request itself */
	struct exchange *asker;	  /* client: counted, in whose turn it was made, until it is answered */
	uint32_t n_out, n_out_last; /* server: such calls on their way; of these, of that last turn */

	/* join */
	struct exchange *join_next, **join_at; /* its bucket's list; join_at NULL: not in it */
	struct join_key key;
	uint64_t join_until; /* 0: nothing to wait for */

	/* identity */
	bool settled;
	bool telemetry; /* it ships telemetry, unless the answer says that nobody takes any there */
	bool left_out; /* no span, because of `why`; for good once settled */
	enum stats_reason why;
	uint8_t trace_id[16], span_id[8];
	uint8_t flags;
};

struct match_conn {
	struct stream_conn *pub;
	struct exchange *open; /* oldest first */
	struct exchange *last; /* newest of the open ones */
	struct exchange *done; /* client: the exchange answered last, its response may be what a callback runs on */
	bool counted;	       /* in the table of client ends */
	uint64_t requests;
};

/* A trace context that a process received. Four places for each, newest first: later ones push it out. */
struct came {
	uint64_t key;
	bool again; /* with more than one request */
};

#define CAME_SLOTS 8192
#define CAME_WAYS 4

/* Threads that have called out with no request of theirs open: the newest few of a process. */
#define OWN_SLOTS 8

/* So many tasks that serve a connection each say that this is how the process serves. */
#define OWN_TASKS 4
#define OWN_SERVERS 4 /* of one process; of others it is not known */

/* A process that serves or calls something. */
struct proc {
	UT_hash_handle hh;
	uint32_t tgid;
	uint32_t n_live;
	struct exchange *live;	/* server exchanges, newest first */
	uint64_t last_end;	/* when a request ended here, 0: none has */
	uint64_t zombie_until;	/* a request was abandoned by its peer: its handler may still be running */
	bool served;		/* has served a request since it was first seen */
	struct came *came;	/* CAME_SLOTS, NULL before the first */
	bool opaque;		/* serves connections that nobody can read (TLS, HTTP/2): requests that we know nothing of */
	bool receiver;		/* has taken telemetry */
	struct {
		uint32_t tid;
		uint64_t until; /* what it does before that may be work of its own again */
	} own[OWN_SLOTS];
	uint32_t n_own;
	bool autonomous;	/* calls out with no request alive: it has work of its own */
	uint64_t drains_until;	/* threads or goroutines that requests started did more than one piece of work */
	struct recent abandoned; /* request_key of requests that their peer has given up (content.c) */
	struct recent own_calls; /* … of calls that nobody had asked for */
	struct after *after;	 /* requests that have ended in contexts of their own, NULL before the first */
	struct own_tasks {
		uint64_t server; /* where it listens, 0: free */
		struct {
			uint32_t task; /* 0: free */
			uint64_t sock;
		} at[OWN_TASKS];
	} own_tasks[OWN_SERVERS]; /* woken by reads, they have answered what was read, each on a connection of its own */
	bool gathers;		 /* one has answered another connection too */
	struct recent over;	 /* … of requests that have ended, read by goroutines or virtual threads */
	uint64_t crossed_until;	  /* requests were answered in each other's turns */
	uint64_t abandoned_until; /* what an abandoned request has queued may start in another's turn */
};

/* What reads requests: a thread, or a goroutine. */
struct thread {
	UT_hash_handle hh;
	uint64_t key;
	uint32_t n_live; /* server exchanges read by it and still open */
	struct exchange *work;	/* the item that it runs, counted; NULL: none */
	uint64_t parks_until;	/* it has waited for others, with a request of its own open; after that, that is forgotten */
	uint64_t several_until; /* it serves several connections at a time: what it does is not one request's */
};

struct client_end {
	UT_hash_handle hh;
	struct {
		uint8_t ip[16];
		uint32_t port;
		uint32_t pad;
	} key;
	uint32_t n;
	uint64_t sock; /* its connection; 0: it has been that of several at a time */
};

/* Exchanges that wait for their other half, by join_key: seldom more than requests are open. */
#define JOIN_BUCKETS 1024u

struct join_table {
	struct exchange *buckets[JOIN_BUCKETS];
};

struct match {
	struct match_opts opts;
	int64_t wall_offset;
	uint64_t now;
	struct proc *procs;
	struct thread *threads;
	struct client_end *ends;
	struct join_table clients, servers;
	struct exchange *waiting, **waiting_tail;
	struct exchange *provisional; /* by child_next, each counted */
	struct exchange *after;	      /* by child_next, each counted */
	struct exchange *streaming; /* requests, by stream_next, each counted */
	struct exchange *settling, **settling_tail; /* requests whose calls wait (turn.c), each counted */
	uint32_t held;
	struct pool pool; /* exchanges */
};

/* match.c */
struct exchange *exchange__new(struct match *m, struct match_conn *c, bool server, uint64_t now);
struct exchange *exchange__get(struct exchange *x);
void exchange__put(struct exchange *x); /* NULL ok */
/* One that is on no book yet: there is nothing to tell of it. */
void exchange__forget(struct exchange *x);
/* It is over; takes over the reference of whoever held it while it was open. */
void exchange__finish(struct match *m, struct exchange *x, uint64_t ts, bool aborted);

/* proc.c */
struct proc *proc__find(struct match *m, uint32_t tgid, bool create);
void proc__free(struct match *m, struct proc *p);
uint64_t thread__key(uint32_t tid);
uint64_t thread__goroutine(uint32_t tgid, uint32_t number);
struct thread *thread__find(struct match *m, uint64_t key, bool create);
void thread__exit(struct match *m, uint64_t key);
/* It has gone to wait for new connections, or other clients'. */
void thread__waits(struct match *m, uint32_t tgid, uint64_t key);
void live__add(struct exchange *x);
void live__remove(struct exchange *x);
void procs__free(struct match *m);

/* parent.c: decides the edge of a client exchange from the token of its first byte. */
void parent__find(struct match *m, struct exchange *x, const struct ws_token *token);
/* Who answers confirms or refutes; `token` of the answer, NULL: none, or not known. */
void parent__on_response(struct exchange *server, const struct ws_token *token);
/* Its thread waits for others. `whole`: it has read all of the request. */
void parent__parked(struct exchange *server, bool whole);
void parent__on_end(struct exchange *server, bool aborted);	   /* what is still provisional is refused */
void parent__tick(struct match *m, uint64_t now); /* what has waited long enough */
void parent__on_context(struct match *m, struct exchange *x);	   /* the request carries a trace context */
void parent__context_came(struct exchange *s);
void parent__call_over(struct exchange *x);
void parent__refuse(struct exchange *x, const char *why);
/* Takes it, at once or on a condition; refuses it if that kind of evidence is switched off. */
void parent__set(struct exchange *x, struct exchange *parent, enum match_evidence e, enum edge edge);
/* Has no other request been alive in its process since it began? */
bool parent__alone(const struct exchange *server);
/* Read by what is no thread: a goroutine, virtual thread or greenlet. */
bool token__of_fiber(const struct ws_token *t);
/* Were bytes of this request among those that were read? On the same connection, that is. */
bool token__brings(const struct ws_token *t, const struct exchange *x);
/* The one request whose bytes a read brought; *ret_many if there were several, or it began with those of an earlier one. */
struct exchange *token__request(struct match_conn *mc, const struct ws_token *t, bool *ret_many);

/* Its answer has begun: whoever writes that is known, and confirms or refutes the calls that wait for it. */
void parent__confirm(struct exchange *server);

/* heirs.c */
void heirs__on_thread_exit(struct match *m, uint32_t tid);
void heirs__on_goroutine_exit(struct match *m, uint32_t tgid, uint32_t number);
void heirs__request_ended(const struct exchange *server); /* what it has made has a moment to end as well */
void heirs__tick(struct match *m, uint64_t now);	  /* those that did not end in time */

/* after.c */
#define ANSWERS_OTHERS "its context answers several requests"
void after__answered(struct exchange *server, const struct ws_token *t); /* by what this token names */
void after__ended(struct exchange *server, bool aborted);
/* False: not known as work of a request that is over. */
bool after__find(struct match *m, struct exchange *x, const struct ws_token *t);
/* Its request was answered by the task that made this call: has that one answered none of the others? */
void after__await_others(struct exchange *x);
/* Is it known that the tasks which reads of this server's connections wake serve one connection each? */
bool after__has_own_tasks(const struct exchange *server);
void after__tick(struct match *m, uint64_t now);
void after__free(struct proc *p);

/* candidates.c: where links are asked for (match_opts.links_max) */
void candidates__note(struct match *m, struct exchange *x);
/* False: their traces are not known yet. */
bool candidates__settle(struct match *m, struct exchange *x, uint64_t now, int depth);
void candidates__decide(struct exchange *x); /* the end: they are as settled as they will be */
void candidates__link(struct exchange *x);   /* into the span; drops them */
void candidates__drop(struct exchange *x);

/* content.c: for forwarding proxies. True: found, or refused because it is switched off. */
bool content__find(struct match *m, struct exchange *x);
/*
 * The same for a goroutine or virtual thread that did not read the request: a proxy's server may have read it ahead in
 * another. It may as well do something more for its last one: not if one of that kind ended a moment ago.
 */
bool content__find_read_ahead(struct match *m, struct exchange *x);
void content__over(struct exchange *server);
void content__abandoned(struct exchange *server);

/* turn.c: the same for event loops whose callbacks are known. */
void turn__find(struct match *m, struct exchange *x, const struct ws_token *token);
void turn__call_over(struct exchange *x); /* its answer has come, or will not */
void turn__answered(struct exchange *server, const struct ws_token *token);
void turn__ended(struct exchange *server, bool aborted);
void turn__tick(struct match *m, uint64_t now);

/* work.c */
void work__found_parent(struct match *m, struct exchange *call); /* is there a work item in between? */
void work__thread_ends(struct match *m, struct thread *t);
void work__process_ends(struct match *m, uint32_t tgid); /* 0: every process's */

/* join.c */
void ends__add(struct match *m, const struct stream_conn *c, int n);
void join__offer(struct match *m, struct exchange *x, const struct stream_conn *c);
void join__withdraw(struct exchange *x);

/* identity.c */
uint64_t identity__span(const struct match *m, uint64_t sock, uint32_t dir, uint64_t pos);
bool identity__settle(struct match *m, struct exchange *x, uint64_t now, int depth);

#endif
