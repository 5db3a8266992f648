// SPDX-License-Identifier: Apache-2.0
#include "user/base/glob.h"

/*
 * One item of the pattern at *pi against byte c; *pi moves behind the item. An unclosed set is a '[' like any other.
 */
static bool match_item(struct str pat, size_t *pi, unsigned char c)
{
	size_t i = *pi;
	bool negate, found = false;

	if (pat.p[i] == '\\' && i + 1 < pat.len) {
		*pi = i + 2;
		return (unsigned char)pat.p[i + 1] == c;
	}
	*pi = i + 1;
	if (pat.p[i] == '?')
		return true;
	if (pat.p[i] != '[')
		return (unsigned char)pat.p[i] == c;

	negate = ++i < pat.len && (pat.p[i] == '!' || pat.p[i] == '^');
	i += negate;
	for (size_t first = i; i < pat.len; i++) {
		unsigned char lo = (unsigned char)pat.p[i], hi = lo;

		if (lo == ']' && i > first) {
			*pi = i + 1;
			return found != negate;
		}
		if (i + 2 < pat.len && pat.p[i + 1] == '-' && pat.p[i + 2] != ']') {
			hi = (unsigned char)pat.p[i + 2];
			i += 2;
		}
		found |= c >= lo && c <= hi;
	}
	return c == '[';
}

bool glob__match(struct str pat, struct str text)
{
	size_t pi = 0, ti = 0, star_pi = 0, star_ti = 0;
	bool star = false;

	/* Only the last star needs to be taken back: an earlier one already matched as little as it could. */
	while (ti < text.len) {
		size_t next = pi;

		if (pi < pat.len && pat.p[pi] == '*') {
			star = true;
			star_pi = ++pi;
			star_ti = ti;
		} else if (pi < pat.len && match_item(pat, &next, (unsigned char)text.p[ti])) {
			pi = next;
			ti++;
		} else if (star) {
			pi = star_pi;
			ti = ++star_ti;
		} else {
			return false;
		}
	}
	while (pi < pat.len && pat.p[pi] == '*')
		pi++;
	return pi == pat.len;
}

bool list__next(const char **list, char sep, struct str *ret)
{
	const char *p = *list;

	while (p && *p) {
		const char *end = strchr(p, sep);
		struct str item = { p, end ? (size_t)(end - p) : strlen(p) };

		p = end ? end + 1 : p + item.len;
		while (item.len && (*item.p == ' ' || *item.p == '\t')) {
			item.p++;
			item.len--;
		}
		while (item.len && (item.p[item.len - 1] == ' ' || item.p[item.len - 1] == '\t'))
			item.len--;
		if (item.len) {
			*list = p;
			*ret = item;
			return true;
		}
	}
	return false;
}

bool glob__match_list(const char *patterns, struct str text)
{
	struct str pat;

	while (list__next(&patterns, ',', &pat)) {
		if (glob__match(pat, text))
			return true;
	}
	return false;
}
