/* SPDX-License-Identifier: Apache-2.0 */
/* From options to the far end of the pipeline: the queue, the exporter, and limits that are set once per process. */
#ifndef WS_SINKS_H
#define WS_SINKS_H

#include "exporter/exporter.h"
#include "user/base/opts.h"
#include "user/model/stats.h"

struct batch_queue *sinks__queue(const struct opts *o, bool steady); /* NULL with errno */
struct exporter *sinks__exporter(const struct opts *o, struct batch_queue *q); /* NULL with errno, said */
int sinks__exit_code(int err); /* of the program, where a sink or a recording could not be opened */
/* Nothing was named to send to: traces are shown on the terminal. */
bool sinks__is_terminal_default(const struct opts *o);
const char *sinks__done(const struct opts *o); /* with spans that left: "sent", "shown", … */
/* Exit code of a run by its final books: 1 if there was something to write and none of it could be. */
int sinks__result(const struct stats *st);
void sinks__configure_spans(const struct opts *o);

#endif
