#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The end-to-end tests under other kernels: one guest per row, every attach plan that it has to grant.

    matrix.py                  `make test-vm`: two kernels, a short selection
    matrix.py --full           `make test-vm-full`: every kernel and restriction, about an hour under emulation
    matrix.py --jobs 2         so many guests at a time; by default one for each two processors, two of the full matrix
    matrix.py --only 6.1,lock  rows whose name has one of these in it, or begins with it if it begins with a kernel's
                               version; --list shows the names

A row fails if a test fails or hangs, if no test passed, if `wirespan features` grants other plans than the table says
(refused is a regression, granted but unlisted would go untested), if a plan's tests did not run, if processes are
left, or if the kernel complains. A kernel that cannot be had or does not boot is one failure; the others go on.
"""
import argparse
import contextlib
import dataclasses
import fcntl
import json
import os
import pathlib
import re
import shutil
import sys
import time
import xml.etree.ElementTree

sys.dont_write_bytecode = True

import arm64  # noqa: E402
import guest  # noqa: E402
import side_by_side  # noqa: E402
import vm  # noqa: E402
from errors import VmError, reason  # noqa: E402

OUT = pathlib.Path(os.environ.get("WS_OUT") or guest.ROOT / ".output").absolute()
ALL_PLANS = ("fentry", "kprobe", "socket", "syscall")
BEFORE_6_3 = ("fentry", "kprobe", "syscall")  # socket needs tracepoints of 6.3

E2E = "tests/e2e/test_"
# Every call, both families, a body to the byte, connections from before, a header that is read: one start per plan.
SHORT = [f"{E2E}smoke.py", f"{E2E}running.py", "-k", "test_smoke or test_features_names"]
# What depends on the kernel, a test or two of each kind: a start of the tracer costs 10 to 20 seconds under emulation.
# Exporters and frameworks do not, and every import of one takes ten seconds more. Contexts and goroutines: one service each.
SELECTION = [
    *(f"{E2E}{name}.py" for name in ("smoke", "syscalls", "counts", "causality", "context", "runtimes", "namespaces", "input",
                                     "running", "tls")),
    "-k", "test_smoke or test_bodies_read_by_splice or (test_io_uring and (uring-tcp or wq-unix)) or test_short_lived or "
    "(who_waits and epoll) or (test_never_answered and deaf-unix-close) or (test_failed_connects and refused) or "
    "test_received or test_equal_port_pairs or test_joined_through or test_proven_by or test_kill_9 or test_command or "
    "test_container or test_refused_plan or test_features_names or test_without_root or test_without_a_capability or "
    "test_without_btf or (test_tls and (test_proxy or test_ktls))"]
# Below $WS_OUT, made by test-vm-full; the program is named by tests/rig/golang.py.
SELECTION_NEEDS = ("tests/tools/verifier", "tests/go/accuracy_services_go-*")
# That it traces at all, exactly, or says why not.
TRACES = [f"{E2E}smoke.py", f"{E2E}running.py", "-k", "test_smoke or test_refused_plan or test_features_names"]
# Which of its places in the hierarchies says what container a process is in.
CGROUPS = [*TRACES[:-1], f"{TRACES[-1]} or test_container"]
FEW_RIGHTS = [f"{E2E}running.py", "-k", "test_without_sys_admin"]
# Debian's default is 3: perf events only with CAP_SYS_ADMIN. The kernel's own is this.
OTHERS = {"kernel.perf_event_paranoid": 2}
CONNECTIONS = [f"{E2E}counts.py", "-k", "test_nginx_counts and 512"]
PREEMPTED = [f"{E2E}counts.py", "-k", "test_preempted"]


@dataclasses.dataclass
class Row:
    name: str
    kernel: str
    plans: tuple          # exactly these have to be granted
    tests: list           # pytest's arguments
    short: bool = False   # in `make test-vm`
    verifier: bool = False  # what the kernel's makes of every program is printed too
    cmdline: str = ""
    sysctl: dict = dataclasses.field(default_factory=dict)
    cgroup: int = 2
    calm: bool = True     # guest.Options
    timeout: int = 3600
    arch: str = "amd64"


ROWS = [
    Row("5.10", "5.10", BEFORE_6_3, SHORT, short=True, timeout=1800),
    Row("newest", "newest", ALL_PLANS, SHORT, short=True, timeout=1800),
    *(Row(f"{k} selection", k, plans, SELECTION, verifier=True, timeout=4 * 3600) for k, plans in (
        ("5.10", BEFORE_6_3), ("6.1", BEFORE_6_3), ("6.12", ALL_PLANS), ("6.18", ALL_PLANS), ("newest", ALL_PLANS))),
    Row("6.1 lockdown=integrity", "6.1", BEFORE_6_3, TRACES, cmdline="lockdown=integrity"),
    Row("6.12 lockdown=integrity", "6.12", ALL_PLANS, TRACES, cmdline="lockdown=integrity"),
    # Kernel memory must not be read at all: whatever is asked for has to be refused, with the reason.
    Row("6.1 lockdown=confidentiality", "6.1", (), TRACES, cmdline="lockdown=confidentiality"),
    Row("6.12 lockdown=confidentiality", "6.12", (), TRACES, cmdline="lockdown=confidentiality"),
    Row("6.1 cgroup v1", "6.1", BEFORE_6_3, CGROUPS, cgroup=1),
    Row("newest cgroup v1", "newest", ALL_PLANS, CGROUPS, cgroup=1),
    Row("6.1 perf_event_paranoid=3", "6.1", BEFORE_6_3, TRACES, sysctl={"kernel.perf_event_paranoid": 3}),
    Row("6.1 perf_event_paranoid=4", "6.1", BEFORE_6_3, TRACES, sysctl={"kernel.perf_event_paranoid": 4}),
    Row("5.10 without CAP_SYS_ADMIN", "5.10", BEFORE_6_3, FEW_RIGHTS, sysctl=OTHERS),
    Row("6.12 without CAP_SYS_ADMIN", "6.12", ALL_PLANS, FEW_RIGHTS, sysctl=OTHERS),
    # What Debian's default then refuses (kprobe, syscall) or takes away (contexts, goroutines) has to be said.
    Row("6.12 without CAP_SYS_ADMIN at perf_event_paranoid=3", "6.12", ALL_PLANS, FEW_RIGHTS,
        sysctl={"kernel.perf_event_paranoid": 3}),
    Row("6.1 512 connections", "6.1", BEFORE_6_3, CONNECTIONS),
    Row("newest 512 connections", "newest", ALL_PLANS, CONNECTIONS),
    Row("6.1 preempt=full", "6.1", BEFORE_6_3, PREEMPTED, cmdline="preempt=full", calm=False),
    Row("newest preempt=full", "newest", ALL_PLANS, PREEMPTED, cmdline="preempt=full", calm=False),
    Row("arm64", arm64.KERNEL, ALL_PLANS, [], verifier=True, arch="arm64"),
]

WALK_LIMIT = 1_000_000  # BPF_COMPLEXITY_LIMIT_INSNS, include/linux/bpf.h

COMMAND = """\
cat /proc/version >"$WS_RESULTS/version"
cat /proc/self/cgroup >"$WS_RESULTS/cgroup"
cat /sys/kernel/security/lockdown >"$WS_RESULTS/lockdown"
"$WS_OUT/wirespan" features >"$WS_RESULTS/features"
[ -z "$WS_VERIFIER" ] || "$WS_OUT/tests/tools/verifier" >"$WS_RESULTS/verifier" || echo "refused: see verifier" >&2
exec "$WS_OUT/venv/bin/python" -m pytest -q -p no:cacheprovider --timeout=$((45 * ${WS_SLOW:-1})) \\
	--junitxml="$WS_RESULTS/junit.xml" "$@"
