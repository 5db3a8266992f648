// SPDX-License-Identifier: Apache-2.0
/* Go programs on disk: what is found in one, and that files which lie do no harm. Real ones: tests/runtimes. */
#include <elf.h>
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include <cmocka.h>

#include "user/base/mem.h"
#include "user/runtime/go_file.h"

#define BASE 0x400000u
enum { TABLE = 0x1000, INFO = 0x800, MODULE = 0x900, SECTIONS = 0x400, NAMES = 0x700 };

/* Functions in the order of their addresses; several have one name, one name is nobody's. */
static const struct {
	const char *name;
	uint32_t start;
} functions[] = {
	{"main.main", 0},
	{"net/http.(*persistConn).roundTrip", 0x100},
	{"runtime.newproc", 0x180},
	{"runtime.newproc.func1", 0x200},
	{"example.com/fork.(*persistConn).roundTrip", 0x340},
	{"runtime.newproc.func1", 0x400}, /* the first one counts */
	{"(*persistConn).roundTrip", 0x500},
};
#define N (sizeof(functions) / sizeof(functions[0]))
#define END 0x600u

static struct {
	uint8_t data[0x4000];
	size_t table_size;
} image;

static void put32(uint8_t *at, uint32_t v)
{
	memcpy(at, &v, sizeof(v));
}

static void put64(uint8_t *at, uint64_t v)
{
	memcpy(at, &v, sizeof(v));
}

/* As cmd/link/internal/ld/pcln.go lays it out, as far as it is read. */
static void make_table(void)
{
	uint8_t *t = image.data + TABLE;
	size_t names = 0x60, at = names, functab, func;
	uint32_t name_at[N];

	for (size_t i = 0; i < N; i++) {
		name_at[i] = i == 5 ? name_at[3] : (uint32_t)(at - names); /* names are not repeated */
		if (i == 5)
			continue;
		strcpy((char *)t + at, functions[i].name);
		at += strlen(functions[i].name) + 1;
	}
	functab = (at + 15) & ~15ul;
	func = functab + N * 8 + 8;
	for (size_t i = 0; i < N; i++, func += 16) {
		put32(t + functab + i * 8, functions[i].start);
		put32(t + functab + i * 8 + 4, (uint32_t)(func - functab));
		put32(t + func, functions[i].start);
		put32(t + func + 4, name_at[i]);
	}
	put32(t + functab + N * 8, END);
	image.table_size = func;
	put32(t, 0xfffffff1);
	t[6] = 1;
	t[7] = 8;
	put64(t + 8, N);
	put64(t + 32, names);
	put64(t + 40, at);
	put64(t + 64, functab);
}

static void make_image(void)
{
	static const char names[] = "\0.go.buildinfo\0.gopclntab\0.go.module\0.shstrtab";
	const Elf64_Shdr sections[] = {
		{0},
		{.sh_name = 1, .sh_type = SHT_PROGBITS, .sh_addr = BASE + INFO, .sh_offset = INFO, .sh_size = 0x80},
		{.sh_name = 15, .sh_type = SHT_PROGBITS, .sh_addr = BASE + TABLE, .sh_offset = TABLE},
		{.sh_name = 26, .sh_type = SHT_PROGBITS, .sh_addr = BASE + MODULE, .sh_offset = MODULE, .sh_size = 0x80},
		{.sh_name = 37, .sh_type = SHT_STRTAB, .sh_offset = NAMES, .sh_size = sizeof(names)},
	};
	const Elf64_Ehdr head = {
		.e_ident = {ELFMAG0, ELFMAG1, ELFMAG2, ELFMAG3, ELFCLASS64, ELFDATA2LSB, EV_CURRENT},
		.e_type = ET_EXEC, .e_machine = EM_X86_64, .e_version = EV_CURRENT, .e_ehsize = sizeof(head),
		.e_phoff = sizeof(head), .e_phentsize = sizeof(Elf64_Phdr), .e_phnum = 1,
		.e_shoff = SECTIONS, .e_shentsize = sizeof(Elf64_Shdr), .e_shnum = 5, .e_shstrndx = 4,
	};
	const Elf64_Phdr all = {.p_type = PT_LOAD, .p_flags = PF_R | PF_X, .p_vaddr = BASE,
				.p_filesz = sizeof(image.data), .p_memsz = sizeof(image.data), .p_align = 4096};

	memset(&image, 0, sizeof(image));
	make_table();
	memcpy(image.data, &head, sizeof(head));
	memcpy(image.data + sizeof(head), &all, sizeof(all));
	memcpy(image.data + SECTIONS, sections, sizeof(sections));
	put64(image.data + SECTIONS + 2 * sizeof(Elf64_Shdr) + offsetof(Elf64_Shdr, sh_size), image.table_size);
	memcpy(image.data + NAMES, names, sizeof(names));
	memcpy(image.data + INFO, "\xff Go buildinf:\x08\x02", 16);
	image.data[INFO + 32] = 9;
	memcpy(image.data + INFO + 33, "go1.22.12", 9);
}

