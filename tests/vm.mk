# SPDX-License-Identifier: Apache-2.0
# Other kernels: a command, a shell or the test suite in a virtual machine with this machine's files.

VM_KERNEL = $(or $(KERNEL),6.1)
# What boots differently: VM_ARGS='--append lockdown=integrity --cgroup 1 --results DIR', see tests/vm/vm.py --help.
VM_ARGS ?=

.PHONY: vm vm-shell
## make vm           KERNEL=5.10|6.1|6.12|6.18|newest|VERSION CMD='uname -a': run it as root under that kernel
vm: deps
	$(Q)python3 tests/vm/vm.py $(VM_ARGS) '$(VM_KERNEL)' $(call quoted,$(value CMD))

## make vm-shell     KERNEL=...: a shell there; ^] ends it
vm-shell: deps
	$(Q)python3 tests/vm/vm.py $(VM_ARGS) --shell '$(VM_KERNEL)'

# A value for the shell, whatever is in it.
quoted = '$(subst ','\'',$(1))'
