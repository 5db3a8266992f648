// SPDX-License-Identifier: Apache-2.0
/*
 * The multi interface with one transfer, because it can wait, be woken from another thread (curl_multi_wakeup) and be
 * given up in between. The connection stays open from one post to the next.
 */
#include "exporter/http_client.h"

#include <ctype.h>
#include <curl/curl.h>
#include <errno.h>
#include <stdio.h>
#include <unistd.h>

#include "user/base/dynbuf.h"
#include "user/base/log.h"
#include "user/base/mem.h"

#define USER_AGENT "wirespan/" WS_VERSION " OTel-OTLP-Exporter-C/" WS_VERSION
#define POLL_MS 1000 /* only bounds how long a lost wake-up could matter */
#define MAX_HEADERS_LEN 16384u

struct http_client {
	CURLM *multi;
	CURL *easy;
	struct curl_slist *headers;
	void (*field)(void *ctx, struct str name, struct str value);
	void *ctx;
	char origin[300];
	char curl_error[CURL_ERROR_SIZE];
	uint64_t timeout_ns;
	bool interrupted; /* atomic */
	struct dynbuf body;
	struct http_response *resp; /* during a post */
};

/* ---- what libcurl tells us ----------------------------------------------------------------------- */

static size_t take_body(char *p, size_t size, size_t n, void *arg)
{
	struct http_client *c = arg;
	int err = dynbuf__append(&c->body, p, size * n);

	if (!err)
		return size * n;
	if (err == -E2BIG)
		c->resp->too_large = true;
	return 0; /* ends the transfer */
}

static struct str trim(struct str s)
{
	while (s.len && isspace((unsigned char)s.p[0])) {
		s.p++;
		s.len--;
	}
	while (s.len && isspace((unsigned char)s.p[s.len - 1]))
		s.len--;
	return s;
}

static void copy_value(char *dst, size_t size, struct str v)
{
	size_t n = v.len < size ? v.len : size - 1;

	memcpy(dst, v.p, n);
	dst[n] = '\0';
}

static void take_type(char *dst, size_t size, struct str v)
{
	const char *semicolon = memchr(v.p, ';', v.len);

	if (semicolon)
		v = trim((struct str){ v.p, (size_t)(semicolon - v.p) });
	copy_value(dst, size, v);
	for (char *p = dst; *p; p++)
		*p = (char)tolower((unsigned char)*p);
}

static size_t take_header(char *p, size_t size, size_t n, void *arg)
{
	struct http_client *c = arg;
	struct str line = { p, size * n }, name, value;
	const char *colon;
	long status = 0;

	if (line.len > 5 && memcmp(p, "HTTP/", 5) == 0) { /* a new response: what was before was an interim one */
		c->resp->type[0] = '\0';
		c->resp->retry_after[0] = '\0';
		return line.len;
	}
	curl_easy_getinfo(c->easy, CURLINFO_RESPONSE_CODE, &status);
	colon = memchr(p, ':', line.len);
	if (!colon || (status >= 100 && status <= 199))
		return line.len;
	name = (struct str){ p, (size_t)(colon - p) };
	value = trim((struct str){ colon + 1, line.len - name.len - 1 });
	if (str__ieq(name, STR("content-type")))
		take_type(c->resp->type, sizeof(c->resp->type), value);
	else if (str__ieq(name, STR("retry-after")))
		copy_value(c->resp->retry_after, sizeof(c->resp->retry_after), value);
	if (c->field)
		c->field(c->ctx, name, value);
	return line.len;
}

/* ---- set-up -------------------------------------------------------------------------------------- */

