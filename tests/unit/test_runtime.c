// SPDX-License-Identifier: Apache-2.0
/* What a process runs on, from outside: files that lie, processes that are none of ours, and a real interpreter. */
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>

#include "user/base/mem.h"
#include "user/runtime/elf_file.h"
#include "user/runtime/maps.h"
#include "user/runtime/prologue.h"
#include "user/runtime/runtime.h"

#define PYTHON "/usr/bin/python3"

/* ---- prologues ---------------------------------------------------------------------------------- */

struct code {
	const char *bytes;
	size_t entry, ret;
};

/* clang-format off */
static const struct code codes[] = {
	/* as compiled */
	{ "41 54 55 53", 0, 0 },						    /* push r12 */
	{ "f3 0f 1e fa 41 54 55", 4, 4 },					    /* endbr64; push r12 */
	{ "48 83 ec 08 48 83 7f 10 00 74 55", 9, 0 },				    /* sub; cmpq $0,16(rdi); je */
	{ "f3 0f 1e fa 48 83 ec 08 e8 00 00 00 00", 8, 0 },			    /* endbr64; sub; call */
	{ "48 85 c9 75 13 48 8b 0d 44 25 00 00", 3, 0 },			    /* test; jne */
	{ "48 8b 05 49 29 00 00 31 c0 e9 c2 fd ff ff", 9, 0 },			    /* mov rip; xor eax; jmp */
	{ "64 48 8b 04 25 28 00 00 00 48 89 44 24 18 0f 84 10 00 00 00", 14, 0 },   /* stack protector; je near */
	{ "48 81 ec 88 00 00 00 b8 01 00 00 00 49 b8 1 2 3 4 5 6 7 8 eb 02", 22, 0 }, /* sub; mov; movabs; jmp */
	{ "0f b6 47 08 84 c0 78 10", 6, 0 },					    /* movzx eax; test al; js */
	{ "48 63 47 48 83 f8 02 7f 05", 7, 0 },					    /* movsxd; cmp eax; jg */
	{ "c7 44 24 0c 00 00 00 00 f6 47 09 10 74 02", 12, 0 },			    /* mov mem, imm; test mem; je */
	{ "66 c7 44 24 0c 00 00 90", 7, 0 },					    /* 16-bit immediate; nop */
	{ "89 f0 40 88 c4 90", 5, 0 },						    /* mov spl, al is not rsi */
	/* an argument is gone before the first cheap one */
	{ "48 8b 15 49 29 00 00 31 f6 e9 c2 fd ff ff", 0, 0 },			    /* mov rip, rdx; … jmp */
	{ "48 89 f7 55", 0, 0 },						    /* mov rsi, rdi; push */
	{ "48 8d 3d 00 00 00 00 55", 0, 0 },					    /* lea rdi; push */
	{ "31 d2 55", 0, 0 },							    /* xor edx; push */
	{ "be 05 00 00 00 55", 0, 0 },						    /* mov $5, esi; push */
	{ "40 8a f1 90", 0, 0 },						    /* mov sil, cl */
	{ "8a f1 90", 0, 0 },							    /* mov dh, cl */
	{ "48 83 e7 f8 55", 0, 0 },						    /* and $-8, rdi; push */
	{ "48 c7 c6 00 00 00 00 55", 0, 0 },					    /* mov $0, rsi; push */
	/* others' registers by the same low bits */
	{ "49 89 ff 41 ba 00 00 00 00 4d 31 f6 55", 12, 0 },			    /* mov rdi, r15; mov r10d; xor r14; push */
	/* where a long nop is not emulated, or must not be rewritten */
	{ "0f 1f 44 00 00 55", 5, 0 },						    /* nop5; push */
	{ "f3 0f 1e fa 0f 1f 44 00 00 55", 9, 0 },				    /* endbr64; nop5; push */
	{ "48 83 ec 08 0f 1f 44 00 00 c3", 0, 0 },				    /* sub; nop5; ret */
	{ "66 2e 0f 1f 84 00 00 00 00 00 55", 10, 0 },				    /* nop10; push */
	/* not known for certain: stop */
	{ "c5 f8 77 55", 0, 0 }, { "66 90 55", 0, 0 },	 { "66 e8 00 00 55", 0, 0 }, { "f0 48 83 07 01 55", 0, 0 },
	{ "67 8b 07 55", 0, 0 }, { "f7 d8 55", 0, 0 },	 { "0f 05 55", 0, 0 },	     { "c6 f8 00 55", 0, 0 },
	{ "c3 55", 0, 0 },	 { "48 b8 01 02", 0, 0 }, { "48 90 55", 0, 0 },
	/* cut off in the middle */
	{ "", 0, 0 },		 { "48", 0, 0 },	 { "48 8b", 0, 0 },	     { "48 8b 84", 0, 0 },
	{ "f3 0f 1e", 0, 0 },	 { "0f", 0, 0 },	 { "0f 84 00 00", 0, 0 },    { "e8 00 00 00", 0, 0 },
	{ "66 66", 0, 0 },	 { "48 83 ec", 0, 0 },	 { "eb", 0, 0 },	     { "f3 0f 1e fa", 0, 0 },
	{ "48 8b 04", 0, 0 },	 { "48 8b 04 25 00", 0, 0 },
};

