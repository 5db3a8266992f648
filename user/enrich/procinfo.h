/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a WS_EV_PROCINFO record carries behind its head: the resource attributes of a process.
 *
 *	u8 version (1), u8 flags, u16 n, then n times
 *	u8 type (enum attr_type), u8 key length, u16 value length, key, NUL, value
 *
 * All numbers little-endian; an integer's value is 8 bytes, a boolean's 1. A recording may have been made by anyone:
 * nothing of it is believed before procinfo__check() has said 0.
 */
#ifndef WS_ENRICH_PROCINFO_H
#define WS_ENRICH_PROCINFO_H

#include <stdint.h>

#include "user/base/dynbuf.h"
#include "user/model/attr.h"

#define PROCINFO_VERSION 1
#define PROCINFO_ATTRS_MAX 160u
#define PROCINFO_VALUE_MAX 4096u
#define PROCINFO_SIZE_MAX (48u * 1024)

/* Appends the encoding. Values are cut at PROCINFO_VALUE_MAX. -ENOMEM, -E2BIG: nothing was appended. */
int procinfo__encode(struct dynbuf *out, const struct attr *attrs, size_t n);
/* 0, or -EINVAL if the bytes are not exactly one encoding. */
int procinfo__check(const uint8_t *data, size_t size);
/*
 * One attribute after the other of *checked* bytes. *at starts at 0. False: no more. Borrowed from data.
 */
bool procinfo__next(const uint8_t *data, size_t size, size_t *at, struct attr *ret);

#endif
