// SPDX-License-Identifier: Apache-2.0
#include "user/loader/map_op.h"

#include <bpf/bpf.h>
#include <sched.h>
#include <stdbool.h>

struct hold {
	int policy; /* what the thread had before */
	struct sched_param param;
	bool held;
};

static struct hold hold_cpu(void)
{
	const struct sched_param first = { .sched_priority = 1 };
	struct hold h = { .policy = sched_getscheduler(0) };

	if (h.policy < 0 || h.policy == SCHED_FIFO || h.policy == SCHED_RR || sched_getparam(0, &h.param))
		return h;
	h.held = !sched_setscheduler(0, SCHED_FIFO, &first); /* without CAP_SYS_NICE: not */
	return h;
}

static void let_go(const struct hold *h)
{
	if (h->held)
		sched_setscheduler(0, h->policy, &h->param);
}

int map_op__lookup(int map, const void *key, void *value)
{
	struct hold h = hold_cpu();
	int err = bpf_map_lookup_elem(map, key, value);

	let_go(&h);
	return err;
}

int map_op__update(int map, const void *key, const void *value, __u64 flags)
{
	struct hold h = hold_cpu();
	int err = bpf_map_update_elem(map, key, value, flags);

	let_go(&h);
	return err;
}

int map_op__delete(int map, const void *key)
{
	struct hold h = hold_cpu();
	int err = bpf_map_delete_elem(map, key);

	let_go(&h);
	return err;
}
