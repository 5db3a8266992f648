# SPDX-License-Identifier: Apache-2.0
"""What vm.py and matrix.py make of a guest that does not do well. Nothing is booted: qemu is a script that says what it is told."""
import contextlib
import fcntl
import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import time

import pytest

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent)]
import accel  # noqa: E402
import guest  # noqa: E402
import kernel  # noqa: E402
import matrix  # noqa: E402
import side_by_side  # noqa: E402
import vm  # noqa: E402
from errors import NotBooted, VmError  # noqa: E402

from rig import OUT, golang  # noqa: E402

VERSION = "6.1.0-0-amd64"
QEMU = r"""#!/usr/bin/python3
import json, os, pathlib, re, socket, sys, time
args = " ".join(sys.argv)
ports = {name: socket.socket(fileno=int(fd)) for name, fd in re.findall(r"socket,id=(\w+),fd=(\d+)", args)}
share = re.search(r"id=results,path=([^,]+)", args)
boots, begun = pathlib.Path(os.environ["BOOTS"]), pathlib.Path(os.environ["BOOTS"] + ".begun")
with open(begun, "a") as f:
    f.write(f"{os.getpid()} {args}\n")
for name, text in json.loads(boots.read_text())[len(begun.read_text().splitlines()) - 1]:
    if name in ports:
        ports[name].sendall(text.encode())
    elif name == "hang":
        time.sleep(60)
    else:
        (pathlib.Path(share[1]) / name).write_text(text)
    time.sleep(0.1)
"""
FULL = "6.1 selection"
CGROUP_1 = ["cgroup", "2:cpu,cpuacct:/\n0::/\n"]
READY, END, HANG = ["control", "init\nready\n"], ["control", "exit 0\n"], ["hang", ""]


class Host:
    """A cache with one kernel that has everything built in, a program that is never run, and that qemu."""

    def __init__(self, directory):
        self.dir = directory
        kernel = directory / "cache/kernels" / VERSION
        for d in (kernel / "modules", kernel.parent / ".alias", directory / "out", directory / "bin"):
            d.mkdir(parents=True)
        (kernel / "vmlinux").write_bytes(b"")
        (kernel / "modules/modules.dep").write_text("")
        (kernel / "modules/modules.builtin").write_text(
            "".join(f"{m}.ko\n" for m in ("virtio_pci", "virtio_console", "9pnet_virtio", "9p", "overlay")))
        (kernel.parent / ".alias/6.1").write_text(VERSION)
        (kernel.parent / ".accel").write_text(f"{pathlib.Path('/proc/sys/kernel/random/boot_id').read_text().strip()} tcg")
        go = golang.Build(HERE.parent / "accuracy/services/go").path.relative_to(OUT)
        for built in ("wirespan", "tests/tools/verifier", go):
            (directory / "out" / built).parent.mkdir(parents=True, exist_ok=True)
            (directory / "out" / built).write_text("")
        (directory / "bin/qemu-system-x86_64").write_text(QEMU)
        (directory / "bin/qemu-system-x86_64").chmod(0o755)

    def env(self, boots):
        (self.dir / "boots").write_text(json.dumps(boots))
        return {"WS_CACHE": str(self.dir / "cache"), "WS_OUT": str(self.dir / "out"),
                "PATH": f"{self.dir}/bin:{os.environ['PATH']}", "BOOTS": str(self.dir / "boots")}

    def run(self, program, *args, boots=(), prefix=(), **kw):
        env = {**os.environ, **self.env(boots), **kw.pop("env", {})}
        r = subprocess.run([*prefix, HERE / program, *args], env=env, stdin=subprocess.DEVNULL, text=True, timeout=60,
                           **(kw or {"capture_output": True}))
        assert "Traceback" not in (r.stderr or "") + (r.stdout or ""), r.stderr
        return r

    def begun(self):
        """Every qemu that was started: its process and its arguments."""
        begun = self.dir / "boots.begun"
        lines = begun.read_text().splitlines() if begun.exists() else []
        return [(int(pid), args) for pid, _, args in (line.partition(" ") for line in lines)]

    def gone(self):
        return not [pid for pid, _ in self.begun() if pathlib.Path(f"/proc/{pid}").exists()]


@pytest.fixture
def host(tmp_path):
    return Host(tmp_path)


