// SPDX-License-Identifier: Apache-2.0
/*
 * OpenSSL 1.1 and 3.x, and what has its interface: BoringSSL, LibreSSL (include/openssl/ssl.h). Node.js has it in its
 * executable and exports it for add-ons; some builds of CPython have it in their module.
 */
#include "user/tls/tls.h"

#include <stdbool.h>
#include <string.h>

#include "user/runtime/prologue.h"

#define CODE_BYTES 64

static const char *const files[] = {"libssl.so", "libssl-", "_ssl.", NULL};

static const struct tls_function functions[] = {
	{"SSL_read", HOOK_TLS_READ, true, true, "SSL_read_ex", NULL},
	{"SSL_write", HOOK_TLS_WRITE, true, true, "SSL_write_ex", "SSL_write_ex2"},
	{"SSL_read_ex", HOOK_TLS_READ_EX, true, false, NULL, NULL},	  /* since 1.1.1 */
	{"SSL_write_ex", HOOK_TLS_WRITE_EX, true, false, NULL, NULL}, /* … */
	{"SSL_write_ex2", HOOK_TLS_WRITE_EX2, true, false, NULL, NULL}, /* since 3.3 */
	{"SSL_sendfile", HOOK_TLS_SENDFILE, true, false, NULL, NULL}, /* since 3.0, where the kernel encrypts */
	{"SSL_do_handshake", HOOK_TLS_HANDSHAKE, true, true, NULL, NULL},
	{"SSL_write_early_data", HOOK_TLS_HANDSHAKE, true, false, NULL, NULL}, /* TLS 1.3: sends what SSL_write_ex() has sealed within */
	{"SSL_free", HOOK_TLS_FREE, false, true, NULL, NULL},
};

/*
 * All ways of reading go through the first, all of writing through its counterpart, which has got another argument with
 * 3.3: choose() leaves one of the three.
 */
enum { LINKED_READ, LINKED_HANDSHAKE, LINKED_WRITE, LINKED_WRITE_EX, LINKED_WRITE_EX2 };

static const struct tls_function linked[] = {
	[LINKED_READ] = {"ssl_read_internal", HOOK_TLS_READ_EX, true, true, NULL, NULL},
	[LINKED_HANDSHAKE] = {"SSL_do_handshake", HOOK_TLS_HANDSHAKE, true, true, NULL, NULL},
	[LINKED_WRITE] = {"SSL_write", HOOK_TLS_WRITE, true, true, NULL, NULL},
	[LINKED_WRITE_EX] = {"ssl_write_internal", HOOK_TLS_WRITE_EX, true, false, NULL, NULL},
	[LINKED_WRITE_EX2] = {"ssl_write_internal", HOOK_TLS_WRITE_EX2, true, false, NULL, NULL},
};

/*
 * SSL_write() passes on where the number of bytes goes, a place of its own: the argument that it loads an address of its
 * stack for, in front of the call.
 */
static void choose(const struct elf_file *f, uint64_t *addr)
{
	static const uint8_t loads[][4] = {
		{0x48, 0x89, 0xe1}, {0x48, 0x8d, 0x4c, 0x24}, {0x48, 0x8d, 0x4d}, /* mov %rsp,%rcx; lea X(%rsp),%rcx; lea X(%rbp),%rcx */
		{0x49, 0x89, 0xe0}, {0x4c, 0x8d, 0x44, 0x24}, {0x4c, 0x8d, 0x45}, /* … %r8 */
	};
	static const size_t n_loads = sizeof(loads) / sizeof(loads[0]), bytes[] = {3, 4, 3, 3, 4, 3};
	uint64_t from = addr[LINKED_WRITE], to = addr[LINKED_WRITE_EX];
	bool fourth = false, fifth = false;
	uint8_t code[CODE_BYTES * 2];
	size_t end;

	addr[LINKED_WRITE_EX] = addr[LINKED_WRITE_EX2] = 0;
	if (!to || !elf_file__is_code(f, to) || !elf_file__read(f, from, code, sizeof(code)))
		return;
	end = prologue__call(code, sizeof(code), from, to);
	for (size_t i = 0; i < end && end < sizeof(code); i++)
		for (size_t k = 0; k < n_loads; k++)
			if (!memcmp(code + i, loads[k], bytes[k]))
				*(k < n_loads / 2 ? &fourth : &fifth) = true;
	if (fourth == fifth)
		return;
	addr[fourth ? LINKED_WRITE_EX : LINKED_WRITE_EX2] = to;
	addr[LINKED_WRITE] = 0;
}

/*
 * What a function returns that does little else than read a field of its argument: the first mov OFFSET(%rdi) to a register
 * whose offset is one of a pointer behind the first two words. 0: none.
 */
static uint16_t field_of(const struct elf_file *f, const char *function)
{
	uint64_t addr = elf_file__symbol(f, function);
	uint8_t code[CODE_BYTES];

	if (!addr || !elf_file__is_code(f, addr) || !elf_file__read(f, addr, code, sizeof(code)))
		return 0;
	for (size_t i = 0; i + 4 <= sizeof(code); i++)
		if ((code[i] & 0xfb) == 0x48 && code[i + 1] == 0x8b && (code[i + 2] & 0xc7) == 0x47 && code[i + 3] >= 0x10 &&
		    !(code[i + 3] & 0x87))
			return code[i + 3];
	return 0;
}

/*
 * SSL_version() reads SSL.version, since 3.2 behind a look at what kind of object that is: mov OFFSET(%rdi),%eax, else
 * mov (%rdi),%eax as all that it does. Returns the offset, counted from 1; 0: neither.
 */
static uint8_t version_field(const struct elf_file *f)
{
	uint64_t addr = elf_file__symbol(f, "SSL_version");
	uint8_t code[CODE_BYTES];

	if (!addr || !elf_file__is_code(f, addr) || !elf_file__read(f, addr, code, sizeof(code)))
		return 0;
	for (size_t i = 0; i + 5 <= sizeof(code) && code[i] != 0xc3; i++)
		if (code[i] == 0x8b && code[i + 1] == 0x07 && (code[i + 2] == 0xc3 || (code[i + 2] == 0x31 && code[i + 4] == 0xc3)))
			return 1;
	for (size_t i = 0; i + 3 <= sizeof(code); i++)
		if (code[i] == 0x8b && code[i + 1] == 0x47 && code[i + 2] >= 0x20 && !(code[i + 2] & 0x83))
			return code[i + 2] + 1;
	return 0;
}

/* SSL.wbio stands behind SSL.rbio in every version (ssl/ssl_local.h), and SSL_get_rbio() is the simpler of the two. */
static void layout(const struct elf_file *ssl, const struct elf_file *crypto, union ws_tls *ret)
{
	uint16_t rbio = field_of(ssl, "SSL_get_rbio"), ptr = field_of(crypto, "BIO_get_data"),
		 next = field_of(crypto, "BIO_next");

	bool node = elf_file__symbol(ssl, "node_module_register");

	ret->version = version_field(ssl);
	if (!rbio || !ptr || !next)
		return;
	ret->wbio = (uint16_t)(rbio + 8);
	ret->ptr = ptr;
	ret->next = next;
	ret->kind = node ? WS_TLS_NODE : WS_TLS_MEM;
}

const struct tls_library tls_openssl = {
	.name = "OpenSSL",
	.files = files,
	.functions = functions,
	.n_functions = sizeof(functions) / sizeof(functions[0]),
	.embedded = true,
	.linked = linked,
	.n_linked = sizeof(linked) / sizeof(linked[0]),
	.choose = choose,
	.layout = layout,
	.base = "libcrypto",
};
