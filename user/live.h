/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A live session: kernel programs, the pipeline thread, the control thread (the caller's own) and the
 * exporter thread, from the first probe to the last line. Commands trace, record and `-- CMD`.
 */
#ifndef WS_LIVE_H
#define WS_LIVE_H

#include "user/base/opts.h"

/* Exit code: 0 ended as asked, 1 failed while running, 2 wrong use, 3 not possible here; with `-- CMD` the command's. */
int live__run(const struct opts *o);

/* Runs a recording (o->file) through the same pipeline, without root and without /proc. Exit code as above. */
int rerun__run(struct opts *o);

#endif