def full(directory):
    """Argument prefix: the command has a megabyte there."""
    directory.mkdir()
    return ["unshare", "--mount", "sh", "-c", f'mount -t tmpfs -o size=1m none {directory} || exit 99; exec "$@"', "sh"]


def test_disk_full(host, tmp_path):
    r = host.run("vm.py", "6.1", "true", prefix=full(tmp_path / "small"), env={"TMPDIR": str(tmp_path / "small")})
    assert r.returncode == 125
    assert r.stderr.startswith(f"vm: kernel {VERSION}: ") and r.stderr.count("\n") == 1, r.stderr
    assert "No space left on device" in r.stderr


def test_disk_full_and_the_next_row(host, tmp_path):
    r = host.run("matrix.py", "--only", "6.1 lockdown=confidentiality,6.1 cgroup", prefix=full(tmp_path / "small"),
                 env={"TMPDIR": str(tmp_path / "small")})
    assert r.returncode == 1
    for row in ("6.1 lockdown=confidentiality", "6.1 cgroup v1"):
        assert f"== {row}: kernel {VERSION}: " in r.stdout, r.stdout
    assert r.stdout.splitlines()[-1] == "0 passed, 2 failed"


def test_results_cannot_be_written(host):
    (host.dir / "out/vm").write_text("no directory")
    r = host.run("matrix.py", "--only", "6.1 lockdown=confidentiality,6.1 cgroup")
    assert r.returncode == 1 and r.stdout.splitlines()[-1] == "0 passed, 2 failed"
    assert "== 6.1 cgroup v1: kernel 6.1: " in r.stdout and "out/vm: File exists" in r.stdout, r.stdout


def test_output_that_takes_nothing(host):
    """The guest runs already: what its console said is shown."""
    boot = [["console", "a line of the console\n"], READY, ["out", "x"], END]
    with open("/dev/full", "w") as out:
        r = host.run("vm.py", "6.1", "true", boots=[boot], stdout=out, stderr=subprocess.PIPE)
    assert r.returncode == 125
    assert "a line of the console" in r.stderr
    assert r.stderr.splitlines()[-1] == f"vm: kernel {VERSION}: No space left on device", r.stderr


def test_junit_cut_short(host):
    boot = [READY, ["junit.xml", "<testsuite><testcase name='t[f"], END]
    r = host.run("matrix.py", "--only", "6.1 cgroup", boots=[boot])
    assert r.returncode == 1 and "== 6.1 cgroup v1: junit.xml: " in r.stdout, r.stdout


def features(**plans):
    return ["features", "".join(f"{plan} {how}\n" for plan, how in plans.items())]


def junit(*tests, what=""):
    """what: "failure" or "skipped", of all of them."""
    inner = f"<{what}/>" if what else ""
    return ["junit.xml", "<testsuite>" + "".join(f'<testcase name="{t}">{inner}</testcase>' for t in tests) + "</testsuite>"]


THREE = {"fentry": "granted", "kprobe": "granted", "syscall": "granted"}
PASSED = junit("t[fentry]", "t[kprobe]", "t[syscall]")


@pytest.mark.parametrize("boot,passed,why", [
    ([READY, features(**THREE), PASSED, END], 3, ""),
    ([READY, features(**{**THREE, "kprobe": "refused: kprobe: Operation not permitted"}), PASSED, END], 3,
     "plan kprobe is refused: kprobe: Operation not permitted"),
    ([READY, features(fentry="granted", syscall="granted"), PASSED, END], 3, "plan kprobe is refused: "),
    ([READY, features(**THREE, socket="granted"), PASSED, END], 3, "plan socket is granted; the table does not have it"),
    ([READY, features(**THREE), junit("t[fentry]", "t[kprobe]", "u"), END], 3, "plan syscall: no test of it ran"),
    ([READY, features(**THREE), PASSED, ["control", "exit 3\n"]], 3, "the tests ended with 3"),
    ([READY, features(**THREE), END], 0, "the tests ended with 0"),
    ([READY, features(**THREE), PASSED, ["console", "[ 9.1] WARNING: CPU: 0\n"], END], 3, "kernel says: WARNING: CPU: 0"),
    ([READY, ["console", "[ 9.1] watchdog: BUG: soft lockup\n"], features(**THREE), PASSED, END], 3, ""),
    ([["control", "init\nfailed the loopback interface\n"]], 0, "cannot start: the loopback interface"),
], ids=["nothing", "refused", "unknown", "unlisted", "not-run", "exit-code", "no-results", "warning", "slow-host", "no-network"])
def test_what_fails_a_row(host, boot, passed, why):
    """One thing each; the row behind it goes on."""
    after = [READY, features(**THREE), CGROUP_1, PASSED, END]
    r = host.run("matrix.py", "--only", "6.1 perf_event_paranoid=3,6.1 cgroup", boots=[after, boot])
    assert r.returncode == int(bool(why)), r.stdout
    assert r.stdout.splitlines()[-1] == f"{3 + passed} passed, {int(bool(why))} failed", r.stdout
    assert not why or "== 6.1 perf_event_paranoid=3: " in r.stdout and why in r.stdout, r.stdout


