/* SPDX-License-Identifier: Apache-2.0 */
#ifndef WS_ENRICH_UUID_H
#define WS_ENRICH_UUID_H

#include <stdint.h>

#include "user/model/str.h"

/* Name-based UUID, version 5 (RFC 9562 section 5.5), as 36 characters and a NUL. */
void uuid__v5(const uint8_t space[16], struct str name, char ret[37]);

#endif
