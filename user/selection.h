/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which processes are selected, as the pipeline thread knows it: told by WS_EV_SELECT, which is in a recording too, so
 * that a replay leaves out the same.
 *
 * The control thread decides, and reads /proc for that: what a new process, a new program or a new listener asks of it
 * is answered a little later. Until then selection is open, for WAIT at the most (an answer can be lost).
 */
#ifndef WS_SELECTION_H
#define WS_SELECTION_H

#include "bpf/event.h"
#include "user/match/match.h"

struct selection;

struct selection *selection__new(void); /* NULL with ENOMEM */
void selection__free(struct selection *s); /* NULL ok */
void selection__told(struct selection *s, const struct ws_ev_select *ev);
/* Something has happened to the process that selection may depend on. parent: of a new one, or of a new program; or 0. */
void selection__ask(struct selection *s, uint32_t tgid, uint32_t parent, uint64_t now);
/* Remembered for a while, for the spans that are still to come. */
void selection__exit(struct selection *s, uint32_t tgid);
enum match_selection selection__of(const struct selection *s, uint32_t tgid, uint64_t now);
/* Processes that were asked about and not answered for. */
uint32_t selection__open(const struct selection *s);
/* End of input: there will be no more answers. */
void selection__close(struct selection *s);

#endif
