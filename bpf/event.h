/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The kernel -> user event ABI, and the control tables user -> kernel.
 *
 * Every record starts with struct ws_ev. Records are a fixed head and, where a type says so, a
 * variable tail; `len` counts the meaningful bytes of both, the ring record itself may be longer
 * (it is reserved in size classes). No padding is implicit: -Wpadded and the asserts below hold it.
 *
 * Times are CLOCK_MONOTONIC nanoseconds. Addresses are 16 bytes, IPv4 as v4-mapped IPv6.
 * Ports are in host order.
 *
 * A *position* is the 64-bit number of a byte in one direction of one connection. For plain TCP its
 * low 32 bits are the TCP sequence number of that byte, so both ends of a connection agree on them
 * whatever rewrites the addresses in between; for everything else it counts bytes from 0 at the
 * moment when the socket was first seen.
 */
#ifndef WS_EVENT_H
#define WS_EVENT_H

#ifndef __VMLINUX_H__
#include <linux/types.h>
#endif
#include "limits.h"

#define WS_ABI_VERSION 4

enum ws_ev_type {
	WS_EV_DATA = 1,	 /* bytes entered or left a stream socket: struct ws_ev_data + captured bytes */
	WS_EV_SOCK,	 /* a socket was seen for the first time: struct ws_ev_sock */
	WS_EV_STATE,	 /* the end, or half of the end, of a connection: struct ws_ev_state */
	WS_EV_PROC,	 /* fork, exec, exit: struct ws_ev_proc + argument bytes (exec) */
	WS_EV_WORK,	 /* a thread begins or ends a work item (--executor-spans): struct ws_ev_work */
	__WS_EV_KERNEL_CNT,

	/* Made by user space and pushed through the same source, so that a recording holds them. */
	WS_EV_CLOCK = 64, /* wall clock offset: struct ws_ev_clock */
	WS_EV_TICK,	  /* nothing but the time: struct ws_ev */
	WS_EV_PROCINFO,	  /* what enrichment found out about a process: struct ws_ev_procinfo + bytes */
	WS_EV_LOST,	  /* events lost before the source: struct ws_ev_lost */
	WS_EV_SELECT,	  /* what selection says about a process: struct ws_ev_select */
	__WS_EV_USER_CNT,
};

struct ws_ev {
	__u16 type; /* enum ws_ev_type */
	__u16 pad;
	__u32 len; /* bytes of this record that mean something, head included */
	__u64 ts;
};

/*
 * A token names the bytes that started a piece of work: the read that brought them. It needs no
 * table to be resolved: `sock` and `pos` lead to the request that those bytes belong to, or, where a
 * callback was started by a response, to the exchange that the response belongs to.
 */
struct ws_token {
	__u64 sock; /* 0: no token */
	__u64 pos;  /* of the first byte of that read */
	__u32 len;  /* bytes of that read; more than one request in them is an ambiguity */
	__u8 kind;  /* enum ws_token_kind: how the writer came by it */
	__u8 flags; /* WS_TOKEN_* */
	__u16 pad;
	__u32 by; /* who read those bytes: the thread; the goroutine, virtual thread or greenlet (low 32 bits of its number) */
	/*
	 * Go: the goroutines that took it over when they were made, outermost first; 0: none. libuv: connection (a
	 * socket id) of the call whose answer was read since.
	 */
	__u32 heirs[WS_HEIRS];
	__u32 context; /* CPython: number of the context that wrote, made as a copy of one that had this token; 0: another */
};

enum ws_token_kind {
	WS_TOK_NONE,
	WS_TOK_THREAD,	    /* the last such read on this very thread */
	WS_TOK_PROVISIONAL, /* taken over from the thread that cloned this one */
	WS_TOK_CALLBACK,    /* run-to-completion loop: the ingress of this callback */
	WS_TOK_DIAL,	    /* run-to-completion loop: the callback that opened this connection */
	WS_TOK_CONTEXT,	    /* the runtime's own logical context, of a read that does not block (user/runtime) */
	WS_TOK_HANDED,	    /* handed on by a thread that had read them blocking */
	WS_TOK_GOROUTINE,   /* Go: the goroutine that read them, or its heirs */
	WS_TOK_VIRTUAL,	    /* JVM: the virtual thread that read them */
	WS_TOK_TURN,	    /* libuv: the ingress of the stream's callback that runs; sock 0: something else runs */
	WS_TOK_GREENLET,    /* CPython: the greenlet that read them */
	WS_TOK_CARRIED,	    /* Go: the call came with the context object of the request that they were */
	__WS_TOK_CNT,
};

