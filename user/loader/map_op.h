/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Operations on BPF maps while programs run. For as long as one lasts the kernel runs no program of a kprobe or a
 * tracepoint on that CPU (bpf_disable_instrumentation(), include/linux/bpf.h: it counts them as missed), and one that
 * preempts its own code (7.x does, by default) may let whatever else wants to run do so meanwhile: all of whose system
 * calls are then missed. So these are not preempted: the thread has a real-time priority for that moment, where it may.
 */
#ifndef WS_LOADER_MAP_OP_H
#define WS_LOADER_MAP_OP_H

#include <linux/types.h>

/* As those of libbpf: 0 or -errno. Any thread. */
int map_op__lookup(int map, const void *key, void *value);
int map_op__update(int map, const void *key, const void *value, __u64 flags);
int map_op__delete(int map, const void *key);

#endif
