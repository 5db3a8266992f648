// SPDX-License-Identifier: Apache-2.0
#include "user/model/secret.h"

#include <ctype.h>

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

/* Wherever they stand in a key, whatever its case, and with all that is no letter or digit left out. */
static const char *const telling_parts[] = { "token",  "secret",    "password",	  "passwd",	   "passphrase",
					     "pwd",    "apikey",    "privatekey", "authorization", "credential" };

/* As a word of its own only: "author", "bypass" and "passenger" are harmless. */
static const char *const telling_words[] = { "auth", "pass" };

static const char *more_keys;

void secret__set_keys(const char *keys)
{
	more_keys = keys;
}

static int hex_value(char c)
{
	return isdigit((unsigned char)c) ? c - '0' : tolower((unsigned char)c) - 'a' + 10;
}

/* A key that is spelled with escapes is still the same key to who receives it; "+" is a space. Cut at KEY_MAX. */
static struct str decode_key(struct str key, char *buf)
{
	size_t n = 0;

	for (size_t i = 0; i < key.len && n < KEY_MAX; i++) {
		if (key.p[i] == '%' && i + 2 < key.len && isxdigit((unsigned char)key.p[i + 1]) &&
		    isxdigit((unsigned char)key.p[i + 2])) {
			buf[n++] = (char)(hex_value(key.p[i + 1]) << 4 | hex_value(key.p[i + 2]));
			i += 2;
		} else {
			buf[n++] = key.p[i] == '+' ? ' ' : key.p[i];
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

/* "_", " " and the like part words; so does a capital behind a small letter: "userAuth". */
static bool word_begins(struct str key, size_t at)
{
	return at == 0 || !isalnum((unsigned char)key.p[at - 1]) ||
	       (islower((unsigned char)key.p[at - 1]) && isupper((unsigned char)key.p[at]));
}

static bool has_word(struct str key, const char *word)
{
	size_t len = strlen(word);

	for (size_t i = 0; i + len <= key.len; i++) {
		size_t end = i + len;

		if (strncasecmp(key.p + i, word, len) == 0 && word_begins(key, i) &&
		    (end == key.len || !isalnum((unsigned char)key.p[end]) || word_begins(key, end)))
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

		if (isalnum((unsigned char)c))
			plain[n++] = (char)tolower((unsigned char)c);
	}
	plain[n] = '\0';
	for (size_t i = 0; i < sizeof(telling_parts) / sizeof(telling_parts[0]); i++) {
		if (strstr(plain, telling_parts[i]))
			return true;
	}
	for (size_t i = 0; i < sizeof(telling_words) / sizeof(telling_words[0]); i++) {
		if (has_word(key, telling_words[i]))
			return true;
	}
	return false;
}

bool secret__is_key(struct str raw)
{
	char buf[KEY_MAX];
	struct str key = decode_key(raw, buf);

	for (size_t i = 0; i < sizeof(exact_keys) / sizeof(exact_keys[0]); i++) {
		if (str__eq(exact_keys[i], key))
			return true;
	}
	return in_list(more_keys, key) || in_list(more_keys, raw) || looks_secret(key);
}
