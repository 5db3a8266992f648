// SPDX-License-Identifier: Apache-2.0
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "user/proto/url.h"

typedef struct str redact_fn(struct str in, char *buf);

/* Both sides on the heap, the buffer at the size that the header promises to be enough. */
static void expect(redact_fn *fn, const char *in, const char *want)
{
	size_t n = strlen(in);
	char *copy = malloc(n ? n : 1), *buf = malloc(URL_REDACTED_MAX(n));
	struct str got;

	memcpy(copy, in, n);
	got = fn((struct str){ copy, n }, buf);
	if (got.len != strlen(want) || (got.len && memcmp(got.p, want, got.len) != 0))
		fail_msg("\"%s\": \"%.*s\", not \"%s\"", in, (int)got.len, got.p, want);
	if (strcmp(in, want) == 0)
		assert_ptr_equal(got.p, copy);
	free(copy);
	free(buf);
}

static void test_query(void **state)
{
	static const char *const rows[][2] = {
		{ "", "" },
		{ "a", "a" },
		{ "a=1&b=2", "a=1&b=2" },
		{ "sig=x", "sig=REDACTED" },
		{ "Sig=x", "Sig=x" },
		{ "signature=x", "signature=x" },
		{ "Signature=x&AWSAccessKeyId=y", "Signature=REDACTED&AWSAccessKeyId=REDACTED" },
		{ "X-Amz-Signature=1&X-Amz-Credential=2&X-Amz-Date=3",
		  "X-Amz-Signature=REDACTED&X-Amz-Credential=REDACTED&X-Amz-Date=3" },
		{ "X-Amz-Security-Token=1&X-Goog-Signature=2",
		  "X-Amz-Security-Token=REDACTED&X-Goog-Signature=REDACTED" },
		{ "token=1&accessToken=2&id_token=3", "token=REDACTED&accessToken=REDACTED&id_token=REDACTED" },
		{ "client_secret=a=b", "client_secret=REDACTED" },
		{ "PASSWORD=1&pass-word=2&pwd=3&passwd=4&pass=5",
		  "PASSWORD=REDACTED&pass-word=REDACTED&pwd=REDACTED&passwd=REDACTED&pass=REDACTED" },
		{ "bypass=1&passenger=2&compass=3&userPass=4&db.pass=5&pass[x]=6&passPhrase=7",
		  "bypass=1&passenger=2&compass=3&userPass=REDACTED&db.pass=REDACTED&pass[x]=REDACTED&passPhrase=REDACTED" },
		{ "api+key=1&API%20KEY=2&api%2Bkey=3&api~key=4&api:key=5&x[api][key]=6&apiary+keys=7",
		  "api+key=REDACTED&API%20KEY=REDACTED&api%2Bkey=REDACTED&api~key=REDACTED&api:key=REDACTED"
		  "&x[api][key]=REDACTED&apiary+keys=7" },
		{ "Authorization=1&proxy-authorization=2&private_key=3&PrivateKey=4&private+key=5&credentials=6&private=7",
		  "Authorization=REDACTED&proxy-authorization=REDACTED&private_key=REDACTED&PrivateKey=REDACTED"
		  "&private+key=REDACTED&credentials=REDACTED&private=7" },
		{ "api_key=1&apikey=2&API-KEY=3&api.key=4&key=5",
		  "api_key=REDACTED&apikey=REDACTED&API-KEY=REDACTED&api.key=REDACTED&key=5" },
		{ "auth=1&x-Auth=2&author=3&oauth=4&userAuth=5&authKey=6&authkey=7",
		  "auth=REDACTED&x-Auth=REDACTED&author=3&oauth=4&userAuth=REDACTED&authKey=REDACTED&authkey=7" },
		{ "%74oken=1&to%6ben=2&to%zzken=3&%=4", "%74oken=REDACTED&to%6ben=REDACTED&to%zzken=3&%=4" },
		{ "a=1;sig=2", "a=1;sig=REDACTED" },
		{ "token", "token" },
		{ "sig=&sig=&=x&&", "sig=REDACTED&sig=REDACTED&=x&&" },
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		expect(url__redact_query, rows[i][0], rows[i][1]);
}

static void test_url(void **state)
{
	static const char *const rows[][2] = {
		{ "", "" },
		{ "http://h/p?a=1", "http://h/p?a=1" },
		{ "http://u:p@h:1/p", "http://REDACTED:REDACTED@h:1/p" },
		{ "http://u@h/", "http://REDACTED@h/" },
		{ "http://u:p@w@h/", "http://REDACTED:REDACTED@h/" },
		{ "http://h/a@b?c@d=1", "http://h/a@b?c@d=1" },
		{ "http://h?sig=1", "http://h?sig=REDACTED" },
		{ "http://u:p@h?sig=1&x=2", "http://REDACTED:REDACTED@h?sig=REDACTED&x=2" },
		{ "http://u:p@h", "http://REDACTED:REDACTED@h" },
		{ "/p?u=http://a:b@c", "/p?u=http://a:b@c" },
		{ "/p?token=http://a:b@c", "/p?token=REDACTED" },
		{ "://@", "://REDACTED@" },
		{ "://:@?sig=", "://REDACTED:REDACTED@?sig=REDACTED" },
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		expect(url__redact, rows[i][0], rows[i][1]);
}

static void test_options(void **state)
{
	url__set_redaction(true, "session, X ,,k");
	expect(url__redact_query, "session=1&Session=2&X=3&k=&k=&k=",
	       "session=REDACTED&Session=2&X=REDACTED&k=REDACTED&k=REDACTED&k=REDACTED");
	url__set_redaction(true, "a+b,c d");
	expect(url__redact_query, "a+b=1&a%2Bb=2&c+d=3&c%20d=4&c=5",
	       "a+b=REDACTED&a%2Bb=REDACTED&c+d=REDACTED&c%20d=REDACTED&c=5");
	url__set_redaction(false, "session");
	expect(url__redact_query, "session=1&sig=2", "session=1&sig=2");
	/* Credentials are none of the query's business. */
	expect(url__redact, "http://u:p@h/?sig=1", "http://REDACTED:REDACTED@h/?sig=1");
	url__set_redaction(true, NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_query),
		cmocka_unit_test(test_url),
		cmocka_unit_test(test_options),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
