// SPDX-License-Identifier: Apache-2.0
/* Lengths by the instruction format (Intel SDM volume 2, chapter 2): prefix, opcode, ModRM, SIB, displacement, immediate. */
#include "user/runtime/prologue.h"

#include <stdbool.h>
#include <string.h>

enum { RSI = 6, RDI = 7 };

struct insn {
	size_t len;	/* 0: not known */
	bool emulated;
	bool leaves;	/* control goes elsewhere, or may */
	int writes;	/* register number, -1: none that matters */
};

static const uint8_t endbr64[] = { 0xf3, 0x0f, 0x1e, 0xfa };

/* Bytes of ModRM, SIB and displacement; 0: not enough bytes. */
static size_t modrm_len(const uint8_t *p, size_t len)
{
	size_t n = 1;
	int mod, rm;

	if (!len)
		return 0;
	mod = p[0] >> 6;
	rm = p[0] & 7;
	if (mod != 3 && rm == 4) {
		if (len < 2)
			return 0;
		n++;
		if (!mod && (p[1] & 7) == 5)
			n += 4;
	}
	if (mod == 1)
		n += 1;
	else if (mod == 2 || (!mod && rm == 5))
		n += 4;
	return n <= len ? n : 0;
}

/* Opcodes with a ModRM: how many immediate bytes follow, and whether reg or rm is written. */
enum written { W_NONE, W_REG, W_RM };

static bool with_modrm(uint8_t op, size_t *ret_imm, enum written *ret_w)
{
	*ret_imm = 0;
	switch (op) {
	case 0x85: /* test rm, r */
	case 0x39: /* cmp rm, r */
	case 0x3b: /* cmp r, rm */
		*ret_w = W_NONE;
		return true;
	case 0x89: /* mov rm, r */
	case 0x31: /* xor rm, r */
		*ret_w = W_RM;
		return true;
	case 0x8b: /* mov r, rm */
	case 0x8d: /* lea r, m */
	case 0x33: /* xor r, rm */
		*ret_w = W_REG;
		return true;
	case 0x83: /* group 1, imm8 */
		*ret_imm = 1;
		*ret_w = W_RM;
		return true;
	case 0x81: /* group 1, imm32 */
	case 0xc7: /* mov rm, imm32 */
		*ret_imm = 4;
		*ret_w = W_RM;
		return true;
	case 0xf6: /* test rm8, imm8 (only /0 is taken below) */
		*ret_imm = 1;
		*ret_w = W_NONE;
		return true;
	}
	return false;
}

static struct insn decode_modrm(const uint8_t *p, size_t len, uint8_t rex, size_t prefix)
{
	struct insn in = { .writes = -1 };
	size_t imm, n;
	enum written w;
	int reg, rm;

	if (!with_modrm(p[0], &imm, &w))
		return in;
	n = modrm_len(p + 1, len - 1);
	if (!n || 1 + n + imm > len)
		return in;
	reg = (p[1] >> 3 & 7) | (rex & 4 ? 8 : 0);
	rm = p[1] >> 6 == 3 ? (p[1] & 7) | (rex & 1 ? 8 : 0) : -1;
	if (p[0] == 0xf6 && (reg & 7) != 0)
		return in;
	if ((p[0] == 0x83 || p[0] == 0x81) && (reg & 7) == 7)
		w = W_NONE; /* cmp */
	in.writes = w == W_REG ? reg : w == W_RM ? rm : -1;
	in.len = prefix + 1 + n + imm;
	return in;
}

static struct insn decode(const uint8_t *p, size_t len)
{
	struct insn in = { .writes = -1 };
	size_t prefix = 0;
	uint8_t rex = 0;

	if (len >= sizeof(endbr64) && !memcmp(p, endbr64, sizeof(endbr64)))
		return (struct insn){ .len = sizeof(endbr64), .writes = -1 };
	if (len && (p[0] & 0xf0) == 0x40) {
		rex = p[0];
		prefix = 1;
	}
	if (len < prefix + 2)
		return in;
	p += prefix;
	len -= prefix;
	if (p[0] >= 0x50 && p[0] <= 0x57)
		return (struct insn){ .len = prefix + 1, .emulated = true, .writes = -1 };
	if (prefix)
		return decode_modrm(p, len, rex, prefix);
	if (p[0] == 0x90)
		return (struct insn){ .len = 1, .emulated = true, .writes = -1 };
	if ((p[0] & 0xf0) == 0x70 || p[0] == 0xeb)
		return (struct insn){ .len = 2, .emulated = true, .leaves = true, .writes = -1 };
	if (len >= 5 && (p[0] == 0xe9 || p[0] == 0xe8))
		return (struct insn){ .len = 5, .emulated = true, .leaves = true, .writes = -1 };
	if (len >= 6 && p[0] == 0x0f && (p[1] & 0xf0) == 0x80)
		return (struct insn){ .len = 6, .emulated = true, .leaves = true, .writes = -1 };
	if (len >= 5 && (p[0] & 0xf8) == 0xb8)
		return (struct insn){ .len = 5, .writes = p[0] & 7 }; /* mov r32, imm32 */
	return decode_modrm(p, len, 0, 0);
}

size_t prologue__entry(const uint8_t *code, size_t len)
{
	size_t at = 0;

	for (;;) {
		struct insn in = decode(code + at, len - at);

		if (!in.len)
			return 0;
		if (in.emulated)
			return at;
		if (in.leaves || in.writes == RDI || in.writes == RSI)
			return 0;
		at += in.len;
	}
}

size_t prologue__return(const uint8_t *code, size_t len)
{
	return len > sizeof(endbr64) && !memcmp(code, endbr64, sizeof(endbr64)) ? sizeof(endbr64) : 0;
}
