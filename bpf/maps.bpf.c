// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
#include "maps.bpf.h"

const volatile struct ws_config cfg = {};
volatile __u32 proc_epoch = 1;
volatile __u32 waits_seen = 0;
volatile __u32 wait_teacher = 0;
volatile __u64 epoll_fops = 0;
volatile __u64 tls_layouts[WS_TLS_KINDS] = {};
volatile __u32 iter_done = 0;

struct events_map events SEC(".maps");
struct sk_states_map sk_states SEC(".maps");
struct sock_states_map sock_states SEC(".maps");
struct unix_socks_map unix_socks SEC(".maps");
struct thread_states_map thread_states SEC(".maps");
struct procs_map procs SEC(".maps");
struct procs_map marks SEC(".maps");
struct runtimes_map runtimes SEC(".maps");
struct bindings_map bindings SEC(".maps");
struct items_map items SEC(".maps");
struct writers_map writers SEC(".maps");
struct turn_works_map turn_works SEC(".maps");
struct tls_sessions_map tls_sessions SEC(".maps");
struct tls_marks_map tls_marks SEC(".maps");
struct tls_goroutines_map tls_goroutines SEC(".maps");
struct listeners_map listeners SEC(".maps");
struct wanted_map wanted SEC(".maps");
struct ctl_map ctl SEC(".maps");
struct kstats_map kstats SEC(".maps");

char LICENSE[] SEC("license") = "Dual BSD/GPL";
