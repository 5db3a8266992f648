# SPDX-License-Identifier: Apache-2.0
# wirespan. `make` builds .output/wirespan; `make help` lists the rest.
# V=1 shows commands, O=DIR builds elsewhere, WERROR=1 makes warnings errors (CI does).

VERSION := $(shell cat VERSION)
O ?= .output
PREFIX ?= /usr/local
CC ?= gcc
CLANG ?= clang
BPFTOOL ?= $(firstword $(wildcard /usr/sbin/bpftool) bpftool)
PKGS := libbpf libcurl libprotobuf-c jansson yaml-0.1 zlib libcap libelf

ifeq ($(V),1)
Q :=
msg =
else
Q := @
msg = @printf '  %-8s %s\n' "$(1)" "$(patsubst $(O)/%,%,$(2))";
MAKEFLAGS += --no-print-directory
endif

.DELETE_ON_ERROR:
.SECONDARY:
.SUFFIXES:
.SECONDEXPANSION:
.DEFAULT_GOAL := all

include tests/tests.mk

# ---- flags ------------------------------------------------------------------------------------

WARN := -Wall -Wextra -Wno-unused-parameter -Wstrict-prototypes -Wmissing-prototypes -Wpointer-arith -Wvla
# What designated initializers leave out is zero; clang calls it missing.
WARN += $(if $(findstring clang,$(shell $(CC) --version 2>/dev/null)),-Wno-missing-field-initializers)
ifeq ($(WERROR),1)
WARN += -Werror
endif
CPPFLAGS := -I. -I$(O) -D_GNU_SOURCE -DWS_VERSION='"$(VERSION)"'
CFLAGS ?= -O2 -g
BASE_CFLAGS := -std=gnu17 $(WARN) -fno-strict-aliasing $(shell pkg-config --cflags $(PKGS) 2>/dev/null)
LDLIBS = $(shell pkg-config --libs $(PKGS)) -lpthread -lm
SAN := -fsanitize=address,undefined -fno-sanitize-recover=undefined -fno-omit-frame-pointer

# ---- sources: found, not listed ----------------------------------------------------------------

