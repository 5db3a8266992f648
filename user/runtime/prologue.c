// SPDX-License-Identifier: Apache-2.0
/* Lengths by the instruction format (Intel SDM volume 2, chapter 2): prefixes, opcode, ModRM, SIB, displacement, data.
 */
#include "user/runtime/prologue.h"

#include <string.h>

enum { REX_B = 1, REX_R = 4, REX_W = 8 };

/* What an instruction with a ModRM byte does with its operands. */
enum operands {
	NOT_KNOWN,
	READS,	     /* test, cmp, nop */
	WRITES_REG,  /* the register operand */
	WRITES_RM,   /* the other one, register or memory */
	GROUP_ARITH, /* add or adc sbb and sub xor cmp, by ModRM.reg */
	GROUP_TEST,  /* ModRM.reg 0: test, else something that is not decoded */
	GROUP_MOV,   /* ModRM.reg 0: mov */
};

struct form {
	enum operands ops;
	uint8_t imm;  /* bytes of immediate; 4 become 2 with an operand size prefix */
	bool is_byte; /* 8-bit registers: without REX, 4 to 7 are ah to bh */
};

/* clang-format off */
static const struct form one_byte[256] = {
	[0x01] = { WRITES_RM, 0, false },   [0x03] = { WRITES_REG, 0, false },	 /* add */
	[0x09] = { WRITES_RM, 0, false },   [0x0b] = { WRITES_REG, 0, false },	 /* or */
	[0x21] = { WRITES_RM, 0, false },   [0x23] = { WRITES_REG, 0, false },	 /* and */
	[0x29] = { WRITES_RM, 0, false },   [0x2b] = { WRITES_REG, 0, false },	 /* sub */
	[0x31] = { WRITES_RM, 0, false },   [0x33] = { WRITES_REG, 0, false },	 /* xor */
	[0x38] = { READS, 0, true },	    [0x39] = { READS, 0, false },	 /* cmp */
	[0x3a] = { READS, 0, true },	    [0x3b] = { READS, 0, false },	 /* cmp */
	[0x63] = { WRITES_REG, 0, false },					 /* movsxd */
	[0x80] = { GROUP_ARITH, 1, true },  [0x81] = { GROUP_ARITH, 4, false },
	[0x83] = { GROUP_ARITH, 1, false },
	[0x84] = { READS, 0, true },	    [0x85] = { READS, 0, false },	 /* test */
	[0x88] = { WRITES_RM, 0, true },    [0x89] = { WRITES_RM, 0, false },	 /* mov */
	[0x8a] = { WRITES_REG, 0, true },   [0x8b] = { WRITES_REG, 0, false },	 /* mov */
	[0x8d] = { WRITES_REG, 0, false },					 /* lea */
	[0xc6] = { GROUP_MOV, 1, true },    [0xc7] = { GROUP_MOV, 4, false },
	[0xf6] = { GROUP_TEST, 1, true },   [0xf7] = { GROUP_TEST, 4, false },
};

static const struct form two_byte[256] = { /* behind 0x0f */
	[0x1f] = { READS, 0, false },						 /* nop */
	[0xb6] = { WRITES_REG, 0, false },  [0xb7] = { WRITES_REG, 0, false },	 /* movzx */
	[0xbe] = { WRITES_REG, 0, false },  [0xbf] = { WRITES_REG, 0, false },	 /* movsx */
};

/* clang-format on */

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
		if (!mod && (p[1] & 7) == 5) /* no base */
			n += 4;
	}
	if (mod == 1)
		n += 1;
	else if (mod == 2 || (!mod && rm == 5))
		n += 4;
	return n <= len ? n : 0;
}

static uint16_t reg_bit(int reg, bool is_byte, uint8_t rex)
{
	return (uint16_t)(1u << (is_byte && !rex && reg >= 4 ? reg - 4 : reg));
}

/* p: at the ModRM byte. The length does not count what stands in front of it. */
static struct prologue_insn decode_operands(const uint8_t *p, size_t len, struct form form, uint8_t rex, bool short_imm)
{
	size_t imm = form.imm == 4 && short_imm ? 2 : form.imm, n = modrm_len(p, len);
	struct prologue_insn in = {0}, none = {0};
	int op, reg, rm;
	bool is_reg;

