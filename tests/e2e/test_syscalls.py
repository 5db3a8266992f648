# SPDX-License-Identifier: Apache-2.0
"""Every system call that moves bytes of a stream socket, at both ends."""
import json
import secrets
import subprocess
import time

import pytest
from chain import assert_edges, assert_exact, case

from rig import SLOW, load, net, spans, tool
from rig.spans import CLIENT, SERVER

READS = ["read", "readv", "recv", "recvfrom", "recvmsg", "recvmmsg", "byte", "peek", "empty", "recvmmsgs", "preadv2"]
WRITES = ["write", "writev", "send", "sendto", "sendmsg", "sendmmsg", "byte", "half", "sendmmsgs", "half", "pwritev2"]


def exchange(services, where, read, write, n, path, body=0, traceparent=None, server=None):
    """`server`: what the server reads and writes with, if not the same."""
    services.start([tool("sockops"), "serve", where, *(server or (read, write))], "sockops",
                   **({"unix": where[5:]} if where.startswith("unix:") else {"port": int(where.rsplit(":", 1)[1])}))
    extra = [str(body)] + ([traceparent] if traceparent else [])
    r = subprocess.run([tool("sockops"), "get", where, read, write, str(n), path, *extra],
                       capture_output=True, text=True, timeout=60 * SLOW)
    assert r.returncode == 0, r.stderr
    assert json.loads(r.stdout) == {"sent": n, "ok": n}


def test_each_call(services, traced, tag, tmp_path):
    t, cases = traced(), {}
    for read, write in sorted(set(zip(READS, WRITES))):
        for where in (f"unix:{tmp_path}/{read}-{write}", f"127.0.0.1:{net.free_port()}"):
            name = f"{read} {write} {where}"
            cases[name] = f"{tag}-{len(cases)}"
            with case(name):
                exchange(services, where, read, write, 20, f"/r/{cases[name]}-%/n0")
    got = t.stop()
    for name, mark in cases.items():
        with case(name):
            assert_edges(assert_exact(got, mark, 20, ["n0"]))


def test_header_found_wherever_it_lies(services, traced, tag):
    """With writev it is alone in segment 20 of 32; with the others whole, halved or byte by byte."""
    t, sent = traced(), {}
    for write in ("write", "writev", "send", "sendmsg", "sendmmsg", "sendmmsgs", "byte", "half"):
        sent[write] = trace, parent = secrets.token_hex(16), secrets.token_hex(8)
        exchange(services, f"127.0.0.1:{net.free_port()}", "read", write, 5, f"/r/{tag}-{write}-%/n0",
                 traceparent=f"00-{trace}-{parent}-01")
    got = t.stop()
    for write, (trace, parent) in sent.items():
        with case(write):
            mine = assert_exact(got, f"{tag}-{write}", 5, ["n0"])
            assert {s.trace for s in mine} == {trace}
            assert {s.parent for s in mine if s.kind == CLIENT} == {parent}


def test_bodies_are_counted_to_the_byte(services, traced, tag):
    """A wrong count would shift the next head on the connection: 20 requests follow each other."""
    ways = [("read", "sendfile"), ("read", "splice"), ("recv", "write"), ("byte", "half"), ("recvmmsgs", "sendmmsgs")]
    t = traced("--opt-in-attributes")
    for read, write in ways:
        exchange(services, f"127.0.0.1:{net.free_port()}", read, write, 20, f"/r/{tag}-{read}-{write}-%/n0", body=70_001)
    got = t.stop()
    for read, write in ways:
        with case(f"{read} {write}"):
            mine = assert_exact(got, f"{tag}-{read}-{write}", 20, ["n0"])
            assert_edges(mine)
            assert {s.attrs.get("http.request.body.size") for s in mine} == {70_001}
            assert {s.attrs.get("http.response.body.size") for s in mine} == {70_001}


def start(services, port, mode):
    return services.start([tool("sockops"), "serve", f"127.0.0.1:{port}", "recv", "write", mode], "sockops", port=port)


@pytest.mark.parametrize("by", ["port", "exe"])
def test_process_outlives_its_main_thread(services, traced, tag, by):
    """The thread that the process is named after has gone, and with it what /proc/PID shows of the process."""
    port = net.free_port()
    start(services, port, "orphaned")
    t = traced("--port", str(port)) if by == "port" else traced("--exe", "*/sockops")
    with load.Raw(("127.0.0.1", port)) as c:
        for i in range(10):
            c.get(f"/r/{tag}-{i}/n0")
    assert_exact(t.stop(), tag, 10, ["n0"], outer_client=False)


