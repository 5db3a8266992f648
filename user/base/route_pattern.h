/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Routes as an operator writes them. Segments are literal, hold one {name} (maybe with text around it), or are, at the
 * end, {*} for the rest.
 */
#ifndef WS_BASE_ROUTE_PATTERN_H
#define WS_BASE_ROUTE_PATTERN_H

#include "user/model/str.h"

bool route_pattern__ok(struct str pat);
/* `pat` is one that is ok. */
bool route_pattern__match(struct str pat, struct str path);
/* Cuts the first "/segment" off a path. False: there is none. */
bool route_pattern__cut(struct str *path, struct str *ret);

#endif
