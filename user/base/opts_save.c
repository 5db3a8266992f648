// SPDX-License-Identifier: Apache-2.0
/* Options inside recordings: "name\0value\0" for each row that changes spans, so that a value may hold anything. */
#include "user/base/opts.h"

#include <errno.h>
#include <string.h>

#include "user/base/dynbuf.h"
#include "user/base/opts_table.h"

int opts__save_spans(const struct opts *o, struct dynbuf *out)
{
	for (size_t i = 0; i < opt_rows_cnt; i++) {
		const struct opt_row *r = &opt_rows[i];
		char number[64];
		const char *value = number;
		int err;

		if (!(r->flags & OPT_SPANS))
			continue;
		if (opt_value__is_str(r))
			value = *opt_value__str((struct opts *)o, r) ?: "";
		else
			opt_value__format(o, r, number, sizeof(number));
		err = dynbuf__append(out, r->name, strlen(r->name) + 1);
		if (!err)
			err = dynbuf__append(out, value, strlen(value) + 1);
		if (err)
			return err;
	}
	return 0;
}

int opts__load_spans(struct opts *o, const void *data, size_t len, FILE *err)
{
	static const char where[] = "options of the recording";
	struct opt_ctx c = { .o = o, .err = err };
	struct opt_from from = { .origin = ORIGIN_RECORDING };
	const char *p = data, *end = p + len;

	while (p < end) {
		const char *name = p, *value = memchr(p, 0, (size_t)(end - p));
		const char *stop = value ? memchr(value + 1, 0, (size_t)(end - value - 1)) : NULL;
		const struct opt_row *r;

		if (!stop) {
			opt__mistake(&c, where, "damaged");
			return -EINVAL;
		}
		value++;
		p = stop + 1;
		r = opt__find(name, strlen(name));
		from.where = name;
		if (!r || !(r->flags & OPT_SPANS))
			opt__mistake(&c, where, "%s is not known here: replay it with the wirespan that recorded it", name);
		else if (o->from[opt__index(r)].origin != ORIGIN_FLAG)
			opt_value__set(&c, r, value, &from);
	}
	return c.mistakes ? -EINVAL : 0;
}
