/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which processes have their runtime's contexts followed, and their TLS libraries read: those that are selected and
 * serve something, or talk at all.
 */
#ifndef WS_FOLLOW_H
#define WS_FOLLOW_H

#include <stdbool.h>
#include <stdint.h>

struct discover;
struct follow;
struct loader;

/* Runtimes that some kind of evidence needs which is not switched off: bit per enum ws_runtime_kind. */
uint32_t follow__kinds(uint32_t evidence_off);
/* `kinds`: bit per enum ws_runtime_kind that is wanted; `tls`: so are TLS libraries. NULL with ENOMEM; all is borrowed. */
struct follow *follow__new(struct loader *l, struct discover *d, uint32_t kinds, bool tls);
void follow__free(struct follow *f); /* NULL ok; before the loader is closed */

/*
 * Pipeline thread: a connection that this process accepted was seen. True the first time: follow__process() it, on the
 * control thread.
 */
bool follow__serves(struct follow *f, uint32_t tgid);
/* Pipeline thread: it has a connection, or an encrypted one. True: follow__tls() it, on the control thread. */
bool follow__talks(struct follow *f, uint32_t tgid);
bool follow__encrypted(struct follow *f, uint32_t tgid, uint64_t now);
/* Pipeline thread: it has ended, or is another program now. */
void follow__forget(struct follow *f, uint32_t tgid);

/*
 * Control thread. Looks at a process, for the first time or again: when it listens, or was forked, and at its first
 * connection, by when it has imported what it serves with.
 */
void follow__process(struct follow *f, uint32_t tgid);
void follow__tls(struct follow *f, uint32_t tgid, bool encrypted);
/* Workers that were forked before we came share their master's listener. */
void follow__workers(struct follow *f, uint32_t tgid);
void follow__forked(struct follow *f, uint32_t parent, uint32_t tgid);
void follow__ended(struct follow *f, uint32_t tgid, uint64_t now);
void follow__tick(struct follow *f, uint64_t now); /* CLOCK_MONOTONIC */

#endif
