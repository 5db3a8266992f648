/* SPDX-License-Identifier: Apache-2.0 */
/* TLS libraries that are looked for: LIBRARY(the struct tls_library in its file). */
LIBRARY(tls_openssl)
LIBRARY(tls_gnutls)
