# SPDX-License-Identifier: Apache-2.0
# Virtual machines with Debian's kernels: tests/vm/.

VM = $(Q)tests/vm/vm.py
KERNEL ?= 6.1
# The default is expanded here, a command that is given is not: its dollars are the guest's.
ifeq ($(origin CMD),undefined)
CMD := $(O)/wirespan features
endif

.PHONY: vm vm-shell vm-bench
## make vm           one command in a virtual machine: KERNEL=5.10|6.1|6.12|6.18|newest CMD='…' VMARGS='--append lockdown=integrity'
vm: export WS_VM_CMD = $(value CMD)
vm: deps all
	$(VM) $(VMARGS) '$(KERNEL)' "$$WS_VM_CMD"

## make vm-bench     nginx, 1 KiB, one worker, in the 6.1 guest: every plan that it grants, without and with in turn (ARGS=…)
vm-bench: deps all tools $(O)/tests/tools/sink
	$(VM) --parallel --timeout 3600 '$(KERNEL)' 'WS_OUT=$(abspath $(O)) $(abspath $(O))/venv/bin/python3 tests/bench/bench.py \
		--cases nginx --body 1024 --rounds 3 --seconds 10 --no-seen --no-stats $(ARGS)'

## make vm-shell     a shell in one (KERNEL=…); exit or ^] ends it
vm-shell: deps all
	$(VM) $(VMARGS) --shell '$(KERNEL)'

.PHONY: vm-unit test-vm test-vm-full
## make vm-unit      what the machinery below makes of guests that do not do well; boots nothing (root)
vm-unit: deps
	$(Q)$(PY) -m pytest -q --timeout=120 tests/vm $(ARGS)

## make test-vm      a short selection of the end-to-end tests under 5.10 and the newest kernel, every plan they grant
test-vm: deps all tools
	$(Q)tests/vm/matrix.py $(ARGS)

## make test-vm-full the kernel matrix: every kernel, plan and restriction (an hour under emulation; ARGS='--only 6.1')
# What cannot be had fails the rows that need it, not the others.
test-vm-full: deps all tools $(O)/tests/tools/verifier
	-$(Q)cd tests && $(abspath $(PY)) -B -c 'from rig import golang; golang.Build("accuracy/services/go").program()'
	-$(Q)tests/tools/deps.sh $(O) arm64
	$(Q)tests/vm/matrix.py --full $(ARGS)