def test_tests_that_fail_and_that_are_skipped(host):
    granted = features(**THREE)
    row = ["matrix.py", "--only", "6.1 perf_event_paranoid=3"]
    names = ("t[fentry]", "t[kprobe]", "t[syscall]")
    r = host.run(*row, boots=[[READY, granted, junit(*names, what="failure"), ["control", "exit 1\n"]]])
    assert r.returncode == 1 and r.stdout.splitlines()[-1] == "0 passed, 4 failed", r.stdout
    assert r.stdout.count("**1 failed**, 0 passed") == 3 and "no test passed" in r.stdout
    (host.dir / "boots.begun").unlink()
    r = host.run(*row, boots=[[READY, granted, junit(*names, what="skipped"), END]])
    assert r.returncode == 1 and r.stdout.splitlines()[-1] == "0 passed, 4 failed", r.stdout
    assert "3 skipped" in r.stdout and r.stdout.count("no test of it ran") == 3 and "no test passed" in r.stdout


def test_plan_that_a_row_does_not_have(host):
    boot = [READY, features(fentry="granted", kprobe="granted", syscall="granted", socket="refused: x"), CGROUP_1,
            junit("t[kprobe]"), END]
    r = host.run("matrix.py", "--only", "6.1 cgroup", "--plan", "socket", boots=[boot])
    assert r.returncode == 1 and not host.begun()
    assert "== 6.1 cgroup v1: does not have plan socket: skipped" in r.stdout
    assert r.stdout.splitlines()[-1] == "0 passed, 0 failed"
    r = host.run("matrix.py", "--only", "6.1 cgroup,6.1 lockdown=c", "--plan", "kprobe", boots=[boot])
    assert r.returncode == 0 and r.stdout.splitlines()[-1] == "1 passed, 0 failed", r.stdout
    assert "== 6.1 lockdown=confidentiality: does not have plan kprobe: skipped" in r.stdout


def test_panic(host):
    """Fails its row, with what had passed before and the console; nothing is tried again."""
    panic = [READY, features(fentry="granted", kprobe="granted", syscall="granted"), CGROUP_1, junit("t[fentry]"),
             ["console", "[ 1.0] Kernel panic - not syncing: int3\n"]]
    r = host.run("matrix.py", "--only", "6.1 cgroup", boots=[panic])
    assert r.returncode == 1 and "panic: int3" in r.stdout and "| 1 passed | did not run |" in r.stdout, r.stdout
    assert "not syncing: int3" in (host.dir / "out/vm/6.1-cgroup-v1/console").read_text()
    assert len(host.begun()) == 1 and "tcg,thread=single" in host.begun()[0][1]


def test_only(host):
    """A version is a whole word; whatever is no row's name is a mistake, and not nothing to do."""
    def begun(only):
        r = host.run("matrix.py", "--only", only)
        return r, re.findall(r"^== (.*): \d+ passed", r.stdout, re.M)

    names = host.run("matrix.py", "--list").stdout.splitlines()
    assert not [n for n in names if "," in n], "could not be asked for"
    assert begun("6.1")[1] == [n for n in names if n.startswith("6.1 ")]
    assert begun("6.1 lock")[1] == ["6.1 lockdown=integrity", "6.1 lockdown=confidentiality"]
    assert begun("6.1 512,6.1 cgroup")[1] == ["6.1 cgroup v1", "6.1 512 connections"]
    r, rows = begun("6.1 cgroup,nothing")
    assert r.returncode == 2 and not rows and "no row is named 'nothing'" in r.stderr


