/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The built-in programs: two builds of the same sources (bpf/compat.bpf.h says why), of which one is opened,
 * cut down to the programs of one attach plan, loaded and attached.
 */
#ifndef WS_PROGRAMS_H
#define WS_PROGRAMS_H

#include <bpf/libbpf.h>
#include <stdbool.h>
#include <stdint.h>

#include "bpf/event.h"
#include "user/loader/feature.h"
#include "user/loader/loader.h"

#define PROGRAMS_LINKS_MAX 64

struct programs {
	struct bpf_object *obj;
	struct ws_config *cfg; /* writable until programs__load() */
	/* Variables of the running programs, see bpf/maps.bpf.h. */
	volatile unsigned long long *tls_layouts; /* __u64, of WS_TLS_KINDS */
	volatile uint32_t *proc_epoch, *waits_seen, *wait_teacher, *iter_done, *iter_pass;

	enum plan plan;
	bool legacy;
	bool uprobe_multi; /* programs in the code of runtimes are for user/loader/uprobe_multi.h */
	void *skel;
	struct bpf_link *links[PROGRAMS_LINKS_MAX];
	int n_links;
	int waits_refused; /* 0, or the errno with which bpf/wait.bpf.c was: threads and event loops prove no parent then */
	struct kprobes *kprobes; /* return probes of plan kprobe, or NULL */
};

/* 0 or -errno; the caller says what went wrong. Whatever happened, programs__close() releases it. */
int programs__open(struct programs *p, enum plan plan, const struct features *f);
/* Before programs__load(): knobs and sizes of maps. */
int programs__configure(struct programs *p, const struct loader_opts *o);
int programs__load(struct programs *p);
/* On error *ret_name is the program that could not be attached. */
int programs__attach(struct programs *p, const char **ret_name);
/* What costs the machine more than most of its connections are worth: where plans need it for AF_UNIX. 0 or -errno. */
int programs__attach_late(struct programs *p);
void programs__detach(struct programs *p);
void programs__close(struct programs *p);

int programs__map(const struct programs *p, const char *name); /* descriptor */
/* Entries and returns that the kernel skipped (recursion, too many calls at once): transfers that nobody saw. */
uint64_t programs__missed(const struct programs *p);

#endif
