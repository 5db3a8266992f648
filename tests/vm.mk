# SPDX-License-Identifier: Apache-2.0
# Virtual machines with Debian's kernels: tests/vm/.

VM = $(Q)tests/vm/vm.py
KERNEL ?= 6.1
CMD ?= $(O)/wirespan features

.PHONY: vm vm-shell
## make vm           one command in a virtual machine: KERNEL=5.10|6.1|6.12|6.18|newest CMD='…' VMARGS='--append lockdown=integrity'
vm: export WS_VM_CMD = $(value CMD)
vm: deps all
	$(VM) $(VMARGS) '$(KERNEL)' "$$WS_VM_CMD"

## make vm-shell     a shell in one (KERNEL=…); exit or ^] ends it
vm-shell: deps all
	$(VM) $(VMARGS) --shell '$(KERNEL)'
