/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Where Go's functions have their arguments (ABIInternal, Go 1.17 and later; src/cmd/compile/abi-internal.md) and their goroutine. */
#ifndef WS_GOABI_BPF_H
#define WS_GOABI_BPF_H

#if defined(__TARGET_ARCH_arm64)
#define GO_ARG(regs, n) (((struct user_pt_regs *)(regs))->regs[n])
#define GO_ARG1(regs) GO_ARG(regs, 0)
#define GO_ARG2(regs) GO_ARG(regs, 1)
#define GO_ARG3(regs) GO_ARG(regs, 2)
#define GO_ARG4(regs) GO_ARG(regs, 3)
#define GO_G(regs) GO_ARG(regs, 28)
#else
#define GO_ARG1(regs) ((regs)->ax)
#define GO_ARG2(regs) ((regs)->bx)
#define GO_ARG3(regs) ((regs)->cx)
#define GO_ARG4(regs) ((regs)->di)
#define GO_G(regs) ((regs)->r14)
#endif

#endif
