# SPDX-License-Identifier: Apache-2.0
"""A little of everything under one start of the tracer: what a machine can afford on which a start takes
half a minute, such as an emulated one with another kernel. Each thing has a test of its own elsewhere."""
import itertools
import secrets

from chain import assert_edges, assert_exact
from test_syscalls import READS, WRITES, exchange

from rig import load, net, spans
from rig.spans import CLIENT, SERVER


def test_smoke(services, traced, tag, tmp_path):
    port = net.free_port()
    services.nginx(f"server {{ listen 127.0.0.1:{port}; location / {{ return 200 ok; }} }}", port=port)
    old = [load.Raw(("127.0.0.1", port)) for _ in range(2)]
    assert old[0].get("/before")[0] == 200
    t = traced("--opt-in-attributes")
    turn = itertools.count()

    def ten(where, read, write, **kw):
        exchange(services, where, read, write, 10, f"/r/{tag}-c{next(turn)}x%/n0", **kw)

    # a listener and connections from before, used and fresh; many connections at once
    for i, c in enumerate(old):
        assert c.get(f"/r/{tag}-a{i}/n0")[0] == 200
        c.close()
    load.run(f"127.0.0.1:{port}", 320, 64, f"/r/{tag}-b%/n0")
    # every call over TCP, some over AF_UNIX
    for read, write in zip(READS, WRITES):
        ten(f"127.0.0.1:{net.free_port()}", read, write)
    for i in (0, 4):
        ten(f"unix:{tmp_path}/s{i}", READS[i], WRITES[i])
    # a body that a kernel buffer carries, and a header in one of many segments
    ten(f"127.0.0.1:{net.free_port()}", "read", "sendfile", body=70_001)
    trace, parent = secrets.token_hex(16), secrets.token_hex(8)
    ten(f"127.0.0.1:{net.free_port()}", "read", "writev", traceparent=f"00-{trace}-{parent}-01")

    got = t.stop()
    mine = assert_exact(got, tag, 2 + 320 + 10 * (len(READS) + 4), ["n0"], missed=t.final["counters"]["missed_probes"])
    given = [s for s in mine if s.trace == trace]
    assert spans.count(given) == {(SERVER, "n0"): 10, (CLIENT, "n0"): 10}
    assert {s.parent for s in given if s.kind == CLIENT} == {parent}
    assert_edges([s for s in mine if s.trace != trace])
    by = {s.id: s for s in given}
    assert all(by[s.parent].rid == s.rid for s in given if s.kind == SERVER)
    with_body = [s for s in mine if s.attrs.get("http.request.body.size")]
    assert spans.count(with_body) == {(SERVER, "n0"): 10, (CLIENT, "n0"): 10}
    assert {s.attrs[f"http.{what}.body.size"] for s in with_body for what in ("request", "response")} == {70_001}
