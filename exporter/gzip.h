/* SPDX-License-Identifier: Apache-2.0 */
/* Compression of request bodies; the state (256 KiB) and the buffer are kept from one to the next. */
#ifndef WS_EXPORTER_GZIP_H
#define WS_EXPORTER_GZIP_H

#include "user/model/str.h"

#define GZIP_HEADROOM 5u /* as OTLP_HEADROOM */

struct gzip;

struct gzip *gzip__new(void); /* NULL with errno ENOMEM */
void gzip__free(struct gzip *g); /* NULL ok */
/* *ret is the compressor's, until its next call; GZIP_HEADROOM bytes in front of it may be overwritten. -ENOMEM */
int gzip__pack(struct gzip *g, struct str in, struct str *ret);

#endif
