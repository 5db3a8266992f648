/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The control socket: a client that connects gets one snapshot of the books as JSON, and the connection ends. Served
 * on the control thread through a descriptor for poll(); nothing that a client does or leaves undone makes it wait.
 */
#ifndef WS_LOADER_CONTROL_H
#define WS_LOADER_CONTROL_H

#include "user/base/dynbuf.h"
#include "user/base/opts.h"

struct control;

/*
 * The socket of an instance that died is replaced. NULL with errno, logged: EADDRINUSE if an instance lives there, or
 * if something else has that name; anything else only means that nobody can ask.
 */
struct control *control__new(const char *path, uint32_t mode);
void control__free(struct control *c); /* removes the socket if it is still ours; NULL ok */
int control__fd(const struct control *c); /* readable: call control__serve */
/* Answers everybody who waits, with one snapshot that `render` appends. */
void control__serve(struct control *c, void (*render)(void *ctx, struct dynbuf *out), void *ctx);

/* Client side: what the instance at `path` answers. 0 or -errno. */
int control__fetch(const char *path, struct dynbuf *out);
/* `wirespan stats`. Exit code. */
int control__stats(const struct opts *o, FILE *out);

#endif