"""


class Outcome:
    """What came of one row. `plans`: {plan or "": [passed, failed, skipped]}."""

    def __init__(self, row):
        self.row, self.version = row, row.kernel
        self.plans, self.failures, self.features, self.boot, self.took = {}, [], {}, 0.0, 0.0
        self.verified = {}  # {plan: (instructions walked, program) of the largest}
        self.refusals = {}  # {plan: [why, …]} of the tests that passed because it was refused, and said so

    SAVED = ("version", "plans", "refusals", "failures", "features", "boot", "took", "verified")

    def save(self, path):
        path.write_text(json.dumps({k: getattr(self, k) for k in self.SAVED}))

    @classmethod
    def load(cls, row, saved):
        """What another process has saved; {}: it ended without."""
        outcome = cls(row)
        for k, v in saved.items():
            setattr(outcome, k, v)
        if not saved:
            outcome.failures.append("its process ended before it could say how it went")
        return outcome

    def sums(self):
        passed, failed, skipped = (sum(n[i] for n in self.plans.values()) for i in range(3))
        return passed, failed + len(self.failures), skipped


def plan_of(test):
    m = re.search(rf"[\[-]({'|'.join(ALL_PLANS)})(?=[\]-])", test)
    return m[1] if m else ""


def read_junit(path):
    """Outcome's plans and refusals."""
    counts, refusals = {}, {}
    for case in xml.etree.ElementTree.parse(path).iter("testcase"):
        plan, kinds = plan_of(case.get("name", "")), {child.tag for child in case}
        counts.setdefault(plan, [0, 0, 0])[1 if kinds & {"failure", "error"} else 2 if "skipped" in kinds else 0] += 1
        said = [p.get("value") for p in case.iter("property") if p.get("name") == "refused"]
        if said:
            refusals.setdefault(plan, []).extend(said)
    return counts, refusals