/* clang-format on */

/* On the heap, to the byte: reading behind the end is seen. */
static uint8_t *bytes_of(const char *hex, size_t *ret_len)
{
	uint8_t all[64], *copy;
	size_t n = 0;
	char *end;

	for (unsigned long v = strtoul(hex, &end, 16); end != hex; hex = end, v = strtoul(hex, &end, 16))
		all[n++] = (uint8_t)v;
	copy = malloc(n ? n : 1);
	assert_non_null(copy);
	memcpy(copy, all, n);
	*ret_len = n;
	return copy;
}

static void test_prologue_cases(void **state)
{
	for (size_t i = 0; i < sizeof(codes) / sizeof(codes[0]); i++) {
		size_t len;
		uint8_t *code = bytes_of(codes[i].bytes, &len);

		if (prologue__entry(code, len, PROLOGUE_C) != codes[i].entry || prologue__return(code, len) != codes[i].ret)
			fail_msg("%s: entry %zu, return %zu", codes[i].bytes, prologue__entry(code, len, PROLOGUE_C),
				 prologue__return(code, len));
		free(code);
	}
}

/* Whatever the bytes: what is chosen is inside, and cheap. */
static void test_prologue_any_bytes(void **state)
{
	uint8_t code[24];

	srandom(1);
	for (int i = 0; i < 200000; i++) {
		size_t len = (size_t)random() % sizeof(code), at;

		for (size_t k = 0; k < len; k++)
			code[k] = (uint8_t)random();
		at = prologue__entry(code, len, PROLOGUE_C);
		assert_true(!at || prologue__decode(code + at, len - at).emulated);
		at = prologue__return(code, len);
		assert_true(!at || (at == 4 && !memcmp(code, "\xf3\x0f\x1e\xfa", 4)));
	}
}

/* ---- maps --------------------------------------------------------------------------------------- */

static const char maps_text[] =
	"00400000-00401000 r--p 00000000 fe:01 1234                               /usr/bin/python3.11\n"
	"00401000-00700000 r-xp 00001000 fe:01 1234                               /usr/bin/python3.11\n"
	"01000000-01100000 rw-p 00000000 00:00 0                                  [heap]\n"
	"7f0000000000-7f0000001000 r--p 00002000 103:02 99 /opt/a b/lib (deleted).so\n"
	"7f0000001000-7f0000002000 r--p 00000000 103:02 98 /opt/lib.so (deleted)\n"
	"7f0000002000-7f0000003000 r--p 00000000 103:02 97 /opt/lib.so\n"
	"7f0000003000-7f0000003000 r--p 00000000 103:02 96 /opt/empty.so\n"
	"7f0000004000 r--p 00000000 103:02 96 /opt/odd.so\n"
	"zz\n\n/\n"
	"7f0000005000-7f0000006000 rw-s 00000000 00:01 5 /dev/zero (deleted)\n"
	"7f0000006000-7f0000007000 r--p 00000000 103:02 95 /cut/off/by/the/lim";

