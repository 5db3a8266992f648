# SPDX-License-Identifier: Apache-2.0
"""Network namespaces: equal addresses and ports in several, and addresses rewritten on the way."""
import threading
import time

import pytest
from chain import assert_edges, assert_exact

from rig import load, net, spans
from rig.spans import CLIENT, SERVER


def start_nginx(services, ns, port, listen="127.0.0.1"):
    s = services.nginx(f"server {{ listen {listen}:{port}; location / {{ return 200 ok; }} }}", prefix=ns.argv())
    for _ in range(200):
        if f":{port} " in ns.run("ss", "-Hltn"):
            return s
        assert s.alive(), s.tail()
    raise AssertionError("nginx does not listen")


def test_equal_port_pairs(services, traced, tag, tmp_path):
    """The same four numbers, 127.0.0.1:30000 to 127.0.0.1:8080, in two namespaces at the same time."""
    script = tmp_path / "pair.py"
    script.write_text("""\
import socket, sys, time
s = socket.socket()
s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
s.bind(("127.0.0.1", 30000))
s.connect(("127.0.0.1", 8080))
for i in range(50):
    s.sendall(f"GET /r/{sys.argv[1]}{i}/n0 HTTP/1.1\\r\\nHost: x\\r\\n\\r\\n".encode())
    assert s.recv(65536).startswith(b"HTTP/1.1 200")
    time.sleep(0.002)
""")
    with net.Netns() as a, net.Netns() as b:
        for ns in (a, b):
            start_nginx(services, ns, 8080)
        t = traced()
        fails = []

        def one(ns, who):
            try:
                ns.run("/usr/bin/python3", str(script), f"{tag}-{who}")
            except RuntimeError as e:
                fails.append(e)

        threads = [threading.Thread(target=one, args=x) for x in ((a, "a"), (b, "b"))]
        for x in threads:
            x.start()
        for x in threads:
            x.join()
        assert not fails, fails
        mine = assert_exact(t.stop(), tag, 100, ["n0"])
    assert_edges(mine)


def test_joined_across_namespaces(services, traced, tag):
    """Client on the host, server in a namespace: one trace each, nothing written to the wire."""
    with net.Netns() as ns:
        start_nginx(services, ns, 8080, ns.ip)
        t = traced()
        load.run(f"{ns.ip}:8080", 500, 16, f"/r/{tag}-%/n0")
        mine = assert_exact(t.stop(), tag, 500, ["n0"])
    assert_edges(mine)


def test_joined_through_dnat(services, traced, tag):
    """The client asks 10.96.0.10:80, the server is somebody else: the join key survives the rewriting."""
    with net.Netns() as client, net.Netns() as server:
        start_nginx(services, server, 8080, server.ip)
        net.sh("sysctl", "-qw", "net.ipv4.ip_forward=1")
        rule = ["PREROUTING", "-t", "nat", "-d", "10.96.0.10", "-p", "tcp", "--dport", "80", "-j", "DNAT",
                "--to-destination", f"{server.ip}:8080"]
        net.sh("iptables", "-A", *rule)
        try:
            client.run("ip", "route", "add", "default", "via", client.host_ip)
            server.run("ip", "route", "add", "default", "via", server.host_ip)
            t = traced()
            load.run("10.96.0.10:80", 300, 8, f"/r/{tag}-%/n0", prefix=client.argv())
            mine = assert_exact(t.stop(), tag, 300, ["n0"])
        finally:
            net.sh("iptables", "-D", *rule, check=False)
    assert_edges(mine)
    assert {s.attrs["network.peer.address"] for s in mine if s.kind == CLIENT} == {"10.96.0.10"}
    assert {s.attrs["client.address"] for s in mine if s.kind == SERVER} == {client.ip}


def test_the_peer_is_gone(services, traced, tag):
    """Its link is down, so the end of the connection is never acknowledged: the call ends when the caller closes it."""
    with net.Netns() as ns:
        start_nginx(services, ns, 8080, ns.ip)
        t = traced()
        with load.Raw((ns.ip, 8080), timeout=1) as c:
            assert c.get(f"/r/{tag}-0/n0")[0] == 200
            ns.run("ip", "link", "set", ns.peer, "down")
            with pytest.raises(TimeoutError):
                c.get(f"/r/{tag}-1/n0")
        closed = time.time_ns()
        time.sleep(1)
        mine = spans.tagged(t.stop(), tag)
    (call,) = [s for s in mine if s.rid == f"{tag}-1"]
    assert call.kind == CLIENT and call.attrs["error.type"] == "client_closed"
    assert abs(call.end - closed) < 500e6, (call.end - closed) / 1e9