#define WS_TOKEN_NONBLOCK 0x01 /* the read was on a non-blocking descriptor: a reactor is possible */
#define WS_TOKEN_ITEM 0x02     /* it came with a work item, through an executor's queue; libuv: or anything but the read itself */
#define WS_TOKEN_USED 0x04     /* kernel only: somebody called out with it, or passed it on */
#define WS_TOKEN_WOKEN 0x08    /* CPython: by a task that waited and was woken by the read; `by` names its context */
#define WS_TOKEN_SHARED 0x10   /* kernel only: that task is woken by several connections: it proves nothing */
#define WS_TOKEN_PARKED 0x20   /* the thread has waited for others since (WS_PROC_THREAD_WAITS) */
#define WS_TOKEN_PENDING 0x80  /* libuv: the thread pool has something to do that an earlier turn of this request gave it */
#define WS_TOKEN_TAKEN 0x80    /* CPython: WOKEN, and it has taken this very request out of what its connection has read */
#define WS_TOKEN_UNSURE 0x40   /* WOKEN, and nothing tells whether that task was made for this connection */

enum ws_dir { WS_RX, WS_TX };

/* ws_ev_data.flags */
#define WS_DATA_EOF 0x01	/* the read returned 0: the peer has ended its direction */
#define WS_DATA_UNSEEN 0x02	/* bytes moved in a way that shows no user buffer (sendfile, io_uring) */
#define WS_DATA_FAULT 0x04	/* the user buffer could not be read */
#define WS_DATA_AMBIGUOUS 0x08	/* position not certain: concurrent callers on this socket */
#define WS_DATA_ERROR 0x10	/* the call failed with `err` (reset, broken pipe) */
#define WS_DATA_DIALLED 0x20	/* first write on a connection that was seen being dialled */
#define WS_DATA_NONBLOCK 0x40	/* the descriptor, or the call, does not block */
#define WS_DATA_CONTEXT 0x80	/* a struct ws_context stands behind the captured bytes (unaligned) */

/* ws_ev_data.wire_flags */
#define WS_WIRE_KNOWN 0x01 /* `wire` holds */
#define WS_WIRE_VERSION 0x0700 /* of TLS: the second byte of its number (RFC 8446, 4.1.2: 1.0 is 0x0301, 1.3 is 0x0304); 0: not known */
#define WS_WIRE_VERSION_SHIFT 8
#define WS_WIRE_HELLO 0x02 /* no text: the connection's ClientHello (RFC 8446, 4.1.2), with its record's head or without; has no position */

/* The first valid trace context in the captured bytes of a read on an accepted connection. */
struct ws_context {
	__u8 trace_id[16];
	__u8 span_id[8];
	__u8 flags;
	__u8 valid;
	__u8 pad[6];
};

struct ws_ev_data {
	struct ws_ev ev;
	__u64 sock;	/* socket id: unique while this kernel program set is loaded */
	__u64 pos;	/* of the first byte moved */
	__u32 size;	/* bytes moved */
	__u32 captured; /* bytes that follow this head: those at pos + skipped … ; <= size - skipped */
	__u32 skipped;	/* bytes at the front that are known body (ws_ctl.skip_until) */
	__u32 seq;	/* per socket and direction, from 0; a hole is a lost event */
	__u32 tgid;
	__u32 tid;
	__u8 dir; /* enum ws_dir */
	__u8 flags;
	__u16 err; /* positive errno with WS_DATA_ERROR */
	__u16 tail; /* bytes that stand behind the captured ones and the context: the last that were moved; <= WS_TAIL */
	__u16 wire_flags; /* WS_WIRE_* */
	/* Plaintext of TLS: TCP sequence number of the record with the first byte, and how far into the record's text that is. */
	__u32 wire;
	__u32 wire_into;
	struct ws_token token; /* TX: the token found for the writer. RX, work: these bytes' own; else the thread's one before */
	__u8 data[];
};

enum ws_role { WS_ROLE_UNKNOWN, WS_ROLE_CLIENT, WS_ROLE_SERVER, WS_ROLE_LISTENER };

/* ws_ev_sock.flags */
#define WS_SOCK_BORN 0x01     /* seen from its first byte; else it existed before */
#define WS_SOCK_SEQ 0x02      /* positions are TCP sequence numbers */
#define WS_SOCK_CONNECTING 0x04 /* not established yet */
#define WS_SOCK_TLS 0x08 /* the plaintext of a TLS session: a connection of its own, beside that of the socket */

