/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Every map and every knob, with who writes and who deletes. Defined once, in maps.bpf.c. */
#ifndef WS_MAPS_BPF_H
#define WS_MAPS_BPF_H

#include "vmlinux.h"
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>

#include "event.h"

/* Frozen before load: the verifier drops what the knobs switch off. */
extern const volatile struct ws_config cfg;

/* Written by user space while running. */
extern volatile __u32 proc_epoch; /* bumped by either side after every change of flags: threads then look again */
extern volatile __u32 wait_teacher; /* thread of wirespan's that waits for an epoll set, to show what such a file is; 0: none */
extern volatile __u64 epoll_fops;   /* … learned from that: struct file.f_op */
extern volatile __u32 waits_seen; /* wait.bpf.c is attached: without, a callback has no known end, and no thread serves one at a time */
extern volatile __u64 tls_layouts[WS_TLS_KINDS]; /* legacy, which has no cookies: the last union ws_tls of each kind that was found */
extern volatile __u32 iter_done;  /* existing sockets are known: whatever is new from now on was born seen */

/* A context that has written. */
struct writer {
	__u64 ctx;    /* 0: none, the thread itself */
	__u32 number; /* the address may be another's by the time of the answer */
	__u32 pad;
};

/* What is known of a socket. Lives and dies with it (sk_storage), or until TCP_CLOSE (hash). */
struct sock_state {
	__u64 id;
	__u64 key;    /* the hash key again, see struct ws_proc_ctl */
	__u64 ino;    /* inode of the socket: the hash key alone is an address that may be reused */
	__u64 pos[2]; /* by enum ws_dir: position behind the last byte moved */
	__u32 seq[2];
	__u32 tgid, tid; /* who dialled, or was first seen using it */
	__u8 role;
	__u8 announced; /* WS_EV_SOCK was sent */
	__u8 stopped;
	__u8 dialled;	/* connect() was seen and nothing was written since */
	__u8 born;
	__u8 seqpos;	/* positions are TCP sequence numbers */
	__u8 awaiting;	/* client: something was written, or dialled, and nothing read since */
	__u8 pad[3];
	__u16 family;
	__u64 tls; /* id of the connection that its plaintext is, 0: none is known; plaintext: id of the socket */
	__u64 session; /* … and the address of the library's object for it */
	struct ws_token dial; /* what the dialling thread was working on; libuv: whose request is under way */
	struct writer writer; /* client: in which it was last written to */
};

/* The kernel function that a thread is in, between its kprobe and its kretprobe. */
struct kcall {
	__u64 sk, msg, size; /* sk 0: none that matters */
	__u32 flags;
	__u32 fn;
};

/* The TLS library's function that a thread is in, between its probes. */
struct tls_call {
	__u64 session; /* address of the library's object, 0: none */
	__u64 sp;      /* user stack pointer at its entry: what is called from there has a lower one */
	__u64 buf;
	__u64 done; /* where it will say how many bytes it moved, 0: it returns that */
	__u32 what; /* enum tls_what */
	__u32 bound; /* the session's socket is known */
};

/*
 * Text that was sealed before the session's connection was known: to be told of when the program sends it, if its
 * memory is what it was by then.
 */
struct tls_held {
	__u64 session; /* 0: nothing is held */
	__u64 buf;
	__u64 first[2]; /* its first bytes: what is freed begins otherwise */
	struct writer writer;
	__u32 size;
	__u32 pad;
};

enum tls_what { TLS_HANDSHAKE, TLS_READ, TLS_WRITE, TLS_SENDFILE };

/* One transfer, on the way from a hook to the ring. */
struct xfer {
	__u64 sock, pos;
	__u64 buf;    /* user address of the bytes, or address of the iovec array */
	__u32 iovcnt; /* 0: buf is the buffer itself */
	__u32 kiov;   /* the array is the kernel's copy */
	__u64 lead;   /* bytes of the first segment in front of the transfer */
	__u32 size;
	__u32 skip; /* bytes at the front that are not wanted */
	__u32 want; /* bytes to copy behind them */
	__u32 seq;
	__u32 err;
	__u32 dir;
	__u32 flags;  /* WS_DATA_* */
	__u32 scan;   /* look for a trace context */
	__u32 behind; /* bytes that the same call moved after these */
	__u32 wire, wire_into, wire_flags; /* as in struct ws_ev_data */
	struct ws_token tok;
	struct {
		__u64 base, len; /* rest of the segment under way */
		__u64 skip;
		__u32 seg, off;
		__u64 left; /* bytes up to the end of the transfer */
		__u64 before, before_len; /* end and size of the segment that was passed last, 0: none */
	} at; /* how far an iovec is gathered */
};

