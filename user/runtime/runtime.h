/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a process's language runtime is, where it keeps the logical context of a thread, and where the probes go that
 * see work being handed on. Read from outside: /proc/PID/maps, mem, exe and the files that it has mapped or will map.
 * Nothing is guessed: a version that is not in the table, or a process that does not look like it, is named and left
 * alone.
 */
#ifndef WS_RUNTIME_H
#define WS_RUNTIME_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "bpf/event.h"

enum runtime_hook {
	HOOK_CONTEXT_COPY,  /* returns a context that is a copy of the current one */
	HOOK_CONTEXT_NEW,   /* returns a context that is empty, or a copy of one that is not the current */
	HOOK_FUTURE_RESULT, /* entry: argument 1 is the future */
	HOOK_QUEUE_PUT,	    /* entry: argument 2 points to the arguments, the item first */
	HOOK_QUEUE_GET,	    /* returns an item, or NULL */
	HOOK_QUEUE_WAIT,    /* entry of the same */
	HOOK_DEQUE_PUT,	    /* entry: argument 1 is a collections.deque, argument 2 the item that goes into it */
	HOOK_DEQUE_GET,	    /* entry: argument 1 is the one whose first item is taken out */
	HOOK_GREENLET_END,  /* entry: a greenlet's frames are given back; argument 2, if not NULL: it is the current one */
	HOOK_GREENLET_PUT,  /* entry: argument 2 is the item that goes into gevent's queue */
	HOOK_GREENLET_GET,  /* entry: argument 1 is such a queue, whose first item is taken out by the current greenlet */
	HOOK_UV_READ,	    /* entry of uvloop's read callbacks: argument 1 is the uv_stream_t */
	HOOK_UV_READ_DONE,  /* … and their return */
	HOOK_UV_WRITE,	    /* entry of UVStream._initiate_write: argument 1 is the UVStream */
	HOOK_UV_FLUSH,	    /* entry of UVStream._exec_write */
	HOOK_UV_FLUSHED,    /* … and its return */
	HOOK_UV_MADE,	    /* entry of UVBaseTransport._call_connection_made: argument 1 is the UVStream */
	HOOK_UV_MADE_DONE,  /* … and its return */
	HOOK_HAZARD,	    /* entry: a library is imported with which contexts mislead */
	HOOK_GO_NEW,	    /* a goroutine has been made: Go's argument 2 is its struct g, the maker's is current */
	HOOK_GO_EXIT,	    /* the current goroutine ends */
	HOOK_GO_SERVE,	    /* entry of net/http's serverHandler.ServeHTTP: Go's argument 4 is the request */
	HOOK_GO_ROUND_TRIP, /* entry of net/http's persistConn.roundTrip: Go's arguments are the connection and the request */
	HOOK_GO_WRITE,	    /* entry of persistConnWriter.Write, in whatever goroutine: the same */
	HOOK_TURN_BEGIN,    /* entry of libuv's callback of a stream */
	HOOK_TURN_END,	    /* return of that, or of what calls back for the thread pool */
	HOOK_TURN_SUBMIT,   /* entry: argument 2 is a request for the thread pool */
	HOOK_TURN_DONE,	    /* entry: argument 1 is one that is done */
	HOOK_TURN_REF,	    /* entry: argument 1 is a handle that the loop has to wait for from now on */
	HOOK_TURN_UNREF,    /* entry: … or no longer */
	HOOK_TURN_WRITE,    /* entry: argument 1 is a stream that is written to */
	HOOK_TLS_HANDSHAKE, /* entry of a TLS library's function (user/tls): argument 1 is the session */
	HOOK_TLS_READ,	    /* … the same, then a buffer and its size */
	HOOK_TLS_WRITE,
	HOOK_TLS_READ_EX,   /* … and where it will say how many bytes it moved */
	HOOK_TLS_WRITE_EX,
	HOOK_TLS_WRITE_EX2, /* … behind another argument */
	HOOK_TLS_SENDFILE,  /* entry: argument 1 is the session, argument 2 a file */
	HOOK_TLS_RETURN,    /* return of any of these */
	HOOK_TLS_FREE,	    /* entry: argument 1 is a session that ends */
	HOOK_GOTLS_HANDSHAKE, /* entry of crypto/tls' handshakes: Go's argument 1 is the Conn */
	HOOK_GOTLS_WRITE,   /* entry of (*Conn).writeRecordLocked: … then the type of a record, and what is in it */
	HOOK_GOTLS_READ,    /* in (*Conn).Read, the call that hands out text */
	__HOOK_CNT,
};

struct runtime_site {
	enum runtime_hook hook;
	bool ret;	 /* a return probe; where it is planted the return address is on top of the stack */
	uint64_t offset; /* in the file */
	uint64_t cookie; /* what the program finds there; one for all of a kind in a file */
	char *path;	 /* to be opened by us: through /proc/PID */
};

struct runtime {
	struct ws_runtime desc; /* kind WS_RT_NONE: nothing to follow, and `why` says so if it is an interpreter */
	struct runtime_site *sites;
	size_t n_sites;
	size_t n_deques; /* of these, the last: they are dear, and only of use where work waits in a collections.deque */
	char version[40]; /* "CPython 3.11.2", "go1.22.12"; "" unknown */
	char why[128];
	bool not_yet; /* with `why`: it is starting up, ask again later */
	/* Mapped by now, so in use: what these do has to be known before contexts are believed. */
	bool uvloop, greenlet;
	bool deques; /* work waits in such a deque here */
	const char *hazard; /* why its contexts mislead (user/runtime/hazards.h), NULL: nothing known */
};

/* 0, or negative errno: ESRCH (gone), EACCES, EPERM, ENOMEM. Release with runtime__free() after 0. */
int runtime__inspect(pid_t pid, struct runtime *ret);
/* Has it imported a library since that `r` says nothing of, and with which contexts mislead? */
bool runtime__outdated(pid_t pid, const struct runtime *r);
void runtime__free(struct runtime *r);

#endif
