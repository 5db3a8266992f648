// SPDX-License-Identifier: Apache-2.0
#include "user/model/chunked.h"

#include <string.h>

#define SIZE_LIMIT (INT64_MAX / 4)

ssize_t chunked__line(const uint8_t *p, size_t len, size_t *ret_used)
{
	const uint8_t *nl = memchr(p, '\n', len);
	size_t n;

	if (!nl)
		return -1;
	n = (size_t)(nl - p);
	*ret_used = n + 1;
	return (ssize_t)(n && p[n - 1] == '\r' ? n - 1 : n);
}

static int hex_digit(uint8_t c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	c |= 0x20;
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* chunk-size [ chunk-ext ]; white space before the extension is bad, but seen. */
int64_t chunked__size(const uint8_t *line, size_t len)
{
	int64_t size = 0;
	size_t i;

	for (i = 0; i < len && hex_digit(line[i]) >= 0; i++) {
		if (size > SIZE_LIMIT / 16)
			return -1;
		size = size * 16 + hex_digit(line[i]);
	}
	if (i == 0)
		return -1;
	while (i < len && (line[i] == ' ' || line[i] == '\t'))
		i++;
	return i == len || line[i] == ';' ? size : -1;
}

static bool is_field(const uint8_t *line, size_t len)
{
	size_t i = 0;

	while (i < len && line[i] > ' ' && line[i] < 0x7f && line[i] != ':')
		i++;
	return i && i < len && line[i] == ':';
}

/* Lines from the end: the empty one, trailers, and a chunk of size 0 with a line end before it. */
static bool ends_in_last_chunk(const uint8_t *p, size_t len)
{
	size_t end = len - 2, start;

	if (len < 7 || memcmp(p + len - 4, "\r\n\r\n", 4) != 0)
		return false;
	for (;; end = start) {
		for (start = end - 2; start >= 2 && memcmp(p + start - 2, "\r\n", 2) != 0; start--)
			;
		if (start < 2)
			return false;
		if (chunked__size(p + start, end - 2 - start) == 0)
			return true;
		if (!is_field(p + start, end - 2 - start))
			return false;
	}
}

bool chunked__last_at_end(const uint8_t *p, size_t len, bool fresh, size_t *ret_keep)
{
	static const char last[] = "\r\n0\r\n\r\n";
	const size_t n = sizeof(last) - 1;

	*ret_keep = 0;
	if (ends_in_last_chunk(p, len))
		return true;
	if (fresh && len == n - 2 && memcmp(p, last + 2, n - 2) == 0)
		return true;
	if (fresh && len < n - 2 && memcmp(p, last + 2, len) == 0) {
		*ret_keep = len;
		return false;
	}
	for (size_t k = len < n ? len : n - 1; k > 0; k--) {
		if (memcmp(p + len - k, last, k) == 0) {
			*ret_keep = k;
			break;
		}
	}
	return false;
}
