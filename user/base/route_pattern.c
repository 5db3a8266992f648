// SPDX-License-Identifier: Apache-2.0
#include "user/base/route_pattern.h"

bool route_pattern__cut(struct str *path, struct str *ret)
{
	const char *slash;

	if (!path->len || path->p[0] != '/')
		return false;
	path->p++;
	path->len--;
	slash = path->len ? memchr(path->p, '/', path->len) : NULL;
	*ret = (struct str){ path->p, slash ? (size_t)(slash - path->p) : path->len };
	path->p += ret->len;
	path->len -= ret->len;
	return true;
}

/* "{*}", "{*rest}", "*": the rest of the path, if there is any. */
static bool is_rest(struct str seg)
{
	return str__eq(seg, STR("*")) || (seg.len >= 3 && seg.p[0] == '{' && seg.p[1] == '*');
}

/* A segment of a pattern has at most one {name}, maybe with text around it: "{name}.json". */
static bool match_segment(struct str pat, struct str seg)
{
	const char *open = pat.len ? memchr(pat.p, '{', pat.len) : NULL, *close;
	size_t head, tail;

	if (!open)
		return str__eq(pat, seg);
	close = memchr(open, '}', pat.len - (size_t)(open - pat.p));
	head = (size_t)(open - pat.p);
	tail = pat.len - (size_t)(close + 1 - pat.p);
	return seg.len > head + tail && memcmp(seg.p, pat.p, head) == 0 &&
	       memcmp(seg.p + seg.len - tail, close + 1, tail) == 0;
}

bool route_pattern__match(struct str pat, struct str path)
{
	struct str p, s;

	while (route_pattern__cut(&pat, &p)) {
		if (!route_pattern__cut(&path, &s))
			return false;
		if (is_rest(p) && !pat.len)
			return s.len > 0;
		if (!match_segment(p, s))
			return false;
	}
	return !path.len;
}

bool route_pattern__ok(struct str pat)
{
	struct str seg;

	if (!pat.len || pat.p[0] != '/')
		return false;
	while (route_pattern__cut(&pat, &seg)) {
		int open = 0, seen = 0;

		if (is_rest(seg) && pat.len)
			return false; /* nothing can follow the rest */
		for (size_t i = 0; i < seg.len; i++) {
			open += seg.p[i] == '{';
			seen += seg.p[i] == '{';
			open -= seg.p[i] == '}';
			if (open < 0 || open > 1)
				return false;
		}
		if (open || seen > 1)
			return false;
	}
	return true;
}
