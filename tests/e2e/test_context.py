# SPDX-License-Identifier: Apache-2.0
"""Context that travels in headers: traceparent, tracestate, b3; received, forwarded, written by an SDK."""
import secrets

from chain import assert_edges, assert_exact, case, flask_chain

from rig import load, net, spans
from rig.spans import CLIENT, SERVER

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"  # the example of the specification


def ids():
    return secrets.token_hex(16), secrets.token_hex(8)


RECEIVED = {
    "traceparent": lambda t, s: [f"traceparent: 00-{t}-{s}-01"],
    "any case": lambda t, s: [f"TraceParent:   00-{t}-{s}-01\t", "tracestate: a=1,b=2"],
    "at 6400 bytes": lambda t, s: [f"X-Long-{i}: {'x' * 400}" for i in range(16)] + [f"traceparent: 00-{t}-{s}-01"],
    "b3": lambda t, s: [f"b3: {t}-{s}-1"],
    "b3 multi": lambda t, s: [f"X-B3-TraceId: {t}", f"X-B3-SpanId: {s}", "X-B3-Sampled: 1"],
    "traceparent before b3": lambda t, s: [f"traceparent: 00-{t}-{s}-01", f"b3: {'1' * 32}-{'2' * 16}-1"],
}


def test_received(services, traced, tag):
    """The sender wrote the header itself, as an SDK does: its client span is a child of that, too."""
    port = flask_chain(services, 1)
    t = traced()
    sent = {name: ids() for name in RECEIVED}
    for i, (name, header) in enumerate(RECEIVED.items()):
        with case(name), load.Raw(("127.0.0.1", port)) as c:
            assert c.get(f"/r/{tag}-{i}/n0", headers=header(*sent[name]))[0] == 200
    got = t.stop()
    for i, (name, (trace, parent)) in enumerate(sent.items()):
        with case(name):
            mine = assert_exact(got, f"{tag}-{i}", 1, ["n0"])
            client, server = sorted(mine, key=lambda s: s.kind != CLIENT)
            assert {s.trace for s in mine} == {trace}
            assert client.parent == parent
            assert server.parent == client.id
            state = "a=1,b=2" if name == "any case" else None
            assert [s.raw.get("traceState") or None for s in mine] == [state, state]


INVALID = {
    "zero trace": f"00-{'0' * 32}-{SPAN}-01", "zero span": f"00-{TRACE}-{'0' * 16}-01",
    "version ff": f"ff-{TRACE}-{SPAN}-01", "upper case": f"00-{TRACE.upper()}-{SPAN}-01",
    "too long": f"00-{TRACE}-{SPAN}-01-extra", "too short": f"00-{TRACE}-{SPAN}", "garbage": "garbage",
}


def test_invalid_is_not_believed(services, traced, tag):
    port = flask_chain(services, 1)
    t = traced()
    for i, value in enumerate(INVALID.values()):
        with load.Raw(("127.0.0.1", port)) as c:
            c.get(f"/r/{tag}-{i}/n0", headers=[f"traceparent: {value}"])
    got = t.stop()
    for i, name in enumerate(INVALID):
        with case(name):
            mine = assert_exact(got, f"{tag}-{i}", 1, ["n0"])
            assert_edges(mine)
            assert {s.trace for s in mine}.isdisjoint({TRACE, "0" * 32})


def test_forwarded_header_stays_below_the_own_server_span(services, traced, tag):
    """A gateway passes traceparent on unchanged: its call is a child of its own server span."""
    port = flask_chain(services, 3, FORWARD=1)
    t = traced()
    sent = {}
    for i in range(20):
        sent[f"{tag}-{i}"] = trace, parent = ids()
        with load.Raw(("127.0.0.1", port)) as c:
            c.get(f"/r/{tag}-{i}/n0", headers=[f"traceparent: 00-{trace}-{parent}-01"])
    mine = assert_exact(t.stop(), tag, 20, ["n0", "n1", "n2"])
    for s in mine:
        assert s.trace == sent[s.rid][0]
        if s.kind == CLIENT and s.leg == "n0":
            assert s.parent == sent[s.rid][1]
    inner = [s for s in mine if not (s.kind == CLIENT and s.leg == "n0")]
    by = {s.id: s for s in mine}
    for s in inner:
        kind, leg = spans.expected_parent(s)
        assert (by[s.parent].kind, by[s.parent].leg, by[s.parent].rid) == (kind, leg, s.rid)


def test_remote_parent_of_an_untraced_sender(services, traced, tag):
    """The sender is not traced: the server span is a child of what the header names."""
    port = flask_chain(services, 1)
    t = traced("--port", str(port))
    trace, parent = ids()
    with load.Raw(("127.0.0.1", port)) as c:
        c.get(f"/r/{tag}-0/n0", headers=[f"traceparent: 00-{trace}-{parent}-01"])
    mine = spans.tagged(t.stop(), tag)
    assert [(s.kind, s.trace, s.parent) for s in mine] == [(SERVER, trace, parent)]


def test_header_in_a_body_is_not_context(services, traced, tag):
    """What follows the blank line is data, whatever it looks like."""
    port = net.free_port()
    services.nginx(f"server {{ listen 127.0.0.1:{port}; location / {{ return 200 ok; }} }}", port=port)
    t = traced()
    trace, parent = ids()
    with load.Raw(("127.0.0.1", port)) as c:
        c.get(f"/r/{tag}-0/n0", method="POST", body=f"traceparent: 00-{trace}-{parent}-01\r\n\r\n".encode())
    mine = assert_exact(t.stop(), tag, 1, ["n0"])
    assert trace not in {s.trace for s in mine}
    assert_edges(mine)
