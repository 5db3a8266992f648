// SPDX-License-Identifier: Apache-2.0
#include "user/proto/http1_attrs.h"

#include <sys/socket.h>

#include "user/base/hash.h"
#include "user/proto/http1.h"
#include "user/proto/url.h"

#define KNOWN_MAX 64

static bool opt_in;
static const struct str default_methods[] = {
	{ "GET", 3 },	  { "POST", 4 },    { "PUT", 3 },     { "HEAD", 4 },  { "DELETE", 6 },
	{ "OPTIONS", 7 }, { "PATCH", 5 },   { "CONNECT", 7 }, { "TRACE", 5 }, { "QUERY", 5 },
};
static struct str chosen_methods[KNOWN_MAX];
static const struct str *known = default_methods;
static size_t n_known = sizeof(default_methods) / sizeof(default_methods[0]);

/* Scheme, "://", host, port and target. Host and target come from one head, the host may be escaped. */
#define URL_MAX (3 * HTTP1_HEAD_MAX + 3 * WS_UNIX_PATH_MAX + 32)
static __thread char url_buf[URL_MAX];
static __thread char redacted_buf[URL_REDACTED_MAX(URL_MAX)];

void http1__set_opts(const struct http1_opts *o)
{
	const char *p = o->known_methods;

	opt_in = o->opt_in;
	url__set_redaction(o->redact, o->redact_keys);
	known = default_methods;
	n_known = sizeof(default_methods) / sizeof(default_methods[0]);
	if (!p)
		return;
	known = chosen_methods;
	n_known = 0;
	while (*p && n_known < KNOWN_MAX) {
		size_t n = strcspn(p, ", ");

		if (n)
			chosen_methods[n_known++] = (struct str){ p, n };
		p += n + (p[n] != '\0');
	}
}

/* The list's own spelling; empty if the method is not in it. Case-sensitive (RFC 9110, 9.1). */
static struct str known_method(struct str method)
{
	for (size_t i = 0; i < n_known; i++) {
		if (str__eq(known[i], method))
			return known[i];
	}
	return STR_NULL;
}

/* ---- addresses -------------------------------------------------------------------------------------- */

static struct str address_text(const struct conn_info *c, const struct conn_addr *a, struct conn_addr *made_of,
			       bool *has, char *text)
{
	if (c->family == AF_UNIX)
		return str__of(c->path);
	if (!*has || memcmp(a, made_of, sizeof(*a)) != 0) {
		conn_addr__format(a, text, WS_UNIX_PATH_MAX + 1);
		*made_of = *a;
		*has = true;
	}
	return str__of(text);
}

static struct str remote_text(const struct conn_info *c, struct http1_peers *p)
{
	return address_text(c, &c->remote, &p->remote, &p->has_remote, p->remote_text);
}

static struct str local_text(const struct conn_info *c, struct http1_peers *p)
{
	return address_text(c, &c->local, &p->local, &p->has_local, p->local_text);
}

/* ---- pieces of values --------------------------------------------------------------------------------- */

static struct str trim(struct str s)
{
	while (s.len && (s.p[0] == ' ' || s.p[0] == '\t')) {
		s.p++;
		s.len--;
	}
	while (s.len && (s.p[s.len - 1] == ' ' || s.p[s.len - 1] == '\t'))
		s.len--;
	return s;
}

static struct str until(struct str s, char c)
{
	const char *p = s.len ? memchr(s.p, c, s.len) : NULL;

	if (p)
		s.len = (size_t)(p - s.p);
	return s;
}

/* Without what stands before "@": a user's name and password (RFC 3986, 3.2.1), which are nobody's address. */
static struct str without_userinfo(struct str authority)
{
	const char *at = authority.len ? memrchr(authority.p, '@', authority.len) : NULL;

	if (!at)
		return authority;
	at++;
	return (struct str){ at, authority.len - (size_t)(at - authority.p) };
}

/* "host", "host:port", "[v6]:port" (RFC 3986, 3.2.2). A port that is none is left out; 0: no port. */
static struct str split_port(struct str s, int *ret_port)
{
	const char *colon = NULL, *bracket;
	struct str host;
	int port = 0;

