// SPDX-License-Identifier: Apache-2.0
/* A file in memory stands for the kernel's map: the same pages, written as kernel/bpf/ringbuf.c writes them. */
#include <errno.h>
#include <linux/bpf.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#include "user/base/mem.h"
#include "user/loader/ring.h"

#define SIZE 8192ul
#define RECORD_MAX 1024ul

struct kernel {
	int fd;
	size_t page;
	uint8_t *mem;
	struct ring *ring;
	unsigned int next; /* number of the next record to be read */
	unsigned long given_back; /* position that the kernel saw in the middle of reading */
};

static unsigned long *reader(struct kernel *k)
{
	return (unsigned long *)k->mem;
}

static unsigned long *writer(struct kernel *k)
{
	return (unsigned long *)(k->mem + k->page);
}

static uint8_t *at(struct kernel *k, unsigned long pos)
{
	return k->mem + 2 * k->page + pos % SIZE;
}

static int set_up(void **state)
{
	struct kernel *k = calloc(1, sizeof(*k));

	k->page = (size_t)sysconf(_SC_PAGESIZE);
	k->fd = memfd_create("ring", MFD_CLOEXEC);
	assert_int_equal(ftruncate(k->fd, (off_t)(2 * k->page + SIZE)), 0);
	k->mem = mmap(NULL, 2 * k->page + SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, k->fd, 0);
	k->ring = ring__new(k->fd, SIZE, RECORD_MAX);
	assert_non_null(k->ring);
	*state = k;
	return 0;
}

static int tear_down(void **state)
{
	struct kernel *k = *state;

	ring__free(k->ring);
	munmap(k->mem, 2 * k->page + SIZE);
	close(k->fd);
	free(k);
	return 0;
}

/* The n-th record: its number, then bytes that tell the one from the other. Returns the position of its head. */
static unsigned long write_record(struct kernel *k, unsigned int n, uint32_t len, uint32_t flags)
{
	unsigned long pos = *writer(k);
	uint32_t head = len | flags;

	memcpy(at(k, pos), &head, sizeof(head));
	for (uint32_t i = 0; i < len; i++)
		*at(k, pos + BPF_RINGBUF_HDR_SZ + i) = i < sizeof(n) ? (uint8_t)(n >> 8 * i) : (uint8_t)(n + i);
	*writer(k) += BPF_RINGBUF_HDR_SZ + ((len + 7) & ~7u);
	return pos;
}

static void on_record(void *ctx, const void *rec, size_t len)
{
	struct kernel *k = ctx;
	const uint8_t *p = rec;
	unsigned int n = k->next++;

	assert_int_equal((uintptr_t)rec & 7, 0);
	for (size_t i = 0; i < len; i++)
		assert_int_equal(p[i], i < sizeof(n) ? (uint8_t)(n >> 8 * i) : (uint8_t)(n + i));
	k->given_back = *reader(k);
}

static void test_records_of_every_length_go_round_the_end(void **state)
{
	struct kernel *k = *state;
	unsigned int n = 0;

	for (uint32_t len = 4; len <= RECORD_MAX; len++) {
		for (int i = 0; i < 3; i++)
			write_record(k, n++, len, 0);
		assert_int_equal(ring__unread(k->ring), *writer(k) - *reader(k));
		assert_int_equal(ring__read(k->ring, on_record, k), 3);
		assert_int_equal(k->next, n);
		assert_int_equal(*reader(k), *writer(k));
		assert_int_equal(ring__unread(k->ring), 0);
	}
	assert_true(*writer(k) > 100 * SIZE);
	assert_int_equal(ring__read(k->ring, on_record, k), 0);
}

static void test_one_that_is_being_written_ends_the_reading(void **state)
{
	struct kernel *k = *state;
	unsigned long busy;
	uint32_t head = 40;

	write_record(k, 0, 24, 0);
	busy = write_record(k, 1, 40, BPF_RINGBUF_BUSY_BIT);
	write_record(k, 2, 24, 0);
	assert_int_equal(ring__read(k->ring, on_record, k), 1);
	assert_int_equal(*reader(k), busy);
	assert_int_equal(ring__read(k->ring, on_record, k), 0);
	memcpy(at(k, busy), &head, sizeof(head));
	assert_int_equal(ring__read(k->ring, on_record, k), 2);
	assert_int_equal(*reader(k), *writer(k));
}

static void test_one_that_was_discarded_is_passed_over(void **state)
{
	struct kernel *k = *state;

	write_record(k, 77, 24, BPF_RINGBUF_DISCARD_BIT);
	write_record(k, 0, 24, 0);
	write_record(k, 78, 1000, BPF_RINGBUF_DISCARD_BIT);
	assert_int_equal(ring__read(k->ring, on_record, k), 1);
	assert_int_equal(*reader(k), *writer(k));
}

static void test_space_is_given_back_on_the_way(void **state)
{
	struct kernel *k = *state;

	for (unsigned int n = 0; n < 64; n++)
		write_record(k, n, 120, 0);
	assert_int_equal(ring__read(k->ring, on_record, k), 64);
	assert_int_equal(k->given_back, 63 * 128); /* a record takes a 64th of the data */
}

static void note_length(void *ctx, const void *rec, size_t len)
{
	*(size_t *)ctx = len;
}

static void test_a_longer_one_is_cut(void **state)
{
	struct kernel *k = *state;
	size_t len = 0;

	write_record(k, 0, RECORD_MAX + 8, 0);
	assert_int_equal(ring__read(k->ring, note_length, &len), 1);
	assert_int_equal(len, RECORD_MAX);
	assert_int_equal(*reader(k), *writer(k));
}

static void test_what_cannot_be_mapped_is_an_error(void **state)
{
	struct kernel *k = *state;

	errno = 0;
	assert_null(ring__new(-1, SIZE, RECORD_MAX));
	assert_int_equal(errno, EBADF);
	for (int n = 0; n < 2; n++) {
		mem__fail_after(n);
		assert_null(ring__new(k->fd, SIZE, RECORD_MAX));
		assert_int_equal(errno, ENOMEM);
	}
	mem__fail_after(-1);
	ring__free(NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_records_of_every_length_go_round_the_end, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_one_that_is_being_written_ends_the_reading, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_one_that_was_discarded_is_passed_over, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_space_is_given_back_on_the_way, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_a_longer_one_is_cut, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_what_cannot_be_mapped_is_an_error, set_up, tear_down),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
