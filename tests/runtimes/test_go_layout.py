# SPDX-License-Identifier: Apache-2.0
"""What runtime__inspect() says about real Go programs, against their debug information and `go tool nm`.

Versions: the one that is installed, and those in the module cache (`make go-toolchains`).
"""
import functools
import json
import os
import pathlib
import re
import subprocess
import sys
import time

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests"))
from rig import OUT, golang, net  # noqa: E402

INSPECT = OUT / "tests/tools/rtinspect"
SOURCE = ROOT / "tests/accuracy/services/go"
VERSIONS = ["", *golang.toolchains()]


@functools.cache
def nm(program):
    """{function: [start, end]} in the file, by Go's own tool."""
    out = golang.go("tool", "nm", "-size", "-sort", "address", str(program))
    rows = [line.split(None, 3) for line in out.splitlines()]
    return {r[3]: (int(r[0], 16), int(r[0], 16) + int(r[1])) for r in rows if len(r) == 4 and r[2] in "tT"}


def text_offset(program):
    """From an offset in the file to an address, in its code."""
    for line in subprocess.run(["readelf", "-lW", program], capture_output=True, text=True, check=True).stdout.splitlines():
        f = line.split()
        if f[:1] == ["LOAD"] and "E" in "".join(f[6:-1]):
            return int(f[2], 16) - int(f[1], 16)
    raise AssertionError("no code in it")


@functools.cache
def offsets(program):
    got = golang.go("run", str(ROOT / "tests/tools/go_offsets/main.go"), str(program))
    return {k: int(v) for k, v in re.findall(r"\.(\w+) = (\d+)", got)}


class Running:
    def __init__(self, program):
        self.port = net.free_port()
        self.p = subprocess.Popen([program], env={**os.environ, "PORT": str(self.port), "LEAF": "http://127.0.0.1:1"})
        net.wait_port(self.port, alive=lambda: self.p.poll() is None)

    def __enter__(self):
        return json.loads(subprocess.run([INSPECT, str(self.p.pid)], capture_output=True, text=True).stdout)

    def __exit__(self, *exc):
        self.p.kill()
        self.p.wait()


def sites(r, program, which="sites"):
    """[(hook, function, bytes into it)]"""
    delta, found = text_offset(program), []
    for s in r[which]:
        at = s["offset"] + delta
        found += [(s["hook"], name, at - start) for name, (start, end) in nm(program).items() if start <= at < end]
    return sorted(found)


@pytest.mark.parametrize("version", VERSIONS, ids=lambda v: v or "installed")
def test_layout(version):
    program = golang.Build(SOURCE, version=version).program()
    with Running(program) as r:
        assert r["why"] == "" and r["kind"] == 2, r
        assert r["version"].startswith(f"go{version}")
        assert {k: r[k] for k in ("m", "curg", "goid", "ctx", "vers", "input", "raw")} == offsets(program)
        at = sites(r, program)
        assert [(h, f) for h, f, _ in at] == [
            ("go_exit", "runtime.goexit0"), ("go_new", "runtime.newproc.func1"), ("go_round_trip", "net/http.(*persistConn).roundTrip"),
            ("go_serve", "net/http.serverHandler.ServeHTTP"), ("go_write", "net/http.persistConnWriter.Write")]
        assert r["tls_library"] == "Go's crypto/tls"
        at += sites(r, program, "tls_sites")
        assert [(h, f.removeprefix("crypto/tls.(*Conn).")) for h, f, _ in at[5:]] == [
            ("gotls_handshake", "clientHandshake"), ("gotls_handshake", "serverHandshake"), ("gotls_read", "Read"),
            ("gotls_write", "writeRecordLocked")]
        assert all(into for _, _, into in at), "a function's first instruction is a comparison, which is stepped through"


@pytest.mark.parametrize("variant", [v for v in golang.VARIANTS if v])
def test_variants(variant):
    """However it is linked, the same functions of the same source."""
    program = golang.Build(SOURCE, variant=variant).program()
    with Running(program) as r:
        assert r["why"] == "" and r["kind"] == 2, r
        assert sorted(s["hook"] for s in r["sites"]) == ["go_exit", "go_new", "go_round_trip", "go_serve", "go_write"]
        assert sorted(s["hook"] for s in r["tls_sites"]) == ["gotls_handshake"] * 2 + ["gotls_read", "gotls_write"]
        if variant != "static":  # stripped
            assert [f for _, f, _ in sites(r, program)] == [
                "runtime.goexit0", "runtime.newproc.func1", "net/http.(*persistConn).roundTrip", "net/http.serverHandler.ServeHTTP",
                "net/http.persistConnWriter.Write"]


def test_thread_local_offset():
    """C code with thread data of its own moves Go's."""
    program = golang.Build(ROOT / "tests/runtimes/go_tls", variant="cgo").program()
    with Running(program) as r:
        assert r["why"] == "" and r["kind"] == 2, r
        assert r["tls"] == -64


def test_unknown_version(tmp_path):
    """What says it is a version that is not in the table is named, and left alone."""
    program = golang.Build(SOURCE).program()
    data = bytearray(program.read_bytes())
    at = data.find(b"\xff Go buildinf:")
    mine = golang.go("env", "GOVERSION").encode()
    where = data.find(mine, at)
    assert 0 < where - at < 64
    data[where:where + len(mine)] = b"go1.99".ljust(len(mine), b".")
    copy = tmp_path / "copy"
    copy.write_bytes(data)
    copy.chmod(0o755)
    with Running(copy) as r:
        assert r["kind"] == 0 and r["sites"] == [] and "not known" in r["why"], r


def test_none_of_ours():
    with subprocess.Popen(["/bin/sleep", "60"]) as p:
        time.sleep(0.2)
        r = json.loads(subprocess.run([INSPECT, str(p.pid)], capture_output=True, text=True).stdout)
        p.kill()
    assert r["kind"] == 0 and r["why"] == "" and r["sites"] == []
