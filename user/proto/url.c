// SPDX-License-Identifier: Apache-2.0
#include "user/proto/url.h"

#include "user/model/secret.h"

#define REDACTED "REDACTED"

static bool enabled = true;

void url__set_redaction(bool on, const char *keys)
{
	enabled = on;
	secret__set_keys(keys);
}

static void put(char *buf, size_t *n, const char *p, size_t len)
{
	if (len)
		memcpy(buf + *n, p, len);
	*n += len;
}

/*
 * "k=v&k=v". ";" parts pairs too, as it once did (HTML 4.01, B.2.2): it costs nothing and hides more.
 * The shortest secret, "k=" and a separator, grows from three bytes to eleven: hence URL_REDACTED_MAX.
 */
struct str url__redact_query(struct str q, char *buf)
{
	size_t i = 0, n = 0, done = 0;

	if (!enabled || !q.len || !memchr(q.p, '=', q.len))
		return q;
	while (i < q.len) {
		size_t start = i, eq;

		while (i < q.len && q.p[i] != '=' && q.p[i] != '&' && q.p[i] != ';')
			i++;
		eq = i;
		while (i < q.len && q.p[i] != '&' && q.p[i] != ';')
			i++;
		if (eq < i && secret__is_key((struct str){ q.p + start, eq - start })) {
			put(buf, &n, q.p + done, eq + 1 - done);
			put(buf, &n, REDACTED, sizeof(REDACTED) - 1);
			done = i;
		}
		i++;
	}
	if (!done)
		return q;
	put(buf, &n, q.p + done, q.len - done);
	return (struct str){ buf, n };
}

/* "scheme://user:password@host/path?query#fragment" */
struct str url__redact(struct str url, char *buf)
{
	const char *end = url.p + url.len, *auth = url.len ? memmem(url.p, url.len, "://", 3) : NULL;
	const char *question = url.len ? memchr(url.p, '?', url.len) : NULL, *stop, *at;
	struct str query = STR_NULL, shown;
	size_t n = 0, head;

	if (question && auth && question < auth) /* the "://" is part of a value */
		auth = NULL;
	auth = auth ? auth + 3 : url.p;
	for (stop = auth; stop < end && *stop != '/' && *stop != '?' && *stop != '#'; stop++)
		;
	at = auth == url.p ? NULL : memrchr(auth, '@', (size_t)(stop - auth));
	put(buf, &n, url.p, (size_t)(auth - url.p));
	if (at) { /* user and password are one secret each; a user alone may be a token */
		const char *both = memchr(auth, ':', (size_t)(at - auth)) ? REDACTED ":" REDACTED "@" : REDACTED "@";

		put(buf, &n, both, strlen(both));
		auth = at + 1;
	}
	head = question ? (size_t)(question + 1 - auth) : (size_t)(end - auth);
	put(buf, &n, auth, head);
	if (question) {
		query = (struct str){ question + 1, (size_t)(end - question - 1) };
		shown = url__redact_query(query, buf + n);
		if (shown.p == query.p)
			put(buf, &n, query.p, query.len);
		else
			n += shown.len;
		if (!at && shown.p == query.p)
			return url;
	} else if (!at) {
		return url;
	}
	return (struct str){ buf, n };
}
