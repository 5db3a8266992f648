/* SPDX-License-Identifier: Apache-2.0 */
/* Services and their ports in one line, as the program says that it is ready. */
#ifndef WS_LOADER_LISTING_H
#define WS_LOADER_LISTING_H

#include <stddef.h>
#include <stdint.h>

struct listed {
	uint16_t port;
	const char *service; /* borrowed; "" unknown */
};

/*
 * Sorts the list by port and writes "app :80 :443, db :5432" to buf, as many services as fit whole, at most eight ports
 * of each. Returns how many services there are.
 */
size_t listing__print(struct listed *list, size_t n, char *buf, size_t size);

#endif
