// SPDX-License-Identifier: Apache-2.0
#include "user/model/conn.h"

#include <arpa/inet.h>

static const uint8_t v4_mapped[12] = { [10] = 0xff, [11] = 0xff };

size_t conn_addr__format(const struct conn_addr *a, char *buf, size_t size)
{
	const char *text;

	if (size == 0)
		return 0;
	if (memcmp(a->ip, v4_mapped, sizeof(v4_mapped)) == 0)
		text = inet_ntop(AF_INET, a->ip + sizeof(v4_mapped), buf, (socklen_t)size);
	else
		text = inet_ntop(AF_INET6, a->ip, buf, (socklen_t)size);
	if (!text) /* only if buf is too small */
		buf[0] = 0;
	return strlen(buf);
}
