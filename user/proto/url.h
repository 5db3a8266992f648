/* SPDX-License-Identifier: Apache-2.0 */
/* What must not be shown of a URL: credentials, and query values that are secrets. */
#ifndef WS_PROTO_URL_H
#define WS_PROTO_URL_H

#include "user/model/str.h"

/*
 * Further keys (exact, case-sensitive, comma-separated) that are redacted; `on` == false switches all redaction of
 * query values off. Set once at start; `keys` is borrowed and may be NULL.
 */
void url__set_redaction(bool on, const char *keys);

/* Bytes that a URL of `len` bytes may take when redacted, at the most. */
#define URL_REDACTED_MAX(len) (4 * (len) + 48)

/*
 * The query (without "?") or a whole URL as it may be shown: the argument itself where there is nothing to hide, else
 * a copy in `buf`, which must hold URL_REDACTED_MAX(len) bytes.
 */
struct str url__redact_query(struct str query, char *buf);
struct str url__redact(struct str url, char *buf);

#endif
