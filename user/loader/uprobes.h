/* SPDX-License-Identifier: Apache-2.0 */
/* Probes in processes whose runtime is known (user/runtime), planted and pulled out per process. Control thread only. */
#ifndef WS_UPROBES_H
#define WS_UPROBES_H

#include <bpf/libbpf.h>
#include <stdbool.h>
#include <stdint.h>

#include "user/runtime/runtime.h"

struct uprobes;

struct uprobes *uprobes__new(struct bpf_object *obj); /* NULL with ENOMEM; `obj` is borrowed */
void uprobes__free(struct uprobes *u);		       /* NULL ok; pulls all out */
/*
 * All of a runtime's sites, or none: 0 or -errno. A process that has some keeps them and gets the rest: runtime__inspect()
 * adds what was imported later at the end.
 */
int uprobes__plant(struct uprobes *u, uint32_t tgid, const struct runtime *r);
size_t uprobes__count(const struct uprobes *u, uint32_t tgid); /* sites planted there */
void uprobes__pull(struct uprobes *u, uint32_t tgid);
/* Is this program one of these? They are attached where they are needed, not at start. */
bool uprobe__is_runtime(const struct bpf_program *prog);

#endif
