// SPDX-License-Identifier: Apache-2.0
#include "user/loader/listing.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PORTS_SHOWN 8u /* of a service, in one line with the others */

static int by_port(const void *a, const void *b)
{
	const struct listed *x = a, *y = b;

	return x->port != y->port ? (int)x->port - (int)y->port : strcmp(x->service, y->service);
}

/* " :80 :443", of the service of list[0] */
static size_t print_ports(const struct listed *list, size_t n, char *buf, size_t size)
{
	size_t len = 0, ports = 0;

	for (size_t k = 0; k < n && ports <= PORTS_SHOWN && len + 8 < size; k++) {
		if (strcmp(list[k].service, list[0].service) != 0)
			continue;
		if (ports++ == PORTS_SHOWN)
			len += (size_t)snprintf(buf + len, size - len, " …");
		else
			len += (size_t)snprintf(buf + len, size - len, " :%u", list[k].port);
	}
	return len;
}

static bool listed_before(const struct listed *list, size_t i)
{
	for (size_t k = 0; k < i; k++)
		if (!strcmp(list[k].service, list[i].service))
			return true;
	return false;
}

size_t listing__print(struct listed *list, size_t n, char *buf, size_t size)
{
	size_t services = 0, at = 0;

	if (size)
		buf[0] = '\0';
	qsort(list, n, sizeof(*list), by_port);
	for (size_t i = 0; i < n; i++) {
		char item[512];
		size_t len;

		if (listed_before(list, i))
			continue;
		len = (size_t)snprintf(item, sizeof(item), "%s%s", services ? ", " : "",
				       list[i].service[0] ? list[i].service : "unknown_service");
		len += print_ports(list + i, n - i, item + len, sizeof(item) - len);
		services++;
		if (size && at + len < size) {
			memcpy(buf + at, item, len + 1);
			at += len;
		}
	}
	return services;
}
