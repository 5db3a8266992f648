/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Whose TLS libraries are probed: those that selected processes have mapped, each file once, for as long as one of
 * them runs and a little longer.
 */
#ifndef WS_FOLLOW_TLS_H
#define WS_FOLLOW_TLS_H

#include <stdbool.h>
#include <stdint.h>

struct discover;
struct follow_tls;
struct loader;

/* NULL with ENOMEM; all is borrowed. */
struct follow_tls *follow_tls__new(struct loader *l, struct discover *d);
void follow_tls__free(struct follow_tls *f); /* NULL ok; before the loader is closed */

/*
 * Pipeline thread: it has a connection. True the first time: follow_tls__process() it, on the control thread. By then
 * what it was linked with is mapped.
 */
bool follow_tls__talks(struct follow_tls *f, uint32_t tgid);
/* … it has an encrypted one: perhaps it has loaded a library since. True once a second at the most. */
bool follow_tls__encrypted(struct follow_tls *f, uint32_t tgid, uint64_t now);
/* … it has ended, or is another program now. */
void follow_tls__forget(struct follow_tls *f, uint32_t tgid);

/* Control thread. `encrypted`: it is known to use TLS; if by a library that is not read inside, that is said. */
void follow_tls__process(struct follow_tls *f, uint32_t tgid, bool encrypted);
void follow_tls__forked(struct follow_tls *f, uint32_t parent, uint32_t tgid);
void follow_tls__ended(struct follow_tls *f, uint32_t tgid, uint64_t now);
void follow_tls__tick(struct follow_tls *f, uint64_t now); /* CLOCK_MONOTONIC */

#endif
