# SPDX-License-Identifier: Apache-2.0
"""`make test`: every part in turn, a line of progress each, one sum at the end.

The Collector is built in the background meanwhile (minutes, once per machine). A part that fails does
not stop the others. The last lines: what did not run, then "N passed, N failed".
"""
import os
import pathlib
import re
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
OUT = pathlib.Path(os.environ.get("WS_OUT") or ROOT / ".output")
MAKE = os.environ.get("MAKE", "make")

# name, make target, how its own count reads. Where a part has no count it is one test.
PARTS = ["build", "build-clang", "lint", "unit", "runtimes", "fuzz", "e2e", "scenarios", "accuracy", "vm-unit", "vm"]
TARGETS = {"build": "all", "accuracy": "accuracy-short", "vm": "test-vm"}
NOT_RUN = ["bench (own target: figures, not tests)", "accuracy at 1, 128 and 512 connections (own target)",
           "test-vm-full (own target: every kernel and restriction)",
           "demo (own target; its checks run in scenarios)"]


def has_target(target):
    return subprocess.run([MAKE, "-n", target], cwd=ROOT, capture_output=True).returncode == 0


def counts(name, text, ok):
    """(passed, failed, skipped) of one part's output."""
    passed = failed = skipped = 0
    if name == "unit":  # cmocka: one line per program
        passed = sum(int(n) for n in re.findall(r"^\[  PASSED  \]\D*(\d+) test", text, re.M))
        failed = sum(int(n) for n in re.findall(r"^\[  FAILED  \]\D*(\d+) test", text, re.M))
        failed += len(re.findall(r"^FAILED \S+", text, re.M)) if not failed else 0
    elif name in ("runtimes", "e2e", "vm-unit"):  # pytest: "3 failed, 10 passed, 1 skipped in 2.1s"
        last = (re.findall(r"^.*\d+ (?:passed|failed|error).* in [\d.]+s.*$", text, re.M) or [""])[-1]
        for n, what in re.findall(r"(\d+) (passed|failed|error|errors|skipped)", last):
            passed += int(n) if what == "passed" else 0
            failed += int(n) if what.startswith(("failed", "error")) else 0
            skipped += int(n) if what == "skipped" else 0
    elif name in ("accuracy", "vm"):  # their last line; a row that is wrong without a test that failed counts as one
        last = re.findall(r"^(\d+) passed, (\d+) failed$", text, re.M)[-1:]
        passed, failed = (int(n) for n in last[0]) if last else (0, 0)
        skipped = sum(int(n) for n in re.findall(r"^(\d+) skipped by probing", text, re.M)[-1:])
    if not passed and not failed:
        passed = int(ok)
    if not ok and not failed:
        failed = 1
    return passed, failed, skipped


def reasons(text):
    """What failed and why, by the tools' own lines: in a log of many thousand lines they are hard to find."""
    lines = re.findall(r"^(?:FAILED|ERROR|\[  FAILED  \]|E  ).*|^.*\berror: .*", text, re.M)
    return [line[:300] for line in lines[:40] or text.splitlines()[-5:]]


def run(name):
    began = time.monotonic()
    log = OUT / "test" / f"{name}.log"
    print(f"== {name}", flush=True)
    with open(log, "w") as f:
        jobs = [f"-j{os.cpu_count()}"] if name in ("build", "build-clang", "unit") else []
        p = subprocess.Popen([MAKE, *jobs, TARGETS.get(name, name)], cwd=ROOT, stdout=subprocess.PIPE,
                             stderr=subprocess.STDOUT, text=True, errors="replace")
        for line in p.stdout:
            f.write(line)
            f.flush()
            sys.stdout.write(line)
            sys.stdout.flush()
    ok = p.wait() == 0
    text = log.read_text(errors="replace")
    got = counts(name, text, ok)
    print(f"== {name}: {got[0]} passed, {got[1]} failed" + (f", {got[2]} skipped" if got[2] else "") +
          f" in {time.monotonic() - began:.0f} s", flush=True)
    return got, [f"{name}: {line}" for line in reasons(text)] if got[1] else []


def main():
    (OUT / "test").mkdir(parents=True, exist_ok=True)
    not_run, sums, why = list(NOT_RUN), [0, 0, 0], []
    build = ROOT / "tests" / "tools" / "collector" / "build.sh"
    with open(OUT / "test" / "collector.log", "w") as log:
        collector = subprocess.Popen(["nice", build], stdout=log, stderr=log)
    try:
        for name in PARTS:
            if not has_target(TARGETS.get(name, name)):
                not_run.insert(0, f"{name} (no such target)")
                sums[1] += 1  # a part that is gone is not a part that passed
                continue
            if name == "e2e":
                print("waiting for the Collector", flush=True)
                if collector.wait():
                    not_run.insert(0, f"tests with the real Collector (see {OUT}/test/collector.log)")
            got, lines = run(name)
            sums = [a + b for a, b in zip(sums, got)]
            why += lines
    finally:
        if collector.poll() is None:
            collector.terminate()
            collector.wait()
    print("".join(f"\n{line}" for line in why))
    if sums[2]:
        not_run.insert(0, f"{sums[2]} skipped by probing (reasons above)")
    print(f"\nnot run: {', '.join(not_run)}")
    print(f"{sums[0]} passed, {sums[1]} failed")
    return 1 if sums[1] else 0


if __name__ == "__main__":
    sys.exit(main())
