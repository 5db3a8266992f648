// SPDX-License-Identifier: Apache-2.0
/*
 * The arguments of every program that is executed on the machine are in a recording, selected or not, and people give
 * passwords as arguments. Nobody can know all programs: so what looks like a credential by its name is one, in each of
 * the forms in which a name and a value are written, also inside of an argument that is itself a command or a document.
 * Where in doubt it is blanked: a replay needs of the arguments no more than the names of programs and scripts.
 */
#include "user/source/mask.h"

#include <ctype.h>
#include <string.h>

#include "user/model/secret.h"

/* What an option says about the word behind it. */
enum takes {
	TAKES_NOTHING,
	TAKES_SECRET,
	TAKES_LOGIN,  /* a secret if there is a ":" in it: -u is also "unbuffered" */
	TAKES_COOKIE, /* a secret if there is a "=" in it: -b is also "bind" */
};

static const struct str logins[] = { { "u", 1 }, { "U", 1 }, { "user", 4 }, { "proxy-user", 10 } };
static const struct str more_names[] = { { "pass", 4 }, { "passphrase", 10 }, { "cookie", 6 }, { "bearer", 6 },
					 { "oauth2-bearer", 13 }, { "credential", 10 }, { "credentials", 11 } };

static bool is_one_of(struct str s, const struct str *list, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		if (str__eq(s, list[i]))
			return true;
	}
	return false;
}

#define IS_ONE_OF(s, list) is_one_of(s, list, sizeof(list) / sizeof((list)[0]))

static bool is_quote(char c)
{
	return c == '\'' || c == '"' || c == '`';
}

static bool is_space(char c)
{
	return isspace((unsigned char)c);
}

static void blank(char *p, const char *end)
{
	for (; p < end; p++) {
		if (!is_space(*p))
			*p = '*';
	}
}

static struct str without_dashes(struct str name)
{
	while (name.len && *name.p == '-')
		name = (struct str){ name.p + 1, name.len - 1 };
	return name;
}

static bool is_secret_name(struct str name)
{
	name = without_dashes(name);
	return name.len && (IS_ONE_OF(name, more_names) || mask__is_header(name) || secret__is_key(name));
}

/* "-H" may have its header right behind it. */
static bool is_secret_header(struct str name)
{
	return name.len > 2 && !memcmp(name.p, "-H", 2) && is_secret_name((struct str){ name.p + 2, name.len - 2 });
}

static enum takes takes_of(struct str word)
{
	struct str name = without_dashes(word);

	if (word.len == 6 && !strncasecmp(word.p, "bearer", 6))
		return TAKES_SECRET;
	if (!name.len || name.len == word.len || memchr(name.p, '=', name.len))
		return TAKES_NOTHING;
	if (IS_ONE_OF(name, logins))
		return TAKES_LOGIN;
	if (str__eq(name, STR("b")))
		return TAKES_COOKIE;
	return is_secret_name(name) ? TAKES_SECRET : TAKES_NOTHING;
}

/* True if what the option takes is there, and was blanked. */
static bool blank_taken(enum takes takes, char *p, char *end)
{
	size_t len = (size_t)(end - p);

	if (!len || (takes == TAKES_LOGIN && !memchr(p, ':', len)) || (takes == TAKES_COOKIE && !memchr(p, '=', len)))
		return false;
	if (takes == TAKES_NOTHING || (takes == TAKES_SECRET && *p == '-'))
		return false;
	blank(p, end);
	return true;
}

/* The name that stands in front of a "=" or ":", maybe in quotes of its own. */
static struct str name_before(const char *start, const char *sep)
{
	const char *p = sep;
	size_t len;

	while (p > start && (is_quote(p[-1]) || p[-1] == '\\' || p[-1] == ' '))
		p--;
	for (len = 0; p - len > start; len++) {
		char c = *(p - len - 1);

		if (!isalnum((unsigned char)c) && !strchr("_-.%", c))
			break;
	}
	return (struct str){ p - len, len };
}

