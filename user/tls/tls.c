// SPDX-License-Identifier: Apache-2.0
#include "user/tls/tls.h"

#include <errno.h>
#include <string.h>

#include "user/base/log.h"
#include "user/base/mem.h"
#include "user/runtime/prologue.h"
#include "user/runtime/symtab.h"
#include "user/tls/linked.h"

#define LIBRARY(lib) extern const struct tls_library lib;
#include "user/tls/tls_list.h"
#undef LIBRARY

static const struct tls_library *const libraries[] = {
#define LIBRARY(lib) &lib,
#include "user/tls/tls_list.h"
#undef LIBRARY
};

#define N_LIBRARIES (sizeof(libraries) / sizeof(libraries[0]))

static bool is_named(const struct tls_library *l, const char *base)
{
	for (const char *const *p = l->files; *p; p++)
		if (!strncmp(base, *p, strlen(*p)))
			return true;
	return false;
}

bool tls_file__is_candidate(const struct mapped_file *f)
{
	for (size_t i = 0; i < N_LIBRARIES; i++)
		if (is_named(libraries[i], mapped_file__base(f)))
			return true;
	return false;
}

const char *tls__opaque_name(const struct mapped_files *maps)
{
	static const struct {
		const char *file, *name;
	} known[] = {
		{"/libssl3.so", "NSS"},		{"/libjvm.so", "Java (JSSE)"},	 {"/libmbedtls.so", "Mbed TLS"},
		{"/libwolfssl.so", "wolfSSL"}, {"/libbearssl.so", "BearSSL"}, {"/libs2n.so", "s2n-tls"},
	};

	for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++)
		if (mapped_files__find(maps, known[i].file))
			return known[i].name;
	return NULL;
}

/* What was linked in, by the names of its sources, which its errors and panics carry. */
static const char *mentioned(const struct elf_file *elf, const char *path)
{
	static const char *const texts[] = {"/rustls-", "boringssl/", "OpenSSL 1.", "mbedtls", "wolfSSL", "s2n_"},
				 *const names[] = {"rustls", "BoringSSL", "OpenSSL", "Mbed TLS", "wolfSSL", "s2n-tls"};
	size_t i = linked__mentions(elf, path, texts, sizeof(texts) / sizeof(texts[0]));

	return i < sizeof(names) / sizeof(names[0]) ? names[i] : NULL;
}

/*
 * Entry and return at one place: the processor traps there once. (Arguments are where the caller put them, and the
 * return address on top of the stack.)
 */
static int add(struct tls_file *t, const struct elf_file *elf, const char *path, const struct tls_function *fn, uint64_t addr)
{
	struct runtime_site site = {.hook = fn->hook};
	uint8_t code[PROLOGUE_BYTES];

	if (!elf_file__is_code(elf, addr) || !elf_file__read(elf, addr, code, sizeof(code)) ||
	    !elf_file__offset(elf, addr, &site.offset))
		return -ENOEXEC;
	site.offset += prologue__return(code, sizeof(code));
	for (int ret = 0; ret <= fn->returns; ret++) {
		if (t->n_sites == TLS_SITES_MAX)
			return -ENOEXEC;
		site.path = mem__strdup(path);
		if (!site.path)
			return -ENOMEM;
		if (ret) {
			site.ret = true;
			site.hook = HOOK_TLS_RETURN;
		}
		t->sites[t->n_sites++] = site;
	}
	return 0;
}

/* What both of two functions call, if a probe is cheap there and not at them. 0: none. */
static uint64_t called_by_both(const struct elf_file *elf, uint64_t a, uint64_t b)
{
	uint8_t of_a[PROLOGUE_BYTES], of_b[PROLOGUE_BYTES], code[PROLOGUE_BYTES];

	if (!a || !b || !elf_file__read(elf, a, of_a, sizeof(of_a)) || !elf_file__read(elf, b, of_b, sizeof(of_b)) ||
	    prologue__decode(of_a + prologue__return(of_a, sizeof(of_a)), 16).emulated)
		return 0;
	for (size_t i = 0; i + 5 <= PROLOGUE_BYTES; i++) {
		uint64_t target;
		int32_t rel;

		memcpy(&rel, of_a + i + 1, sizeof(rel));
		target = a + i + 5 + (uint64_t)(int64_t)rel;
		if (of_a[i] == 0xe8 && prologue__call(of_b, sizeof(of_b), b, target) < sizeof(of_b) && elf_file__is_code(elf, target) &&
		    elf_file__read(elf, target, code, sizeof(code)) &&
		    prologue__decode(code + prologue__return(code, sizeof(code)), 16).emulated)
			return target;
	}
	return 0;
}

/* One probe for two functions, where that is cheaper. */
static void use_common(const struct tls_library *l, const struct elf_file *elf, uint64_t *addr)
{
	for (size_t i = 0; i < l->n_functions; i++) {
		const struct tls_function *fn = &l->functions[i];

		if (!fn->twin || (fn->unless && elf_file__symbol(elf, fn->unless)))
			continue;
		for (size_t k = 0; k < l->n_functions; k++) {
			uint64_t common = strcmp(l->functions[k].name, fn->twin) ? 0 : called_by_both(elf, addr[i], addr[k]);

			if (common) {
				addr[k] = common;
				addr[i] = 0;
			}
		}
	}
}

/* Where its functions are found. */
enum table { EXPORTED, SYMBOLS, STRINGS };

