/* SPDX-License-Identifier: Apache-2.0 */
/* One end of a connection as this node sees it. Two processes on one node: two struct conn. */
#ifndef WS_MODEL_CONN_H
#define WS_MODEL_CONN_H

#include <stdint.h>

#include "bpf/event.h"
#include "user/model/str.h"

struct conn_addr {
	uint8_t ip[16]; /* v4-mapped for IPv4 */
	uint16_t port;	/* host order */
};

struct conn_info {
	uint64_t id;	  /* ws_ev_sock.sock */
	uint16_t family;  /* AF_INET, AF_INET6, AF_UNIX */
	enum ws_role role;
	bool born;	  /* seen from its first byte */
	bool tls;	  /* plaintext of an encrypted connection */
	char *sni;	  /* … the host that its client asked for, NUL-terminated; NULL: not known */
	uint8_t tls_version; /* … of TLS 1.0 (1) to 1.3 (4); 0: not known */
	uint32_t netns;
	uint32_t tgid;	  /* last process that moved bytes on it */
	struct conn_addr local, remote;
	char path[WS_UNIX_PATH_MAX + 1]; /* AF_UNIX */
};

/* "10.0.0.1", "::1" or the socket's path; NUL-terminated into buf (>= WS_UNIX_PATH_MAX + 1). Returns its length. */
size_t conn_addr__format(const struct conn_addr *a, char *buf, size_t size);

#endif