static void test_maps_parse(void **state)
{
	struct mapped_files m;

	assert_int_equal(mapped_files__parse(&m, maps_text, sizeof(maps_text) - 1), 0);
	assert_int_equal(m.n, 5);
	assert_string_equal(m.files[0].name, "/usr/bin/python3.11");
	assert_int_equal(m.files[0].start, 0x400000);
	assert_int_equal(m.files[0].end, 0x401000);
	assert_int_equal(m.files[0].ino, 1234);
	assert_int_equal(m.files[0].dev_major, 0xfe);
	assert_int_equal(m.files[0].dev_minor, 1);
	assert_false(m.files[0].deleted);
	assert_string_equal(mapped_file__base(&m.files[0]), "python3.11");
	assert_string_equal(m.files[1].name, "/opt/a b/lib (deleted).so");
	assert_int_equal(m.files[1].offset, 0x2000);
	assert_false(m.files[1].deleted);
	/* Replaced on disk, and mapped again: two files. */
	assert_string_equal(m.files[2].name, "/opt/lib.so");
	assert_true(m.files[2].deleted);
	assert_string_equal(m.files[3].name, "/opt/lib.so");
	assert_false(m.files[3].deleted);
	assert_string_equal(m.files[4].name, "/dev/zero");
	mapped_files__free(&m);

	for (size_t n = 0; n < sizeof(maps_text); n++) { /* cut anywhere */
		char *copy = malloc(n ? n : 1);

		memcpy(copy, maps_text, n);
		assert_int_equal(mapped_files__parse(&m, copy, n), 0);
		mapped_files__free(&m);
		free(copy);
	}
	for (long n = 0; n < 8; n++) {
		mem__fail_after(n);
		assert_int_equal(mapped_files__parse(&m, maps_text, sizeof(maps_text) - 1), -ENOMEM);
		mem__fail_after(-1);
	}
}

/* A process maps as many files as it likes: the list is bounded, and so is the time. */
static void test_maps_bounded(void **state)
{
	const size_t lines = 40000;
	char *text = malloc(lines * 96);
	struct mapped_files m;
	size_t n = 0;

	for (size_t i = 0; i < lines; i++)
		n += (size_t)snprintf(text + n, 96, "%zx000-%zx000 r--p 00000000 103:02 %zu /d/%zu.so\n", i, i + 1,
				      i + 1, i);
	assert_int_equal(mapped_files__parse(&m, text, n), 0);
	assert_int_equal(m.n, 4096);
	mapped_files__free(&m);
	n = (size_t)snprintf(text, 96, "1000-2000 r--p 00000000 103:02 1 /");
	memset(text + n, 'x', 8192); /* longer than a path can be */
	text[n + 8192] = '\n';
	assert_int_equal(mapped_files__parse(&m, text, n + 8193), 0);
	assert_int_equal(m.n, 0);
	mapped_files__free(&m);
	free(text);
}

static void test_maps_path(void **state)
{
	char path[MAPPED_PATH_MAX], file[] = "/tmp/wirespan-maps-XXXXXX";
	int fd = mkstemp(file), hits = 0;
	struct mapped_files m;
	struct stat was, is;
	void *map;

	assert_int_equal(ftruncate(fd, 4096), 0);
	map = mmap(NULL, 4096, PROT_READ, MAP_PRIVATE, fd, 0);
	assert_true(map != MAP_FAILED);
	assert_int_equal(fstat(fd, &was), 0);
	for (int round = 0; round < 2; round++) {
		assert_int_equal(mapped_files__read(&m, getpid()), 0);
		for (size_t i = 0; i < m.n; i++) {
			if (strcmp(m.files[i].name, file) != 0)
				continue;
			assert_int_equal(m.files[i].deleted, round);
			if (!mapped_file__path(&m.files[i], getpid(), path)) {
				assert_int_not_equal(geteuid(), 0); /* map_files needs privileges */
				print_message("not root: a deleted file cannot be reached: not tested\n");
				continue;
			}
			assert_int_equal(stat(path, &is), 0);
			assert_int_equal(is.st_ino, was.st_ino);
			hits++;
		}
		mapped_files__free(&m);
		unlink(file);
		close(open(file, O_CREAT | O_WRONLY | O_EXCL, 0600)); /* replaced */
	}
	assert_true(hits == 2 || geteuid() != 0);
	munmap(map, 4096);
	unlink(file);
	close(fd);
}