static int read_origin(struct http_client *c, CURLU *url, const char *endpoint)
{
	char *scheme = NULL, *host = NULL, *port = NULL;
	int err = -EINVAL;

	if (curl_url_set(url, CURLUPART_URL, endpoint, 0) != CURLUE_OK ||
	    curl_url_get(url, CURLUPART_SCHEME, &scheme, 0) != CURLUE_OK ||
	    curl_url_get(url, CURLUPART_HOST, &host, 0) != CURLUE_OK ||
	    (strcmp(scheme, "http") != 0 && strcmp(scheme, "https") != 0)) {
		log_error("OTLP endpoint: not a URL that begins with http:// or https://");
		goto out;
	}
	if (curl_url_get(url, CURLUPART_PORT, &port, 0) != CURLUE_OK)
		port = NULL;
	snprintf(c->origin, sizeof(c->origin), "%s://%s%s%s", scheme, host, port ? ":" : "", port ? port : "");
	err = 0;
out:
	curl_free(scheme);
	curl_free(host);
	curl_free(port);
	return err;
}

static int set_url(struct http_client *c, const struct http_client_opts *o)
{
	CURLU *url = curl_url();
	char *text = NULL;
	int err;

	if (!url)
		return -ENOMEM;
	err = read_origin(c, url, o->exporter->endpoint);
	if (err)
		goto out;
	err = -ENOMEM;
	if (o->path && curl_url_set(url, CURLUPART_PATH, o->path, 0) != CURLUE_OK)
		goto out;
	if (curl_url_get(url, CURLUPART_URL, &text, 0) != CURLUE_OK)
		goto out;
	if (curl_easy_setopt(c->easy, CURLOPT_URL, text) == CURLE_OK)
		err = 0;
out:
	curl_free(text);
	curl_url_cleanup(url);
	return err;
}

static int add_header(struct http_client *c, const char *line)
{
	struct curl_slist *list = curl_slist_append(c->headers, line);

	if (!list)
		return -ENOMEM;
	c->headers = list;
	return 0;
}

/* RFC 9110, 5.6.2 */
static bool is_token(const char *s)
{
	if (!*s)
		return false;
	for (; *s; s++) {
		if (!isalnum((unsigned char)*s) && !strchr("!#$%&'*+-.^_`|~", *s))
			return false;
	}
	return true;
}

/* Decodes %XX in place; -EINVAL on a bad escape or on what must not be in a header value (RFC 9110, 5.5). */
static int decode_value(char *s)
{
	char *out = s;

	for (; *s; s++) {
		unsigned int c = (unsigned char)*s;

		if (c == '%') {
			if (!isxdigit((unsigned char)s[1]) || !isxdigit((unsigned char)s[2]))
				return -EINVAL;
			sscanf(s + 1, "%2x", &c);
			s += 2;
		}
		if ((c < 0x20 && c != '\t') || c == 0x7f)
			return -EINVAL;
		*out++ = (char)c;
	}
	*out = '\0';
	return 0;
}

static char *trim_in_place(char *s)
{
	struct str t = trim(str__of(s));

	((char *)t.p)[t.len] = '\0';
	return (char *)t.p;
}

/* "k=v,k2=v2", values percent-encoded (OTLP exporter specification). Values may be secret: never logged. */
static int add_user_headers(struct http_client *c, const char *text)
{
	char *copy = mem__strdup(text), *rest = copy, *pair, *name, *value;
	char line[MAX_HEADERS_LEN];
	int err = 0;

	if (!copy)
		return -ENOMEM;
	while (!err && (pair = strsep(&rest, ","))) {
		pair = trim_in_place(pair);
		if (!*pair)
			continue;
		value = strchr(pair, '=');
		if (value)
			*value++ = '\0';
		name = trim_in_place(pair);
		if (!value || !is_token(name) || decode_value(value)) {
			log_error("OTLP headers: %s%s%s: expected name=value, the value percent-encoded",
				  is_token(name) ? "\"" : "", is_token(name) ? name : "one entry",
				  is_token(name) ? "\"" : "");
			err = -EINVAL;
			break;
		}
		value = trim_in_place(value);
		/* libcurl's spelling of a header without a value is "name;": "name:" would remove it. */
		if (snprintf(line, sizeof(line), *value ? "%s: %s" : "%s;", name, value) >= (int)sizeof(line))
			err = -EINVAL;
		else
			err = add_header(c, line);
	}
	mem__free(copy);
	return err;
}

