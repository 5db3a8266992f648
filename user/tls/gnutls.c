// SPDX-License-Identifier: Apache-2.0
/* GnuTLS 3.x (gnutls/gnutls.h). */
#include "user/tls/tls.h"

static const char *const files[] = {"libgnutls.so", "libgnutls-", NULL};

static const struct tls_function functions[] = {
	{"gnutls_record_recv", HOOK_TLS_READ, true, true, NULL, NULL},
	{"gnutls_record_send", HOOK_TLS_WRITE, true, true, NULL, NULL},
	{"gnutls_handshake", HOOK_TLS_HANDSHAKE, true, true, NULL, NULL},
	{"gnutls_deinit", HOOK_TLS_FREE, false, true, NULL, NULL},
};

const struct tls_library tls_gnutls = {
	.name = "GnuTLS",
	.files = files,
	.functions = functions,
	.n_functions = sizeof(functions) / sizeof(functions[0]),
};
