// SPDX-License-Identifier: Apache-2.0
/*
 * From text to struct opts and back. Rules of the OTEL_* variables (OpenTelemetry specification,
 * "Environment variable specification"): true is only "true", words are case-insensitive, durations are integers in
 * milliseconds, and what cannot be read is warned about and ignored.
 */
#include "user/base/opts_table.h"

#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdlib.h>
#include <unistd.h>

#include "user/base/dynbuf.h"
#include "user/base/mem.h"
#include "user/base/route_pattern.h"
#include "user/base/utf8.h"

#define WHY_LEN 256
#define SHOWN 80 /* characters of a wrong value that a message repeats */

#define FIELD(o, r, type) ((type *)(void *)((char *)(o) + (r)->offset))

/* Whatever stands in a variable or a file must not move the reader's cursor. */
static void print_line(FILE *err, const char *where, const char *fmt, va_list ap)
{
	char text[1024];
	bool utf8;
	int n = 0;

	if (where)
		n = snprintf(text, sizeof(text), "%s: ", where);
	if (n >= 0 && (size_t)n < sizeof(text))
		vsnprintf(text + n, sizeof(text) - n, fmt, ap);
	utf8 = utf8__valid(str__of(text));
	for (char *p = text; *p; p++) {
		if ((unsigned char)*p < 0x20 || *p == 0x7f || (!utf8 && (unsigned char)*p >= 0x80))
			*p = '?';
	}
	fprintf(err, "wirespan: %s\n", text);
}

void opt__mistake(struct opt_ctx *c, const char *where, const char *fmt, ...)
{
	va_list ap;

	c->mistakes++;
	va_start(ap, fmt);
	print_line(c->err, where, fmt, ap);
	va_end(ap);
}

void opt__warn(struct opt_ctx *c, const char *where, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	print_line(c->err, where, fmt, ap);
	va_end(ap);
}

char **opt_value__str(struct opts *o, const struct opt_row *r)
{
	return FIELD(o, r, char *);
}

bool opt_value__is_str(const struct opt_row *r)
{
	return r->type == OPT_STR || r->type == OPT_FILE || r->type == OPT_LIST || r->type == OPT_ENUM;
}

/* ---- readers: 0, or -EINVAL with `why` --------------------------------------------------------- */

static int parse_bool(const char *text, bool *ret, char *why)
{
	static const char *const yes[] = { "true", "yes", "on", "1" }, *const no[] = { "false", "no", "off", "0" };

	for (size_t i = 0; i < 4; i++) {
		if (strcasecmp(text, yes[i]) == 0 || strcasecmp(text, no[i]) == 0) {
			*ret = strcasecmp(text, yes[i]) == 0;
			return 0;
		}
	}
	snprintf(why, WHY_LEN, "%.*s is neither true nor false", SHOWN, text);
	return -EINVAL;
}

/* Digits only: strtoull would take signs, spaces and hexadecimal. */
static int parse_digits(const char *text, const char **ret_end, uint64_t *ret)
{
	uint64_t v = 0;
	const char *p = text;

	for (; *p >= '0' && *p <= '9'; p++) {
		if (__builtin_mul_overflow(v, 10, &v) || __builtin_add_overflow(v, (uint64_t)(*p - '0'), &v))
			return -ERANGE;
	}
	if (p == text)
		return -EINVAL;
	*ret = v;
	*ret_end = p;
	return 0;
}

struct unit {
	const char *name;
	uint64_t factor;
};

static const struct unit size_units[] = {
	{ "", 1 },
	{ "K", 1024 },
	{ "KiB", 1024 },
	{ "M", 1024 * 1024 },
	{ "MiB", 1024 * 1024 },
	{ "G", 1024 * 1024 * 1024 },
	{ "GiB", 1024 * 1024 * 1024 },
	{ NULL, 0 },
};

static const struct unit time_units[] = {
	{ "ms", 1 }, { "s", 1000 }, { "m", 60 * 1000 }, { "h", 3600 * 1000 }, { NULL, 0 },
};

static const struct unit no_units[] = { { "", 1 }, { NULL, 0 } };

/* The largest unit that divides the value. */
static void format_units(uint64_t v, const struct unit *units, char *buf, size_t size)
{
	const struct unit *best = NULL;

	for (const struct unit *u = units; u->name; u++) {
		/* Of two names of one size the later, which is the unmistakable one. */
		if (v % u->factor == 0 && (v || !best) && (!best || u->factor >= best->factor))
			best = u;
	}
	snprintf(buf, size, "%" PRIu64 "%s", v / best->factor, best->name);
}

