/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Return probes that many threads can be inside of at once. A return probe needs one record per call under way, and
 * a thread that waits in recv() is such a call. The kernel prepares ten, or two per processor, unless the probe is
 * made through tracefs, which takes a number (Documentation/trace/kprobetrace.rst, MAXACTIVE).
 */
#ifndef WS_KPROBES_H
#define WS_KPROBES_H

#include <bpf/libbpf.h>
#include <stdint.h>

struct kprobes;

/* Removes the definitions that instances left behind which were killed: the kernel keeps those. */
void kprobes__sweep(void);
/* NULL with errno: no memory. */
struct kprobes *kprobes__new(void);
/* Destroy the links first. NULL ok. */
void kprobes__free(struct kprobes *k);
/* Section "kretprobe/FUNCTION". NULL with errno. Without access to tracefs: the kernel's own limit, said once. */
struct bpf_link *kprobes__attach_return(struct kprobes *k, struct bpf_program *prog);
/* Returns that were not seen because too many calls were under way. NULL ok. */
uint64_t kprobes__missed(const struct kprobes *k);

#endif