@pytest.mark.parametrize("outcome,known", [("runs", "kvm"), ("hangs", "tcg"), ("not installed", None)])
def test_kvm_is_asked_once(host, monkeypatch, outcome, known):
    """What is remembered for as long as the host is up is what was seen of KVM, and nothing else."""
    def run(*_):
        if outcome == "hangs":
            raise NotBooted("did not boot")
        if outcome != "runs":
            raise VmError("qemu-system-x86_64 is not installed")
        r = guest.Result()
        r.code = 0
        return r

    k = kernel.Kernel(host.dir / "cache/kernels" / VERSION)
    (k.dir.parent / ".accel").unlink()
    monkeypatch.setattr(accel.os, "access", lambda *_: True)
    monkeypatch.setattr(guest.Guest, "run", run)
    assert accel.choose(k) == (known or "tcg")
    assert (k.dir.parent / ".accel").exists() == bool(known)


def test_verifier(host):
    """Of each plan the program that takes most; a plan without one is a failure, and so is a verifier that did not run."""
    said = ("PLAN PROGRAM INSNS WALKED MARGIN\nfentry small 10 12 100.0 %\nfentry large 20 250000 75.0 %\n"
            "kprobe one 9 9 100.0 %\nsyscall  REFUSED: Argument list too long\n")
    granted = features(fentry="granted", kprobe="granted", syscall="granted")
    boot = [READY, granted, ["verifier", said], junit("t[fentry]", "t[kprobe]", "t[syscall]"), END]
    r = host.run("matrix.py", "--only", FULL, boots=[boot])
    assert r.returncode == 1 and r.stdout.splitlines()[-1] == "3 passed, 1 failed", r.stdout
    assert "verifier, plan syscall: REFUSED: Argument list too long" in r.stdout
    assert "| large 250,000, margin 75.0 % | one 9, margin 100.0 % | none | none |" in r.stdout
    assert "\nfentry small 10 12 100.0 %\nfentry large 20 250000 75.0 %\n" in r.stdout  # every program
    assert re.search(r"^wall time: 0 min \d+ s$", r.stdout, re.M)
    (host.dir / "boots.begun").unlink()
    r = host.run("matrix.py", "--only", FULL, boots=[[*boot[:2], *boot[3:]]])
    assert r.returncode == 1 and r.stdout.splitlines()[-1] == "3 passed, 3 failed", r.stdout


def test_refusals_that_a_test_wants_are_no_support(host):
    """A test that passes because a plan is refused there: the table says so, the sum counts the test."""
    case = '<testcase name="t[{}]"><properties><property name="refused" value="kprobe"/></properties></testcase>'
    tests = ["junit.xml", "<testsuite>" + case.format("kprobe-a") + case.format("kprobe-b") + case.format("syscall-a")
             + '<testcase name="t[syscall-b]"/><testcase name="t[fentry]"/></testsuite>']
    r = host.run("matrix.py", "--only", "6.1 perf_event_paranoid=3", boots=[[READY, features(**THREE), tests, END]])
    assert r.returncode == 0 and r.stdout.splitlines()[-1] == "5 passed, 0 failed", r.stdout
    assert "| 1 passed | refused: kprobe | did not run | 1 passed, 1 refused: kprobe |" in r.stdout


@pytest.mark.parametrize("row,plans,said,why", [
    ("6.1 lockdown=integrity", {"fentry": "granted", "kprobe": "granted", "syscall": "granted"},
     ["lockdown", "[none] integrity confidentiality\n"], "not under lockdown=integrity"),
    ("6.1 lockdown=integrity", {"fentry": "granted", "kprobe": "granted", "syscall": "granted"},
     ["lockdown", "none [integrity] confidentiality\n"], ""),
    ("6.1 cgroup v1", {"fentry": "granted", "kprobe": "granted", "syscall": "granted"},
     ["cgroup", "1:name=systemd:/\n0::/\n"], "cgroup v1 was asked for"),
    ("6.1 cgroup v1", {"fentry": "granted", "kprobe": "granted", "syscall": "granted"},
     CGROUP_1, ""),
    ("6.1 perf_event_paranoid=3", {"fentry": "granted", "kprobe": "granted", "syscall": "granted"},
     ["cgroup", "2:cpu:/\n0::/\n"], "cgroup v2 was asked for"),
])
def test_guest_is_not_what_the_row_says(host, row, plans, said, why):
    tests = junit(*(f"t[{p}]" for p in plans))
    r = host.run("matrix.py", "--only", row, boots=[[READY, features(**plans), said, tests, END]])
    assert r.stdout.splitlines()[-1] == f"3 passed, {int(bool(why))} failed", r.stdout
    assert why in r.stdout