static int parse_number(const struct opt_row *r, const char *text, bool otel, uint64_t *ret, char *why)
{
	const struct unit *units = no_units, *u;
	const char *end, *hint = "";
	uint64_t v;
	int err;

	if (r->type == OPT_SIZE) {
		units = size_units;
		hint = ": give bytes, or a unit of K, M, G";
	} else if (r->type == OPT_DURATION && !otel) {
		units = time_units;
		hint = ": give a unit of ms, s, m, h, as in 500ms";
	}
	err = parse_digits(text, &end, &v);
	if (err == -EINVAL) {
		snprintf(why, WHY_LEN, "%.*s is not a %s%s", SHOWN, text, units == no_units ? "whole number" : "number", hint);
		return err;
	}
	for (u = units; !err && u->name; u++) {
		if (strcasecmp(end, u->name) == 0 || (v == 0 && *end == 0))
			break;
	}
	if (!err && !u->name) {
		snprintf(why, WHY_LEN, "%.*s is not a %s%s", SHOWN, text, *hint ? "number with its unit" : "whole number",
			 hint);
		return -EINVAL;
	}
	if (err || __builtin_mul_overflow(v, u->factor, &v) || v < r->min || v > r->max) {
		char lo[32], hi[32];

		/* Limits in the units that the reader uses. */
		format_units(r->min, units, lo, sizeof(lo));
		format_units(r->max, units, hi, sizeof(hi));
		snprintf(why, WHY_LEN, "%.*s is out of range %s..%s", SHOWN, text, lo, hi);
		return -EINVAL;
	}
	*ret = v;
	return 0;
}

static int parse_mode(const char *text, uint32_t *ret, char *why)
{
	char *end;
	unsigned long v;

	errno = 0;
	v = strtoul(text, &end, 8);
	if (!isdigit((unsigned char)text[0]) || *end || errno || v > 0777) {
		snprintf(why, WHY_LEN, "%.*s is not an octal mode such as 0660", SHOWN, text);
		return -EINVAL;
	}
	*ret = (uint32_t)v;
	return 0;
}

/* The choice that equals the word in any letter case, as the table spells it. */
static struct str find_choice(const char *choices, const char *word, size_t len)
{
	const char *p = choices;

	while (*p) {
		size_t n = strcspn(p, "|");

		if (n == len && strncasecmp(p, word, n) == 0)
			return (struct str){ p, n };
		p += n + (p[n] == '|');
	}
	return STR_NULL;
}

static void explain_choices(const struct opt_row *r, const char *word, size_t len, char *why)
{
	size_t at = snprintf(why, WHY_LEN, "%.*s is not one of ", (int)(len > SHOWN ? SHOWN : len), word);

	for (const char *p = r->choices; *p && at + 3 < WHY_LEN; p++) {
		why[at++] = *p == '|' ? ',' : *p;
		if (*p == '|')
			why[at++] = ' ';
	}
	why[at] = 0;
}

/* ---- lists -------------------------------------------------------------------------------------- */

/* Calls fn for each comma-separated item, spaces around it removed. Stops at the first that is not 0. */
static int each_item(const char *text, int (*fn)(const char *item, size_t len, char *why, size_t size), char *why,
		     size_t size)
{
	for (;;) {
		size_t len = strcspn(text, ","), n = len;
		const char *item = text;
		int err;

		while (n && isspace((unsigned char)*item)) {
			item++;
			n--;
		}
		while (n && isspace((unsigned char)item[n - 1]))
			n--;
		err = fn(item, n, why, size);
		if (err || !text[len])
			return err;
		text += len + 1;
	}
}

static int refuse_empty(const char *item, size_t len, char *why, size_t size)
{
	if (len)
		return 0;
	snprintf(why, size, "an item of the list is empty");
	return -EINVAL;
}

static int check_pid(const char *item, size_t len, char *why, size_t size)
{
	const char *end;
	uint64_t v;

	if (parse_digits(item, &end, &v) || end != item + len || v == 0 || v > INT32_MAX) {
		snprintf(why, size, "'%.*s' is not a process id", (int)len, item);
		return -EINVAL;
	}
	return 0;
}

int opt_check__pids(const char *text, char *why, size_t size)
{
	return each_item(text, check_pid, why, size);
}