/* Is there a PEM block (RFC 7468) of this kind in the file? The TLS library says so only when it connects. */
static int check_pem(const char *what, const char *path, const char *kind)
{
	char line[128];
	bool found = false;
	FILE *f = path ? fopen(path, "re") : NULL;
	int err;

	if (!path)
		return 0;
	if (!f) {
		err = -errno;
		log_error("%s %s: %m", what, path);
		return err;
	}
	while (!found && fgets(line, sizeof(line), f))
		found = !strncmp(line, "-----BEGIN ", 11) && strstr(line, kind);
	err = found ? 0 : ferror(f) ? -EIO : -EINVAL;
	fclose(f);
	if (err)
		log_error("%s %s: there is no \"-----BEGIN ... %s-----\" in it: it has to be PEM", what, path, kind);
	return err;
}

static int set_tls(struct http_client *c, const struct exporter_opts *o)
{
	int err = check_pem("OTLP certificate", o->ca_file, "CERTIFICATE");

	err = err ? err : check_pem("OTLP client certificate", o->cert_file, "CERTIFICATE");
	err = err ? err : check_pem("OTLP client key", o->key_file, "PRIVATE KEY");
	if (err)
		return err;
	curl_easy_setopt(c->easy, CURLOPT_SSLVERSION, (long)CURL_SSLVERSION_TLSv1_2);
	if ((o->ca_file && curl_easy_setopt(c->easy, CURLOPT_CAINFO, o->ca_file) != CURLE_OK) ||
	    (o->cert_file && curl_easy_setopt(c->easy, CURLOPT_SSLCERT, o->cert_file) != CURLE_OK) ||
	    (o->key_file && curl_easy_setopt(c->easy, CURLOPT_SSLKEY, o->key_file) != CURLE_OK))
		return -ENOMEM;
	return 0;
}

/*
 * libcurl 7.88 sets HTTP/2 up a second time on a connection that it uses again with prior knowledge, and fails
 * (curl issue 10634, fixed in 8.0.0). A connection for each request then; remove when Debian 12 goes (June 2028).
 */
static bool cannot_reuse_h2c(void)
{
	unsigned int version = curl_version_info(CURLVERSION_NOW)->version_num;

	return version >= 0x075700 && version < 0x080000;
}

static void set_behaviour(struct http_client *c, const struct http_client_opts *o)
{
	long timeout_ms = (long)(o->exporter->timeout_ns / 1000000);
	long version = CURL_HTTP_VERSION_1_1;

	if (o->http2_only)
		version = strncmp(c->origin, "https:", 6) == 0 ? CURL_HTTP_VERSION_2TLS
							       : CURL_HTTP_VERSION_2_PRIOR_KNOWLEDGE;
	curl_easy_setopt(c->easy, CURLOPT_HTTP_VERSION, version);
	if (version == CURL_HTTP_VERSION_2_PRIOR_KNOWLEDGE && cannot_reuse_h2c())
		curl_easy_setopt(c->easy, CURLOPT_FORBID_REUSE, 1L);
	curl_easy_setopt(c->easy, CURLOPT_NOSIGNAL, 1L);
	curl_easy_setopt(c->easy, CURLOPT_TIMEOUT_MS, timeout_ms);
	curl_easy_setopt(c->easy, CURLOPT_CONNECTTIMEOUT_MS, timeout_ms);
	curl_easy_setopt(c->easy, CURLOPT_FOLLOWLOCATION, 0L); /* credentials would follow, too */
	curl_easy_setopt(c->easy, CURLOPT_USERAGENT, USER_AGENT);
	curl_easy_setopt(c->easy, CURLOPT_POST, 1L);
	curl_easy_setopt(c->easy, CURLOPT_HTTPHEADER, c->headers);
	curl_easy_setopt(c->easy, CURLOPT_WRITEFUNCTION, take_body);
	curl_easy_setopt(c->easy, CURLOPT_WRITEDATA, c);
	curl_easy_setopt(c->easy, CURLOPT_HEADERFUNCTION, take_header);
	curl_easy_setopt(c->easy, CURLOPT_HEADERDATA, c);
	curl_easy_setopt(c->easy, CURLOPT_ERRORBUFFER, c->curl_error);
#if LIBCURL_VERSION_NUM >= 0x075500 /* 7.85.0 */
	curl_easy_setopt(c->easy, CURLOPT_PROTOCOLS_STR, "http,https");
#else
	curl_easy_setopt(c->easy, CURLOPT_PROTOCOLS, CURLPROTO_HTTP | CURLPROTO_HTTPS);
#endif
#if LIBCURL_VERSION_NUM >= 0x075700 /* 7.87.0 */
	/* A name server that does not answer must not hold up the end of the program. */
	curl_easy_setopt(c->easy, CURLOPT_QUICK_EXIT, 1L);
#endif
}