/* "Bearer x" is one value: the scheme tells how to read the rest. */
static bool is_scheme(const char *p, const char *end)
{
	static const struct str schemes[] = { { "bearer", 6 }, { "basic", 5 }, { "token", 5 }, { "digest", 6 } };

	for (size_t i = 0; i < sizeof(schemes) / sizeof(schemes[0]); i++) {
		if ((size_t)(end - p) == schemes[i].len && !strncasecmp(p, schemes[i].p, schemes[i].len))
			return true;
	}
	return false;
}

/* Where the value at *start ends. `whole`: name and value are all there is in the argument. */
static char *value_end(char **start, char *end, char sep, bool whole)
{
	bool pair = sep == '=';
	char *p = *start, quote;

	while (p < end && (is_space(*p) || *p == '\\') && (!whole || sep == ':'))
		p++;
	if (p < end && is_quote(*p)) {
		quote = *p++;
		*start = p;
		while (p < end && *p != quote)
			p++;
		return p;
	}
	*start = p;
	if (whole)
		return end;
	for (; p < end && !is_quote(*p) && *p != '\n'; p++) {
		if (pair && (*p == '&' || *p == ';' || (is_space(*p) && !is_scheme(*start, p))))
			break;
	}
	return p;
}

/* User and password of a URL; `p` is behind its "://". */
static void blank_userinfo(char *p, char *end)
{
	char *stop = p, *at;

	while (stop < end && !is_space(*stop) && !is_quote(*stop) && *stop != '/' && *stop != '?' && *stop != '#')
		stop++;
	at = memrchr(p, '@', (size_t)(stop - p));
	if (at)
		blank(p, at);
}

/* Behind white space inside an argument that is a command: the word in front may be an option. Returns what follows. */
static char *blank_next_word(const char *start, char *space, char *end)
{
	const char *word = space;
	char *p = space, *stop;
	enum takes takes;

	while (word > start && !is_space(word[-1]) && !is_quote(word[-1]))
		word--;
	takes = takes_of((struct str){ word, (size_t)(space - word) });
	while (p < end && is_space(*p))
		p++;
	if (p < end && is_quote(*p))
		p++;
	for (stop = p; stop < end && !is_quote(*stop) && !(is_space(*stop) && !is_quote(p[-1])); stop++)
		;
	return blank_taken(takes, p, stop) ? stop : p;
}

static char *blank_named(char *arg, char *sep, char *end)
{
	struct str name = name_before(arg, sep);
	bool login = IS_ONE_OF(without_dashes(name), logins) && *sep == '=';
	char *start = sep + 1, *stop;

	if (!login && !is_secret_name(name) && !is_secret_header(name))
		return sep + 1;
	stop = value_end(&start, end, *sep, name.p == arg);
	if (!login || memchr(start, ':', (size_t)(stop - start)))
		blank(start, stop);
	return stop > sep ? stop : sep + 1;
}

static void blank_arg(char *arg, char *end)
{
	char *p = arg;

	if (end - arg > 2 && arg[0] == '-' && (arg[1] == 'u' || arg[1] == 'U') && memchr(arg, ':', (size_t)(end - arg))) {
		blank(arg + 2, end); /* -uuser:password */
		return;
	}
	while (p < end) {
		if (end - p > 3 && !memcmp(p, "://", 3)) {
			blank_userinfo(p + 3, end);
			p += 3;
		} else if (*p == '=' || *p == ':') {
			p = blank_named(arg, p, end);
		} else if (is_space(*p)) {
			p = blank_next_word(arg, p, end);
		} else {
			p++;
		}
	}
}

void mask__args(char *args, size_t len)
{
	char *end = args + len, *arg, *stop;
	enum takes takes = TAKES_NOTHING;

	for (arg = args; arg < end; arg = stop + 1) {
		enum takes next;

		stop = memchr(arg, '\0', (size_t)(end - arg));
		if (!stop)
			stop = end;
		next = takes_of((struct str){ arg, (size_t)(stop - arg) });
		if (blank_taken(takes, arg, stop))
			next = TAKES_NOTHING;
		else
			blank_arg(arg, stop);
		takes = next;
	}
}
