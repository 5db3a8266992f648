// SPDX-License-Identifier: Apache-2.0
/*
 * Go's crypto/tls, which is in the program: found in the table of functions that the runtime itself needs. Where
 * (*Conn).Read hands out text it calls bytes.(*Reader).Read, or, since that is inlined, runtime.memmove. There the Conn
 * is an argument in front of its bytes.Reader; else (*Conn).Read keeps it where its caller has made room for its argument.
 */
#include "user/tls/tls.h"

#include <errno.h>
#include <string.h>

#include "user/base/mem.h"
#include "user/runtime/go_program.h"
#include "user/runtime/prologue.h"

#define CODE_MAX 2048u /* of a function that is looked through */
#define SPILL_WITHIN 64u /* its arguments are put away that early */

enum { CLIENT_HANDSHAKE, SERVER_HANDSHAKE, WRITE_RECORD, READ, READER_READ, MEMMOVE, __FUNCTIONS };

static const char *const names[__FUNCTIONS] = {
	[CLIENT_HANDSHAKE] = "crypto/tls.(*Conn).clientHandshake",
	[SERVER_HANDSHAKE] = "crypto/tls.(*Conn).serverHandshake",
	[WRITE_RECORD] = "crypto/tls.(*Conn).writeRecordLocked",
	[READ] = "crypto/tls.(*Conn).Read",
	[READER_READ] = "bytes.(*Reader).Read",
	[MEMMOVE] = "runtime.memmove",
};

struct golang {
	struct go_program p;
	struct go_wanted fn[__FUNCTIONS];
	struct tls_file *out;
};

static int add(struct golang *go, enum runtime_hook hook, uint64_t addr, uint64_t cookie)
{
	struct runtime_site site = {.hook = hook, .cookie = cookie};

	if (!elf_file__offset(go->p.elf, addr, &site.offset))
		return -ENOEXEC;
	site.path = mem__strdup(go->p.path);
	if (!site.path)
		return -ENOMEM;
	go->out->sites[go->out->n_sites++] = site;
	return 0;
}

/*
 * Behind the check of its stack: where that is too small, or the goroutine is to make way, the function begins once more.
 * The arguments are still where they were: cmp 0x10(%r14), of %rsp or of %r12, then jbe, of one byte or of four. Since 1.21
 * what follows is push %rbp, which the kernel emulates. `len`: not as known.
 */
static size_t behind_check(const uint8_t *code, size_t len)
{
	static const uint8_t check[] = {0x3b, 0x66, 0x10};

	for (size_t i = 0; i + sizeof(check) + 6 < len; i++) {
		const uint8_t *p = code + i + sizeof(check);

		if (memcmp(code + i, check, sizeof(check)) != 0)
			continue;
		if (p[0] == 0x0f && p[1] == 0x86)
			return i + sizeof(check) + 6;
		if (p[0] == 0x76)
			return i + sizeof(check) + 2;
	}
	return len;
}

static int add_entry(struct golang *go, int function, enum runtime_hook hook, uint64_t cookie)
{
	const struct go_wanted *w = &go->fn[function];
	uint8_t code[PROLOGUE_BYTES];
	size_t len = go_program__code(&go->p, w, 0, code, sizeof(code)), at = behind_check(code, len);

	return at < len ? add(go, hook, go_program__address(&go->p, w, 0) + at, cookie) : -ENOEXEC;
}

/* mov %rax,OFFSET(%rsp), of one byte or of four: where argument 1 is put away. 0: nowhere. */
static uint16_t spill_of(const uint8_t *code, size_t len)
{
	static const uint8_t near[] = {0x48, 0x89, 0x44, 0x24}, far[] = {0x48, 0x89, 0x84, 0x24};
	uint32_t off;

	for (size_t i = 0; i + sizeof(far) + 4 <= len && i < SPILL_WITHIN; i++) {
		if (!memcmp(code + i, near, sizeof(near)))
			return code[i + sizeof(near)];
		memcpy(&off, code + i + sizeof(far), sizeof(off));
		if (!memcmp(code + i, far, sizeof(far)))
			return off < UINT16_MAX ? (uint16_t)off : 0;
	}
	return 0;
}

/* Where text is handed out. */
static int add_read(struct golang *go, union ws_tls *layout)
{
	const struct go_wanted *w = &go->fn[READ], *reader = &go->fn[READER_READ], *copy = &go->fn[MEMMOVE];
	uint64_t addr = go_program__address(&go->p, w, 0);
	uint8_t code[CODE_MAX];
	size_t len = go_program__code(&go->p, w, 0, code, sizeof(code)), at = len;

	if (go_program__present(reader))
		at = prologue__call(code, len, addr, go_program__address(&go->p, reader, 0));
	if (at == len && go_program__present(copy)) {
		at = prologue__call(code, len, addr, go_program__address(&go->p, copy, 0));
		layout->go.conn = spill_of(code, len);
		if (!layout->go.conn)
			return -ENOEXEC;
	}
	return at < len ? add(go, HOOK_GOTLS_READ, addr + at, layout->cookie) : -ENOEXEC;
}

static int find_sites(struct golang *go)
{
	const struct go_offsets *off = go->p.off;
	union ws_tls layout = {.go = {.input = off->input, .raw = off->raw}}, entry = {.go = {.goid = off->goid}};
	int err;

	layout.kind = WS_TLS_GO;
	entry.kind = WS_TLS_GO_ENTRY;
	layout.version = entry.version = (uint8_t)(off->vers + 1);
	err = add_read(go, &layout);
	if (!err)
		err = add_entry(go, WRITE_RECORD, HOOK_GOTLS_WRITE, entry.cookie);
	if (!err)
		err = add_entry(go, CLIENT_HANDSHAKE, HOOK_GOTLS_HANDSHAKE, entry.cookie);
	if (!err && go_program__present(&go->fn[SERVER_HANDSHAKE])) /* a program that only calls has none */
		err = add_entry(go, SERVER_HANDSHAKE, HOOK_GOTLS_HANDSHAKE, entry.cookie);
	return err;
}

int tls_golang__inspect(pid_t pid, const struct mapped_file *exe, struct tls_file *ret, const char **ret_why)
{
	struct golang *go = mem__zalloc(sizeof(*go));
	int err;

	*ret_why = NULL;
	if (!go)
		return -ENOMEM;
	go->out = ret;
	for (int i = 0; i < __FUNCTIONS; i++)
		go->fn[i].name = names[i];
	err = go_program__open(&go->p, pid, exe, ret_why);
	if (!err && !*ret_why)
		err = go_program__find(&go->p, go->fn, __FUNCTIONS, ret_why);
	if (!err && !*ret_why && go_program__present(&go->fn[READ])) {
		err = find_sites(go);
		if (!err)
			ret->library = "Go's crypto/tls";
		else if (err == -ENOEXEC)
			*ret_why = "its crypto/tls is not built as known";
	}
	go_program__close(&go->p);
	mem__free(go);
	return err == -ENOEXEC || err == -ESRCH ? 0 : err;
}