/* What a thread is working on. Lives and dies with it. */
struct thread_state {
	struct ws_token tok;
	__u32 epoch; /* of proc_flags */
	__u32 proc_flags;
	__u64 mm_vec; /* sendmmsg, recvmmsg under way: vector and next index */
	__u32 mm_idx;
	__u32 used; /* a provisional token was handed out */
	__u32 runtime; /* enum ws_runtime_kind of its process; as of `epoch` */
	__u8 work_read; /* what it read last brought work, and nothing has ended that yet */
	__u8 work_first; /* … on a connection on which nothing was sent before */
	__u8 flushing; /* what it writes belongs to `flush`, whatever its context */
	__u8 turn;     /* libuv: in the callback of a stream, or of work that was given away */
	__u8 working;  /* WS_WORK_BEGIN was told, and not yet its end */
	__u8 sealed;   /* a TLS library has handed ciphertext to its program here, and no socket has sent it yet; Go: will */
	__u8 late;     /* libuv: outside of one, about to write on a connection that was taken into use for `flush` */
	__u32 turns;   /* libuv: number of this one, or of the last */
	struct ws_token flush;
	__u64 window;  /* context of the last read, until something else is read */
	__u64 tok_ctx; /* context in which `tok` was read, 0: the thread itself */
	__u64 tok_sk;  /* address of its struct sock; it may be gone */
	__u64 dial_sk; /* address of the struct sock that it has dialled last */
	__u64 acceptor; /* context in which it has asked for new connections last, 0: the thread itself, or none */
	__u64 stream;  /* UVStream of uvloop whose callback runs, 0: none */
	__u64 hub;     /* greenlet that waits for whichever comes first, 0: none was seen to */
	struct kcall call;
	struct tls_call tls;
	struct tls_call outer; /* the one that has called it: TLS inside of TLS */
	struct tls_held held;
	struct xfer xfer; /* the transfer under way: together with it the stack would be too deep */
#ifdef WS_LEGACY
	__u32 tid; /* the hash key again */
#endif
};

struct listen_key {
	__u32 netns;
	__u32 port;
};

/*
 * Elements of hash maps are allocated when they are made. Below 6.1 (commit 7c8199e24fa0) that can deadlock under
 * tracing programs, and 5.10 warns of it: legacy maps are allocated at start, and the larger ones are smaller.
 */
#ifdef WS_LEGACY
#define HASH_FLAGS 0
#define THREADS_MAX 16384
#define PROCS_MAX 16384
#else
#define HASH_FLAGS BPF_F_NO_PREALLOC
#define PROCS_MAX 65536
#endif
#define UNIX_SOCKS_MAX 16384

struct events_map {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 4 * 1024 * 1024); /* resized by the loader */
};

struct sk_states_map {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct sock_state);
};

struct sock_states_map {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, HASH_FLAGS);
	__uint(max_entries, 65536); /* resized by the loader */
	__type(key, __u64);
	__type(value, struct sock_state);
};

/*
 * AF_UNIX has no hook at its end. What is in here is looked at from time to time (iter.bpf.c): a socket that was closed
 * has lost its inode, and where its memory is another one's now, that has another inode.
 */
struct unix_ref {
	__u64 key; /* the hash key again */
	__u64 ino;
	__u64 id;
};

struct unix_socks_map {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, HASH_FLAGS);
	__uint(max_entries, UNIX_SOCKS_MAX);
	__type(key, __u64);
	__type(value, struct unix_ref);
};

struct thread_states_map {
#ifdef WS_LEGACY
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, HASH_FLAGS);
	__uint(max_entries, THREADS_MAX);
	__type(key, __u32);
#else
	__uint(type, BPF_MAP_TYPE_TASK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
#endif
	__type(value, struct thread_state);
};

struct procs_map {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, HASH_FLAGS);
	__uint(max_entries, PROCS_MAX);
	__type(key, __u32);
	__type(value, struct ws_proc_ctl);
};

struct runtimes_map {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, HASH_FLAGS);
	__uint(max_entries, 16384);
	__type(key, __u32);
	__type(value, struct ws_runtime);
};

/* An object of a process: a context, or a work item. */
struct object_key {
	__u64 addr;
	__u32 tgid;
	__u32 pad;
};

struct bindings_map {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 32768);
	__type(key, struct object_key);
	__type(value, struct ws_token);
};

struct writers_map {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 8192);
	__type(key, struct object_key);
	__type(value, struct ws_token);
};

/* A work item in some queue. */
struct queued {
	struct ws_token tok;
	__u64 since;
};

struct items_map {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 8192);
	__type(key, struct object_key);
	__type(value, struct queued);
};

/* libuv: what a request has given to the thread pool and not got back, by the id of its connection. */
struct turn_work {
	__u64 pos;   /* of the request, as in its token */
	__u32 turn;  /* the last one that gave some */
	__u32 given; /* by all of its turns */
	__u32 lately; /* … of these by that turn */
	__u32 pad;
};

struct turn_works_map {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 8192);
	__type(key, __u64);
	__type(value, struct turn_work);
};

/*
 * A TLS session of a process, by the address of the library's object. Its plaintext is a connection of its own to user
 * space, with its own id and positions; the socket that it is bound to moves nothing that is looked at.
 */
#define TLS_RECORDS_MAX 4

enum tls_begun { TLS_BEGUN = 1, TLS_BEGUN_LONG /* as long as they get */ };

