# SPDX-License-Identifier: Apache-2.0
"""Bad input and hard lives of sockets: spans where there were requests, counted drops else, never a crash."""
import os
import random
import signal
import socket
import struct
import time

import pytest
from chain import assert_edges, assert_exact
from conftest import SERVICES

from rig import SLOW, load, net, python, spans
from rig.spans import CLIENT, SERVER
from rig.tracer import dropped


def raw(services, mode, **env):
    port = net.free_port()
    services.start([python(), SERVICES / "raw.py", mode, port], mode, env=env, wait=False)
    # connecting to see whether it listens would be a connection of its own in these modes: look instead
    end = time.monotonic() + 10
    needle = f"0100007F:{port:04X} 00000000:0000 0A"
    while needle not in open("/proc/net/tcp").read():
        assert time.monotonic() < end, services.all[-1].tail()
        time.sleep(0.02)
    return port


def alive(t, tag, port):
    """The tracer still works: one more plain request is seen exactly once on each side."""
    with load.Raw(("127.0.0.1", port)) as c:
        assert c.get(f"/r/{tag}-alive/n0")[0] == 200
    mine = [s for s in spans.tagged(t.stop(), tag)]
    assert spans.count([s for s in mine if s.rid == f"{tag}-alive"]) == {(CLIENT, "n0"): 1, (SERVER, "n0"): 1}
    return [s for s in mine if s.rid != f"{tag}-alive"]


def test_head_of_one_megabyte(services, traced, tag):
    """Longer than what is captured: the request is known (its line came first), its end is not lost."""
    port = net.free_port()
    services.nginx(f"""server {{ listen 127.0.0.1:{port}; large_client_header_buffers 8 512k;
                    location / {{ return 200 ok; }} }}""", port=port)
    t = traced()
    with load.Raw(("127.0.0.1", port)) as c:
        big = [f"X-Big-{i}: {'v' * 250_000}" for i in range(4)]
        for i in range(3):
            assert c.get(f"/r/{tag}-{i}/n0", headers=big)[0] == 200
    mine = alive(t, tag, port)
    assert spans.count(mine) == {(CLIENT, "n0"): 3, (SERVER, "n0"): 3}
    assert {s.code for s in mine} == {200}