/* What the image says, written to a file as long as `len`. */
static int look(size_t len, struct go_file *g, struct go_wanted *w, size_t n)
{
	int fd = memfd_create("go", MFD_CLOEXEC), err;
	struct elf_file *elf = NULL;
	char path[64];

	assert_true(fd >= 0);
	assert_int_equal(write(fd, image.data, len), len);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	err = elf_file__open(path, &elf);
	if (!err)
		err = go_file__open(g, elf, path);
	if (!err)
		err = go_file__find(g, w, n);
	elf_file__close(elf);
	close(fd);
	return err;
}

static void wanted(struct go_wanted w[4])
{
	memset(w, 0, 4 * sizeof(*w));
	w[0].name = "runtime.newproc.func1";
	w[1].name = ".(*persistConn).roundTrip";
	w[2].name = "main.main";
	w[3].name = "newproc"; /* a part of names, and none */
}

static void test_found(void **state)
{
	struct go_wanted w[4];
	struct go_file g;

	make_image();
	wanted(w);
	assert_int_equal(look(sizeof(image.data), &g, w, 4), 0);
	assert_string_equal(g.version, "go1.22.12");
	assert_int_equal(g.module, BASE + MODULE);
	assert_int_equal(w[0].n, 1);
	assert_int_equal(w[0].at[0].start, 0x200);
	assert_int_equal(w[0].at[0].end, 0x340);
	assert_int_equal(w[1].n, 2);
	assert_int_equal(w[1].at[0].start, 0x100);
	assert_int_equal(w[1].at[1].start, 0x340);
	assert_int_equal(w[1].at[1].end, 0x400);
	assert_int_equal(w[2].at[0].end, 0x100);
	assert_int_equal(w[3].n, 0);
}

static void test_old_and_other(void **state)
{
	struct go_wanted w[4];
	struct go_file g;

	make_image();
	wanted(w);
	put32(image.data + TABLE, 0xfffffff0); /* Go 1.18 and 1.19 */
	assert_int_equal(look(sizeof(image.data), &g, w, 4), 0);
	put32(image.data + TABLE, 0xfffffffa); /* 1.16 */
	assert_int_equal(look(sizeof(image.data), &g, w, 4), -EBADMSG);
	make_image();
	image.data[INFO + 15] = 0; /* pointers, before 1.18 */
	assert_int_equal(look(sizeof(image.data), &g, w, 4), 0);
	assert_string_equal(g.version, "");
	make_image();
	image.data[INFO + 32] = 0xff; /* longer than there is room for */
	assert_int_equal(look(sizeof(image.data), &g, w, 4), 0);
	assert_true(strlen(g.version) < sizeof(g.version));
	make_image();
	memset(image.data + NAMES, 'x', 40);
	assert_int_equal(look(sizeof(image.data), &g, w, 4), -ENOEXEC);
}

static void test_lies(void **state)
{
	static const struct {
		size_t at;
		uint64_t v;
	} lies[] = {
		{8, 0}, {8, UINT64_MAX}, {8, 1u << 20}, {32, UINT64_MAX}, {32, 1u << 20}, {40, UINT64_MAX}, {40, 0x50},
		{64, UINT64_MAX}, {64, 1u << 20}, {64, 0x3f00},
	};
	struct go_wanted w[4];
	struct go_file g;

	for (size_t i = 0; i < sizeof(lies) / sizeof(lies[0]); i++) {
		make_image();
		wanted(w);
		put64(image.data + TABLE + lies[i].at, lies[i].v);
		assert_int_equal(look(sizeof(image.data), &g, w, 4), -EBADMSG);
	}
	for (size_t len = 0; len < TABLE + image.table_size; len += 61) {
		make_image();
		wanted(w);
		assert_true(look(len, &g, w, 4) < 0);
	}
}

static void test_any_bytes(void **state)
{
	struct go_wanted w[4];
	struct go_file g;

	srandom(1);
	for (int i = 0; i < 4000; i++) {
		make_image();
		wanted(w);
		for (int k = (int)(random() % 4) + 1; k; k--) {
			size_t at = random() % 2 ? TABLE + (size_t)random() % image.table_size : SECTIONS + (size_t)random() % 0x300;

			image.data[at] = (uint8_t)random();
		}
		look(sizeof(image.data), &g, w, 4);
		for (int k = 0; k < 4; k++)
			assert_true(w[k].n <= GO_MATCHES_MAX);
	}
}

static void test_no_memory(void **state)
{
	struct go_wanted w[4];
	struct go_file g;
	int err = -ENOMEM;

	make_image();
	for (long n = 0; err; n++) {
		wanted(w);
		mem__fail_after(n);
		err = look(sizeof(image.data), &g, w, 4);
		mem__fail_after(-1);
		assert_true(!err || err == -ENOMEM);
		assert_true(n < 100);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_found),	  cmocka_unit_test(test_old_and_other), cmocka_unit_test(test_lies),
		cmocka_unit_test(test_any_bytes), cmocka_unit_test(test_no_memory),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