def test_something_is_not_built(host):
    """The row that needs it fails, the next goes on."""
    (host.dir / "out/tests/tools/verifier").unlink()
    granted = features(fentry="granted", kprobe="granted", syscall="granted")
    lockdown = ["lockdown", "none [integrity] confidentiality\n"]
    r = host.run("matrix.py", "--only", f"{FULL},6.1 lockdown=integrity",
                 boots=[[READY, granted, lockdown, junit("t[fentry]", "t[kprobe]", "t[syscall]"), END]])
    assert r.returncode == 1 and r.stdout.splitlines()[-1] == "3 passed, 1 failed", r.stdout
    assert "kernel 6.1: not built: " in r.stdout + r.stderr and "tests/tools/verifier" in r.stdout + r.stderr


def test_processes_are_left(host):
    boot = [READY, features(fentry="granted", kprobe="granted", syscall="granted"),
            ["lockdown", "none [integrity] confidentiality\n"], junit("t[fentry]", "t[kprobe]", "t[syscall]"),
            ["control", "left 123 sleep 1000\nexit 0\n"]]
    r = host.run("matrix.py", "--only", "6.1 lockdown=integrity", boots=[boot])
    assert r.returncode == 1 and r.stdout.splitlines()[-1] == "3 passed, 1 failed", r.stdout
    assert "== 6.1 lockdown=integrity: left running: 123 sleep 1000" in r.stdout
    (host.dir / "boots.begun").unlink()
    boot = [["console", "a line of the console\n"], READY, ["control", "left 123 sleep 1000\nexit 7\n"]]
    r = host.run("vm.py", "--quiet", "6.1", "true", boots=[boot])
    assert r.returncode == 7 and "a line of the console" in r.stderr
    assert r.stderr.splitlines()[-1] == "vm: kernel 6.1: left running: 123 sleep 1000", r.stderr


def test_shares(host, tmp_path):
    """The host's files cannot be written by a guest; below --results they can."""
    r = host.run("vm.py", "--results", tmp_path / "r", "6.1", "exit 7", boots=[[READY, ["control", "exit 7\n"]]])
    assert r.returncode == 7 and "exit code 7" in r.stderr
    ((_, args),) = host.begun()
    assert "local,id=host,path=/,security_model=none,multidevs=remap,readonly=on" in args
    assert f"local,id=results,path={tmp_path}/r,security_model=none,multidevs=remap,readonly=off" in args


def test_command_that_does_not_end(host):
    boot = [["console", "a line of the console\n"], READY, HANG]
    r = host.run("vm.py", "--timeout", "1", "6.1", "true", boots=[boot])
    assert r.returncode == 125 and "a line of the console" in r.stderr
    assert r.stderr.splitlines()[-1] == f"vm: kernel {VERSION}: the command did not end in 1.0 s: killed", r.stderr
    assert host.gone() and len(host.begun()) == 1


def test_guest_that_falls_silent(host, monkeypatch):
    """It says that it is alive every few seconds, whatever its command does."""
    for name, value in host.env([[READY, HANG]]).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(guest, "SILENCE", 1)
    k = kernel.Kernel(host.dir / "cache/kernels" / VERSION)
    with pytest.raises(VmError, match=f"kernel {VERSION}: hung: no sign of life in 1 s"):
        guest.Guest(k, guest.Options(), "tcg").run("true", {}, "/", {})
    assert host.gone()


