/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Probes in the code of runtimes (user/runtime), planted once per file. To take one out costs the kernel up to a tenth
 * of a second (where it has no uprobe_multi.h: each), so they stay until the end, not until their last process has
 * ended. Control thread only.
 */
#ifndef WS_UPROBES_H
#define WS_UPROBES_H

#include <bpf/libbpf.h>
#include <stdbool.h>
#include <stdint.h>

#include "user/runtime/runtime.h"

struct uprobes;

/*
 * NULL with ENOMEM; `obj` is borrowed. `multi`: its programs were loaded for uprobe_multi.h; `work`: the ends of work
 * items are wanted (HOOK_QUEUE_WAIT); `cookies`: programs are told a site's (Linux 5.15).
 */
struct uprobes *uprobes__new(struct bpf_object *obj, bool multi, bool work, bool cookies);
void uprobes__free(struct uprobes *u);		       /* NULL ok; pulls all out */
/* All of a runtime's sites: 0 or -errno. Again for a process that has imported more since. */
int uprobes__plant(struct uprobes *u, uint32_t tgid, const struct runtime *r);
/* Sites of that process, which may need none; -1: it is not followed. */
ssize_t uprobes__count(const struct uprobes *u, uint32_t tgid);
void uprobes__forget(struct uprobes *u, uint32_t tgid);

/* Probes in one file that can be taken out again. */
struct uprobe_set;
/* NULL with errno. All of them or none. */
struct uprobe_set *uprobes__attach(struct uprobes *u, const struct runtime_site *sites, size_t n);
void uprobe_set__free(struct uprobe_set *set); /* NULL ok */

/* Is this program one of these? They are attached where they are needed, not at start. */
bool uprobe__is_runtime(const struct bpf_program *prog);

#endif