/* ---- files --------------------------------------------------------------------------------------- */

static const char *sample(const char *name)
{
	static char path[4200];
	char exe[4096];
	ssize_t n = readlink("/proc/self/exe", exe, sizeof(exe) - 1);

	assert_true(n > 0);
	exe[n] = '\0';
	*strrchr(exe, '/') = '\0';
	snprintf(path, sizeof(path), "%s/sample/%s", exe, name);
	return path;
}

static uint64_t function(const struct elf_file *f, int n)
{
	return elf_file__pointer(f, elf_file__symbol(f, "sample_functions") + 8 * (uint64_t)n);
}

static void test_elf_methods(void **state)
{
	static const char *const names[] = {"rela.so", "relr.so", "fixed"};

	for (size_t i = 0; i < 3; i++) {
		struct elf_method m[] = {{.name = "set_result", .doc = "Mark the future done"},
					 {.name = "put", .doc = "Put the item"},
					 {.name = "twice", .doc = "Said of two."},
					 {.name = "result", .doc = "not its documentation"},
					 {.name = "esult", .doc = "Return"}};
		uint64_t version = 0, tables, at, back;
		struct elf_file *f;

		assert_int_equal(elf_file__open(sample(names[i]), &f), 0);
		assert_true(elf_file__read(f, elf_file__symbol(f, "Sample_Version"), &version, 8));
		assert_int_equal(version, 0x030b02f0);
		assert_int_equal(elf_file__symbol(f, "Sample_Versio"), 0);
		assert_int_equal(elf_file__symbol(f, "malloc"), 0);
		elf_file__methods(f, m, 5); /* not loaded: nothing, but no harm */
		assert_int_equal(m[0].fn, 0);
		assert_int_equal(elf_file__load(f), 0);
		elf_file__methods(f, m, 5);
		assert_true(function(f, 0) && function(f, 2));
		assert_int_equal(m[0].fn, function(f, 0));
		assert_int_equal(m[0].flags, 8);
		assert_int_equal(m[1].fn, function(f, 2));
		assert_int_equal(m[1].flags, 0x82);
		assert_int_equal(m[2].fn, ELF_METHOD_TWO);
		assert_int_equal(m[3].fn, 0);
		assert_int_equal(m[4].fn, 0);
		tables = elf_file__symbol(f, "sample_tables");
		assert_int_equal(elf_file__method_in(f, elf_file__pointer(f, tables + 8), "put"), function(f, 3));
		assert_int_equal(elf_file__method_in(f, elf_file__pointer(f, tables + 8), "get"), 0);
		assert_true(elf_file__is_code(f, function(f, 0)));
		assert_false(elf_file__is_code(f, tables));
		assert_true(elf_file__offset(f, function(f, 0), &at) && elf_file__address(f, at, &back));
		assert_int_equal(back, function(f, 0));
		assert_false(elf_file__offset(f, UINT64_MAX, &at));
		assert_null(elf_file__bytes(f, tables, SIZE_MAX));
		elf_file__close(f);
	}
}

static struct {
	int fd;
	char path[32];
	uint8_t *data;
	size_t len;
} lie;

/* A copy of a sample in memory, to be spoiled. */
static void lie_begin(const char *name)
{
	struct stat st;
	int fd = open(sample(name), O_RDONLY);

	assert_true(fd >= 0 && !fstat(fd, &st));
	lie.len = (size_t)st.st_size;
	lie.data = malloc(lie.len);
	assert_int_equal(read(fd, lie.data, lie.len), (ssize_t)lie.len);
	close(fd);
	lie.fd = memfd_create("sample", MFD_CLOEXEC);
	snprintf(lie.path, sizeof(lie.path), "/proc/self/fd/%d", lie.fd);
}