struct tls_session {
	struct sock_state st; /* of the plaintext */
	__u64 under;	      /* id of the socket */
	__u64 sk;	      /* its address; it may be gone */
	__u64 proc_start;     /* of the process: ids and addresses are used again */
	__u32 at[2];	      /* by enum ws_dir: sequence number at which the record under way begins */
	__u32 into;	      /* RX: how many bytes of it were handed out */
	__u8 known[2];	      /* `at` holds */
	__u8 begun[2];	      /* enum tls_begun: a record is under way that nothing was handed out of, or that was not sent whole */
	__u8 nonblock;
	__u8 carried; /* the program itself carries ciphertext between library and socket */
	__u8 seqpos;  /* positions of the socket are TCP sequence numbers */
	/* RX, of servers: the records of the last transfer, if it was made of whole ones */
	__u8 n_records, next_record;
	__u8 hello; /* its ClientHello is to come */
	__u8 ahead; /* … of more than one */
	__u8 pad[1];
	__u32 version; /* Go: as WS_WIRE_VERSION, 0: not read yet */
	struct {
		__u32 at, len; /* sequence number of its head; bytes behind that, 0: it has no text */
	} records[TLS_RECORDS_MAX];
};

struct tls_sessions_map {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 16384);
	__type(key, struct object_key);
	__type(value, struct tls_session);
};

/* What tells a record of ciphertext: bytes of it that nobody chooses. */
struct tls_mark {
	__u64 bytes[2];
};

/* Whose record that is. */
struct tls_origin {
	__u64 session;
	__u32 tgid;
	__u32 handshake; /* the session had moved nothing yet */
};

struct tls_marks_map {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 4096);
	__type(key, struct tls_mark);
	__type(value, struct tls_origin);
};

/*
 * Go: the session that a goroutine shakes hands for, or writes for, and that no socket was seen to be. By its struct g, which
 * others get when it has ended: its number, which nobody gets, and how deep on its stack (which may be moved) that was.
 */
struct tls_awaited {
	__u64 session;
	__u64 goid;
	__u64 depth;
	__u64 goid_at; /* runtime.g.goid */
};

struct tls_goroutines_map {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 4096);
	__type(key, struct object_key);
	__type(value, struct tls_awaited);
};

struct listeners_map {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, HASH_FLAGS);
	__uint(max_entries, 16384);
	__type(key, struct listen_key);
	__type(value, __s64);
};

/* A listener that --port asks for, as accept() knows it, and its id. Programs at system calls cannot reach its state. */
struct wanted_ref {
	__u64 key; /* the hash key again */
	__u64 id;
};

struct wanted_map {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, HASH_FLAGS);
	__uint(max_entries, 4096);
	__type(key, __u64);
	__type(value, struct wanted_ref);
};

struct ctl_map {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, WS_CTL_SLOTS);
	__type(key, __u32);
	__type(value, struct ws_ctl);
};

struct kstats {
	__u64 n[__WS_K_CNT];
};

struct kstats_map {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct kstats);
};

extern struct events_map events SEC(".maps");		     /* kernel -> pipeline thread */
extern struct sk_states_map sk_states SEC(".maps");	     /* kernel only; freed with the socket */
extern struct sock_states_map sock_states SEC(".maps");	     /* kernel only; deleted at TCP_CLOSE */
extern struct unix_socks_map unix_socks SEC(".maps");	     /* kernel only; deleted by the sweep */
extern struct thread_states_map thread_states SEC(".maps");  /* kernel only; freed with the thread (legacy: deleted at its exit) */
extern struct procs_map procs SEC(".maps");		     /* control thread; kernel deletes at exit */
extern struct procs_map marks SEC(".maps");		     /* kernel only: at fork, exec, listen, accept; until exit */
extern struct runtimes_map runtimes SEC(".maps");	     /* control thread; kernel at fork, exec, exit */
extern struct bindings_map bindings SEC(".maps");	     /* kernel only: what a context works on; oldest go */
extern struct items_map items SEC(".maps");		     /* kernel only: what a queued work item belongs to; oldest go */
extern struct writers_map writers SEC(".maps");     /* kernel only: whose bytes a transport holds back; oldest go */
extern struct turn_works_map turn_works SEC(".maps"); /* kernel only: what the thread pool has to do for whom; oldest go */
extern struct tls_sessions_map tls_sessions SEC(".maps"); /* kernel only; deleted when the library frees it, oldest go */
extern struct tls_marks_map tls_marks SEC(".maps");	     /* kernel only; deleted when a socket sends it, oldest go */
extern struct tls_goroutines_map tls_goroutines SEC(".maps"); /* kernel only; deleted when its socket moves something, oldest go */
extern struct listeners_map listeners SEC(".maps");	     /* kernel: count of listeners per (netns, port) */
extern struct wanted_map wanted SEC(".maps");		     /* kernel only; deleted when the listener closes */
extern struct ctl_map ctl SEC(".maps");			     /* pipeline thread writes through mmap */
extern struct kstats_map kstats SEC(".maps");		     /* kernel counts, user space sums */

#endif
