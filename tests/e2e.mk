# SPDX-License-Identifier: Apache-2.0
# Everything that needs real peers: what it installs, end-to-end tests, scenarios, demo, bench.

PY = $(O)/venv/bin/python
TOOLS := $(patsubst tests/tools/%.c,$(O)/tests/tools/%,$(wildcard tests/tools/load.c tests/tools/sockops.c))
export WS_OUT = $(abspath $(O))
# Per test; a hang is a failure, not a wait. The slowest tests wait out connect time-outs.
E2E_TIMEOUT ?= 120
# Side by side: they wait more than they work.
E2E_JOBS ?= 4

.PHONY: deps collector e2e scenarios accuracy accuracy-short demo bench test tools
deps:
	$(Q)tests/tools/deps.sh $(O)

## make collector    the OpenTelemetry Collector that the tests export to (once per machine, ~7 minutes)
collector: deps
	$(Q)nice tests/tools/collector/build.sh

# Peers that misbehave on purpose and load that counts; no code of the program in them.
$(O)/tests/tools/load $(O)/tests/tools/sockops: $(O)/tests/tools/%: tests/tools/%.c
	$(call msg,CC,$@)
	$(Q)mkdir -p $(@D)
	$(Q)$(CC) $(CPPFLAGS) $(BASE_CFLAGS) $(CFLAGS) $< -o $@ $(TOOL_LIBS)

$(O)/tests/tools/sockops: TOOL_LIBS = -luring
tools: $(TOOLS) $(O)/tests/tools/export_load $(O)/tests/tools/sink

## make e2e          end-to-end tests against real peers (root); ARGS='-k curl' selects
e2e: deps all tools
	$(Q)$(PY) -m pytest -q -n $(E2E_JOBS) --timeout=$(E2E_TIMEOUT) --durations=15 tests/e2e $(ARGS)

## make scenarios    async-demo and fan-out, every parent asserted at 1 and 64 clicks
scenarios: deps all tools
	$(Q)$(PY) tests/scenarios/async-demo/run.py --fast --check
	$(Q)$(PY) tests/scenarios/fan-out/run.py --fast --check

## make accuracy     who caused which call: every server and client at 1 to 512 connections (ARGS='--only aiohttp')
accuracy: deps all tools $(O)/accuracy/.requirements
	$(Q)$(PY) tests/accuracy/accuracy.py $(ARGS)

$(O)/accuracy/.requirements: tests/accuracy/requirements.txt | deps
	$(call msg,PIP,$(@D))
	$(Q)rm -rf $(@D) && $(PY) -m pip install -q --disable-pip-version-check --target $(@D) -r $< && cp $< $@

# What `make test` runs of it.
accuracy-short: deps all tools
	$(Q)$(PY) tests/accuracy/accuracy.py --short

## make demo         trace four small services, click two buttons, show both traces
demo: deps all
	$(Q)$(PY) tests/scenarios/async-demo/demo.py

## make bench        cost with and without: nginx, FastAPI, Flask, aiohttp, Go (root, a quarter of an hour; ARGS=--quick)
bench: deps all tools $(O)/tests/tools/sink
	$(Q)$(PY) tests/bench/bench.py $(ARGS)

## make test         everything that CI runs: lint, unit, fuzz, end to end, scenarios
test: deps
	$(Q)$(PY) tests/tools/run_all.py