static int find_functions(const struct elf_file *elf, const char *path, enum table in, const struct tls_function *fn, size_t n,
			  uint64_t *addr)
{
	const char *names[TLS_SITES_MAX];

	for (size_t i = 0; i < n; i++) {
		names[i] = fn[i].name;
		if (in == EXPORTED)
			addr[i] = elf_file__symbol(elf, fn[i].name);
	}
	if (in == EXPORTED)
		return 0;
	return in == SYMBOLS ? symtab__find(path, names, addr, n) : linked__find(elf, path, names, addr, n);
}

/* 0, also if it is not this library; -ENOMEM, -ENOEXEC: malformed. */
static int look(struct tls_file *t, const struct tls_library *l, const struct elf_file *elf, const char *path, enum table in)
{
	const struct tls_function *fn = in == STRINGS ? l->linked : l->functions;
	size_t n = in == STRINGS ? l->n_linked : l->n_functions;
	uint64_t addr[TLS_SITES_MAX];
	int err = find_functions(elf, path, in, fn, n, addr);

	if (err || !n)
		return err;
	for (size_t i = 0; i < n; i++)
		if (!addr[i] && fn[i].needed)
			return 0;
	if (in == EXPORTED)
		use_common(l, elf, addr);
	if (in == STRINGS && l->choose)
		l->choose(elf, addr);
	for (size_t i = 0; i < n && !err; i++)
		if (addr[i])
			err = add(t, elf, path, &fn[i], addr[i]);
	if (!err)
		t->library = l->name;
	return err;
}

/* Of the same version: libssl.so.3 stands on libcrypto.so.3. NULL: it cannot be had. */
static struct elf_file *open_base(const struct mapped_files *maps, const struct mapped_file *f, pid_t pid, const char *name)
{
	const char *version = strstr(mapped_file__base(f), ".so");
	char path[MAPPED_PATH_MAX];
	struct elf_file *elf;

	for (size_t i = 0; version && i < maps->n; i++) {
		const char *base = mapped_file__base(&maps->files[i]), *its = strstr(base, ".so");

		if (strncmp(base, name, strlen(name)) || !its || strcmp(its, version) != 0)
			continue;
		if (mapped_file__path(&maps->files[i], pid, path) && !elf_file__open(path, &elf))
			return elf;
	}
	return NULL;
}

static void find_layout(struct tls_file *t, const struct tls_library *l, const struct elf_file *elf,
			const struct mapped_files *maps, const struct mapped_file *f, pid_t pid)
{
	union ws_tls layout = {0};
	struct elf_file *base;

	if (!l->layout)
		return;
	base = open_base(maps, f, pid, l->base);
	l->layout(elf, base ? base : elf, &layout);
	elf_file__close(base);
	for (size_t i = 0; i < t->n_sites; i++)
		if (t->sites[i].ret)
			t->sites[i].cookie = layout.cookie;
}

/* True: it is a Go program with TLS in it, or there is no memory to find out. */
static bool look_at_go(const struct mapped_file *f, pid_t pid, struct tls_file *t, int *ret_err)
{
	const char *why;
	int err = tls_golang__inspect(pid, f, t, &why);

	*ret_err = err == -ENOMEM ? err : 0;
	if (why)
		log_debug("pid %d: %s: its TLS cannot be probed: %s", (int)pid, f->name, why);
	t->inside = true;
	if (!err && t->library)
		return true;
	tls_file__free(t);
	return err == -ENOMEM;
}

/* Symbols first: with them it is known where sessions end. */
static int look_everywhere(struct tls_file *t, const struct tls_library *l, const struct elf_file *elf, const char *path,
			   enum tls_look how)
{
	enum table last = how == TLS_LINKED ? STRINGS : EXPORTED;
	int err = 0;

	for (enum table in = EXPORTED; in <= last && !err && !t->library; in++) {
		t->inside = in != EXPORTED;
		err = look(t, l, elf, path, in);
	}
	return err;
}

int tls_file__inspect(const struct mapped_files *maps, const struct mapped_file *f, pid_t pid, enum tls_look how,
		      struct tls_file *ret)
{
	char path[MAPPED_PATH_MAX];
	struct elf_file *elf;
	int err;

	*ret = (struct tls_file){0};
	if (!mapped_file__path(f, pid, path))
		return 0;
	if (how != TLS_LIBRARY && look_at_go(f, pid, ret, &err))
		return err;
	err = elf_file__open(path, &elf);
	if (err)
		return err == -ENOMEM ? err : 0;
	for (size_t i = 0; i < N_LIBRARIES && !err && !ret->library; i++) {
		if (how == TLS_LIBRARY ? !is_named(libraries[i], mapped_file__base(f)) : !libraries[i]->embedded)
			continue;
		err = look_everywhere(ret, libraries[i], elf, path, how);
		if (ret->library)
			find_layout(ret, libraries[i], elf, maps, f, pid);
	}
	if (!err && !ret->library && how == TLS_LINKED)
		ret->opaque = mentioned(elf, path);
	elf_file__close(elf);
	if (!err && (ret->library || ret->opaque))
		return 0;
	if (err && err != -ENOMEM)
		log_debug("pid %d: %s: its TLS functions cannot be probed: %s", (int)pid, f->name, strerror(-err));
	tls_file__free(ret);
	return err == -ENOMEM ? err : 0;
}

void tls_file__free(struct tls_file *t)
{
	for (size_t i = 0; i < t->n_sites; i++)
		mem__free(t->sites[i].path);
	*t = (struct tls_file){0};
}