	*ret_port = 0;
	host = s = without_userinfo(s);
	if (!s.len)
		return s;
	if (s.p[0] == '[') {
		bracket = memchr(s.p, ']', s.len);
		if (!bracket)
			return s;
		host = (struct str){ s.p + 1, (size_t)(bracket - s.p) - 1 };
		if (bracket + 1 < s.p + s.len && bracket[1] == ':')
			colon = bracket + 1;
	} else if ((colon = memchr(s.p, ':', s.len))) {
		if (memchr(colon + 1, ':', s.len - (size_t)(colon + 1 - s.p))) /* an IPv6 address without brackets */
			return s;
		host.len = (size_t)(colon - s.p);
	}
	for (const char *p = colon ? colon + 1 : s.p + s.len; p < s.p + s.len; p++) {
		if (*p < '0' || *p > '9' || port > 65535)
			return host;
		port = port * 10 + (*p - '0');
	}
	if (port <= 65535)
		*ret_port = port;
	return host;
}

/* A parameter of the first element of Forwarded, the one nearest to the client (RFC 7239, 4). */
static struct str forwarded_param(struct str v, struct str name)
{
	bool quoted = false;
	size_t end = 0;

	while (end < v.len && (quoted || v.p[end] != ',')) {
		quoted ^= v.p[end] == '"';
		end++;
	}
	v.len = end;
	while (v.len) {
		struct str pair = until(v, ';'), key = trim(until(pair, '=')), value = STR_NULL;

		v.p += pair.len;
		v.len -= pair.len;
		if (v.len) {
			v.p++;
			v.len--;
		}
		if (!str__ieq(key, name))
			continue;
		value = trim(pair);
		if (value.len <= key.len)
			return STR_NULL;
		value = trim((struct str){ value.p + key.len, value.len - key.len });
		if (!value.len || value.p[0] != '=')
			return STR_NULL;
		value = trim((struct str){ value.p + 1, value.len - 1 });
		if (value.len >= 2 && value.p[0] == '"' && value.p[value.len - 1] == '"')
			value = (struct str){ value.p + 1, value.len - 2 };
		return value;
	}
	return STR_NULL;
}

/* ---- the target -------------------------------------------------------------------------------------- */

struct target {
	struct str scheme;    /* absolute form only */
	struct str authority; /* absolute and authority form */
	struct str path;      /* may be empty: none */
	struct str query;     /* without "?" */
	bool asterisk, connect;
};

/* RFC 9112, 3.2 */
static void split_target(struct target *t, const struct http1_head *h)
{
	struct str rest = h->target;
	const char *sep;

	*t = (struct target){ 0 };
	if (str__eq(h->method, STR("CONNECT"))) {
		t->connect = true;
		t->authority = without_userinfo(rest);
		return;
	}
	if (rest.p[0] != '/') {
		if (str__eq(rest, STR("*"))) {
			t->asterisk = true;
			t->path = rest;
			return;
		}
		sep = memmem(rest.p, rest.len, "://", 3);
		if (sep) {
			t->scheme = (struct str){ rest.p, (size_t)(sep - rest.p) };
			rest.p += t->scheme.len + 3;
			rest.len -= t->scheme.len + 3;
			t->authority = (struct str){ rest.p, 0 };
			while (rest.len && *rest.p != '/' && *rest.p != '?' && *rest.p != '#') {
				t->authority.len++;
				rest.p++;
				rest.len--;
			}
			t->authority = without_userinfo(t->authority);
		}
	}
	t->path = until(rest, '?');
	if (t->path.len < rest.len)
		t->query = (struct str){ t->path.p + t->path.len + 1, rest.len - t->path.len - 1 };
	if (t->scheme.p && !t->path.len)
		t->path = STR("/");
}

static void append(char *buf, size_t *n, struct str s)
{
	if (s.len)
		memcpy(buf + *n, s.p, s.len);
	*n += s.len;
}

