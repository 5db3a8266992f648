# SPDX-License-Identifier: Apache-2.0
# Fuzzing; included by tests.mk. The corpus starts from the cases of tests/proto and is kept in the output directory.

FUZZ_SECONDS ?= 60
FUZZ_SRCS := tests/fuzz/fuzz_proto.c user/base/mem.c user/base/dynbuf.c \
	$(filter-out user/model/span.c,$(wildcard user/proto/*.c user/model/*.c))

$(O)/tests/fuzz/fuzz_proto: $(FUZZ_SRCS) tests/proto/check.h $(wildcard user/proto/*.h user/base/*.h user/model/*.h)
	$(call msg,FUZZ,$@)
	$(Q)mkdir -p $(@D)
	$(Q)$(CLANG) $(CPPFLAGS) -std=gnu17 $(WARN) -O1 -g -fsanitize=fuzzer,address,undefined \
		-fno-sanitize-recover=undefined $(FUZZ_SRCS) -o $@

.PHONY: fuzz
## make fuzz         the protocol table under libFuzzer for FUZZ_SECONDS (60)
fuzz: $(O)/tests/fuzz/fuzz_proto $(O)/tests/unit/test_proto_cases
	$(Q)mkdir -p $(O)/fuzz/seeds $(O)/fuzz/corpus $(O)/fuzz/crashes
	$(Q)WS_CASES_SEEDS=$(O)/fuzz/seeds $(O)/tests/unit/test_proto_cases >$(O)/fuzz/seeds.log 2>&1 || \
		{ cat $(O)/fuzz/seeds.log; exit 1; }
	$(Q)$< -max_total_time=$(FUZZ_SECONDS) -max_len=40000 -timeout=10 -rss_limit_mb=512 -verbosity=0 \
		-artifact_prefix=$(O)/fuzz/crashes/ $(O)/fuzz/corpus $(O)/fuzz/seeds >$(O)/fuzz/log 2>&1 || \
		{ cat $(O)/fuzz/log; exit 1; }
	$(Q)echo "fuzz: $(FUZZ_SECONDS) s, $$(ls $(O)/fuzz/corpus | wc -l) inputs in the corpus, no finding"