struct ws_ev_sock {
	struct ws_ev ev;
	__u64 sock;
	__u32 peer_tgid; /* AF_UNIX, accepted: the process that connected (SO_PEERCRED); else 0 */
	__u32 pad0;
	__u64 kaddr; /* address-like name of this end, AF_UNIX join key; never shown. With WS_SOCK_TLS: the socket's own id */
	__u64 peer_kaddr;
	__u64 rx_pos;
	__u64 tx_pos;
	__u32 netns; /* inode of the network namespace */
	__u32 tgid;
	__u32 tid;
	__u16 family; /* AF_INET, AF_INET6, AF_UNIX */
	__u8 role;    /* enum ws_role */
	__u8 flags;
	__u16 lport;
	__u16 rport;
	__u32 pad;
	__u8 laddr[16];
	__u8 raddr[16];
	struct ws_token token;	       /* of the caller that dialled */
	char path[WS_UNIX_PATH_MAX];   /* AF_UNIX: the bound path, "@…" if abstract */
	__u32 pad2;
};

enum ws_sock_state {
	WS_SS_ESTABLISHED = 1,
	WS_SS_FIN_SENT,	/* this end has ended its direction */
	WS_SS_CLOSED,	/* gone; `err` says why, 0 if in good order */
	WS_SS_FAILED,	/* a connect that never succeeded; `err` */
	WS_SS_UNLISTEN, /* a listener has closed */
	WS_SS_ABANDONED, /* this end has ended both directions while the peer had not: nothing more is read */
	WS_SS_FIN_LAST,	/* this end has ended its direction, after the peer, whether that was read or not */
};

/* Ids of sockets begin with the time when the socket was first seen: for one that is dialled, when that was. */
#define WS_SOCK_SINCE_SHIFT 10
#define WS_SOCK_SINCE(sock) ((sock) >> WS_SOCK_SINCE_SHIFT)

struct ws_ev_state {
	struct ws_ev ev;
	__u64 sock;
	__u32 tgid; /* of the running task; 0 if the change came from the network */
	__u32 tid;
	__u16 state; /* enum ws_sock_state */
	__u16 err;   /* positive errno, 0: none */
	__u32 pad;
	__u64 tx_pos; /* position behind the last byte written */
};

enum ws_proc_what {
	WS_PROC_FORK = 1,
	WS_PROC_EXEC,
	WS_PROC_EXIT,
	/* Of a thread, or what takes its place. */
	WS_PROC_THREAD_EXIT,
	WS_PROC_GOROUTINE_EXIT, /* one that is in the `heirs` of some token; `tid` is its number */
	WS_PROC_THREAD_WAITS, /* for new connections, or other clients', since it has read blocking: once per read; ids only */
	__WS_PROC_CNT,
};

struct ws_ev_proc {
	struct ws_ev ev;
	__u32 tgid; /* FORK: the child's */
	__u32 tid;
	__u32 ppid; /* tgid of the parent */
	__u16 what; /* enum ws_proc_what */
	__u16 args_len; /* EXEC: bytes of argv that follow, NUL between arguments */
	__u64 start_ns; /* start time of the process, CLOCK_BOOTTIME: (tgid, start_ns) is its identity */
	__u32 netns;
	__u16 exe_len;	/* EXEC: bytes behind those: what was executed (a script's interpreter), as it was asked for */
	__u16 name_len; /* … and behind those: the name of that file, symbolic links followed */
	char comm[WS_COMM_LEN];
	char args[];
};

enum ws_work_what { WS_WORK_BEGIN = 1, WS_WORK_END };

struct ws_ev_work {
	struct ws_ev ev;
	__u64 queued_ns; /* BEGIN: when it was put into the queue */
	__u32 tgid;
	__u32 tid;
	__u32 what; /* enum ws_work_what */
	__u32 pad;
	struct ws_token token; /* BEGIN: whose work it is */
	char function[WS_FUNCTION_MAX]; /* BEGIN: what it runs, by its qualified name; "": not known */
};

struct ws_ev_clock {
	struct ws_ev ev;
	__s64 wall_offset; /* CLOCK_REALTIME - CLOCK_MONOTONIC, nanoseconds */
};

struct ws_ev_procinfo {
	struct ws_ev ev;
	__u32 tgid;
	__u32 size; /* bytes that follow: user/enrich's own encoding */
	__u64 start_ns;
	__u8 data[];
};

struct ws_ev_lost {
	struct ws_ev ev;
	__u64 count;
};

struct ws_ev_select {
	struct ws_ev ev;
	__u32 tgid;
	__u32 selected; /* enum ws_selection */
};

