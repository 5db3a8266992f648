# SPDX-License-Identifier: Apache-2.0
"""Parents by what a runtime knows of its own work, on every plan and kernel: that uprobes are granted, and prove it.
(tests/accuracy has the servers and clients that there are, and their numbers.)"""
import collections
import pathlib
import re
import subprocess
import warnings

import pytest
from chain import assert_edges, whole

from rig import SLOW, WIRESPAN, golang, load, net, python, spans, tracer
from rig.spans import CLIENT, SERVER

SERVICES = pathlib.Path(__file__).resolve().parents[1] / "accuracy/services"
# Debian's interpreter, stripped; a program that a guest finds built. Each with the evidence that every leg has to have.
SERVED = [
    (["/usr/bin/python3", SERVICES / "streams.py"], {
        **dict.fromkeys(("n1a", "n1b", "n1c", "n1e"), "context"), "n1d": "executor"}),
    ([golang.Build(SERVICES / "go")], {
        "n1a": "goroutine", **dict.fromkeys(("n1b", "n1c", "n1d"), "goroutine-inherited")}),
]
REQUESTS, CONNECTIONS = 40, 8
# Work is done thirty times slower under emulation, and a fifth of a second is as long as ever.
LATE = "its goroutine outlived the request"


@pytest.fixture(autouse=True)
def uprobes():
    r = subprocess.run([WIRESPAN, "features"], capture_output=True, text=True)
    no = re.search(r"^uprobe .* (no: .*)$", r.stdout, re.M)
    if no:
        (pytest.fail if tracer.demanded() else pytest.skip)(f"uprobes: {no[1]}")


def test_proven_by_the_runtime(services, traced, tag):
    """One service each, under one tracer: a start of it is what a test costs under emulation."""
    leaf, started = net.free_port(), []
    services.start([python(), SERVICES / "leaf.py"], "leaf", port=leaf, env={"PORT": leaf})
    for argv, evidence in SERVED:
        port = net.free_port()
        argv = [str(a.program() if isinstance(a, golang.Build) else a) for a in argv]
        s = services.start(argv, "service", port=port, env={"PORT": port, "LEAF": f"http://127.0.0.1:{leaf}"})
        started.append((s.pid, port, f"{tag}{len(started)}", evidence))
    t = traced("--log-level", "debug")
    for pid, port, mark, _ in started:
        t.wait_log(f"pid {pid}: ")
        assert re.search(rf"pid {pid}: .*: contexts are followed", t.stderr()), t.stderr()
        load.run(f"127.0.0.1:{port}", REQUESTS, CONNECTIONS, f"/r/{mark}-%/n0")
    got = t.stop()
    for _, _, mark, evidence in started:
        kinds = [(kind, leg) for kind in (CLIENT, SERVER) for leg in ("n0", *evidence)]
        mine, n = whole(spans.tagged(got, mark), REQUESTS, kinds, t.final["counters"]["missed_probes"])
        assert spans.count(mine) == {kind: n for kind in kinds}
        late = [s for s in mine if s.attrs.get("wirespan.parent.missing") == LATE] if SLOW > 1 else []
        assert len(late) <= REQUESTS * len(evidence) / 100, late
        if late:
            warnings.warn(f"under emulation: {len(late)} calls without a parent: {LATE}", stacklevel=1)
        mine = [s for s in mine if s not in late and s.parent not in {x.id for x in late}]
        assert_edges(mine)
        by = collections.Counter((s.leg, s.attrs.get("wirespan.parent.evidence")) for s in mine
                                 if s.kind == CLIENT and s.leg in evidence)
        assert by + collections.Counter((s.leg, evidence[s.leg]) for s in late) == {
            (leg, what): n for leg, what in evidence.items()}