def test_main_thread_ends_under_wirespan(services, traced, tag):
    port = net.free_port()
    t = traced("--exe", "*/sockops")
    start(services, port, "orphaned")
    with load.Raw(("127.0.0.1", port)) as c:
        for i in range(10):
            c.get(f"/r/{tag}-{i}/n0")
    assert_exact(t.stop(), tag, 10, ["n0"], outer_client=False)


def test_descriptor_reused_during_a_call(services, traced, tag):
    """A thread waits for bytes of a connection that is closed; its number goes to the next one. Then the bytes come."""
    port = net.free_port()
    start(services, port, "reuses")
    t = traced()
    with load.Raw(("127.0.0.1", port)) as old:
        time.sleep(0.5 * SLOW)  # it is closed after 0.2 s
        with load.Raw(("127.0.0.1", port)) as c:
            for i in range(5):
                c.get(f"/r/{tag}-{i}/n0")
            old.s.sendall(b"GET /stray HTTP/1.1\r\nHost: a\r\n\r\n")
            time.sleep(0.2 * SLOW)
            for i in range(5, 10):
                c.get(f"/r/{tag}-{i}/n0")
    mine = assert_exact(t.stop(), tag, 10, ["n0"])
    assert_edges(mine)
    assert {s.code for s in mine} == {200}


@pytest.mark.alone
def test_bodies_read_by_splice(services, traced, plan, tag):
    """splice from a socket passes the socket plan's hook: what it misses is on the books, or it is not missed. The others
    see each transfer, though not its bytes."""
    t = traced()
    exchange(services, f"127.0.0.1:{net.free_port()}", "splice", "write", 20, f"/r/{tag}-%/n0", body=5_000)
    mine = spans.tagged(t.stop(), tag)
    assert not spans.check_edges(mine).wrong
    missing = 40 - len(mine)
    gaps = sum(r["dropped"].get(why, 0) for r in t.final["stages"] for why in r["dropped"]
               if why not in ("unselected", "telemetry", "receiver", "path_excluded", "sampled_out"))
    unseen = t.final["counters"]["unseen_events"]
    assert plan == "socket" or unseen >= 20, f"{unseen} events without bytes: these were 20 answers"
    assert 0 <= missing <= gaps + unseen, f"{missing} spans missing, {gaps} drops and {unseen} events without bytes counted"


@pytest.fixture(scope="module")
def io_uring():
    r = subprocess.run([tool("sockops"), "probe-uring"], capture_output=True, text=True)
    if r.returncode:
        pytest.skip(r.stderr.strip())


@pytest.mark.alone
@pytest.mark.parametrize("family", ["tcp", "unix"])
@pytest.mark.parametrize("way", ["uring", "uring-wq"])
def test_io_uring(services, traced, plan, tag, tmp_path, io_uring, way, family):
    """Transfers without a system call of their own, first at the server, then at the client."""
    t = traced()
    for client, server, who in ((("read", "write"), (way, way), "a"), ((way, way), ("read", "write"), "b")):
        where = f"unix:{tmp_path}/{who}" if family == "unix" else f"127.0.0.1:{net.free_port()}"
        exchange(services, where, *client, 20, f"/r/{tag}-{who}%/n0", server=server)
    got = t.stop()
    unseen = t.final["counters"]["unseen_events"]
    if plan in ("fentry", "kprobe"):  # the protocol's own functions see every transfer and its buffer
        mine = assert_exact(got, tag, 40, ["n0"])
        assert_edges(mine)
        assert {s.service for s in mine} == {"sockops"}
        return
    # The other end is whole, as a root; of this one there is no head, so no span.
    mine = spans.tagged(got, tag)
    assert {(s.rid, s.kind, s.parent) for s in mine} == {(f"{tag}-{who}{i}", kind, "") for i in range(20)
                                                         for who, kind in (("a", CLIENT), ("b", SERVER))}
    assert len(mine) == 40
    if plan == "socket":  # a request and an answer per exchange; no system call is due that the other plan could count
        assert unseen >= 80, t.final["counters"]