@pytest.mark.parametrize("second", [[READY, END], [HANG]], ids=["boots-then", "never-boots"])
def test_guest_that_does_not_boot(host, monkeypatch, capfd, second):
    """One more try; the first one is said, and the console of the second is shown."""
    for name, value in host.env([[["console", "one\n"], HANG], [["console", "two\n"], *second]]).items():
        monkeypatch.setenv(name, value)
    k, options = kernel.Kernel(host.dir / "cache/kernels" / VERSION), guest.Options(boot_timeout=1)
    if second == [HANG]:
        with pytest.raises(NotBooted, match="did not boot in 1 s") as e:
            vm.run(k, "tcg", "true", options, {}, {})
        assert e.value.console == "two"
    else:
        assert vm.run(k, "tcg", "true", options, {}, {}).code == 0
    assert f"vm: kernel {VERSION}: did not boot in 1 s; once more\n" in capfd.readouterr().err
    assert host.gone() and len(host.begun()) == 2


@pytest.mark.parametrize("sig", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("program", [["vm.py", "6.1", "true"], ["matrix.py", "--only", "6.1 cgroup,6.1 512"]],
                         ids=lambda p: p[0])
def test_interrupted(host, tmp_path, program, sig):
    """The guest ends with it, nothing is left in the way, and what did not run is named."""
    (tmp_path / "tmp").mkdir()
    p = subprocess.Popen([HERE / program[0], *program[1:]], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                         env={**os.environ, **host.env([[READY, HANG]]), "TMPDIR": str(tmp_path / "tmp")},
                         # what runs in a shell's background has ^C ignored, and so has what it starts
                         preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL))
    end = time.monotonic() + 30
    while not host.begun():
        assert p.poll() is None and time.monotonic() < end
        time.sleep(0.05)
    p.send_signal(sig)
    out, err = p.communicate(timeout=20)
    assert p.returncode == 130, out + err
    assert host.gone() and not list((tmp_path / "tmp").iterdir())
    if program[0] == "matrix.py":
        assert "not run: 6.1 cgroup v1, 6.1 512 connections" in out and out.splitlines()[-1] == "0 passed, 2 failed", out
    else:
        assert err.splitlines()[-1] == "vm: interrupted", err


def test_row_is_under_way(host):
    """Another run of it in this tree, whose results would be taken for one's own."""
    (host.dir / "out/vm").mkdir()
    with open(host.dir / "out/vm/.6.1-cgroup-v1.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        r = host.run("matrix.py", "--only", "6.1 cgroup")
    assert r.returncode == 1 and not host.begun()
    assert "== 6.1 cgroup v1: kernel 6.1: " in r.stdout and "another run of this row is under way" in r.stdout, r.stdout


@pytest.mark.parametrize("args", [["--sysctl", "kernel.x"], ["--env", "=1"]])
def test_wrong_use(host, args):
    r = host.run("vm.py", *args, "6.1", "true")
    assert r.returncode == 2 and "is not NAME=VALUE" in r.stderr and not host.begun()


@pytest.mark.parametrize("demanded", ["fentry", ""])
def test_start_that_is_refused(host, demanded):
    """wirespan says that it cannot run here: a skip on somebody's machine, a failure where plans are demanded of it."""
    (host.dir / "out/wirespan").write_text("#!/bin/sh\necho wirespan: cannot >&2\nexit 3\n")
    (host.dir / "out/wirespan").chmod(0o755)
    r = subprocess.run([sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", HERE.parent / "e2e/test_running.py", "-k",
                        "test_duration"], env={**os.environ, **host.env([]), "WS_PLANS": demanded}, capture_output=True, text=True)
    assert r.returncode == int(bool(demanded)), r.stdout
    assert ("Failed: auto: wirespan: cannot" if demanded else "auto: wirespan: cannot") in r.stdout, r.stdout
    assert ("1 failed" if demanded else "1 skipped") in r.stdout.splitlines()[-1]


def test_package_cannot_be_had(host):
    """A kernel that no suite has: an error that names it, and the next row goes on."""
    (host.dir / "cache/kernels/.alias/6.1").unlink()
    apt = host.dir / "bin/apt-get"
    apt.write_text("#!/bin/sh\necho 'E: Unable to locate package' >&2\nexit 100\n")
    apt.chmod(0o755)
    r = host.run("matrix.py", "--only", "6.1 lockdown=integrity,6.1 cgroup v1")
    assert r.returncode == 1 and r.stdout.splitlines()[-1] == "0 passed, 2 failed", r.stdout + r.stderr
    assert "kernel 6.1" in r.stdout + r.stderr


def test_rows_side_by_side(tmp_path, capfd):
    """Two at a time; what each says comes in one piece; one that dies is a failure of its row, not of the others."""
    rows = [matrix.Row(name, "6.1", (), []) for name in ("good", "dies", "late")]
    there = tmp_path / "there"

    def argv(row, file):
        code = {"good": f"import time, pathlib\nprint('good a', flush=True)\n"
                        f"while not pathlib.Path({str(there)!r}).exists(): time.sleep(0.05)\nprint('good b')\n"
                        f"pathlib.Path({str(file)!r}).write_text('{{\"plans\": {{\"\": [2, 0, 0]}}}}')",
                "dies": "import os; os.abort()",
                "late": f"import pathlib; pathlib.Path({str(there)!r}).touch(); print('late'); raise SystemExit(1)"}[row.name]
        return ["-c", code]

    got = {o.row.name: o for o in side_by_side.run(rows, 2, argv, matrix.Outcome.load)}
    assert got["good"].sums() == (2, 0, 0)
    assert got["dies"].sums() == got["late"].sums() == (0, 1, 0)
    assert "good a\ngood b\n" in capfd.readouterr().out


def test_rows_side_by_side_are_ended(tmp_path):
    rows = [matrix.Row("sleeps", "6.1", (), []), matrix.Row("ends", "6.1", (), [])]
    pid = tmp_path / "pid"

    def argv(row, _):
        return ["-c", f"import os, pathlib, time; pathlib.Path({str(pid)!r}).write_text(str(os.getpid())); time.sleep(60)"
                if row.name == "sleeps" else
                f"import pathlib, time\nwhile not pathlib.Path({str(pid)!r}).exists(): time.sleep(0.05)"]

    with contextlib.closing(side_by_side.run(rows, 2, argv, matrix.Outcome.load)) as outcomes:
        assert next(outcomes).row.name == "ends"
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid.read_text()), 0)


