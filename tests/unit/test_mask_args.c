// SPDX-License-Identifier: Apache-2.0
/* Credentials among arguments: what is blanked, and what is not. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "user/source/mask.h"

/* In: arguments, "|" between them. */
static void check_args(const char *in, const char *want)
{
	size_t len = strlen(in);
	char *args = malloc(len); /* ASan watches its very end */

	assert_int_equal(strlen(want), len);
	for (size_t i = 0; i < len; i++)
		args[i] = in[i] == '|' ? 0 : in[i];
	mask__args(args, len);
	for (size_t i = 0; i < len; i++)
		args[i] = args[i] ? args[i] : '|';
	if (memcmp(args, want, len) != 0)
		fail_msg("%s\nbecame %.*s\nwanted %s", in, (int)len, args, want);
	free(args);
}

static void test_args(void **state)
{
	check_args("curl|-s|-H|Authorization: Bearer abc|-H|Cookie: sid=1; b=2|-H|Accept: */*|http://h/",
		   "curl|-s|-H|Authorization: ****** ***|-H|Cookie: ****** ***|-H|Accept: */*|http://h/");
	check_args("curl|-HX-Api-Key: k|--header=x-auth-token:t|-H|X-My-Token: t u",
		   "curl|-HX-Api-Key: *|--header=x-auth-token:*|-H|X-My-Token: * *");
	check_args("curl|-u|me:pw|http://h", "curl|-u|*****|http://h");
	check_args("curl|-ume:pw|--user|a:b|--user=a:b|--proxy-user|c:d|-U|e:f",
		   "curl|-u*****|--user|***|--user=***|--proxy-user|***|-U|***");
	check_args("python3|-u|app.py|--user|bob", "python3|-u|app.py|--user|bob");
	check_args("curl|-b|sid=1|--cookie|c|-b|0.0.0.0:80", "curl|-b|*****|--cookie|*|-b|0.0.0.0:80");
	check_args("x|--password|pw|--token=t v|-password|p|--db-passwd|p|--oauth2-bearer|b|--api-key|k",
		   "x|--password|**|--token=* *|-password|*|--db-passwd|*|--oauth2-bearer|*|--api-key|*");
	check_args("x|--token|--verbose|on", "x|--token|--verbose|on");
	check_args("env|PGPASSWORD=pw|GH_TOKEN=t|PATH=/bin|-Ddb.password=x|psql",
		   "env|PGPASSWORD=**|GH_TOKEN=*|PATH=/bin|-Ddb.password=*|psql");
	check_args("psql|postgres://me:pw@db:5432/x?sslmode=on&password=q&a=1|host=db password=pw user=u",
		   "psql|postgres://*****@db:5432/x?sslmode=on&password=*&a=1|host=db password=** user=u");
	check_args("curl|http://h/?a=1&token=abc&b=2|http://tok@h/|http://h/a@b",
		   "curl|http://h/?a=1&token=***&b=2|http://***@h/|http://h/a@b");
	check_args("curl|-d|{\"user\": \"u\", \"password\": \"p q\", \"n\": 1}",
		   "curl|-d|{\"user\": \"u\", \"password\": \"* *\", \"n\": 1}");
	check_args("sh|-c|curl -u a:b -H 'Authorization: Bearer t' --token \"x y\" http://h; echo auth=Basic abc done",
		   "sh|-c|curl -u *** -H 'Authorization: ****** *' --token \"* *\" http://h; echo auth=***** *** done");
	check_args("sh|-c|x --password p1 -v --secret 'p2' | bearer p3",
		   "sh|-c|x --password ** -v --secret '**' | bearer **");
	check_args("openssl|-passin|pass:pw", "openssl|-passin|pass:**");
	check_args("gunicorn|-b|127.0.0.1:8000|shop.wsgi:app|/srv/author/x.py",
		   "gunicorn|-b|127.0.0.1:8000|shop.wsgi:app|/srv/author/x.py");
	/* Cut off anywhere. */
	check_args("curl|-u", "curl|-u");
	check_args("curl|--token=", "curl|--token=");
	check_args("curl|http://", "curl|http://");
	check_args("curl|-u|me:p", "curl|-u|****");
	check_args("||:|=|-|--|\"|", "||:|=|-|--|\"|");
}

/* Whatever the arguments are, no byte outside of them is touched, and what is changed is blanked. */
static void test_garbage(void **state)
{
	static const char letters[] = "-uHb=:\"'`\\ \n&;?/@token|\0\0pass";
	unsigned int seed = 3;

	for (int i = 0; i < 50000; i++) {
		size_t len = (size_t)rand_r(&seed) % 40;
		char *args = malloc(len + 1), before[40];

		for (size_t k = 0; k < len; k++)
			before[k] = letters[(size_t)rand_r(&seed) % (sizeof(letters) - 1)];
		args = realloc(args, len ? len : 1);
		memcpy(args, before, len);
		mask__args(args, len);
		for (size_t k = 0; k < len; k++)
			assert_true(args[k] == before[k] || (args[k] == '*' && before[k]));
		free(args);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_args),
		cmocka_unit_test(test_garbage),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