enum ws_selection {
	WS_SELECT_NO,
	WS_SELECT_YES,
	WS_SELECT_RECEIVER, /* it receives telemetry */
	WS_SELECT_MASK = 0xff,
	WS_SELECT_ANSWER = 0x100, /* beside one of these: to a fork, an exec or a listener that was heard of */
};

/* ---- user -> kernel ------------------------------------------------------------------------ */

/* Knobs of the kernel programs, frozen before load. */
struct ws_config {
	__u32 capture;	  /* bytes of one transfer copied at the most, <= WS_CAPTURE_MAX */
	__u32 wake_bytes; /* unread bytes in the ring at which the consumer is woken */
	__u32 sk_storage; /* socket state in sk_storage (tracing programs), else in a hash */
	__u32 trace_all;  /* no selection: every process but the excluded ones */
	__u32 work_events; /* WS_EV_WORK is wanted */
	__u32 by_port;	    /* --port is given: `ports` holds */
	__u64 pattern[2];   /* name of the header that carries a trace context: 12 lower-case bytes, colon included */
	__u64 kaddr_secret; /* mixed into kernel addresses before they leave the kernel */
	__u64 ports[65536 / 64]; /* a bit each: who accepts there may be selected */
};

/*
 * What to capture of one connection. A direct-mapped table: slot = sock % WS_CTL_SLOTS, valid only if
 * `sock` matches. Losing a slot to another connection costs work, never correctness: the kernel then
 * captures by default.
 */
struct ws_ctl {
	__u64 sock;
	__u64 skip_until[2]; /* by enum ws_dir: bytes below this position are counted, not captured */
	__u32 mode;	     /* enum ws_ctl_mode */
	__u32 role;	     /* enum ws_role, where content has shown it, else 0 */
};

enum ws_ctl_mode { WS_CTL_CAPTURE, WS_CTL_COUNT, WS_CTL_STOP };

/*
 * Per-process flags; key: tgid. In two maps, so that neither side overwrites what the other says at that moment: `procs`
 * holds what the control thread has decided, `marks` what the kernel side takes for granted until it has. The later one
 * counts.
 */
struct ws_proc_ctl {
	__u32 tgid; /* repeats the key: hash elements are reused under a reader's hands */
	__u32 flags;
	/* CLOCK_MONOTONIC. A mark: when it was set; an event tells of it, later than this. A decision: the event that it is on. */
	__u64 at;
};

#define WS_PROC_TRACED 0x01   /* selected */
#define WS_PROC_EXCLUDED 0x02 /* never trace (beats TRACED) */
#define WS_PROC_WHOLE 0x08    /* … since before any of its sockets that is not known yet was used */
#define WS_PROC_LOOP 0x04     /* run-to-completion event loop on the tested list */

/* How to find the logical context of a thread; written by the control thread, inherited at fork; key: tgid. */
struct ws_runtime {
	__u32 tgid; /* repeats the key */
	__u32 kind; /* enum ws_runtime_kind */
	__s32 tls;  /* from the thread pointer (JVM: from the module's block) to PyThreadState *, Go's g *, or Thread * */
	__u32 everybody; /* CPython: not 0: a thread reads for others, outside of all contexts (set by the kernel's programs) */
	union {
		struct {
			__u32 thread_id;   /* PyThreadState.thread_id: must equal the thread pointer, or nothing is believed */
			__u32 context;	   /* PyThreadState.context */
			__u32 entered;	   /* PyContext.ctx_entered */
			__u32 fut_context; /* FutureObj.fut_context0; 0: not known in this version */
			__u32 uv_context; /* UVStream.context; 0: not found yet (the kernel looks for it at the first read) */
			__u32 stack; /* PyThreadState.datastack_chunk, where greenlet is in use; 0: it is not, or not followed */
			__u64 context_type; /* address of PyContext_Type */
			__s16 item_fn[3];   /* from a work item to its function, from pointer to pointer; 0: there already */
			__u16 qualname;	    /* PyFunctionObject.func_qualname */
			__u16 str_data;	    /* of an ASCII string: its characters */
			__u16 tuple_item;   /* PyTupleObject: the first */
		} py;
		struct {
			__u32 m;    /* runtime.g.m */
			__u32 curg; /* runtime.m.curg: must lead back to g, or nothing is believed */
			__u32 goid; /* runtime.g.goid */
			__u32 ctx;  /* net/http.Request.ctx: an interface, of two words */
		} go;
		struct {
			__u64 text, text_end; /* where libjvm is mapped: the vtable of a Thread is there */
			__u32 module;	      /* of libjvm in the dynamic thread vector; 0: not found yet (the kernel looks) */
			__u32 owner;	      /* JavaThread._monitor_owner_id: number of the thread that is mounted */
			__u32 continuation;   /* JavaThread._cont_entry: not NULL while that is a virtual one */
		} jvm;
	};
};