/* The path of a socket stands for a host with its slashes escaped (RFC 3986, 3.2.2: reg-name). */
static void append_host(char *buf, size_t *n, struct str host)
{
	for (size_t i = 0; i < host.len; i++) {
		if (host.p[i] == '/')
			append(buf, n, STR("%2F"));
		else
			buf[(*n)++] = host.p[i];
	}
}

/* What was asked for, as a client would write it. */
static struct str full_url(const struct http1_head *h, const struct target *t, struct str scheme, struct str host,
			   int port)
{
	size_t n = 0;
	bool v6 = memchr(host.p, ':', host.len) != NULL;

	if (t->scheme.p)
		return url__redact(h->target, redacted_buf);
	append(url_buf, &n, scheme);
	append(url_buf, &n, STR("://"));
	if (t->connect) {
		append(url_buf, &n, t->authority);
	} else {
		if (v6)
			url_buf[n++] = '[';
		append_host(url_buf, &n, host);
		if (v6)
			url_buf[n++] = ']';
		if (port && port != (str__eq(scheme, STR("https")) ? 443 : 80)) {
			char digits[8];
			size_t i = sizeof(digits);

			for (int p = port; p; p /= 10)
				digits[--i] = (char)('0' + p % 10);
			digits[--i] = ':';
			append(url_buf, &n, (struct str){ digits + i, sizeof(digits) - i });
		}
		if (!t->asterisk) /* RFC 9112, 3.3: an asterisk stands for no path */
			append(url_buf, &n, h->target);
	}
	return url__redact((struct str){ url_buf, n }, redacted_buf);
}

/* ---- attributes ---------------------------------------------------------------------------------------- */

struct list {
	struct attr *attrs;
	size_t n;
};

static void add_str(struct list *l, const char *key, struct str v)
{
	l->attrs[l->n++] = attr__str(key, v);
}

static void add_int(struct list *l, const char *key, int64_t v)
{
	l->attrs[l->n++] = attr__int(key, v);
}

static int default_port(struct str scheme)
{
	return str__ieq(scheme, STR("https")) ? 443 : 80;
}

static void add_network(struct list *l, const struct http1_head *h, const struct conn_info *c, struct http1_peers *p)
{
	bool is_unix = c->family == AF_UNIX;
	struct str peer = remote_text(c, p);

	static const struct str versions[] = { { "1.0", 3 }, { "1.1", 3 }, { "1.2", 3 }, { "1.3", 3 } };

	add_str(l, "network.protocol.version", str__of(h->version));
	if (c->tls_version && c->tls_version <= sizeof(versions) / sizeof(versions[0]))
		add_str(l, "tls.protocol.version", versions[c->tls_version - 1]);
	if (peer.len)
		add_str(l, "network.peer.address", peer);
	if (!is_unix)
		add_int(l, "network.peer.port", c->remote.port);
	if (!opt_in)
		return;
	add_str(l, "network.transport", is_unix ? STR("unix") : STR("tcp"));
	if (!is_unix) {
		add_str(l, "network.local.address", local_text(c, p));
		add_int(l, "network.local.port", c->local.port);
	}
}

static void add_client_address(struct list *l, const struct http1_head *h, const struct conn_info *c,
			       struct http1_peers *p)
{
	struct str from = forwarded_param(h->forwarded, STR("for"));
	int port = 0;

	if (!from.len)
		from = trim(until(h->x_forwarded_for, ','));
	if (from.len && !str__ieq(from, STR("unknown"))) { /* RFC 7239, 6.2 */
		from = split_port(from, &port);
	} else {
		from = remote_text(c, p);
		port = c->family == AF_UNIX ? 0 : c->remote.port;
	}
	if (from.len)
		add_str(l, "client.address", from);
	if (opt_in && port)
		add_int(l, "client.port", port);
}