static int check_port(const char *item, size_t len, char *why, size_t size)
{
	const char *end;
	uint64_t lo, hi;

	if (parse_digits(item, &end, &lo))
		goto wrong;
	hi = lo;
	if (end < item + len && *end == '-' && parse_digits(end + 1, &end, &hi))
		goto wrong;
	if (end != item + len || lo == 0 || hi > 65535 || lo > hi)
		goto wrong;
	return 0;
wrong:
	snprintf(why, size, "'%.*s' is not a port (1..65535) or a range such as 8000-8010", (int)len, item);
	return -EINVAL;
}

int opt_check__ports(const char *text, char *why, size_t size)
{
	return each_item(text, check_port, why, size);
}

static bool is_percent_encoded(const char *p, size_t len)
{
	for (size_t i = 0; i < len; i++) {
		if ((unsigned char)p[i] < 0x20 || p[i] == 0x7f)
			return false;
		if (p[i] != '%')
			continue;
		if (i + 2 >= len || !isxdigit((unsigned char)p[i + 1]) || !isxdigit((unsigned char)p[i + 2]))
			return false;
		i += 2;
	}
	return true;
}

static int check_pair(const char *item, size_t len, char *why, size_t size)
{
	const char *eq = memchr(item, '=', len);

	if (len == 0)
		return 0; /* a comma at the end */
	if (!eq || eq == item) {
		snprintf(why, size, "'%.*s' is not of the form key=value", (int)(len > SHOWN ? SHOWN : len), item);
		return -EINVAL;
	}
	if (!is_percent_encoded(item, len)) {
		snprintf(why, size, "the value of %.*s is not percent-encoded", (int)(eq - item), item);
		return -EINVAL;
	}
	return 0;
}

int opt_check__pairs(const char *text, char *why, size_t size)
{
	return each_item(text, check_pair, why, size);
}

/* Percent-encoded or not: a field of HTTP must not have them (RFC 9110, 5.5). */
static bool has_control(const char *value, size_t len)
{
	for (size_t i = 0; i < len; i++) {
		char hex[3] = { value[i] == '%' && i + 2 < len ? value[i + 1] : '\0', value[i + 2 < len ? i + 2 : i], '\0' };
		unsigned long c = hex[0] ? strtoul(hex, NULL, 16) : (unsigned char)value[i];

		if ((c < 0x20 && c != '\t') || c == 0x7f)
			return true;
	}
	return false;
}

/* What the exporter says of its own request. */
static bool frames_request(const char *name, size_t len)
{
	static const char *const own[] = { "content-length", "content-type", "content-encoding", "transfer-encoding", "connection",
					   "te", "trailer", "upgrade", "expect" };

	for (size_t i = 0; i < sizeof(own) / sizeof(own[0]); i++)
		if (strlen(own[i]) == len && !strncasecmp(own[i], name, len))
			return true;
	return false;
}

/* Messages must not repeat values here: they are credentials. */
static int check_header(const char *item, size_t len, char *why, size_t size)
{
	const char *eq = memchr(item, '=', len);
	size_t key = eq ? (size_t)(eq - item) : 0;

	if (len == 0)
		return 0;
	while (key && isspace((unsigned char)item[key - 1]))
		key--;
	if (!key) {
		snprintf(why, size, "an item is not of the form key=value");
		return -EINVAL;
	}
	for (size_t i = 0; i < key; i++) {
		/* token, RFC 9110 section 5.6.2 */
		if (!isalnum((unsigned char)item[i]) && !strchr("!#$%&'*+-.^_`|~", item[i])) {
			snprintf(why, size, "an item does not begin with a header name and '='");
			return -EINVAL;
		}
	}
	if (frames_request(item, key)) {
		snprintf(why, size, "%.*s is not for you to say: the exporter's own depends on what it sends", (int)key, item);
		return -EINVAL;
	}
	if (!is_percent_encoded(eq + 1, len - (size_t)(eq + 1 - item))) {
		snprintf(why, size, "the value of %.*s is not percent-encoded", (int)key, item);
		return -EINVAL;
	}
	if (has_control(eq + 1, len - (size_t)(eq + 1 - item))) {
		snprintf(why, size, "the value of %.*s has a control character", (int)key, item);
		return -EINVAL;
	}
	return 0;
}

int opt_check__headers(const char *text, char *why, size_t size)
{
	return each_item(text, check_header, why, size);
}

static int check_route(const char *item, size_t len, char *why, size_t size)
{
	int err = refuse_empty(item, len, why, size);

	if (err || route_pattern__ok((struct str){ item, len }))
		return err;
	snprintf(why, size, "'%.*s' is not a route such as /users/{id} (one {name} in a segment) or /files/{*} (* at the end)",
		 (int)(len > SHOWN ? SHOWN : len), item);
	return -EINVAL;
}

