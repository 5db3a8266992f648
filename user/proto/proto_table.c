// SPDX-License-Identifier: Apache-2.0
/* The protocols that there are, from proto_list.h. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "user/proto/proto.h"

#define PROTO(name) extern const struct proto_ops proto_##name;
#include "user/proto/proto_list.h"
#undef PROTO

static const struct proto_ops *const table[] = {
#define PROTO(name) &proto_##name,
#include "user/proto/proto_list.h"
#undef PROTO
};
#define N_TABLE (sizeof(table) / sizeof(table[0]))

const struct proto_ops *const *proto__table(size_t *ret_n)
{
	*ret_n = N_TABLE;
	return table;
}

static const char *row_mistake(size_t i)
{
	const struct proto_ops *p = table[i];

	if (!p->name || !p->name[0])
		return "no name";
	if (!p->detect || !p->parse || !p->skip || !p->eof || !p->fini)
		return "a slot is missing";
	if (p->max_head < PROTO_DETECT_MAX)
		return "max_head is too small";
	for (size_t k = 0; k < i; k++) {
		if (table[k]->name && strcmp(table[k]->name, p->name) == 0)
			return "the name is used twice";
	}
	return NULL;
}

int proto__check_table(void)
{
	int err = 0;

	for (size_t i = 0; i < N_TABLE; i++) {
		const char *mistake = row_mistake(i);

		if (!mistake)
			continue;
		fprintf(stderr, "wirespan: protocol table, row %zu (%s): %s\n", i,
			table[i]->name ? table[i]->name : "?", mistake);
		err = -EINVAL;
	}
	return err;
}