	if (form.ops == NOT_KNOWN || !n || n + imm > len)
		return none;
	op = p[0] >> 3 & 7;
	reg = op | (rex & REX_R ? 8 : 0);
	rm = (p[0] & 7) | (rex & REX_B ? 8 : 0);
	is_reg = p[0] >> 6 == 3;
	in.len = n + imm;
	switch (form.ops) {
	case GROUP_TEST:
		return op == 0 ? in : none;
	case GROUP_MOV:
		if (op != 0)
			return none;
		/* fall through */
	case GROUP_ARITH:
		if (form.ops == GROUP_ARITH && op == 7)
			return in; /* cmp */
				   /* fall through */
	case WRITES_RM:
		in.writes = is_reg ? reg_bit(rm, form.is_byte, rex) : 0;
		return in;
	case WRITES_REG:
		in.writes = reg_bit(reg, form.is_byte, rex);
		return in;
	default:
		return in;
	}
}

/* Without operands in memory: push, nop, jumps, calls, mov $imm. `plain`: no prefix but REX. len counts from p. */
static struct prologue_insn decode_simple(const uint8_t *p, size_t len, uint8_t rex, bool plain)
{
	size_t imm = rex & REX_W ? 8 : 4;
	struct prologue_insn in = {0};

	if (p[0] >= 0xb8 && p[0] <= 0xbf && plain && len > imm)
		return (struct prologue_insn){.len = 1 + imm,
					      .writes = reg_bit((p[0] & 7) | (rex & REX_B ? 8 : 0), false, rex)};
	if (!plain)
		return in;
	if (p[0] >= 0x50 && p[0] <= 0x57)
		return (struct prologue_insn){.len = 1, .emulated = true};
	if (rex) /* nothing that compilers put in front of the rest */
		return in;
	if (p[0] == 0x90)
		return (struct prologue_insn){.len = 1, .emulated = true};
	if (((p[0] & 0xf0) == 0x70 || p[0] == 0xeb) && len >= 2)
		in.len = 2;
	else if ((p[0] == 0xe9 || p[0] == 0xe8) && len >= 5)
		in.len = 5;
	else if (p[0] == 0x0f && len >= 6 && (p[1] & 0xf0) == 0x80)
		in.len = 6;
	in.emulated = in.leaves = in.len != 0;
	return in;
}

struct prologue_insn prologue__decode(const uint8_t *code, size_t len)
{
	static const uint8_t endbr64[] = {0xf3, 0x0f, 0x1e, 0xfa};
	struct prologue_insn in, none = {0};
	bool short_imm = false, plain = true;
	size_t n = 0, op;
	uint8_t rex = 0;

	if (len >= sizeof(endbr64) && !memcmp(code, endbr64, sizeof(endbr64)))
		return (struct prologue_insn){.len = sizeof(endbr64)};
	for (; n < len && n < 8 && (code[n] == 0x66 || code[n] == 0x2e || code[n] == 0x64 || code[n] == 0x65); n++) {
		short_imm |= code[n] == 0x66;
		plain = false;
	}
	if (n < len && (code[n] & 0xf0) == 0x40)
		rex = code[n++];
	if (rex & REX_W)
		short_imm = false;
	if (n == len)
		return none;
	in = decode_simple(code + n, len - n, rex, plain);
	if (in.len) {
		in.len += n;
		return in;
	}
	op = n;
	if (code[op] == 0x0f && ++op == len)
		return none;
	in = decode_operands(code + op + 1, len - op - 1, op > n ? two_byte[code[op]] : one_byte[code[op]], rex,
			     short_imm);
	if (!in.len)
		return none;
	in.len += op + 1;
	return in;
}

size_t prologue__entry(const uint8_t *code, size_t len, uint16_t arguments)
{
	len = len < PROLOGUE_BYTES ? len : PROLOGUE_BYTES;
	for (size_t at = 0; at < len;) {
		struct prologue_insn in = prologue__decode(code + at, len - at);

		if (in.emulated)
			return at;
		if (!in.len || in.leaves || (in.writes & arguments))
			return 0;
		at += in.len;
	}
	return 0;
}

size_t prologue__return(const uint8_t *code, size_t len)
{
	struct prologue_insn first = prologue__decode(code, len), next;

	if (first.len != 4 || code[0] != 0xf3)
		return 0;
	/* Behind endbr64 only what is cheaper there. */
	next = prologue__decode(code + first.len, len - first.len);
	return next.emulated ? first.len : 0;
}

size_t prologue__call(const uint8_t *code, size_t len, uint64_t addr, uint64_t target)
{
	for (size_t at = 0; at + 5 <= len; at++) {
		int32_t rel;

		memcpy(&rel, code + at + 1, sizeof(rel));
		if (code[at] == 0xe8 && addr + at + 5 + (uint64_t)(int64_t)rel == target)
			return at;
	}
	return len;
}