static void lie_write(const uint8_t *data, size_t len)
{
	assert_int_equal(ftruncate(lie.fd, (off_t)len), 0);
	assert_int_equal(pwrite(lie.fd, data, len, 0), (ssize_t)len);
}

static void lie_end(void)
{
	close(lie.fd);
	free(lie.data);
}

/* Everything that is asked of a file. */
static int ask(const char *path)
{
	struct elf_method m[] = {{.name = "set_result", .doc = "Mark"}, {.name = "put", .doc = "Put the item"}};
	struct elf_file *f;
	uint64_t type;
	int err = elf_file__open(path, &f);

	if (err)
		return err;
	type = elf_file__symbol(f, "sample_tables");
	elf_file__symbol(f, "Sample_Version");
	elf_file__symbol(f, "absent");
	err = elf_file__load(f);
	elf_file__methods(f, m, 2);
	elf_file__method_in(f, elf_file__pointer(f, type), "put");
	for (int i = 0; i < 2; i++) {
		const uint8_t *code = elf_file__bytes(f, m[i].fn, PROLOGUE_BYTES);

		if (code)
			prologue__entry(code, PROLOGUE_BYTES, PROLOGUE_C);
	}
	elf_file__close(f);
	return err;
}

static Elf64_Phdr *phdr_of(uint32_t type, int nth)
{
	Elf64_Ehdr *eh = (Elf64_Ehdr *)lie.data;
	Elf64_Phdr *p = (Elf64_Phdr *)(lie.data + eh->e_phoff);

	for (int i = 0; i < eh->e_phnum; i++)
		if (p[i].p_type == type && nth-- == 0)
			return &p[i];
	fail();
	return NULL;
}

static void test_elf_truncated(void **state)
{
	size_t end = 0;

	lie_begin("rela.so");
	for (int i = 0; i < 4; i++) {
		const Elf64_Phdr *p = phdr_of(PT_LOAD, i);

		end = p->p_offset + p->p_filesz > end ? p->p_offset + p->p_filesz : end;
	}
	assert_true(end > 4096 && end < lie.len); /* behind it stands what nobody reads */
	for (size_t n = 0; n < lie.len; n += n < 1024 || (n > end - 64 && n < end + 64) ? 1 : 61) {
		lie_write(lie.data, n);
		assert_int_equal(ask(lie.path), n < end ? -ENOEXEC : 0);
	}
	lie_end();
}

static Elf64_Dyn *dyn_of(int64_t tag)
{
	Elf64_Dyn *d = (Elf64_Dyn *)(lie.data + phdr_of(PT_DYNAMIC, 0)->p_offset);

	for (; d->d_tag != DT_NULL; d++)
		if (d->d_tag == tag)
			return d;
	fail();
	return NULL;
}

#define SPOIL(field, value, expected)                                                                                  \
	do {                                                                                                           \
		__typeof__(field) *at_ = &(field), was_ = *at_;                                                        \
		*at_ = (__typeof__(field))(value);                                                                     \
		lie_write(lie.data, lie.len);                                                                          \
		assert_int_equal(ask(lie.path), (expected));                                                           \
		*at_ = was_;                                                                                           \
	} while (0)

