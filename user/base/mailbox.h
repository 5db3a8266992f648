/* SPDX-License-Identifier: Apache-2.0 */
/* Records from one thread to another: bounded, never blocks the sender, wakes the receiver through a descriptor. */
#ifndef WS_BASE_MAILBOX_H
#define WS_BASE_MAILBOX_H

#include <stddef.h>
#include <stdint.h>

struct mailbox;

/* `max`: bytes that may wait. NULL with errno. */
struct mailbox *mailbox__new(size_t max);
void mailbox__free(struct mailbox *m); /* NULL ok */
int mailbox__fd(const struct mailbox *m); /* readable while something waits */
/* Two parts, one record. -ENOMEM, -E2BIG: not taken. */
int mailbox__put(struct mailbox *m, const void *head, size_t head_len, const void *tail, size_t tail_len);
/* Calls fn for every record that waits; records are 8-aligned and valid during the call. Returns their number. */
unsigned int mailbox__take(struct mailbox *m, void (*fn)(void *ctx, const void *rec, size_t len), void *ctx);

#endif
