// SPDX-License-Identifier: Apache-2.0
#include "user/proto/url.h"

#include <ctype.h>

#define REDACTED "REDACTED"
#define KEY_MAX 128 /* of a key after decoding that is looked at */

/* OpenTelemetry semantic conventions, url.query: case-sensitive. */
static const struct str exact_keys[] = {
	{ "AWSAccessKeyId", 14 },
	{ "Signature", 9 },
	{ "sig", 3 },
	{ "X-Goog-Signature", 16 },
	{ "X-Amz-Signature", 15 },
	{ "X-Amz-Credential", 16 },
	{ "X-Amz-Security-Token", 20 },
};

/* Wherever they stand in a key, whatever its case, and with "_", "-" and "." left out. */
static const char *const telling_parts[] = { "token", "secret", "password", "passwd", "pwd", "apikey" };

static bool enabled = true;
static const char *more_keys;

void url__set_redaction(bool on, const char *keys)
{
	enabled = on;
	more_keys = keys;
}

static int hex_value(char c)
{
	return isdigit((unsigned char)c) ? c - '0' : tolower((unsigned char)c) - 'a' + 10;
}

/* A key that is spelled with escapes is still the same key to who receives it. Cut at KEY_MAX. */
static struct str decode_key(struct str key, char *buf)
{
	size_t n = 0;

	if (!memchr(key.p, '%', key.len) && key.len <= KEY_MAX)
		return key;
	for (size_t i = 0; i < key.len && n < KEY_MAX; i++) {
		if (key.p[i] == '%' && i + 2 < key.len && isxdigit((unsigned char)key.p[i + 1]) &&
		    isxdigit((unsigned char)key.p[i + 2])) {
			buf[n++] = (char)(hex_value(key.p[i + 1]) << 4 | hex_value(key.p[i + 2]));
			i += 2;
		} else {
			buf[n++] = key.p[i];
		}
	}
	return (struct str){ buf, n };
}

static bool in_list(const char *list, struct str key)
{
	while (list && *list) {
		size_t n = strcspn(list, ",");
		const char *p = list;

		list += n + (list[n] == ',');
		while (n && *p == ' ') {
			p++;
			n--;
		}
		while (n && p[n - 1] == ' ')
			n--;
		if (n && str__eq((struct str){ p, n }, key))
			return true;
	}
	return false;
}

/* Is one of the words that "_", "-" and "." part it into "auth"? "author" is none. */
static bool has_auth(struct str key)
{
	for (size_t i = 0; i + 4 <= key.len; i++) {
		if (strncasecmp(key.p + i, "auth", 4) == 0 && (i == 0 || strchr("_-.", key.p[i - 1])) &&
		    (i + 4 == key.len || strchr("_-.", key.p[i + 4])))
			return true;
	}
	return false;
}

static bool looks_secret(struct str key)
{
	char plain[KEY_MAX + 1];
	size_t n = 0;

	for (size_t i = 0; i < key.len; i++) {
		char c = key.p[i];

		if (c != '_' && c != '-' && c != '.' && c != '\0')
			plain[n++] = (char)tolower((unsigned char)c);
	}
	plain[n] = '\0';
	for (size_t i = 0; i < sizeof(telling_parts) / sizeof(telling_parts[0]); i++) {
		if (strstr(plain, telling_parts[i]))
			return true;
	}
	return has_auth(key);
}

static bool key_is_secret(struct str raw)
{
	char buf[KEY_MAX];
	struct str key = decode_key(raw, buf);

	for (size_t i = 0; i < sizeof(exact_keys) / sizeof(exact_keys[0]); i++) {
		if (str__eq(exact_keys[i], key))
			return true;
	}
	return in_list(more_keys, key) || looks_secret(key);
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
		if (eq < i && key_is_secret((struct str){ q.p + start, eq - start })) {
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
