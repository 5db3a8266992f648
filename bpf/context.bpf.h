/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Finds one header line in captured bytes and reads the trace context in it. The kernel knows no
 * protocol: the name of the header is a byte pattern given in rodata (ws_config.pattern), matched in
 * any letter case at the start of a line, up to the first empty line.
 *
 * Lines are found eight bytes at a time inside bpf_loop: a plain loop over 8 KiB is refused, a byte
 * loop costs twice as much.
 */
#ifndef WS_CONTEXT_BPF_H
#define WS_CONTEXT_BPF_H

#include "maps.bpf.h"

#define ONES 0x0101010101010101ull
#define HIGHS 0x8080808080808080ull
#define NEWLINES (ONES * '\n')
#define CASE64 (ONES * 0x20)
#define CASE32 0x20202020u

/* A record has that much room behind the bytes that are looked at: no check can leave it. */
#define SCAN_SLACK 32
#define SCAN_STEPS (WS_CAPTURE_MAX / 8)

struct scan {
	const __u8 *data;
	__u32 n;
	__u32 hit; /* index behind the header's colon; 0: none */
};

/* A line starts at p. 1: done, the header or the empty line is found. */
static __always_inline long scan_line(struct scan *s, __u32 p)
{
	const __u8 *line = s->data + p;

	if (line[0] == '\r' || line[0] == '\n')
		return 1;
	if ((*(const __u64 *)line | CASE64) != cfg.pattern[0] || (*(const __u32 *)(line + 8) | CASE32) != (__u32)cfg.pattern[1])
		return 0;
	s->hit = p + 12;
	return 1;
}

static __always_inline long scan_step(struct scan *s, __u32 i, __u32 N)
{
	__u32 off = i * 8;
	__u64 word, found;

	asm volatile("" : "+r"(off));
	if (off >= s->n || off > N - SCAN_SLACK)
		return 1;
	word = *(const __u64 *)(s->data + off) ^ NEWLINES;
	/* A zero byte is a newline. Above the first, the carry can mark a byte that is none: it is looked at again. */
	found = (word - ONES) & ~word & HIGHS;
	if (!found)
		return 0;
#pragma unroll
	for (int k = 0; k < 8; k++)
		if ((found >> (8 * k + 7) & 1) && !(word >> (8 * k) & 0xff) && scan_line(s, off + k + 1))
			return 1;
	return 0;
}

#define SCAN(N)                                                   \
	static long scan_##N(__u32 i, void *ctx)                  \
	{                                                         \
		return scan_step(ctx, i, N);                      \
	}

SCAN(256)
SCAN(512)
SCAN(1024)
SCAN(2048)
SCAN(4096)
SCAN(9216)

/* version "-" trace-id "-" parent-id "-" flags: W3C Trace Context level 2, section 3.2 */
#define CONTEXT_LEN 55

struct context_text {
	__u8 c[64];
};

/* 0..15; 0x100 for anything but 0-9 a-f: upper case is not allowed. */
#define NO_DIGIT 0x100
static const __u16 hex_digits[256] = {
	[0 ... '0' - 1] = NO_DIGIT, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9,
	['9' + 1 ... 'a' - 1] = NO_DIGIT, 10, 11, 12, 13, 14, 15,
	['f' + 1 ... 255] = NO_DIGIT,
};

static __always_inline __u32 hex_byte(const __u8 *c)
{
	return hex_digits[c[0]] << 4 | hex_digits[c[1]];
}

/* Valid by the rules for version 00, or a later version read as such. A global function: verified once. */
__weak __noinline int context_read(struct context_text *t, struct ws_context *out)
{
	__u32 bad = 0, b, any_trace = 0, any_span = 0;

	if (!t || !out)
		return 0;
	out->valid = 0;
	if (t->c[2] != '-' || t->c[35] != '-' || t->c[52] != '-')
		return 0;
#pragma unroll
	for (int i = 0; i < 16; i++) {
		b = hex_byte(&t->c[3 + 2 * i]);
		bad |= b;
		any_trace |= b;
		out->trace_id[i] = b;
	}
#pragma unroll
	for (int i = 0; i < 8; i++) {
		b = hex_byte(&t->c[36 + 2 * i]);
		bad |= b;
		any_span |= b;
		out->span_id[i] = b;
	}
	b = hex_byte(&t->c[53]);
	bad |= b;
	out->flags = b;
	b = hex_byte(&t->c[0]);
	bad |= b;
	if ((bad & ~0xffu) || !any_trace || !any_span || b == 0xff)
		return 0;
	if (t->c[55] != '\r' && t->c[55] != '\n' && t->c[55] != ' ' && t->c[55] != '\t' && !(b && t->c[55] == '-'))
		return 0;
	out->valid = 1;
	return 0;
}

/*
 * Looks for the header in n bytes at `data` (N of them are there); true: *out is a valid context.
 * Steps over at most eight blanks before the value.
 */
#define SCAN_CONTEXT(data_, n_, N, out) ({                                              \
	struct scan s_ = { .data = (data_), .n = (n_) };                                \
	(out)->valid = 0;                                                               \
	bpf_loop(SCAN_STEPS, scan_##N, &s_, 0);                                         \
	if (s_.hit)                                                                     \
		context_at(s_.data, s_.hit, N, (out));                                  \
	(out)->valid;                                                                   \
})

static __always_inline void context_at(const __u8 *data, __u32 at, __u32 N, struct ws_context *out)
{
	struct context_text t;
	__u32 blanks = 0;

	asm volatile("" : "+r"(at));
	if (at > N - sizeof(t) - 8)
		return;
	bpf_probe_read_kernel(&t, sizeof(t), data + at);
	for (int i = 0; i < 8; i++) {
		if (t.c[i] != ' ' && t.c[i] != '\t')
			break;
		blanks++;
	}
	if (blanks)
		bpf_probe_read_kernel(&t, sizeof(t), data + at + blanks);
	context_read(&t, out);
}

#endif
