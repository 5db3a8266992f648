// SPDX-License-Identifier: Apache-2.0
/*
 * One pass over the lines, in place. libc's memchr finds the line ends; a field is told by the length of its name
 * before any letter is compared, so that most of them cost one switch.
 */
#include "user/proto/http1_head.h"

#include <errno.h>

#include "user/base/hash.h"

/* Bytes of a target after which a request line is believed although its end is not in sight. */
#define TARGET_SURE 64

const uint8_t http1_token_chars[256] = {
	['!'] = 1, ['#'] = 1, ['$'] = 1, ['%'] = 1, ['&'] = 1, ['\''] = 1, ['*'] = 1, ['+'] = 1, ['-'] = 1, ['.'] = 1,
	['^'] = 1, ['_'] = 1, ['`'] = 1, ['|'] = 1, ['~'] = 1, ['0' ... '9'] = 1, ['A' ... 'Z'] = 1, ['a' ... 'z'] = 1,
};

/* Memory for values that are not contiguous on the wire: folded ones, and tracestate lines to be joined. */
static __thread char scratch[HTTP1_HEAD_MAX * 2];
static __thread size_t scratch_len;

/* ---- recognition ---------------------------------------------------------------------------------- */

/* Where nothing else tells where a message starts: methods that bytes in a body do not begin with by chance. */
static const struct str common_methods[] = {
	{ "GET ", 4 },	   { "POST ", 5 },  { "PUT ", 4 },     { "HEAD ", 5 },	   { "DELETE ", 7 },
	{ "OPTIONS ", 8 }, { "PATCH ", 6 }, { "CONNECT ", 8 }, { "PROPFIND ", 9 }, { "TRACE ", 6 },
};

#define METHOD_MAX 10 /* bytes of the longest of them */

static int is_common_method(const uint8_t *data, size_t len)
{
	int ret = -1;

	for (size_t i = 0; i < sizeof(common_methods) / sizeof(common_methods[0]); i++) {
		const struct str *m = &common_methods[i];

		if (memcmp(data, m->p, len < m->len ? len : m->len) != 0)
			continue;
		if (len >= m->len)
			return 1;
		ret = 0;
	}
	return ret;
}