def quoted(args):
    return " ".join("'" + a.replace("'", "'\\''") + "'" for a in args)


def judge_verifier(outcome, results):
    """Every plan of the row has programs that the verifier took; which of them it walked the longest."""
    text = (results / "verifier").read_text() if (results / "verifier").exists() else ""
    for plan, program, _, walked in re.findall(r"^(\w+) +(\w+) +(\d+) +(\d+) +[\d.]+ %$", text, re.M):
        if not int(walked):
            outcome.failures.append(f"verifier, plan {plan}: {program}: how far it was walked is not known")
        outcome.verified[plan] = max(outcome.verified.get(plan, (0, "")), (int(walked), program))
    for p in outcome.row.plans:
        if not outcome.verified.get(p, (0,))[0]:
            said = re.search(rf"^{p} +(REFUSED.*|not granted.*)$", text, re.M)
            outcome.failures.append(f"verifier, plan {p}: {said[1] if said else 'no program was walked'}")


def judge_restrictions(outcome, results):
    """Is the guest what the row says? Otherwise it shows nothing of what it is there for."""
    def read(name):
        return (results / name).read_text() if (results / name).exists() else ""
    row = outcome.row
    lockdown = re.search(r"lockdown=(\w+)", row.cmdline)
    if lockdown and f"[{lockdown[1]}]" not in read("lockdown"):
        outcome.failures.append(f"not under {lockdown[0]}, but {read('lockdown').strip() or 'no lockdown'}")
    v1 = re.findall(r"^\d+:\w[^:]*:/", read("cgroup"), re.M)  # 0::/ is v2, 1:name=…: one without a controller
    if row.arch == "amd64" and (row.cgroup == 1) != bool([line for line in v1 if "name=" not in line]):
        outcome.failures.append(f"cgroup v{row.cgroup} was asked for, there is {' '.join(read('cgroup').split()) or 'none'}")


def judge(outcome, result, results, plans):
    """Fills in what the guest left behind and what is wrong with it."""
    row, bad = outcome.row, outcome.failures
    if (results / "version").exists():
        text = (results / "version").read_text()
        release = re.search(r"Linux version (\S+)", text)
        debian = re.findall(r"Debian (\d[\w.+~-]*)", text)  # the compiler's, then the kernel's
        outcome.version = f"{debian[-1] if debian else '?'} ({release[1] if release else '?'})"
    if (results / "features").exists():
        table = re.findall(r"^(\S+) +(granted|refused)(?:: )?(.*)$", (results / "features").read_text(), re.M)
        outcome.features = {plan: why if how == "refused" else "granted" for plan, how, why in table}
    if result is None and not outcome.features:
        return  # it did not come that far
    if row.verifier:
        judge_verifier(outcome, results)
    judge_restrictions(outcome, results)
    granted = {p for p, how in outcome.features.items() if how == "granted"}
    for p in sorted(set(row.plans) - granted):
        bad.append(f"plan {p} is refused: {outcome.features.get(p, 'wirespan features does not name it')}")
    for p in sorted(granted - set(row.plans)):
        bad.append(f"plan {p} is granted; the table does not have it")
    if (results / "junit.xml").exists():
        try:
            outcome.plans, outcome.refusals = read_junit(results / "junit.xml")
        except xml.etree.ElementTree.ParseError as e:  # the disk was full, or the guest ended meanwhile
            bad.append(f"junit.xml: {e}")
        for p in plans:
            if not any(outcome.plans.get(p, [0, 0, 0])[:2]):
                bad.append(f"plan {p}: no test of it ran")
        if not sum(n[0] for n in outcome.plans.values()):
            bad.append("no test passed")
    if result is None:
        return
    bad += vm.aftermath(row.kernel, result)
    if not (results / "junit.xml").exists() or (result.code and not any(n[1] for n in outcome.plans.values())):
        bad.append(f"the tests ended with {result.code}")


