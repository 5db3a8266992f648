/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the running kernel grants: a table of probes that do the thing, each with the kernel's answer
 * and what would change it. Never a version check.
 */
#ifndef WS_FEATURE_H
#define WS_FEATURE_H

#include <stdbool.h>
#include <stdio.h>

enum feature {
	FEAT_PRIVILEGE,	     /* capabilities */
	FEAT_HOST_PIDS,	     /* the host's pid namespace */
	FEAT_BTF,
	FEAT_READ_KERNEL,    /* programs may read kernel memory */
	FEAT_RINGBUF,
	FEAT_TASK_STORAGE,
	FEAT_TP_BTF,	     /* BTF tracepoints: process and socket life */
	FEAT_ITER,	     /* task_file iterator: existing sockets */
	FEAT_SOCK_LENGTH,    /* sock_send_length, sock_recv_length */
	FEAT_TASK_REGS,	     /* bpf_task_pt_regs */
	FEAT_LOOP,	     /* bpf_loop */
	FEAT_TRACEFS,
	FEAT_SYSCALL_TP,
	FEAT_FENTRY,
	FEAT_KPROBE,
	FEAT_UPROBE_MULTI,   /* many as one link */
	FEAT_UPROBE,	     /* contexts of runtimes, by one link each or by that */
	FEAT_STREAM_OPS,     /* inet_sendmsg and the like, with the arguments that we know */
	__FEAT_CNT
};

/* In the order in which --attach=auto tries them. */
enum plan { PLAN_NONE, PLAN_FENTRY, PLAN_SOCKET, PLAN_KPROBE, PLAN_SYSCALL, __PLAN_CNT };

struct features {
	int err[__FEAT_CNT]; /* 0 granted, else positive errno */
	enum plan plan;	     /* best of those granted */
	bool mounted_tracefs; /* privately, by us */
	bool legacy; /* runs the programs built for kernels below 5.17 */
};

/* Probes everything; may move the process into a mount namespace of its own. Single-threaded only. */
void features__probe(struct features *f);
const char *feature__name(enum feature f);
const char *plan__name(enum plan p);
enum plan plan__by_name(const char *name); /* PLAN_NONE: no such plan */
/* True if the plan can run; else *ret_why is the feature that is missing. */
bool features__plan_ok(const struct features *f, enum plan p, enum feature *ret_why);
/* What would grant a missing feature, one clause. */
const char *feature__remedy(enum feature f);
void features__print(const struct features *f, FILE *out);

#endif