static bool target_may_start_with(uint8_t c)
{
	return c == '/' || c == '*' || c == '[' || (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') ||
	       (c >= 'a' && c <= 'z');
}

/* "HTTP/1.x" and the end of the line, as far as it is there. */
static int is_version(const uint8_t *p, size_t len)
{
	if (memcmp(p, "HTTP/1.", len < 7 ? len : 7) != 0)
		return -1;
	if (len < 8)
		return 0;
	if (p[7] < '0' || p[7] > '9')
		return -1;
	if (len < 9)
		return 0;
	if (p[8] == '\n')
		return 1;
	if (p[8] != '\r')
		return -1;
	if (len < 10)
		return 0;
	return p[9] == '\n' ? 1 : -1;
}

int http1_head__is_request(const uint8_t *data, size_t len, bool known_methods_only)
{
	size_t i = 0, target, end;
	int common = is_common_method(data, len);

	if (known_methods_only && common <= 0)
		return common;
	/* RFC 9110 sets a method no limit; who detects has one for what stays undecided. */
	while (i < len && http1_token_chars[data[i]])
		i++;
	if (i == len)
		return 0;
	if (i == 0 || data[i] != ' ')
		return -1;
	target = i + 1;
	if (target == len)
		return 0;
	if (!target_may_start_with(data[target]))
		return -1;
	for (end = target; end < len && data[end] > ' ' && data[end] != 0x7f; end++)
		;
	if (end == len)
		return common == 1 && end - target >= TARGET_SURE && data[target] == '/' ? 1 : 0;
	if (data[end] != ' ')
		return -1;
	return end + 1 == len ? 0 : is_version(data + end + 1, len - end - 1);
}

static bool is_blank(uint8_t c)
{
	return c == ' ' || c == '\t';
}

int http1_head__resembles_request(const uint8_t *data, size_t len)
{
	uint8_t method[METHOD_MAX];
	const uint8_t *nl;
	size_t i;

	for (i = 0; i < len && i < METHOD_MAX; i++)
		method[i] = is_blank(data[i]) ? ' ' : data[i];
	if (is_common_method(method, i) <= 0)
		return -1;
	for (i = 0; i < len && !is_blank(data[i]); i++)
		;
	for (; i < len && is_blank(data[i]); i++)
		;
	if (i == len)
		return 0;
	if (data[i] == '/')
		return 1;
	nl = memchr(data, '\n', len);
	return nl ? (memmem(data, (size_t)(nl - data), " HTTP/1.", 8) ? 1 : -1) : 0;
}

int http1_head__is_response(const uint8_t *p, size_t len)
{
	if (memcmp(p, "HTTP/1.", len < 7 ? len : 7) != 0)
		return -1;
	for (size_t i = 7; i < 12; i++) {
		if (i >= len)
			return 0;
		if (i == 8 ? p[i] != ' ' : p[i] < '0' || p[i] > '9')
			return -1;
	}
	if (p[9] == '0')
		return -1;
	if (len < 13)
		return 0;
	return p[12] == ' ' || p[12] == '\r' || p[12] == '\n' ? 1 : -1;
}

/* ---- start lines ---------------------------------------------------------------------------------- */

static int parse_version(struct http1_head *h, const uint8_t *p)
{
	if (memcmp(p, "HTTP/1.", 7) != 0 || p[7] < '0' || p[7] > '9')
		return -EBADMSG;
	h->version[0] = '1';
	h->version[1] = '.';
	h->version[2] = (char)p[7];
	h->version[3] = '\0';
	return 0;
}

/* As lenient as servers are that go on (RFC 9112, 3): more blanks than one, or other ones, control characters in the target. */
static int parse_request_line(struct http1_head *h, const uint8_t *p, size_t len)
{
	const uint8_t *sp, *end = p + len, *target, *version;

	while (end > p && is_blank(end[-1]))
		end--;
	version = end - 8;
	for (sp = p; sp < end && http1_token_chars[*sp]; sp++)
		;
	if (sp == p || sp == end || !is_blank(*sp))
		return -EBADMSG;
	h->method = (struct str){ (const char *)p, (size_t)(sp - p) };
	for (target = sp; target < end && is_blank(*target); target++)
		;
	for (sp = target; sp < end && *sp && !is_blank(*sp); sp++)
		;
	h->target = (struct str){ (const char *)target, (size_t)(sp - target) };
	if (sp == target || sp >= version)
		return -EBADMSG;
	for (; sp < version; sp++)
		if (!is_blank(*sp))
			return -EBADMSG;
	return parse_version(h, version);
}

static int parse_status_line(struct http1_head *h, const uint8_t *p, size_t len)
{
	if (len < 12 || p[8] != ' ')
		return -EBADMSG;
	for (int i = 9; i < 12; i++) {
		if (p[i] < '0' || p[i] > '9')
			return -EBADMSG;
		h->status = h->status * 10 + (p[i] - '0');
	}
	if (h->status < 100 || (len > 12 && p[12] != ' '))
		return -EBADMSG;
	return parse_version(h, p);
}

/* ---- fields ----------------------------------------------------------------------------------------- */

static inline struct str trim(struct str s)
{
	while (s.len && (s.p[0] == ' ' || s.p[0] == '\t')) {
		s.p++;
		s.len--;
	}
	while (s.len && (s.p[s.len - 1] == ' ' || s.p[s.len - 1] == '\t'))
		s.len--;
	return s;
}

int http1_head__content_length(struct str v, int64_t *ret)
{
	int64_t first = -1;

	do {
		const char *comma = memchr(v.p, ',', v.len);
		size_t used = comma ? (size_t)(comma - v.p) : v.len;
		struct str m = trim((struct str){ v.p, used });
		int64_t n = 0;

		if (m.len == 0 || m.len > 18) /* 18 digits fit */
			return -1;
		for (size_t i = 0; i < m.len; i++) {
			if (m.p[i] < '0' || m.p[i] > '9')
				return -1;
			n = n * 10 + (m.p[i] - '0');
		}
		if (first >= 0 && n != first)
			return -1;
		first = n;
		v.p += comma ? used + 1 : used;
		v.len -= comma ? used + 1 : used;
	} while (v.len);
	*ret = first;
	return 0;
}

static int add_content_length(struct http1_head *h, struct str value)
{
	int64_t n;

	if (value.len == 0 || value.p[value.len - 1] == ',' || http1_head__content_length(value, &n) < 0)
		return -EBADMSG;
	if (h->content_length >= 0 && h->content_length != n)
		return -EBADMSG;
	h->content_length = n;
	return 0;
}

/* The codings of one field; several fields make one list. Chunked may be applied once, as the last (RFC 9112, 6.1). */
static int add_transfer_encoding(struct http1_head *h, struct str v)
{
	while (v.len) {
		const char *comma = memchr(v.p, ',', v.len);
		size_t used = comma ? (size_t)(comma - v.p) : v.len;
		struct str coding = trim((struct str){ v.p, used });

		if (coding.len) {
			if (h->chunked && !(h->status && str__ieq(coding, STR("chunked"))))
				return -EBADMSG;
			h->transfer_encoding = true;
			h->chunked = str__ieq(coding, STR("chunked"));
		}
		v.p += comma ? used + 1 : used;
		v.len -= comma ? used + 1 : used;
	}
	return h->transfer_encoding ? 0 : -EBADMSG;
}

static void add_tracestate(struct http1_head *h, struct str v)
{
	struct str old = h->ctx.tracestate;
	char *p = scratch + scratch_len;

	if (!old.len) {
		h->ctx.tracestate = v;
		return;
	}
	if (!v.len || old.len + 1 + v.len > sizeof(scratch) - scratch_len)
		return;
	memcpy(p, old.p, old.len);
	p[old.len] = ',';
	memcpy(p + old.len + 1, v.p, v.len);
	scratch_len += old.len + 1 + v.len;
	h->ctx.tracestate = (struct str){ p, old.len + 1 + v.len };
}

static void first(struct str *slot, struct str v)
{
	if (!slot->p)
		*slot = v;
}

static void add_b3_field(struct http1_head *h, struct str name, struct str v)
{
	if (str__ieq(name, STR("x-b3-traceid")))
		first(&h->ctx.b3_trace_id, v);
	else if (str__ieq(name, STR("x-b3-spanid")))
		first(&h->ctx.b3_span_id, v);
	else if (str__ieq(name, STR("x-b3-sampled")))
		first(&h->ctx.b3_sampled, v);
	else if (str__ieq(name, STR("x-b3-flags")))
		first(&h->ctx.b3_flags, v);
}

#define NAMED(lit) (name.len == sizeof(lit) - 1 && strncasecmp(name.p, lit, sizeof(lit) - 1) == 0)

/* Names of 4, 7, 9, 10 and 11 bytes: split so that each part stays readable. */
static void add_short_field(struct http1_head *h, struct str name, struct str v)
{
	switch (name.len) {
	case 2:
		if (NAMED("b3"))
			first(&h->ctx.b3, v);
		break;
	case 4:
		if (NAMED("host"))
			first(&h->host, v);
		break;
	case 6:
		if (NAMED("expect"))
			h->expect = true;
		break;
	case 7:
		if (NAMED("upgrade"))
			h->upgrade = true;
		break;
	case 9:
		if (NAMED("forwarded"))
			first(&h->forwarded, v);
		break;
	case 10:
		if (NAMED("user-agent"))
			first(&h->user_agent, v);
		else if (NAMED("tracestate"))
			add_tracestate(h, v);
		else
			add_b3_field(h, name, v);
		break;
	case 11:
		if (NAMED("traceparent")) {
			h->ctx.n_traceparent++;
			first(&h->ctx.traceparent, v);
		} else {
			add_b3_field(h, name, v);
		}
		break;
	}
}

static int add_field(struct http1_head *h, struct str name, struct str v)
{
	switch (name.len) {
	case 12:
		if (NAMED("content-type"))
			first(&h->content_type, v);
		else if ((name.p[0] | 0x20) == 'x')
			add_b3_field(h, name, v);
		return 0;
	case 14:
		return NAMED("content-length") ? add_content_length(h, v) : 0;
	case 15:
		if (NAMED("x-forwarded-for"))
			first(&h->x_forwarded_for, v);
		return 0;
	case 16:
		if (NAMED("x-forwarded-host"))
			first(&h->x_forwarded_host, v);
		return 0;
	case 17:
		if (NAMED("transfer-encoding"))
			return add_transfer_encoding(h, v);
		if (NAMED("x-forwarded-proto"))
			first(&h->x_forwarded_proto, v);
		return 0;
	default:
		if (name.len <= 11)
			add_short_field(h, name, v);
		return 0;
	}
}

/*
 * Not what concerns one hop (RFC 9110, 7.6.1), nor what proxies add or change: who came by, where to, trace contexts, and
 * what Go's net/http.Transport asks for where it was not told what to accept.
 */
static bool passed_on(struct str name, struct str value)
{
	static const struct str whole[] = {
		{"host", 4}, {"connection", 10}, {"keep-alive", 10}, {"proxy-connection", 16}, {"te", 2}, {"trailer", 7},
		{"transfer-encoding", 17}, {"upgrade", 7}, {"content-length", 14}, {"expect", 6}, {"via", 3},
		{"forwarded", 9}, {"x-real-ip", 9}, {"x-request-id", 12}, {"traceparent", 11}, {"tracestate", 10}, {"b3", 2},
		{"max-forwards", 12},
	};
	static const struct str begins[] = {{"x-forwarded-", 12}, {"x-b3-", 5}, {"x-envoy-", 8}, {"proxy-", 6}};

	for (size_t i = 0; i < sizeof(whole) / sizeof(whole[0]); i++)
		if (name.len == whole[i].len && !strncasecmp(name.p, whole[i].p, name.len))
			return false;
	for (size_t i = 0; i < sizeof(begins) / sizeof(begins[0]); i++)
		if (name.len > begins[i].len && !strncasecmp(name.p, begins[i].p, begins[i].len))
			return false;
	return !NAMED("accept-encoding") || !str__eq(value, STR("gzip"));
}

/* Names in any case: some proxies write them anew. */
static uint64_t hash_field(struct str name, struct str value)
{
	uint64_t h = name.len;

	for (size_t i = 0; i < name.len; i++)
		h = (h ^ ((uint8_t)name.p[i] | 0x20)) * 0x100000001b3ull;
	return hash__bytes64(h, value.p, value.len);
}

/* RFC 9112, 5.2: each fold reads as one space. */
static struct str unfold(struct str v)
{
	char *p = scratch + scratch_len;
	size_t n = 0;

	if (v.len > sizeof(scratch) - scratch_len) /* cannot be: each byte of a head is unfolded once, joined once */
		return v;
	for (size_t i = 0; i < v.len; i++) {
		if (v.p[i] != '\r' && v.p[i] != '\n') {
			p[n++] = v.p[i];
			continue;
		}
		while (n && (p[n - 1] == ' ' || p[n - 1] == '\t'))
			n--;
		while (i + 1 < v.len && strchr("\r\n \t", v.p[i + 1]))
			i++;
		p[n++] = ' ';
	}
	scratch_len += n;
	return (struct str){ p, n };
}

/* Do messages begin and end elsewhere for who takes this for what it looks like? */
static bool is_framing(struct str name)
{
	name = trim(name);
	return NAMED("content-length") || NAMED("transfer-encoding");
}

/* A line that is no field: servers leave it out, or refuse the message, which their answer says. */
static int leave_out(struct str name)
{
	return is_framing(name) ? -EBADMSG : 0;
}

/*
 * One field line, folds included. NUL, CR where it ends no line, and, in a request, white space before the colon are
 * refused where framing depends on them: who takes them for something else sees other messages than we do (RFC 9110,
 * 5.5; RFC 9112, 2.2, 5.1); other fields like that are left out. Of a response less is asked: it has been accepted by who is
 * traced.
 */
static int parse_field(struct http1_head *h, bool request, const uint8_t *p, size_t len, bool folded)
{
	const uint8_t *colon = p, *end = p + len;
	struct str name, value;

	if (!request) {
		/* Nothing but the framing and the media type is wanted of a response: names that begin so. */
		if (*p > ' ' && (*p | 0x20) != 'c' && (*p | 0x20) != 't')
			return 0;
		colon = memchr(p, ':', len);
		if (!colon || colon == p)
			return 0;
		name = (struct str){ (const char *)p, (size_t)(colon - p) };
		if (name.p[0] <= ' ' || name.p[name.len - 1] <= ' ')
			name = trim(name);
		if (NAMED("content-type"))
			first(&h->content_type, trim((struct str){ (const char *)colon + 1, (size_t)(end - colon - 1) }));
		if (name.len != sizeof("content-length") - 1 && name.len != sizeof("transfer-encoding") - 1)
			return 0;
	} else {
		while (colon < end && http1_token_chars[*colon])
			colon++;
		if (colon == end || *colon != ':' || colon == p) {
			colon = memchr(p, ':', len);
			return colon ? leave_out((struct str){ (const char *)p, (size_t)(colon - p) }) : 0;
		}
		name = (struct str){ (const char *)p, (size_t)(colon - p) };
	}
	value = (struct str){ (const char *)colon + 1, (size_t)(end - colon - 1) };
	if (memchr(value.p, '\0', value.len) || (!folded && memchr(value.p, '\r', value.len)))
		return leave_out(name);
	if (folded)
		value = unfold(value);
	value = trim(value);
	if (request && passed_on(name, value))
		h->end_to_end += hash_field(name, value);
	return add_field(h, name, value);
}

/* ---- the whole -------------------------------------------------------------------------------------- */

static inline size_t line_len(const uint8_t *line, const uint8_t *nl)
{
	size_t n = (size_t)(nl - line);

	return n && line[n - 1] == '\r' ? n - 1 : n;
}

/* Looks for the blank line only, from *scan on. Its end; 0: not there yet. */
static size_t find_end(const uint8_t *data, size_t len, size_t *scan)
{
	const uint8_t *p = data + *scan, *end = data + len, *nl;

	while ((nl = memchr(p, '\n', (size_t)(end - p)))) {
		if (line_len(p, nl) == 0)
			return (size_t)(nl - data) + 1;
		p = nl + 1;
	}
	*scan = (size_t)(p - data);
	return 0;
}

static inline bool is_folded(const uint8_t *nl, const uint8_t *end)
{
	return nl + 1 < end && (nl[1] == ' ' || nl[1] == '\t');
}

/* All field lines from `p` on. Returns the end of the head, NULL if the blank line is missing. */
static const uint8_t *parse_fields(struct http1_head *h, bool request, const uint8_t *p, const uint8_t *end, int *err)
{
	const uint8_t *nl;

	for (; (nl = memchr(p, '\n', (size_t)(end - p))); p = nl + 1) {
		size_t len = line_len(p, nl);
		bool folded = false;

		if (len == 0)
			return nl + 1;
		while (is_folded(nl, end)) {
			nl = memchr(nl + 1, '\n', (size_t)(end - nl - 1));
			if (!nl)
				return NULL;
			folded = true;
			len = line_len(p, nl);
		}
		if (!*err)
			*err = parse_field(h, request, p, len, folded);
	}
	return NULL;
}

ssize_t http1_head__parse(struct http1_head *h, bool request, const uint8_t *data, size_t len, bool cut, size_t *scan)
{
	const uint8_t *nl, *end;
	int err;

	if (*scan && !cut && !find_end(data, len, scan))
		return 0;
	nl = memchr(data, '\n', len);
	if (!nl)
		return 0;
	*h = (struct http1_head){ .content_length = -1 };
	scratch_len = 0;
	err = request ? parse_request_line(h, data, line_len(data, nl)) :
			parse_status_line(h, data, line_len(data, nl));
	if (err)
		return err;
	end = parse_fields(h, request, nl + 1, data + len, &err);
	if (end)
		return err ? err : end - data;
	if (cut) {
		h->cut = true;
		return err ? err : (ssize_t)len;
	}
	if (!*scan) {
		*scan = (size_t)(nl - data) + 1;
		find_end(data, len, scan);
	}
	return 0;
}