static void test_elf_absurd(void **state)
{
	Elf64_Ehdr *eh;
	Elf64_Phdr *load, *data;

	lie_begin("rela.so");
	eh = (Elf64_Ehdr *)lie.data;
	load = phdr_of(PT_LOAD, 0);
	data = phdr_of(PT_LOAD, 3);
	lie_write(lie.data, lie.len);
	assert_int_equal(ask(lie.path), 0);
	SPOIL(eh->e_machine, EM_AARCH64, -ENOEXEC);
	SPOIL(eh->e_ident[EI_CLASS], ELFCLASS32, -ENOEXEC);
	SPOIL(eh->e_ident[EI_DATA], ELFDATA2MSB, -ENOEXEC);
	SPOIL(eh->e_phnum, 0, -ENOEXEC);
	SPOIL(eh->e_phnum, 0xffff, -ENOEXEC);
	SPOIL(eh->e_phentsize, 0, -ENOEXEC);
	SPOIL(eh->e_phoff, UINT64_MAX - 8, -ENOEXEC);
	SPOIL(eh->e_shoff, UINT64_MAX, 0); /* sections are not looked at */
	SPOIL(eh->e_shnum, 0xffff, 0);
	SPOIL(load->p_offset, UINT64_MAX, -ENOEXEC);
	SPOIL(load->p_filesz, UINT64_MAX, -ENOEXEC);
	SPOIL(load->p_filesz, 0, 0);
	SPOIL(load->p_vaddr, UINT64_MAX - 8, -ENOEXEC);
	SPOIL(data->p_vaddr, load->p_vaddr, 0); /* one on top of the other */
	SPOIL(data->p_offset, load->p_offset, 0);
	SPOIL(data->p_vaddr, 3, 0);
	SPOIL(dyn_of(DT_RELASZ)->d_un.d_val, UINT64_MAX, 0);
	SPOIL(dyn_of(DT_RELA)->d_un.d_ptr, UINT64_MAX - 16, 0);
	SPOIL(dyn_of(DT_SYMTAB)->d_un.d_ptr, UINT64_MAX, 0);
	SPOIL(dyn_of(DT_STRTAB)->d_un.d_ptr, UINT64_MAX, 0);
	SPOIL(dyn_of(DT_GNU_HASH)->d_un.d_ptr, UINT64_MAX - 3, 0);
	for (uint64_t i = 0; i < 4; i++) { /* the header of the hash table */
		uint32_t *word = (uint32_t *)(lie.data + dyn_of(DT_GNU_HASH)->d_un.d_ptr + 4 * i);

		SPOIL(*word, 0, 0);
		SPOIL(*word, UINT32_MAX, 0);
	}
	/* A file of holes is cheap to make and would be dear to read. */
	assert_int_equal(ftruncate(lie.fd, 1ll << 40), 0);
	load->p_filesz = 1ull << 39;
	assert_int_equal(pwrite(lie.fd, lie.data, lie.len, 0), (ssize_t)lie.len);
	assert_int_equal(ask(lie.path), -EFBIG);
	lie_end();
	assert_int_equal(ask("/dev/null"), -ENOEXEC);
	assert_int_equal(ask("/proc/self/root"), -ENOEXEC);
	assert_int_equal(ask("/nonexistent"), -ENOENT);
}

static void test_elf_shrinks(void **state)
{
	struct elf_file *f;

	lie_begin("rela.so");
	lie_write(lie.data, lie.len);
	assert_int_equal(elf_file__open(lie.path, &f), 0);
	assert_int_equal(ftruncate(lie.fd, 100), 0);
	assert_int_equal(elf_file__symbol(f, "sample_tables"), 0);
	assert_int_equal(elf_file__load(f), -EIO);
	assert_null(elf_file__bytes(f, 0, 1));
	elf_file__close(f);
	lie_end();
}

static void test_elf_bits(void **state)
{
	static const char *const names[] = {"rela.so", "relr.so", "fixed"};

	srandom(2);
	for (int k = 0; k < 3; k++) {
		lie_begin(names[k]);
		for (int i = 0; i < 2500; i++) {
			uint8_t *copy = malloc(lie.len);

			memcpy(copy, lie.data, lie.len);
			/* Half of them in the headers and tables at the beginning, where they hurt. */
			for (long n = 1 + random() % 8; n > 0; n--)
				copy[(size_t)random() % (random() & 1 ? 2048 : lie.len)] ^=
					(uint8_t)(1u << random() % 8);
			lie_write(copy, lie.len);
			ask(lie.path);
			free(copy);
		}
		lie_end();
	}
}

/* ---- processes ------------------------------------------------------------------------------------ */

static void test_inspect_no_interpreter(void **state)
{
	struct runtime r;
	pid_t pid = fork();

	if (!pid)
		_exit(0);
	assert_int_equal(runtime__inspect(getpid(), &r), 0);
	assert_int_equal(r.desc.kind, WS_RT_NONE);
	assert_int_equal(r.n_sites, 0);
	assert_string_equal(r.why, "");
	assert_string_equal(r.version, "");
	runtime__free(&r);
	waitpid(pid, NULL, 0);
	assert_int_equal(runtime__inspect(pid, &r), -ESRCH);
}