PROTOS := common/v1/common resource/v1/resource trace/v1/trace collector/trace/v1/trace_service
PB_C := $(PROTOS:%=$(O)/pb/opentelemetry/proto/%.pb-c.c)
PB_H := $(PB_C:.c=.h)
SRCS := $(filter-out user/main.c,$(wildcard user/*.c user/*/*.c exporter/*.c))
OBJS := $(SRCS:%.c=$(O)/obj/%.o) $(PB_C:$(O)/%.c=$(O)/obj/%.o)
SAN_OBJS := $(OBJS:$(O)/obj/%=$(O)/san/%)
# maps first: the linker wants definitions before their uses
BPF_SRCS := bpf/maps.bpf.c $(filter-out bpf/maps.bpf.c,$(sort $(wildcard bpf/*.bpf.c)))
# Kernels below 5.17 take another build of the same programs; the socket plan's tracepoints came later anyway.
LEGACY_SRCS := $(filter-out bpf/socket.bpf.c,$(BPF_SRCS))
SKEL := $(O)/bpf/wirespan.skel.h $(O)/bpf/wirespan_legacy.skel.h

.PHONY: all deps install uninstall dist clean help
all: $(O)/wirespan $(O)/bpf/arm64/wirespan.bpf.o $(O)/bpf/arm64-legacy/wirespan.bpf.o

$(O)/wirespan: $(O)/obj/user/main.o $(OBJS)
	$(call msg,LINK,$@)
	$(Q)$(CC) $(CFLAGS) $(LDFLAGS) $^ -o $@ $(LDLIBS)

# Generated headers come first. (Explicit targets: a pattern rule without a recipe adds no prerequisite.)
$(filter $(O)/obj/user/loader/% $(O)/san/user/loader/%,$(OBJS) $(SAN_OBJS)) $(O)/obj/user/main.o: | $(SKEL)
$(filter $(O)/obj/exporter/% $(O)/san/exporter/%,$(OBJS) $(SAN_OBJS)): | $(PB_H)

$(O)/obj/%.o: %.c
	$(call msg,CC,$@)
	$(Q)mkdir -p $(@D)
	$(Q)$(CC) $(CPPFLAGS) -I$(O)/pb $(BASE_CFLAGS) $(CFLAGS) -MMD -MP -c $< -o $@

$(O)/obj/pb/%.o: $(O)/pb/%.c $(PB_H)
	$(call msg,CC,$@)
	$(Q)mkdir -p $(@D)
	$(Q)$(CC) -I$(O)/pb $(CFLAGS) -w -c $< -o $@

$(O)/san/%.o: %.c
	$(call msg,CC,$@)
	$(Q)mkdir -p $(@D)
	$(Q)$(CC) $(CPPFLAGS) -I$(O)/pb $(BASE_CFLAGS) -O1 -g $(SAN) -MMD -MP -c $< -o $@

$(O)/san/pb/%.o: $(O)/pb/%.c $(PB_H)
	$(Q)mkdir -p $(@D)
	$(Q)$(CC) -I$(O)/pb -O1 -g $(SAN) -w -c $< -o $@

$(O)/pb/%.pb-c.c $(O)/pb/%.pb-c.h &: exporter/proto/%.proto
	$(call msg,PROTOC,$@)
	$(Q)mkdir -p $(O)/pb
	$(Q)protoc-c --proto_path=exporter/proto --c_out=$(O)/pb $<

# ---- kernel side: two objects per architecture, two skeletons -----------------------------------

BPF_CFLAGS = -g -O2 -mcpu=v3 -target bpf -std=gnu17 -Wall -Wextra -Wno-unused-parameter -Wno-missing-declarations \
	-I. -Ivmlinux/$(1) -D__TARGET_ARCH_$(1)

# $(1) architecture, $(2) directory, $(3) sources, $(4) more flags
define bpf_object
$(O)/bpf/$(2)/%.o: bpf/%.bpf.c
	$$(call msg,BPF,$$@)
	$$(Q)mkdir -p $$(@D)
	$$(Q)$(CLANG) $$(call BPF_CFLAGS,$(1)) $(4) -MMD -MP -c $$< -o $$@

$(O)/bpf/$(2)/wirespan.bpf.o: $(3:bpf/%.bpf.c=$(O)/bpf/$(2)/%.o)
	$$(call msg,BPFLINK,$$@)
	$$(Q)$(BPFTOOL) gen object $$@ $$^
endef
$(foreach a,x86 arm64,$(eval $(call bpf_object,$(a),$(a),$(BPF_SRCS),)))
$(foreach a,x86 arm64,$(eval $(call bpf_object,$(a),$(a)-legacy,$(LEGACY_SRCS),-DWS_LEGACY)))

HOST_ARCH := $(if $(filter aarch64,$(shell uname -m)),arm64,x86)
$(O)/bpf/wirespan.skel.h: $(O)/bpf/$(HOST_ARCH)/wirespan.bpf.o
	$(call msg,SKEL,$@)
	$(Q)$(BPFTOOL) gen skeleton $< name wirespan_bpf > $@

$(O)/bpf/wirespan_legacy.skel.h: $(O)/bpf/$(HOST_ARCH)-legacy/wirespan.bpf.o
	$(call msg,SKEL,$@)
	$(Q)$(BPFTOOL) gen skeleton $< name wirespan_legacy_bpf > $@

-include $(shell find $(O) -path $(O)/tests/python -prune -o -name '*.d' -print 2>/dev/null)

# ---- install ------------------------------------------------------------------------------------

install: all
	install -Dm755 $(O)/wirespan $(DESTDIR)$(PREFIX)/bin/wirespan
	$(O)/wirespan man > $(O)/wirespan.8 && install -Dm644 $(O)/wirespan.8 $(DESTDIR)$(PREFIX)/share/man/man8/wirespan.8
	$(O)/wirespan completion bash > $(O)/wirespan.bash && install -Dm644 $(O)/wirespan.bash \
		$(DESTDIR)$(PREFIX)/share/bash-completion/completions/wirespan
	$(O)/wirespan completion zsh > $(O)/_wirespan && install -Dm644 $(O)/_wirespan \
		$(DESTDIR)$(PREFIX)/share/zsh/site-functions/_wirespan
	$(O)/wirespan completion fish > $(O)/wirespan.fish && install -Dm644 $(O)/wirespan.fish \
		$(DESTDIR)$(PREFIX)/share/fish/vendor_completions.d/wirespan.fish
	install -Dm644 deploy/systemd/wirespan.service $(DESTDIR)$(PREFIX)/lib/systemd/system/wirespan.service

uninstall:
	rm -f $(DESTDIR)$(PREFIX)/bin/wirespan $(DESTDIR)$(PREFIX)/share/man/man8/wirespan.8 \
		$(DESTDIR)$(PREFIX)/share/bash-completion/completions/wirespan \
		$(DESTDIR)$(PREFIX)/share/zsh/site-functions/_wirespan \
		$(DESTDIR)$(PREFIX)/share/fish/vendor_completions.d/wirespan.fish \
		$(DESTDIR)$(PREFIX)/lib/systemd/system/wirespan.service

dist:
	$(Q)test -e .git || { echo "make dist: not a git checkout: this is what it would pack" >&2; exit 1; }
	$(Q)test -z "$$(git status --porcelain)" || { echo "make dist: uncommitted changes: commit them first" >&2; exit 1; }
	$(Q)mkdir -p $(O)
	git archive --format=tar.gz --prefix=wirespan-$(VERSION)/ -o $(O)/wirespan-$(VERSION).tar.gz HEAD

clean:
	rm -rf $(O)

help:
	@grep -hE '^## ' Makefile tests/*.mk | sed 's/^## //'

## make              build .output/wirespan
## make deps         install what building and testing need (Debian 12 and 13, as root)
## make install      install under PREFIX (/usr/local), DESTDIR honoured; make uninstall
## make dist         source archive in .output