def test_outcome_is_saved_whole(tmp_path):
    row = matrix.ROWS[0]
    o = matrix.Outcome(row)
    assert set(vars(o)) == {"row", *matrix.Outcome.SAVED}
    o.plans, o.verified, o.took = {"fentry": [1, 2, 3]}, {"fentry": (7, "p")}, 1.5
    o.save(tmp_path / "o")
    again = matrix.Outcome.load(row, json.loads((tmp_path / "o").read_text()))
    assert again.sums() == o.sums() and again.verified["fentry"][0] == 7 and again.took == 1.5


def test_readme_shows_every_row():
    """The support table there is what the matrix prints: a row that is added shows up in it, and none of them failed."""
    text = (HERE.parents[1] / "README.md").read_text()
    shown = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines()
             if re.match(r"\| \d+\.\d+\.\S+ \(", line) and line.count("|") == 8]
    newest = max((r[0] for r in shown), key=lambda name: [int(n) for n in re.findall(r"\d+", name)[:2]])
    for row in matrix.ROWS:
        under = row.name.removeprefix(row.kernel).strip() or "short selection"
        begins = newest if row.kernel == "newest" else f"{row.kernel}."
        of = [r for r in shown if r[1] == under and r[0].startswith(begins)]
        assert of, f"README has no row for {row.name}"
        for r in of:
            for plan, cell in zip(matrix.ALL_PLANS, r[2:6], strict=True):
                assert "failed" not in cell and (plan not in row.plans or "passed" in cell or "CAP_SYS_ADMIN" in under), r
    assert re.search(r"wall time: \d+ min", text), "README does not say how long that takes"


@pytest.mark.parametrize("row", [r for r in matrix.ROWS if "-k" in r.tests], ids=lambda r: r.name)
def test_what_a_row_names_is_there(row):
    """A test that has another name now is missed, and not just run no more."""
    files = [guest.ROOT / a for a in row.tests if a.endswith(".py")]
    there = [f.stem for f in files] + [n for f in files for n in re.findall(r"^def (test_\w+)", f.read_text(), re.M)]
    for name in re.findall(r"\btest_\w+", row.tests[-1]):
        assert any(name in t for t in there), f"{name} is in none of {[f.name for f in files]}"