enum ws_runtime_kind { WS_RT_NONE, WS_RT_CPYTHON, WS_RT_GO, WS_RT_LIBUV, WS_RT_JVM };

/*
 * The cookie of a TLS library's probes, where they return: how to see what it hands to its program instead of to a
 * socket. Go's crypto/tls, where it hands out plaintext: where that is.
 */
union ws_tls {
	struct {
		__u16 wbio; /* SSL.wbio, a BIO * */
		__u16 ptr;  /* BIO.ptr */
		__u16 next; /* BIO.next_bio */
		__u8 kind;  /* enum ws_tls_buffer: what BIO.ptr leads to; 0: not known */
		__u8 version; /* SSL.version, Conn.vers: counted from 1; 0: not known */
	};
	struct {
		union {
			__u16 conn; /* the Conn's address, from the stack pointer; 0: `input` before argument 1 */
			__u16 goid; /* WS_TLS_GO_ENTRY: runtime.g.goid */
		};
		__u16 input; /* Conn.input, a bytes.Reader: what is left of a record's text */
		__u16 raw;   /* Conn.rawInput, a bytes.Buffer: what was read and not looked at */
	} go;
	__u64 cookie;
};

enum ws_tls_buffer {
	WS_TLS_MEM = 1, /* OpenSSL's own, BIO_s_mem(): crypto/bio/bss_mem.c, struct bio_buf_mem_st */
	WS_TLS_NODE, /* Node.js's: src/crypto/crypto_bio.h, class NodeBIO */
	WS_TLS_GO, /* none: `go` holds, where text is handed out */
	WS_TLS_GO_ENTRY, /* … where functions begin */
	WS_TLS_KINDS = WS_TLS_GO_ENTRY,
};

/* Kernel-side books, one array per CPU: enum ws_kstat indexes it. Unit: events. */
enum ws_kstat {
	WS_K_IN,	     /* events that capture set out to emit */
	WS_K_OUT,	     /* events submitted to the ring */
	WS_K_DROP_RING,	     /* ring buffer full */
	WS_K_DROP_STATE,     /* no room for socket state */
	WS_K_DROP_FD,	     /* the descriptor led to another connection when the call was over */
	WS_K_DROP_TLS,	     /* plaintext of a TLS session that is bound to no connection */
	WS_K_FAULTS,	     /* transfers whose user buffer could not be read (event sent without bytes) */
	WS_K_UNSEEN,	     /* transfers without a trustworthy user buffer (event sent without bytes) */
	WS_K_SKIPPED,	     /* transfers counted inside a known body: no event on purpose */
	WS_K_STOPPED,	     /* transfers on connections that user space told us to leave alone */
	WS_K_RUNS,	     /* program runs at socket events */
	WS_K_BYTES,	     /* bytes copied to the ring */
	WS_K_TASK_STATE,     /* no room for thread state: causality lost for that thread */
	__WS_K_CNT,
};

/* Slot of a socket in the control table: Fibonacci hashing, ids differ in their low bits by CPU only. */
static inline __u32 ws_ctl_slot(__u64 sock)
{
	return (__u32)((sock * 0x9E3779B97F4A7C15ull) >> 40) & (WS_CTL_SLOTS - 1);
}

#ifdef __cplusplus
#define WS_ASSERT static_assert
#else
#define WS_ASSERT _Static_assert
#endif
WS_ASSERT(sizeof(struct ws_ev) == 16, "ABI");
WS_ASSERT(sizeof(struct ws_token) == 40, "ABI");
WS_ASSERT(sizeof(struct ws_ev_data) == 112, "ABI");
WS_ASSERT(sizeof(struct ws_ev_sock) == 272, "ABI");
WS_ASSERT(sizeof(struct ws_ev_state) == 48, "ABI");
WS_ASSERT(sizeof(struct ws_ev_proc) == 64, "ABI");
WS_ASSERT(sizeof(struct ws_ev_work) == 80 + WS_FUNCTION_MAX, "ABI");
WS_ASSERT(sizeof(struct ws_ctl) == 32, "ABI");
WS_ASSERT(sizeof(struct ws_runtime) == 64, "ABI");

#endif