static pid_t start_python(int *ret_in)
{
	static const char script[] = "import contextvars; contextvars.ContextVar('x').set(1);"
				     "print(end='.', flush=True); open(0).read()";
	int in[2], out[2];
	char c;
	pid_t pid;

	assert_int_equal(pipe2(in, O_CLOEXEC) | pipe2(out, O_CLOEXEC), 0);
	pid = fork();
	if (!pid) {
		dup2(in[0], 0);
		dup2(out[1], 1);
		execl(PYTHON, PYTHON, "-c", script, (char *)NULL);
		_exit(127);
	}
	close(in[0]);
	close(out[1]);
	assert_int_equal(read(out[0], &c, 1), 1);
	close(out[0]);
	*ret_in = in[1];
	return pid;
}

static void test_inspect_python(void **state)
{
	size_t seen[__HOOK_CNT] = {0};
	struct runtime r;
	long n = 0;
	int in, err;
	pid_t pid;

	if (access(PYTHON, X_OK)) {
		print_message("no " PYTHON "\n");
		skip();
	}
	pid = start_python(&in);
	do { /* every allocation fails once */
		mem__fail_after(n++);
		err = runtime__inspect(pid, &r);
		mem__fail_after(-1);
		assert_true(!err || err == -ENOMEM);
	} while (err && n < 10000);
	assert_true(n > 20);
	assert_string_equal(r.why, "");
	assert_int_equal(r.desc.kind, WS_RT_CPYTHON);
	assert_int_equal(r.desc.tgid, pid);
	assert_memory_equal(r.version, "CPython 3.", 10);
	assert_true(r.desc.tls >= 0x318 && r.desc.tls < 0x318 + 32 * 16);
	for (size_t i = 0; i < r.n_sites; i++) {
		seen[r.sites[i].hook]++;
		assert_int_equal(r.sites[i].ret,
				 r.sites[i].hook != HOOK_FUTURE_RESULT && r.sites[i].hook != HOOK_QUEUE_PUT &&
					 r.sites[i].hook != HOOK_QUEUE_WAIT && r.sites[i].hook != HOOK_DEQUE_PUT &&
					 r.sites[i].hook != HOOK_DEQUE_GET);
		assert_int_equal(access(r.sites[i].path, R_OK), 0);
	}
	assert_int_equal(seen[HOOK_CONTEXT_COPY], 1);
	assert_int_equal(seen[HOOK_CONTEXT_NEW], 3);
	assert_int_equal(seen[HOOK_FUTURE_RESULT], 1);
	assert_int_equal(seen[HOOK_QUEUE_PUT], 2);
	assert_int_equal(seen[HOOK_QUEUE_GET], 2);
	assert_int_equal(seen[HOOK_QUEUE_WAIT], 2);
	assert_int_equal(seen[HOOK_DEQUE_PUT], 1);
	assert_int_equal(seen[HOOK_DEQUE_GET], 1);
	assert_int_equal(r.n_deques, 2);
	assert_int_equal(r.sites[r.n_sites - 1].hook, HOOK_DEQUE_GET); /* the last: they can be left away */
	runtime__free(&r);
	close(in);
	waitpid(pid, NULL, 0);
	assert_int_equal(runtime__inspect(pid, &r), -ESRCH);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_prologue_cases),
		cmocka_unit_test(test_prologue_any_bytes),
		cmocka_unit_test(test_maps_parse),
		cmocka_unit_test(test_maps_bounded),
		cmocka_unit_test(test_maps_path),
		cmocka_unit_test(test_elf_methods),
		cmocka_unit_test(test_elf_truncated),
		cmocka_unit_test(test_elf_absurd),
		cmocka_unit_test(test_elf_shrinks),
		cmocka_unit_test(test_elf_bits),
		cmocka_unit_test(test_inspect_no_interpreter),
		cmocka_unit_test(test_inspect_python),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