static void add_server_side(struct list *l, const struct http1_head *h, const struct conn_info *c,
			    const struct target *t, struct http1_peers *p)
{
	struct str scheme = forwarded_param(h->forwarded, STR("proto"));
	struct str host = forwarded_param(h->forwarded, STR("host"));
	int port;

	if (!scheme.len)
		scheme = trim(until(h->x_forwarded_proto, ','));
	if (!scheme.len)
		scheme = t->scheme.len ? t->scheme : (c->tls ? STR("https") : STR("http"));
	if (!host.len)
		host = trim(until(h->x_forwarded_host, ','));
	if (!host.len) /* RFC 9112, 3.2.2: the authority of an absolute target goes before Host */
		host = t->authority.len ? t->authority : h->host;
	if (t->path.len)
		add_str(l, "url.path", t->path);
	if (t->query.len)
		add_str(l, "url.query", url__redact_query(t->query, redacted_buf));
	add_str(l, "url.scheme", scheme);
	host = split_port(host, &port);
	if (!host.len && c->sni) {
		host = str__of(c->sni);
		port = c->local.port;
	}
	if (host.len) {
		add_str(l, "server.address", host);
		if (!t->connect || port)
			add_int(l, "server.port", port ? port : default_port(scheme));
	}
	add_network(l, h, c, p);
	add_client_address(l, h, c, p);
	if (h->user_agent.len)
		add_str(l, "user_agent.original", h->user_agent);
}

static void add_client_side(struct list *l, const struct http1_head *h, const struct conn_info *c,
			    const struct target *t, struct http1_peers *p)
{
	struct str scheme = t->scheme.len ? t->scheme : (c->tls ? STR("https") : STR("http"));
	int port;
	struct str host = split_port(t->authority.len ? t->authority : h->host, &port);

	if (!host.len && c->sni) {
		host = str__of(c->sni);
		port = c->remote.port;
	} else if (!host.len) {
		host = remote_text(c, p);
		port = c->family == AF_UNIX ? 0 : c->remote.port;
	}
	if (!port && c->family != AF_UNIX)
		port = default_port(scheme);
	add_str(l, "url.full", full_url(h, t, scheme, host, port));
	if (host.len)
		add_str(l, "server.address", host);
	if (port)
		add_int(l, "server.port", port);
	add_network(l, h, c, p);
	if (opt_in) {
		add_str(l, "url.scheme", scheme);
		if (h->user_agent.len)
			add_str(l, "user_agent.original", h->user_agent);
	}
}

/* ---- telemetry ----------------------------------------------------------------------------------------- */

/* The media types that OTLP has over HTTP; gRPC's has suffixes. */
static enum http1_media media_of(struct str content_type)
{
	struct str type = trim(until(content_type, ';'));

	if (str__ieq(type, STR("application/x-protobuf")))
		return HTTP1_MEDIA_PROTOBUF;
	if (str__ieq(type, STR("application/json")))
		return HTTP1_MEDIA_JSON;
	if (type.len >= 16 && str__ieq((struct str){ type.p, 16 }, STR("application/grpc")))
		return HTTP1_MEDIA_GRPC;
	return HTTP1_MEDIA_OTHER;
}

bool http1_attrs__is_events(const struct http1_head *h)
{
	return h->status == 200 && str__ieq(trim(until(h->content_type, ';')), STR("text/event-stream"));
}

static bool is_one_of(struct str s, const struct str *list, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		if (str__eq(s, list[i]))
			return true;
	}
	return false;
}

/* What wirespan itself has sent (exporter/http_client.c), whatever path it was told to. */
static bool is_own(const struct http1_head *h)
{
	static const char agent[] = "wirespan/";

	return h->user_agent.len >= sizeof(agent) - 1 && !memcmp(h->user_agent.p, agent, sizeof(agent) - 1) &&
	       media_of(h->content_type) != HTTP1_MEDIA_OTHER;
}

/* Does this request look like OTLP (opentelemetry-proto, OTLP specification)? Anybody can send one that does. */
static bool is_telemetry(const struct http1_head *h, struct str path)
{
	static const struct str paths[] = { { "/v1/traces", 10 }, { "/v1/metrics", 11 }, { "/v1/logs", 8 } };
	static const struct str services[] = {
		{ "/opentelemetry.proto.collector.trace.v1.TraceService/Export", 59 },
		{ "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export", 63 },
		{ "/opentelemetry.proto.collector.logs.v1.LogsService/Export", 57 },
	};

	if (!str__eq(h->method, STR("POST")))
		return false;
	if (is_own(h))
		return true;
	switch (media_of(h->content_type)) {
	case HTTP1_MEDIA_OTHER:
		return false;
	case HTTP1_MEDIA_GRPC:
		return is_one_of(path, services, sizeof(services) / sizeof(services[0]));
	default:
		return is_one_of(path, paths, sizeof(paths) / sizeof(paths[0]));
	}
}