@pytest.mark.alone
def test_garbage(services, traced, tag):
    port = raw(services, "never")
    good = raw(services, "threads")
    t = traced()
    rnd = random.Random(7)
    junk = [b"\0" * 4096, rnd.randbytes(70_000), b"GET " + b"A" * 9000, b"GET / HTTP/9.9\r\n\r\n" * 50,
            b"\r\n" * 3000, b"POST /r HTTP/1.1\r\nContent-Length: 99999999999999999999999\r\n\r\nx",
            b"GET /\xff\xfe\x00 HTTP/1.1\r\nA\r\n: b\r\n\r\n", b"GET /\xc3\xbc HTTP/1.1\r\nHost: \xff\r\n\r\n",
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + rnd.randbytes(500), b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
            b"GET / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nFFFFFFFFFFFFFFFFF\r\n", b"*1\r\n$4\r\nPING\r\n"]
    for blob in junk:
        for cut in (len(blob), max(1, len(blob) // 2), 1):
            with load.Raw(("127.0.0.1", port)) as c:
                c.s.sendall(blob[:cut])
    assert not alive(t, tag, good)
    # What has a request line is a request, whatever follows it; what begins like one and is none is on the books, once.
    asked = [(s.kind, s.attrs["url.path"] if s.kind == SERVER else s.attrs["url.full"].rpartition("/")[2])
             for s in t.spans() if s.attrs.get("network.peer.port") == port]
    assert sorted(asked) == [(CLIENT, ""), (CLIENT, "\u00fc")], asked
    assert dropped(t.final) == {"proto.malformed": 10, "proto.conn_ended": 6}


@pytest.mark.parametrize("who", ["request", "response"])
def test_reset_at_every_byte(services, traced, tag, who):
    """A request cut after n bytes, or a response cut after n bytes, by a reset. Every one is told apart."""
    ok = raw(services, "threads")
    whole = load.request(f"/r/{tag}-0/n0")
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nok\n"
    ports = {n: raw(services, "reset", BYTES=n) for n in range(len(answer))} if who == "response" else {}
    t = traced()
    linger = struct.pack("ii", 1, 0)
    if who == "request":
        for n in range(len(whole) + 1):
            with load.Raw(("127.0.0.1", ok)) as c:
                c.s.sendall(whole[:n])
                time.sleep(0.002)
                c.s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    else:
        for n, port in ports.items():
            with load.Raw(("127.0.0.1", port)) as c:
                with pytest.raises(OSError):
                    c.get(f"/r/{tag}-{n}/n0")
    mine = alive(t, tag, ok)
    for s in mine:
        assert s.end >= s.start
    if who == "response":
        # the request was complete every time, the response never
        assert spans.count(mine) == {(CLIENT, "n0"): len(ports), (SERVER, "n0"): len(ports)}
        assert all(s.status == 2 and s.attrs.get("error.type") for s in mine if s.kind == CLIENT)
        assert_edges(mine)


def test_half_closed_client(services, traced, tag):
    """shutdown(SHUT_WR) after the request, the answer comes after that."""
    port = raw(services, "half")
    t = traced()
    for i in range(10):
        with load.Raw(("127.0.0.1", port)) as c:
            c.s.sendall(load.request(f"/r/{tag}-{i}/n0"))
            c.s.shutdown(socket.SHUT_WR)
            assert c.answer()[0] == 200
    mine = assert_exact(t.stop(), tag, 10, ["n0"])
    assert_edges(mine)
    assert {s.code for s in mine} == {200}


@pytest.mark.parametrize("family,how", [("tcp", "close"), ("unix", "close"), ("unix", "shutdown")])
@pytest.mark.parametrize("mode", ["never", "deaf"])
def test_never_answered(services, traced, tag, tmp_path, mode, family, how):
    """The client gives up, whether the server looks or not: a client span with an error, and a server span without a status."""
    if family == "unix":
        where = str(tmp_path / "s")
        services.start([python(), SERVICES / "raw.py", mode, where], mode, unix=where)
    else:
        where = ("127.0.0.1", raw(services, mode))
    t = traced()
    with load.Raw(where, timeout=0.3) as c:
        with pytest.raises(TimeoutError):
            c.get(f"/r/{tag}-0/n0")
        if how == "shutdown":
            c.s.shutdown(socket.SHUT_RDWR)
            time.sleep(0.5)
    time.sleep(SLOW if mode == "deaf" else 0)
    mine = assert_exact(t.stop(), tag, 1, ["n0"])
    client = next(s for s in mine if s.kind == CLIENT)
    assert client.status == 2 and client.attrs["error.type"] == "client_closed" and client.code is None
    assert 250 <= client.ms < 300 + 400 * SLOW  # and nobody has to look for that: it is told
    server = next(s for s in mine if s.kind == SERVER)
    assert server.status == 2 and server.attrs["error.type"] == "client_closed"


def test_unfinished_when_it_stops(services, traced, tag):
    """Nobody has closed anything: what is known is sent, marked, and no error is made up."""
    port = raw(services, "never")
    t = traced()
    with load.Raw(("127.0.0.1", port)) as c:
        c.s.sendall(load.request(f"/r/{tag}-0/n0"))
        time.sleep(0.5)
        mine = assert_exact(t.stop(), tag, 1, ["n0"])
    assert all(s.attrs["wirespan.unfinished"] and "error.type" not in s.attrs and s.status == 0 for s in mine), mine


def test_pipelining(services, traced, tag):
    """Eight requests in one write: eight spans, in order."""
    port = net.free_port()
    services.nginx(f"server {{ listen 127.0.0.1:{port}; location / {{ return 200 ok; }} }}", port=port)
    t = traced()
    with load.Raw(("127.0.0.1", port)) as c:
        c.s.sendall(b"".join(load.request(f"/r/{tag}-{i}/n0") for i in range(8)))
        for _ in range(8):
            assert c.answer()[0] == 200
    mine = assert_exact(t.stop(), tag, 8, ["n0"])
    assert_edges(mine)


@pytest.mark.parametrize("mode", ["pass", "dup"])
def test_sockets_that_wander(services, traced, tag, mode):
    """SCM_RIGHTS to another process; a duplicate that outlives its original."""
    port = raw(services, mode)
    t = traced()
    for i in range(10):
        with load.Raw(("127.0.0.1", port)) as c:
            assert c.get(f"/r/{tag}-{i}/n0")[0] == 200
            assert c.get(f"/r/{tag}-{i + 100}/n0")[0] == 200
    mine = assert_exact(t.stop(), tag, 20, ["n0"])
    assert_edges(mine)
    if mode == "pass":
        # the process that answers, not the one that accepted
        assert services.all[0].pid not in {s.pid for s in mine if s.kind == SERVER}


@pytest.mark.alone
def test_first_request_was_somebody_elses(services, traced, tag, tmp_path):
    """A connection that nobody has counted from its first byte: the answer that is read there belongs to a request that
    was not seen, not to the next one, nor every further answer to the request behind its own."""
    port, path = net.free_port(), tmp_path / "s"
    services.nginx(f"server {{ listen 127.0.0.1:{port}; location / {{ return 204; }} "
                   f"location /r/{tag}-0/ {{ return 201; }} }}", port=port)
    script = tmp_path / "heir.py"
    script.write_text("""\
import socket, sys
path, tag = sys.argv[1:]
u = socket.socket(socket.AF_UNIX)
u.bind(path)
u.listen()
u.accept()  # of who looks whether it listens
c, _ = u.accept()
s = socket.socket(fileno=socket.recv_fds(c, 1, 1)[1][0])
def answer():
    got = b""
    while b"\\r\\n\\r\\n" not in got:
        got += s.recv(4096)
answer()
for i in range(1, 6):
    s.sendall(f"GET /r/{tag}-{i}/n0 HTTP/1.1\\r\\nHost: x\\r\\n\\r\\n".encode())
    answer()
c.send(b"x")
c.recv(1)
""")
    heir = services.start([python(), script, path, tag], "heir", unix=path)
    t = traced("--pid", heir.pid)
    with socket.socket(socket.AF_UNIX) as u, socket.create_connection(("127.0.0.1", port)) as s:
        s.sendall(f"GET /r/{tag}-0/n0 HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        u.connect(str(path))
        socket.send_fds(u, [b"x"], [s.fileno()])
        assert u.recv(1) == b"x"
    mine = spans.tagged(t.stop(), tag)
    assert {s.rid: s.attrs["http.response.status_code"] for s in mine} == {f"{tag}-{i}": 204 for i in range(1, 6)}
    assert len(mine) == 5
    assert dropped(t.final) == {"proto.unmatched": 1}


def test_descriptor_reuse(services, traced, tag):
    """The same descriptor number, again and again another socket; a file in between."""
    port = raw(services, "threads")
    t = traced()
    numbers = set()
    for i in range(200):
        with load.Raw(("127.0.0.1", port)) as c:
            numbers.add(c.s.fileno())
            assert c.get(f"/r/{tag}-{i}/n0")[0] == 200
        fd = os.open("/dev/null", os.O_RDWR)
        os.write(fd, b"GET /not/http HTTP/1.1\r\n\r\n")
        os.close(fd)
    assert len(numbers) == 1
    mine = assert_exact(t.stop(), tag, 200, ["n0"])
    assert_edges(mine)


@pytest.mark.parametrize("how", ["refused", "timeout", "unreachable"])
def test_failed_connects(services, traced, tag, how):
    """A call that found nobody, made while serving a request: a CLIENT span `connect` below it."""
    port = net.free_port()
    with net.Netns() as ns:
        host, peer = "127.0.0.1", net.free_port()
        if how == "timeout":  # the peer is there and drops every packet
            host, peer = ns.ip, 81
            ns.run("iptables", "-A", "INPUT", "-p", "tcp", "-j", "DROP")
        elif how == "unreachable":
            host, peer = f"10.232.{port >> 8}.{port & 255}", 81
            net.sh("ip", "route", "add", "unreachable", f"{host}/32")
        try:
            services.script(SERVICES / "hop_flask.py", "caller", port=port, env={"PORT": port})
            t = traced()
            with load.Raw(("127.0.0.1", port)) as c:
                code, body = c.get(f"/connect/{tag}-0/{host}/{peer}")
            assert code == 200 and b"answered" not in body, body
            got = t.stop()
        finally:
            if how == "unreachable":
                net.sh("ip", "route", "del", "unreachable", f"{host}/32", check=False)
    server = [s for s in got if s.kind == SERVER and s.path.startswith(f"/connect/{tag}-0/")]
    assert len(server) == 1
    below = [s for s in got if s.parent == server[0].id and s.name == "connect"]
    # a client that tries more than once is seen more than once
    assert below and all(s.kind == CLIENT and s.status == 2 for s in below), spans.tree(got)
    assert {s.attrs["error.type"] for s in below} == {how}
    assert {(s.attrs["network.peer.address"], s.attrs["network.peer.port"]) for s in below} == {(host, peer)}
    if how == "timeout":  # as long as it has taken
        waited = sum(s.ms for s in below)
        assert 0.8 * server[0].ms <= waited <= server[0].ms, (waited, server[0].ms)


@pytest.mark.parametrize("there", [True, False])
def test_failed_connects_unix(services, traced, tag, tmp_path, there):
    """Nobody listens there any more; or there is no such path."""
    port, path = net.free_port(), tmp_path / "dead.sock"
    if there:
        with socket.socket(socket.AF_UNIX) as s:
            s.bind(str(path))
    services.script(SERVICES / "hop_flask.py", "caller", port=port, env={"PORT": port})
    t = traced()
    with load.Raw(("127.0.0.1", port)) as c:
        code, body = c.get(f"/unix/{tag}?path={path}")
    assert code == 200 and (b"ConnectionRefusedError" if there else b"FileNotFoundError") in body, body
    got = t.stop()
    server, = [s for s in got if s.kind == SERVER and s.path == f"/unix/{tag}"]
    below, = [s for s in got if s.parent == server.id]
    assert (below.name, below.kind, below.status, below.attrs["error.type"]) == ("connect", CLIENT, 2, "refused")
    assert below.attrs["network.peer.address"] == str(path)


def test_websocket_upgrade_ends_parsing(services, traced, tag, tmp_path):
    """After 101 the bytes are not HTTP, even if they look like it."""
    script = tmp_path / "ws.py"
    script.write_text("""\
import socket, sys, threading
def serve(s):
    s.recv(65536)
    s.sendall(b"HTTP/1.1 101 Switching Protocols\\r\\nUpgrade: websocket\\r\\nConnection: Upgrade\\r\\n\\r\\n")
    while data := s.recv(65536):
        s.sendall(data)
l = socket.create_server(("127.0.0.1", int(sys.argv[1])))
while True:
    threading.Thread(target=serve, args=(l.accept()[0],), daemon=True).start()
""")
    port = net.free_port()
    services.start([python(), script, port], "ws", port=port)
    t = traced()
    with load.Raw(("127.0.0.1", port)) as c:
        status, _ = c.get(f"/r/{tag}-0/n0", headers=["Upgrade: websocket", "Connection: Upgrade"])
        assert status == 101
        for i in range(1, 20):
            fake = load.request(f"/r/{tag}-{i}/n0")
            c.s.sendall(b"\x82\x7e" + struct.pack(">H", len(fake)) + fake)
            assert len(c.s.recv(65536)) > 0
    mine = assert_exact(t.stop(), tag, 1, ["n0"])
    assert {s.code for s in mine} == {101}


def test_service_that_is_killed(services, traced, tag):
    """SIGKILL in the middle of a request: the client learns it, both spans end."""
    port = raw(services, "never")
    t = traced()
    c = load.Raw(("127.0.0.1", port))
    c.s.sendall(load.request(f"/r/{tag}-0/n0"))
    time.sleep(0.2)
    services.all[0].signal(signal.SIGKILL)
    with pytest.raises(OSError):
        c.answer()
    c.close()
    mine = assert_exact(t.stop(), tag, 1, ["n0"])
    assert all(s.code is None for s in mine)
    assert next(s for s in mine if s.kind == CLIENT).status == 2


def test_end_of_a_chunked_body_beyond_what_is_captured(services, traced, tag, tmp_path):
    """10,000 bytes in one write of five segments and one read: the last chunk is behind the first 8 KiB of either."""
    script = tmp_path / "chunked.py"
    script.write_text("""\
import socket, sys
s = socket.create_server(("127.0.0.1", int(sys.argv[1])))
while True:
    c, _ = s.accept()
    while c.recv(65536):
        c.sendmsg([b"HTTP/1.1 200 OK\\r\\nTransfer-Encoding: chunked\\r\\n\\r\\n", b"2710\\r\\n", b"x" * 10000,
                   b"\\r\\n", b"0\\r\\n\\r\\n"])
""")
    port = net.free_port()
    services.start([python(), script, port], "chunked", port=port)
    t = traced()
    with load.Raw(("127.0.0.1", port)) as c:
        for i in range(3):
            c.s.sendall(load.request(f"/r/{tag}-{i}/n0"))
            time.sleep(0.2 * SLOW)  # then all of it comes at once
            assert c.s.recv(65536).endswith(b"\r\n0\r\n\r\n")
        time.sleep(2 * SLOW)
        mine = assert_exact(t.stop(), tag, 3, ["n0"])
    assert_edges(mine)
    assert {(s.code, s.status) for s in mine} == {(200, 0)}
    assert all("wirespan.unfinished" not in s.attrs and s.ms < 1500 * SLOW for s in mine), mine
