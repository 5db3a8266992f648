/* SPDX-License-Identifier: Apache-2.0 */
/* What a TLS client says in the clear, first of all: whom it wants to talk to. */
#ifndef WS_PROTO_TLS_HELLO_H
#define WS_PROTO_TLS_HELLO_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "user/model/str.h"

#define TLS_RECORD_HEAD 5u /* RFC 8446, 5.1: type, version, length */

/* RFC 8446, 5.1: a handshake's record begins here. */
bool tls_hello__begins(const uint8_t *data, size_t len);
/*
 * The host name (RFC 6066, 3) in a ClientHello (RFC 8446, 4.1.2), which begins with its record's head or just behind that and
 * may be cut anywhere. Points into `data`; empty: it has none, or none that a host can have, or this is no ClientHello.
 */
struct str tls_hello__server_name(const uint8_t *data, size_t len);

#endif
