/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where at the beginning of a function a probe is cheap. The kernel emulates push, nop, call and jumps; everything else
 * it steps through out of line, which costs 30 times as much in a virtual machine (arch/x86/kernel/uprobes.c).
 *
 * Instructions are decoded as far as compilers use them there; at the first one whose length is not known for certain
 * the search ends with the best place so far. Where a long nop was probed, kernels from 6.18 on rewrite it to a call,
 * whose return address destroys what the function keeps below its stack pointer: that is safe in front of its first
 * instruction only, and a long nop is never chosen behind it. (Kernels before 6.16 step through it anyway.)
 */
#ifndef WS_RUNTIME_PROLOGUE_H
#define WS_RUNTIME_PROLOGUE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define PROLOGUE_BYTES 64 /* more than this is not looked at */

/* Registers that arguments come in, as a set: System V ABI (the first three); Go's, since 1.17 (the first two). */
#define PROLOGUE_C 0x00c4u  /* rdi, rsi, rdx */
#define PROLOGUE_GO 0x0009u /* rax, rbx; the goroutine in r14 is left alone by all code */

/*
 * Offset of the first instruction that the kernel emulates and in front of which these registers still hold the
 * arguments. 0: the function's first one, if there is none.
 */
size_t prologue__entry(const uint8_t *code, size_t len, uint16_t arguments);
/* For a return probe: while the return address is on top of the stack. The first one, or that behind endbr64. */
size_t prologue__return(const uint8_t *code, size_t len);

/* One instruction, for tests too. */
struct prologue_insn {
	size_t len;	 /* 0: not known */
	bool emulated;	 /* by every kernel that we support */
	bool leaves;	 /* what follows may not run, or not from here */
	uint16_t writes; /* bit per general register that may change; not the stack pointer of push and pop */
};
struct prologue_insn prologue__decode(const uint8_t *code, size_t len);
/* Where in this code, which stands at `addr`, `target` is called first; len: nowhere. */
size_t prologue__call(const uint8_t *code, size_t len, uint64_t addr, uint64_t target);

#endif