enum http1_media http1_attrs__telemetry(const struct msg *m, const struct http1_head *h)
{
	if (!(m->flags & MSG_TELEMETRY))
		return HTTP1_MEDIA_OTHER;
	return is_own(h) ? HTTP1_MEDIA_OWN : media_of(h->content_type);
}

/* Nothing is said of what the answer is made of, or there is nothing of it. A head that is cut may have said it. */
static bool is_bare(const struct http1_head *h)
{
	if (h->cut)
		return false;
	return !h->content_type.len || h->status == 204 || (h->content_length == 0 && !h->transfer_encoding);
}

/*
 * A receiver answers in the media type that it was asked in (OTLP specification), but many sinks say no more than 200.
 * 404 and 405: it is not there, somebody else has that path. Any other refusal may be a receiver's (429, 503, 400, 401,
 * 413), and proves none.
 */
uint32_t http1_attrs__telemetry_answer(const struct http1_head *h, enum http1_media asked)
{
	if (asked == HTTP1_MEDIA_OTHER)
		return 0;
	if (asked == HTTP1_MEDIA_OWN) /* its span would be sent by the next */
		return h->status / 100 == 2 ? MSG_TELEMETRY : 0;
	if (h->status == 404 || h->status == 405)
		return MSG_NO_TELEMETRY;
	return h->status / 100 == 2 && (is_bare(h) || media_of(h->content_type) == asked) ? MSG_TELEMETRY : 0;
}

void http1_attrs__request(struct msg *m, struct attr *attrs, const struct http1_head *h, const struct conn_info *conn,
			  struct http1_peers *peers)
{
	bool client = conn->role == WS_ROLE_CLIENT;
	struct list l = { .attrs = attrs };
	struct str method = known_method(h->method);
	struct target t;

	split_target(&t, h);
	add_str(&l, "http.request.method", method.len ? method : STR("_OTHER"));
	if (!method.len)
		add_str(&l, "http.request.method_original", h->method);
	if (client)
		add_client_side(&l, h, conn, &t, peers);
	else
		add_server_side(&l, h, conn, &t, peers);
	m->op = method.len ? method : STR("HTTP");
	m->target = t.connect ? t.authority : t.path;
	m->content = hash__bytes64(hash__bytes64(0, t.query.p, t.query.len), h->user_agent.p, h->user_agent.len);
	if (!h->cut) {
		m->request_key = hash__bytes64(h->end_to_end, h->method.p, h->method.len);
		m->request_key = hash__bytes64(m->request_key, t.path.p, t.path.len);
		m->request_key = hash__bytes64(m->request_key, t.query.p, t.query.len);
	}
	if (client)
		m->peer = t.authority.len ? t.authority : h->host;
	if (!t.connect && !t.asterisk)
		m->route_key = client ? "url.template" : "http.route";
	if (is_telemetry(h, t.path))
		m->flags |= MSG_TELEMETRY;
	context__extract(&m->ctx, &h->ctx);
	m->attrs = attrs;
	m->n_attrs = l.n;
}

void http1_attrs__sizes(struct msg *m, struct attr *attrs, const struct http1_sizes *z)
{
	struct list l = { .attrs = attrs };

	if (!opt_in)
		return;
	if (z->request_body >= 0) {
		add_int(&l, "http.request.body.size", z->request_body);
		add_int(&l, "http.request.size", z->request_head + z->request_body);
	}
	if (z->response_body >= 0) {
		add_int(&l, "http.response.body.size", z->response_body);
		add_int(&l, "http.response.size", z->response_head + z->response_body);
	}
	m->attrs = attrs;
	m->n_attrs = l.n;
}