struct http_client *http_client__new(const struct http_client_opts *o)
{
	struct http_client *c = mem__zalloc(sizeof(*c));
	int err = -ENOMEM;

	if (!c)
		goto err;
	dynbuf__init(&c->body, HTTP_MAX_RESPONSE);
	c->field = o->field;
	c->ctx = o->ctx;
	c->timeout_ns = o->exporter->timeout_ns;
	if (curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK)
		goto err;
	c->multi = curl_multi_init();
	c->easy = curl_easy_init();
	if (!c->multi || !c->easy)
		goto err;
	err = set_url(c, o);
	for (const char *const *h = o->headers; !err && *h; h++)
		err = add_header(c, *h);
	if (!err)
		err = add_header(c, "Expect:"); /* no 100-continue: it costs a round trip and old servers a second */
	if (!err && o->exporter->headers)
		err = add_user_headers(c, o->exporter->headers);
	if (!err)
		err = set_tls(c, o->exporter);
	if (err)
		goto err;
	set_behaviour(c, o);
	return c;

err:
	http_client__free(c);
	errno = -err;
	return NULL;
}

void http_client__free(struct http_client *c)
{
	if (!c)
		return;
	curl_easy_cleanup(c->easy); /* NULL ok */
	curl_multi_cleanup(c->multi);
	curl_slist_free_all(c->headers);
	dynbuf__free(&c->body);
	mem__free(c);
}

const char *http_client__origin(const struct http_client *c)
{
	return c->origin;
}

/* ---- one post ------------------------------------------------------------------------------------ */

static void lower_first(char *s)
{
	/* "Connection refused" continues a sentence here; "SSL …" is a name. */
	if (isupper((unsigned char)s[0]) && islower((unsigned char)s[1]))
		s[0] = (char)tolower((unsigned char)s[0]);
}

/* What OpenSSL says of the two mistakes that are made most, and what to do about them. */
static const char *tls_hint(const char *error)
{
	if (strstr(error, "certificate required") || strstr(error, "bad certificate"))
		return " (it asks for a certificate: --client-certificate, --client-key)";
	if (strstr(error, "wrong version number"))
		return " (it does not speak TLS: http:// instead of https://?)";
	return "";
}

/*
 * It hung up on the first bytes of a connection of ours. A server that takes them for nonsense may close before all of
 * them are written: whether that comes as an end of file, a reset or a broken pipe is a race.
 */
static bool hung_up(struct http_client *c, CURLcode code, long os_error)
{
	long connects = 0;

	if (os_error != EPIPE && os_error != ECONNRESET)
		return false;
	if (code == CURLE_COULDNT_CONNECT)
		return true; /* before curl asked how the connection came about */
	curl_easy_getinfo(c->easy, CURLINFO_NUM_CONNECTS, &connects);
	return connects > 0 && (code == CURLE_SEND_ERROR || code == CURLE_RECV_ERROR);
}