int opt_check__routes(const char *text, char *why, size_t size)
{
	return each_item(text, check_route, why, size);
}

/* Of "user:password@host:port" or "[v6]:port": nothing, or a number that a port can have. */
static bool port_is_one(const char *authority, size_t len)
{
	const char *end = authority + len, *at = memrchr(authority, '@', len), *host = at ? at + 1 : authority, *colon;
	unsigned long port = 0;

	colon = memrchr(host, ':', (size_t)(end - host));
	if (!colon || memchr(colon, ']', (size_t)(end - colon)))
		return true;
	for (const char *p = colon + 1; p < end; p++) {
		if (*p < '0' || *p > '9' || port > 65535)
			return false;
		port = port * 10 + (unsigned long)(*p - '0');
	}
	return port > 0 && port <= 65535;
}

int opt_check__url(const char *text, char *why, size_t size)
{
	const char *host = strstr(text, "://");
	size_t n;

	for (const char *p = text; *p; p++) {
		if ((unsigned char)*p <= 0x20 || *p == 0x7f) {
			snprintf(why, size, "a URL has no spaces or control characters");
			return -EINVAL;
		}
	}
	if (host && strncasecmp(text, "http://", 7) != 0 && strncasecmp(text, "https://", 8) != 0) {
		snprintf(why, size, "%.*s is not a scheme for OTLP: http or https", (int)(host - text), text);
		return -EINVAL;
	}
	host = host ? host + 3 : text;
	n = strcspn(host, "/?#");
	if (n == 0 || *host == ':') {
		snprintf(why, size, "%.*s names no host, as in http://collector:4318", SHOWN, text);
		return -EINVAL;
	}
	if (!port_is_one(host, n)) {
		snprintf(why, size, "%.*s: the port is none: 1 to 65535", SHOWN, text);
		return -EINVAL;
	}
	return 0;
}

int opt_check__power_of_two(const char *text, char *why, size_t size)
{
	const char *end;
	uint64_t v;

	/* The units are powers of two, so the digits decide; parse_number has said what else is wrong. */
	if (parse_digits(text, &end, &v) || v == 0 || (v & (v - 1)) != 0) {
		snprintf(why, size, "%.*s is not a power of two, such as 4MiB", SHOWN, text);
		return -EINVAL;
	}
	if (*end == 0 && v % (uint64_t)sysconf(_SC_PAGESIZE) != 0) {
		snprintf(why, size, "%.*s is not a multiple of the page size, %ld", SHOWN, text, sysconf(_SC_PAGESIZE));
		return -EINVAL;
	}
	return 0;
}

/* ---- setting ------------------------------------------------------------------------------------ */

/* Items of an OPT_LIST with choices; as they are spelt, because they are handed on as they are. */
static int check_words(const struct opt_row *r, const char *text, char *why)
{
	while (*text) {
		size_t len = strcspn(text, ",");
		struct str choice = find_choice(r->choices, text, len);

		if (!choice.p || memcmp(choice.p, text, len) != 0) {
			explain_choices(r, text, len, why);
			return -EINVAL;
		}
		text += len + (text[len] == ',');
	}
	return 0;
}

/* Without the white space around commas, so that nobody who reads a list has to think of it. */
static size_t copy_list(char *out, const char *text)
{
	size_t len = 0;

	for (;;) {
		size_t n = strcspn(text, ","), end = n;

		while (end && isspace((unsigned char)text[end - 1]))
			end--;
		for (size_t i = strspn(text, " \t\r\n\v\f"); i < end; i++)
			out[len++] = text[i];
		if (!text[n])
			return len;
		out[len++] = ',';
		text += n + 1;
	}
}

static int set_string(struct opts *o, const struct opt_row *r, const char *text, bool append, char *why)
{
	char **field = FIELD(o, r, char *), *copy;
	struct str choice = str__of(text); /* what is kept */
	size_t old = append && *field ? strlen(*field) : 0;
	int err = 0;

	if (r->type == OPT_ENUM) {
		choice = find_choice(r->choices, text, strlen(text));
		if (!choice.p) {
			explain_choices(r, text, strlen(text), why);
			return -EINVAL;
		}
	} else if (r->type == OPT_LIST && r->choices) {
		err = check_words(r, text, why);
	} else if (r->check) {
		err = r->check(text, why, WHY_LEN);
	} else if (r->type == OPT_LIST) {
		err = each_item(text, refuse_empty, why, WHY_LEN);
	}
	if (err)
		return err;
	copy = mem__alloc(old + 1 + choice.len + 1);
	if (!copy)
		return -ENOMEM;
	if (old) {
		memcpy(copy, *field, old);
		copy[old++] = ',';
	}
	if (r->type == OPT_LIST)
		choice.len = copy_list(copy + old, text);
	else
		memcpy(copy + old, choice.p, choice.len);
	copy[old + choice.len] = 0;
	mem__free(*field);
	*field = copy;
	return 0;
}

