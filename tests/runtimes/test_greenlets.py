# SPDX-License-Identifier: Apache-2.0
"""Where greenlets change in the middle of functions no return probe is planted: the kernel would kill the process."""
import json
import pathlib
import subprocess
import sys
import time

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests"))
from rig import OUT, load, net, python, tracer  # noqa: E402
from rig.proc import Services  # noqa: E402
from rig.spans import SERVER  # noqa: E402


@pytest.fixture
def service(tmp_path):
    port, services = net.free_port(), Services(tmp_path)
    try:
        yield port, services.start([python(), ROOT / "tests/e2e/services/greenlet_gc.py", port], "greenlet_gc", port=port)
    finally:
        services.stop()


def inspect(pid):
    return json.loads(subprocess.run([OUT / "tests/tools/rtinspect", str(pid)], capture_output=True, text=True).stdout)


def test_no_return_probes(service):
    seen = inspect(service[1].pid)
    assert seen["kind"] == 1 and seen["greenlet"] == 1, seen
    assert {s["hook"]: s["ret"] for s in seen["sites"]} == {"greenlet_end": 0, "greenlet_put": 0, "greenlet_get": 0}


@pytest.mark.parametrize("body", ["import greenlet", "import asyncio, _asyncio, greenlet"])
def test_asyncio_beside_greenlets(body):
    """SQLAlchemy's do not block in finalizers: contexts are followed. Without asyncio it may be eventlet."""
    with subprocess.Popen([python(), "-c", f"{body}; print(1, flush=True); input()"], stdin=subprocess.PIPE,
                          stdout=subprocess.PIPE, text=True) as p:
        p.stdout.readline()
        seen = inspect(p.pid)
        p.communicate("\n")
    hooks = {s["hook"] for s in seen["sites"]}
    assert "greenlet_end" in hooks and ("context_copy" in hooks) == ("asyncio" in body), hooks


@pytest.mark.timeout(120)
def test_survives(service, tmp_path):
    """Killed within some seconds, if context copies had return probes."""
    port, n, until = service[0], 0, time.monotonic() + 12
    before = switches(port)
    t = tracer.Tracer("--port", str(port), directory=tmp_path / "tracer")
    try:
        while time.monotonic() < until:
            after = switches(port)
            n += 1
            time.sleep(0.1)
    finally:
        got = t.stop()
    assert after > before + 1000, (before, after)
    assert len([s for s in got if s.kind == SERVER]) == n


def switches(port):
    with load.Raw(("127.0.0.1", port)) as c:
        status, answer = c.get("/switched")[:2]
    assert status == 200
    return int(answer.partition(b"\r\n\r\n")[2])