static void describe_error(struct http_client *c, CURLcode code, struct http_response *r)
{
	long os_error = 0;

	curl_easy_getinfo(c->easy, CURLINFO_OS_ERRNO, &os_error);
	r->not_http = code == CURLE_GOT_NOTHING || code == CURLE_HTTP2 || code == CURLE_HTTP2_STREAM ||
		      code == CURLE_UNSUPPORTED_PROTOCOL || code == CURLE_WEIRD_SERVER_REPLY ||
		      hung_up(c, code, os_error);
	switch (code) {
	case CURLE_OPERATION_TIMEDOUT:
		snprintf(r->error, sizeof(r->error), "no answer within %g s", (double)(c->timeout_ns / 1000000) / 1e3);
		break;
	case CURLE_COULDNT_RESOLVE_HOST:
		snprintf(r->error, sizeof(r->error), "host name not found");
		break;
	case CURLE_PEER_FAILED_VERIFICATION:
		snprintf(r->error, sizeof(r->error), "%.180s (OTEL_EXPORTER_OTLP_CERTIFICATE names its CA)",
			 c->curl_error[0] ? c->curl_error : curl_easy_strerror(code));
		break;
	case CURLE_SSL_CERTPROBLEM:
		snprintf(r->error, sizeof(r->error), "%.160s (do --client-key and --client-certificate belong together?)",
			 c->curl_error[0] ? c->curl_error : curl_easy_strerror(code));
		break;
	case CURLE_COULDNT_CONNECT:
	case CURLE_SEND_ERROR:
	case CURLE_RECV_ERROR:
		if (os_error) {
			snprintf(r->error, sizeof(r->error), "%s", strerror((int)os_error));
			break;
		}
		/* fall through */
	default:
		snprintf(r->error, sizeof(r->error), "%.180s%s", c->curl_error[0] ? c->curl_error : curl_easy_strerror(code),
			 tls_hint(c->curl_error));
	}
	lower_first(r->error);
}

static CURLcode transfer_result(struct http_client *c)
{
	CURLcode code = CURLE_FAILED_INIT;
	CURLMsg *msg;
	int left;

	while ((msg = curl_multi_info_read(c->multi, &left))) {
		if (msg->msg == CURLMSG_DONE && msg->easy_handle == c->easy)
			code = msg->data.result;
	}
	return code;
}

static void run_transfer(struct http_client *c, struct http_response *r)
{
	CURLcode code;
	int running = 1;

	if (curl_multi_add_handle(c->multi, c->easy) != CURLM_OK) {
		snprintf(r->error, sizeof(r->error), "out of memory");
		return;
	}
	for (;;) {
		if (__atomic_load_n(&c->interrupted, __ATOMIC_RELAXED)) {
			r->interrupted = true;
			snprintf(r->error, sizeof(r->error), "interrupted");
			break;
		}
		if (curl_multi_perform(c->multi, &running) != CURLM_OK || !running)
			break;
		if (curl_multi_poll(c->multi, NULL, 0, POLL_MS, NULL) != CURLM_OK)
			break;
	}
	if (!r->interrupted) {
		code = transfer_result(c);
		r->complete = code == CURLE_OK;
		if (code != CURLE_OK)
			describe_error(c, code, r);
	}
	curl_easy_getinfo(c->easy, CURLINFO_RESPONSE_CODE, &r->status);
	if (r->status < 200)
		r->status = 0; /* an interim answer is none */
	curl_multi_remove_handle(c->multi, c->easy);
}

void http_client__post(struct http_client *c, struct str body, struct http_response *ret)
{
	long version = 0;

	*ret = (struct http_response){ 0 };
	dynbuf__reset(&c->body);
	c->resp = ret;
	c->curl_error[0] = '\0';
	curl_easy_setopt(c->easy, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)body.len);
	curl_easy_setopt(c->easy, CURLOPT_POSTFIELDS, body.p);
	run_transfer(c, ret);
	curl_easy_getinfo(c->easy, CURLINFO_HTTP_VERSION, &version);
	ret->http2 = version == CURL_HTTP_VERSION_2_0;
	ret->body = (struct str){ (const char *)c->body.data, c->body.len };
	c->resp = NULL;
}

void http_client__interrupt(struct http_client *c)
{
	__atomic_store_n(&c->interrupted, true, __ATOMIC_RELAXED);
	curl_multi_wakeup(c->multi);
}
