// SPDX-License-Identifier: Apache-2.0
/* What is a TLS library, and where its functions are: the distribution's own, and files that only have their names. */
#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>
#include <cmocka.h>

#include "user/base/mem.h"
#include "user/base/pidset.h"
#include "user/tls/tls.h"

/* A file as it would stand in the maps of this process. */
static struct mapped_file mapped(const char *path)
{
	struct mapped_file f = { .name = (char *)path };
	struct stat st;

	assert_int_equal(stat(path, &st), 0);
	f.ino = st.st_ino;
	f.dev_major = major(st.st_dev);
	f.dev_minor = minor(st.st_dev);
	return f;
}

static char *library(const char *pattern)
{
	glob_t g;
	char *path;

	if (glob(pattern, 0, NULL, &g))
		fail_msg("%s is not installed: make deps", pattern);
	path = realpath(g.gl_pathv[0], NULL);
	globfree(&g);
	assert_non_null(path);
	return path;
}

static size_t sites(const struct tls_file *t, enum runtime_hook hook, bool ret)
{
	size_t n = 0;

	for (size_t i = 0; i < t->n_sites; i++)
		n += t->sites[i].hook == hook && t->sites[i].ret == ret;
	return n;
}

/* What libssl has the program carry lies where libcrypto says: one without the other is probed, and finds nothing there. */
static void test_openssl(void **state_)
{
	char *ssl = library("/usr/lib/*/libssl.so.3"), *crypto = library("/usr/lib/*/libcrypto.so.3");
	struct mapped_file files[] = { mapped(ssl), mapped(crypto) };

	for (size_t n = 1; n <= 2; n++) {
		struct mapped_files maps = { .files = files, .n = n };
		union ws_tls layout;
		struct tls_file t;

		assert_true(tls_file__is_candidate(&files[0]));
		assert_int_equal(tls_file__inspect(&maps, &files[0], getpid(), TLS_LIBRARY, &t), 0);
		assert_string_equal(t.library, "OpenSSL");
		assert_int_equal(t.n_sites, 11);
		assert_int_equal(sites(&t, HOOK_TLS_RETURN, true), 5);
		assert_int_equal(sites(&t, HOOK_TLS_READ, false), 0); /* both read by one function */
		assert_int_equal(sites(&t, HOOK_TLS_FREE, false), 1);
		layout.cookie = t.sites[1].cookie;
		assert_int_equal(layout.kind, n == 2 ? WS_TLS_MEM : 0);
		assert_int_equal(layout.wbio >= 0x18 && layout.ptr >= 0x38 && layout.next > layout.ptr, n == 2);
		assert_true(layout.version == 1 || layout.version > 0x20); /* SSL.version is its first field before 3.2 */
		assert_int_equal(t.sites[0].cookie, 0);
		tls_file__free(&t);
	}
	free(ssl);
	free(crypto);
}

static void test_gnutls(void **state_)
{
	char *path = library("/usr/lib/*/libgnutls.so.30");
	struct mapped_file f = mapped(path);
	struct mapped_files maps = { .files = &f, .n = 1 };
	struct tls_file t;

	assert_int_equal(tls_file__inspect(&maps, &f, getpid(), TLS_LIBRARY, &t), 0);
	assert_string_equal(t.library, "GnuTLS");
	assert_int_equal(t.n_sites, 7);
	tls_file__free(&t);
	free(path);
}

/* Names alone make no library; nor does an executable that exports nothing of one. */
static void test_others(void **state_)
{
	char dir[] = "/tmp/wirespan-test-tls.XXXXXX", path[64];
	static const struct {
		const char *name, *text;
		bool candidate;
	} v[] = {
		{ "libssl.so.3", "no program at all", true },
		{ "libssl.so.1.1", "\177ELF\2\1\1\0\0\0\0\0\0\0\0\0\3\0\76\0", true },
		{ "libgnutls.so.30", "", true },
		{ "libssl3.so", "", false }, /* NSS */
		{ "libsslcommon.so", "", false },
	};

	assert_non_null(mkdtemp(dir));
	for (size_t i = 0; i < sizeof(v) / sizeof(v[0]); i++) {
		struct mapped_files maps;
		struct mapped_file f;
		struct tls_file t;
		FILE *file;

		snprintf(path, sizeof(path), "%s/%s", dir, v[i].name);
		file = fopen(path, "w");
		assert_non_null(file);
		fwrite(v[i].text, 1, i == 1 ? 20 : strlen(v[i].text), file);
		fclose(file);
		f = mapped(path);
		maps = (struct mapped_files){ .files = &f, .n = 1 };
		assert_int_equal(tls_file__is_candidate(&f), v[i].candidate);
		assert_int_equal(tls_file__inspect(&maps, &f, getpid(), TLS_LIBRARY, &t), 0);
		assert_null(t.library);
		unlink(path);
		f.deleted = true;
		assert_int_equal(tls_file__inspect(&maps, &f, getpid(), TLS_LIBRARY, &t), 0);
		assert_null(t.library);
	}
	rmdir(dir);
	{
		struct mapped_file f = mapped("/usr/bin/env");
		struct mapped_files maps = { .files = &f, .n = 1 };
		struct tls_file t;

		assert_int_equal(tls_file__inspect(&maps, &f, getpid(), TLS_EXECUTABLE, &t), 0);
		assert_null(t.library);
	}
}

static void test_opaque(void **state_)
{
	struct mapped_file files[] = { { .name = (char *)"/usr/lib/jvm/lib/server/libjvm.so" }, { .name = (char *)"/usr/lib/libssl3.so" } };

	assert_string_equal(tls__opaque_name(&(struct mapped_files){ .files = files, .n = 1 }), "Java (JSSE)");
	assert_string_equal(tls__opaque_name(&(struct mapped_files){ .files = files + 1, .n = 1 }), "NSS");
	assert_null(tls__opaque_name(&(struct mapped_files){ 0 }));
}

static void test_without_memory(void **state_)
{
	char *path = library("/usr/lib/*/libssl.so.3");
	struct mapped_file f = mapped(path);
	struct mapped_files maps = { .files = &f, .n = 1 };
	int err = -ENOMEM;
	struct tls_file t;

	for (long n = 0; err; n++) {
		mem__fail_after(n);
		err = tls_file__inspect(&maps, &f, getpid(), TLS_LIBRARY, &t);
		mem__fail_after(-1);
		assert_true(!err || err == -ENOMEM);
		if (err)
			assert_int_equal(t.n_sites, 0);
	}
	assert_non_null(t.library);
	tls_file__free(&t);
	free(path);
}

static void test_pidset(void **state_)
{
	struct pidset p = { 0 };

	assert_true(pidset__add(&p, 1));
	assert_false(pidset__add(&p, 1));
	pidset__del(&p, 1);
	pidset__del(&p, 1);
	assert_true(pidset__add(&p, 1));
	for (uint32_t i = 2; i <= PIDSET_MAX; i++)
		assert_true(pidset__add(&p, i));
	assert_true(pidset__add(&p, PIDSET_MAX + 1)); /* all others are forgotten */
	assert_true(pidset__add(&p, 1));
	mem__fail_after(0);
	assert_false(pidset__add(&p, 2));
	mem__fail_after(-1);
	assert_true(pidset__add(&p, 2));
	pidset__free(&p);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_openssl),	       cmocka_unit_test(test_gnutls),
		cmocka_unit_test(test_others),	       cmocka_unit_test(test_opaque),
		cmocka_unit_test(test_without_memory),
		cmocka_unit_test(test_pidset),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
