/* SPDX-License-Identifier: Apache-2.0 */
/* The pipeline thread's stages, wired: stream, proto, match, enrich, sample, batch. Live and replay run the same. */
#ifndef WS_PIPELINE_H
#define WS_PIPELINE_H

#include "bpf/event.h"
#include "user/base/opts.h"
#include "user/base/siphash.h"
#include "user/batch/batch.h"

/* What the stages ask of the world around them; every function may be NULL (replay). */
struct pipeline_hooks {
	void (*control)(void *ctx, uint64_t sock, const struct ws_ctl *c);
	void (*want)(void *ctx, uint32_t tgid, struct str comm, struct str args, uint64_t start_ns);
	void (*telemetry_receiver)(void *ctx, uint32_t tgid);
	void (*listening)(void *ctx, uint64_t sock, uint32_t tgid, uint32_t netns, uint16_t port, bool on, uint64_t ts);
	void (*proc)(void *ctx, const struct ws_ev_proc *ev);
	void (*serves)(void *ctx, uint32_t tgid);  /* … or reads one that it accepted */
	void (*talks)(void *ctx, uint32_t tgid);   /* it has a connection, whoever made it */
	void (*encrypted)(void *ctx, uint32_t tgid, uint64_t now); /* … whose TLS library is not read inside, so far */
	void (*over_unix)(void *ctx); /* the first request on AF_UNIX */
	void *ctx;
};

struct pipeline;

/* `q` stays the caller's. NULL with ENOMEM. */
struct pipeline *pipeline__new(const struct opts *o, const struct siphash_key *key, const struct pipeline_hooks *hooks,
			       struct batch_queue *q);
void pipeline__free(struct pipeline *p);
/* The source's next: a validated event, borrowed. */
void pipeline__event(void *p, const struct ws_ev *ev);
/* True while spans wait for what the control thread is to tell (a description, a selection). */
bool pipeline__waits(const struct pipeline *p);
/* End of input: every connection ends, whatever waits is decided and passed on. */
void pipeline__finish(struct pipeline *p);

#endif
