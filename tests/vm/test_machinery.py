# SPDX-License-Identifier: Apache-2.0
"""What vm.py and matrix.py make of a guest that does not do well. Nothing is booted: qemu is a script that says what it is told."""
import json
import os
import pathlib
import re
import subprocess
import sys

import pytest

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent)]
import accel  # noqa: E402
import guest  # noqa: E402
import kernel  # noqa: E402
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
    f.write(args + "\n")
for name, text in json.loads(boots.read_text())[len(begun.read_text().splitlines()) - 1]:
    if name in ports:
        ports[name].sendall(text.encode())
    else:
        (pathlib.Path(share[1]) / name).write_text(text)
    time.sleep(0.1)
"""
FULL = "6.1 selection"
CGROUP_1 = ["cgroup", "2:cpu,cpuacct:/\n0::/\n"]
READY, END = ["control", "init\nready\n"], ["control", "exit 0\n"]


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

    def run(self, program, *args, boots=(), prefix=(), **kw):
        (self.dir / "boots").write_text(json.dumps(boots))
        env = {**os.environ, "WS_CACHE": str(self.dir / "cache"), "WS_OUT": str(self.dir / "out"),
               "PATH": f"{self.dir}/bin:{os.environ['PATH']}", "BOOTS": str(self.dir / "boots"), **kw.pop("env", {})}
        r = subprocess.run([*prefix, HERE / program, *args], env=env, stdin=subprocess.DEVNULL, text=True, timeout=60,
                           **(kw or {"capture_output": True}))
        assert "Traceback" not in (r.stderr or "") + (r.stdout or ""), r.stderr
        return r


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
    assert "== 6.1 cgroup v1: kernel 6.1: " in r.stdout and "Not a directory" in r.stdout, r.stdout


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


def junit(*tests):
    return ["junit.xml", "<testsuite>" + "".join(f'<testcase name="{t}"/>' for t in tests) + "</testsuite>"]


def test_plan_that_a_row_does_not_have(host):
    boot = [READY, features(fentry="granted", kprobe="granted", syscall="granted", socket="refused: x"), CGROUP_1,
            junit("t[kprobe]"), END]
    r = host.run("matrix.py", "--only", "6.1 cgroup", "--plan", "socket", boots=[boot])
    assert r.returncode == 1 and not (host.dir / "boots.begun").exists()
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
    begun = (host.dir / "boots.begun").read_text().splitlines()
    assert len(begun) == 1 and "tcg,thread=single" in begun[0]


def test_only(host):
    """A version is a whole word; whatever is no row's name is a mistake, and not nothing to do."""
    def begun(only):
        r = host.run("matrix.py", "--only", only)
        return r, re.findall(r"^== (.*): \d+ passed", r.stdout, re.M)

    names = host.run("matrix.py", "--list").stdout.splitlines()
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
    assert "left running: 123 sleep 1000" in r.stdout


def test_package_cannot_be_had(host):
    """A kernel that no suite has: an error that names it, and the next row goes on."""
    (host.dir / "cache/kernels/.alias/6.1").unlink()
    apt = host.dir / "bin/apt-get"
    apt.write_text("#!/bin/sh\necho 'E: Unable to locate package' >&2\nexit 100\n")
    apt.chmod(0o755)
    r = host.run("matrix.py", "--only", "6.1 lockdown=integrity,6.1 cgroup v1")
    assert r.returncode == 1 and r.stdout.splitlines()[-1] == "0 passed, 2 failed", r.stdout + r.stderr
    assert "kernel 6.1" in r.stdout + r.stderr