static int set_number(struct opts *o, const struct opt_row *r, const char *text, bool otel, char *why)
{
	uint64_t v;
	int err = parse_number(r, text, otel, &v, why);

	if (!err && r->check)
		err = r->check(text, why, WHY_LEN);
	if (err)
		return err;
	if (r->type == OPT_U32 || (r->flags & OPT_NARROW))
		*FIELD(o, r, uint32_t) = (uint32_t)v;
	else
		*FIELD(o, r, uint64_t) = v;
	return 0;
}

static int set_otel_bool(struct opts *o, const struct opt_row *r, const char *text, char *why)
{
	*FIELD(o, r, bool) = strcasecmp(text, "true") == 0;
	if (*FIELD(o, r, bool) || strcasecmp(text, "false") == 0)
		return 0;
	snprintf(why, WHY_LEN, "%.*s is neither true nor false", SHOWN, text);
	return -EINVAL;
}

void opt_value__set(struct opt_ctx *c, const struct opt_row *r, const char *text, const struct opt_from *from)
{
	bool otel = from->origin == ORIGIN_OTEL;
	char why[WHY_LEN] = "";
	int err;

	switch (r->type) {
	case OPT_BOOL:
		err = otel ? set_otel_bool(c->o, r, text, why) : parse_bool(text, FIELD(c->o, r, bool), why);
		break;
	case OPT_U32:
	case OPT_SIZE:
	case OPT_DURATION:
		err = set_number(c->o, r, text, otel, why);
		break;
	case OPT_MODE:
		err = parse_mode(text, FIELD(c->o, r, uint32_t), why);
		break;
	default:
		if (!otel && !*text) {
			/* An empty value in a place that counts unsets what a weaker one had set. */
			mem__free(*FIELD(c->o, r, char *));
			*FIELD(c->o, r, char *) = NULL;
			err = 0;
		} else {
			err = set_string(c->o, r, text, from->append, why);
		}
		break;
	}
	if (err == -ENOMEM) {
		opt__mistake(c, from->where, "out of memory");
	} else if (err && otel) {
		opt__warn(c, from->where, "%s, ignored", why);
	} else if (err) {
		opt__mistake(c, from->where, "%s", why);
	} else {
		size_t i = opt__index(r);

		c->o->from[i].origin = from->origin;
		c->o->from[i].which = from->which;
		c->o->from[i].line = from->line;
	}
}

/* ---- showing ------------------------------------------------------------------------------------ */

/* "k=…,k2=…" */
static void format_secret(const char *s, char *buf, size_t size)
{
	size_t at = 0;

	while (*s && at + 1 < size) {
		size_t len = strcspn(s, ","), key = strcspn(s, "=,");

		at += snprintf(buf + at, size - at, "%s%.*s=****", at ? "," : "", (int)key, s);
		s += len + (s[len] == ',');
	}
	if (at >= size)
		buf[size - 1] = 0;
}

void opt_value__format(const struct opts *o, const struct opt_row *r, char *buf, size_t size)
{
	const char *s;
	uint64_t v;

	buf[0] = 0;
	switch (r->type) {
	case OPT_BOOL:
		snprintf(buf, size, "%s", *FIELD(o, r, bool) ? "true" : "false");
		break;
	case OPT_U32:
		if (*FIELD(o, r, uint32_t) || r->dflt)
			snprintf(buf, size, "%" PRIu32, *FIELD(o, r, uint32_t));
		break;
	case OPT_MODE:
		snprintf(buf, size, "%04o", *FIELD(o, r, uint32_t));
		break;
	case OPT_SIZE:
	case OPT_DURATION:
		v = r->flags & OPT_NARROW ? *FIELD(o, r, uint32_t) : *FIELD(o, r, uint64_t);
		if (v || r->dflt || r->min == 0)
			format_units(v, r->type == OPT_SIZE ? size_units : time_units, buf, size);
		break;
	default:
		s = *FIELD(o, r, char *);
		if (s && (r->flags & OPT_SECRET))
			format_secret(s, buf, size);
		else if (s)
			snprintf(buf, size, "%s", s);
		break;
	}
}