def results_of(row, logs):
    return logs / re.sub(r"[^\w.=-]+", "-", row.name)


def run(row, plan, logs):
    print(f"== {row.name}: {row.kernel}{' ' + row.cmdline if row.cmdline else ''}", flush=True)
    outcome, results = Outcome(row), results_of(row, logs)
    plans = [p for p in row.plans if plan in (None, p)]
    began = time.monotonic()
    try:
        with claimed(results):
            attempt(outcome, plans, results)
    except OSError as e:
        outcome.failures.append(f"kernel {row.kernel}: {reason(e)}")
    outcome.took = time.monotonic() - began
    passed, failed, skipped = outcome.sums()
    for text in outcome.failures:
        print(f"== {row.name}: {text}")
    print(f"== {row.name}: {passed} passed, {failed} failed{f', {skipped} skipped' if skipped else ''}; booted in "
          f"{outcome.boot:.0f} s, {outcome.took:.0f} s in all", flush=True)
    return outcome


@contextlib.contextmanager
def claimed(results):
    """Two runs of a row in one tree would be judged by each other's results."""
    results.parent.mkdir(parents=True, exist_ok=True)
    with open(results.with_name(f".{results.name}.lock"), "w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as e:
            raise BlockingIOError(e.errno, "another run of this row is under way", str(results)) from e
        yield


def attempt(outcome, plans, results):
    result = None
    try:
        result = in_guest(outcome.row, plans, results)
        outcome.boot = result.boot
    except VmError as e:
        vm.complain(e)
        outcome.failures.append(str(e))
        with contextlib.suppress(OSError):  # it has been shown
            (results / "console").write_text(e.console)
    judge(outcome, result, results, plans)


def in_guest(row, plans, results):
    """The guest's Result; what it prints is shown and kept in `results`. Whatever goes wrong is a VmError."""
    options = guest.Options(cmdline=row.cmdline, sysctl=row.sysctl, cgroup=row.cgroup, calm=row.calm,
                            timeout=row.timeout, results=str(results))
    missing = [n for n in SELECTION_NEEDS if row.tests == SELECTION and not any(OUT.glob(n))]
    if missing:
        raise VmError(f"kernel {row.kernel}: not built: {', '.join(str(OUT / n) for n in missing)}: run it by make")
    env = {"WS_OUT": str(OUT), "WS_PLANS": ",".join(plans), "WS_VERIFIER": "1" if row.verifier else ""}
    try:
        shutil.rmtree(results, ignore_errors=True)
        results.mkdir(parents=True)
        with open(results / "output", "wb", buffering=0) as log:
            def sink(data):
                vm.to_fd(1)(data)
                log.write(data)
            sinks = {"out": sink, "err": sink}
            if row.arch == "arm64":
                return arm64.boot(results, plans, options, sinks)
            return vm.boot(row.kernel, f"set -- {quoted(row.tests)}\n{COMMAND}", options, sinks, env, cwd=str(guest.ROOT))
    except OSError as e:
        raise VmError(f"kernel {row.kernel}: {reason(e)}") from e


def cell(outcome, plan):
    passed, failed, _ = outcome.plans.get(plan, [0, 0, 0])
    if failed:
        return f"**{failed} failed**, {passed} passed"
    refused = outcome.refusals.get(plan, [])
    if refused:
        said = f"refused: {', '.join(sorted(set(refused)))}"
        return f"{passed - len(refused)} passed, {len(refused)} {said}" if passed > len(refused) else said
    if passed:
        return f"{passed} passed"
    how = outcome.features.get(plan)
    return "did not run" if how in (None, "granted") else "refused: " + how.split(":")[0]


def table(outcomes):
    print(f"\n| kernel, as booted | under | {' | '.join(ALL_PLANS)} | seconds |\n|{'---|' * (len(ALL_PLANS) + 3)}")
    for o in outcomes:
        under = o.row.name.removeprefix(o.row.kernel).strip() or "short selection"
        print(f"| {o.version} | {under} | {' | '.join(cell(o, p) for p in ALL_PLANS)} | {o.took:.0f} |")


def named(row, piece):
    """Is it one of those that --only's `piece` stands for? 6.1 is not 6.12; "6.1 lock" is 6.1 with lockdown."""
    version = re.match(r"\d+\.\d+(?=\s|$)", piece)
    if not version:
        return piece in row.name
    return row.name.split()[0] == version[0] and row.name.startswith(piece)


def verifier_table(outcomes):
    """Largest program by what the verifier walks of it; it gives up at WALK_LIMIT."""
    print(f"\n| verifier of | {' | '.join(ALL_PLANS)} |\n|{'---|' * (len(ALL_PLANS) + 1)}")
    for o in outcomes:
        cells = [f"{name} {walked:,}, margin {100 - 100 * walked / WALK_LIMIT:.1f} %" if walked else "none"
                 for walked, name in (o.verified.get(p, (0, "")) for p in ALL_PLANS)]
        print(f"| {o.version} | {' | '.join(cells)} |")
    for o in outcomes:
        print(f"\nevery program under {o.version}:\n{(results_of(o.row, OUT / 'vm') / 'verifier').read_text()}")


def one_row(a):
    guest.on_signals()
    row = next(r for r in ROWS if r.name == a.row)
    try:
        run(row, a.plan, OUT / "vm").save(a.outcome)
    except KeyboardInterrupt:
        return 130
    return 0


def outcomes_of(rows, a):
    jobs = a.jobs or (min(2, os.cpu_count()) if a.full else max(1, os.cpu_count() // 2))
    if jobs == 1 or len(rows) == 1:
        yield from (run(row, a.plan, OUT / "vm") for row in rows)
        return
    plan = ["--plan", a.plan] if a.plan else []
    rows = sorted(rows, key=lambda r: not r.verifier)  # the long ones first
    yield from side_by_side.run(rows, jobs, lambda r, file: [__file__, "--row", r.name, "--outcome", str(file), *plan],
                                Outcome.load)


def main():
    p = argparse.ArgumentParser(formatter_class=argparse.RawDescriptionHelpFormatter, description=__doc__)
    p.add_argument("--full", action="store_true")
    p.add_argument("--only", metavar="NAMES")
    p.add_argument("--plan", choices=ALL_PLANS, help="force only this one")
    p.add_argument("--jobs", type=int, metavar="N", help="guests at a time")
    p.add_argument("--list", action="store_true")
    p.add_argument("--row", help=argparse.SUPPRESS)  # one of side_by_side's
    p.add_argument("--outcome", type=pathlib.Path, help=argparse.SUPPRESS)
    a = p.parse_args()
    if a.row:
        return one_row(a)
    wanted = [w.strip() for w in a.only.split(",")] if a.only else None
    unknown = [w for w in wanted or [] if not any(named(r, w) for r in ROWS)]
    if unknown:
        print(f"matrix.py: no row is named {', '.join(map(repr, unknown))}; these are there:", file=sys.stderr)
    # the full matrix has the short rows' tests in longer ones
    rows = [r for r in ROWS if (any(named(r, w) for w in wanted) if wanted else r.short != a.full)]
    if a.list or unknown:
        print("\n".join(r.name for r in ROWS))
        return 2 if unknown else 0
    if not (OUT / "wirespan").exists():  # a guest builds nothing
        print(f"matrix.py: {OUT / 'wirespan'} is not built: run it by make", file=sys.stderr)
        return 2
    without = [r for r in rows if a.plan and a.plan not in r.plans]
    rows = [r for r in rows if r not in without]
    for r in without:
        print(f"== {r.name}: does not have plan {a.plan}: skipped")
    guest.on_signals()
    outcomes, interrupted, began = [], False, time.monotonic()
    try:
        for outcome in outcomes_of(rows, a):
            outcomes.append(outcome)
    except KeyboardInterrupt:
        interrupted = True
    done = [o.row for o in outcomes]
    outcomes.sort(key=lambda o: rows.index(o.row))
    if outcomes:
        table(outcomes)
    verified = [o for o in outcomes if o.verified]
    if verified:
        verifier_table(verified)
    not_run = [r.name for r in rows if r not in done]
    left_out = not_run + [r.name for r in ROWS if r not in rows and not (a.full and r.short)]
    if left_out:
        print("\nnot run: " + ", ".join(left_out))
    sums = [sum(n) for n in zip(*(o.sums() for o in outcomes))] or [0, 0, 0]
    if sums[2]:
        print(f"{sums[2]} skipped by probing (reasons above)")
    minutes, seconds = divmod(round(time.monotonic() - began), 60)
    print(f"wall time: {minutes} min {seconds} s")
    print(f"{sums[0]} passed, {sums[1] + len(not_run)} failed")
    return 130 if interrupted else int(sums[1] > 0 or not outcomes)


if __name__ == "__main__":
    sys.exit(main())
