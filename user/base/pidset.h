/* SPDX-License-Identifier: Apache-2.0 */
/* Processes that something has been done for once. */
#ifndef WS_BASE_PIDSET_H
#define WS_BASE_PIDSET_H

#include <stdbool.h>
#include <stdint.h>

#define PIDSET_MAX 65536u /* beyond these all are forgotten, and done for again */

struct pidset_entry;

struct pidset {
	struct pidset_entry *entries; /* {0}: empty */
};

/* True if it was not in there, and is now. False without memory, too. */
bool pidset__add(struct pidset *p, uint32_t tgid);
void pidset__del(struct pidset *p, uint32_t tgid);
void pidset__free(struct pidset *p); /* empties it */

#endif
