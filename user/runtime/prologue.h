/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where at the beginning of a function a probe is cheap. The kernel emulates nop, push, call and jumps; everything else
 * it steps through out of line, which costs 30 times as much in a virtual machine (arch/x86/kernel/uprobes.c).
 */
#ifndef WS_PROLOGUE_H
#define WS_PROLOGUE_H

#include <stddef.h>
#include <stdint.h>

/*
 * Offset of the first instruction that the kernel emulates and in front of which rdi and rsi still hold the arguments.
 * 0 if there is none, or something is met that this does not know the length of.
 */
size_t prologue__entry(const uint8_t *code, size_t len);
/* The same while the return address is on top of the stack: the first instruction, or the one behind endbr64. */
size_t prologue__return(const uint8_t *code, size_t len);

#endif
