# SPDX-License-Identifier: Apache-2.0
"""Spans seen = requests sent, by simple clients and servers, at 1, 64 and 512 connections."""
import os
import pathlib
import re
import socket
import subprocess
import threading
import time
import warnings

import pytest
from chain import assert_edges, assert_exact, gunicorn
from conftest import SERVICES

from rig import SLOW, load, net, python, spans, tool
from rig.spans import CLIENT, SERVER
from rig.tracer import dropped, stage


@pytest.mark.alone
@pytest.mark.parametrize("connections,requests", [(1, 500), (64, 6400), (512, 10240)])
def test_nginx_counts(services, traced, tag, connections, requests):
    requests = max(connections, int(requests / SLOW) // connections * connections)
    port = net.free_port()
    services.nginx(f"server {{ listen 127.0.0.1:{port} backlog=1024; location / {{ return 200 ok; }} }}", port=port)
    # Both ends are traced at full speed on the cores that do the work: room for the burst, so that counting is the
    # question and not the scheduler (bench.py shows the default sizes).
    t = traced("--queue-size", "128MiB")
    load.run(f"127.0.0.1:{port}", requests, connections, f"/r/{tag}-%/n0")
    mine = spans.tagged(t.stop(), tag)
    if preemption() in ("full", "lazy") and t.final["counters"]["missed_probes"]:
        assert_counted(t, mine, requests)
        return
    assert not dropped(t.final), dropped(t.final)
    mine = assert_exact(mine, tag, requests, ["n0"])
    assert_edges(mine)
    assert {s.code for s in mine} == {200}
    assert len({s.rid for s in mine}) == requests


def preemption():
    """What the kernel says of itself: none, voluntary, full or lazy; None where it cannot be asked."""
    try:
        return re.search(r"\((\w+)\)", pathlib.Path("/sys/kernel/debug/sched/preempt").read_text())[1]
    except OSError:
        return None


def assert_counted(t, mine, requests):
    """A kernel that lets a program be preempted skips the same program for everybody else on that processor meanwhile. What
    that costs is on the books; a parent is never wrong."""
    missed = t.final["counters"]["missed_probes"]
    e, ids = spans.check_edges(mine), {s.id for s in mine}
    warnings.warn(f"preemption {preemption()}: {2 * requests - len(mine)} of {2 * requests} spans missing, {missed} probes "
                  f"missed, dropped {dropped(t.final)}, parents {e}", stacklevel=2)
    assert len(mine) >= requests, "more than half is missing: that is no tracing"
    assert not spans.duplicates(mine)
    lost = missed + sum(dropped(t.final).values())
    assert 0 <= 2 * requests - len(mine) <= lost
    assert not [s for s in e.wrong if s.parent in ids]
    # Of those that are there: without a parent, or under a span that is not there.
    assert len(e.missing) + len(e.wrong) <= lost, e


@pytest.mark.alone
def test_preempted(services, traced, tag):
    """More work than processors."""
    asked = re.search(r"\bpreempt=(\w+)", pathlib.Path("/proc/cmdline").read_text())
    if asked:  # a guest has debugfs
        assert preemption() == asked[1] or (preemption() is None and "WS_VM" not in os.environ)
    requests = int(6400 / SLOW)
    port = net.free_port()
    services.nginx(f"server {{ listen 127.0.0.1:{port} backlog=1024; location / {{ return 200 ok; }} }}", port=port,
                   workers=2)
    t = traced("--queue-size", "128MiB")
    busy = [services.start(["sh", "-c", "while :; do :; done"], "busy") for _ in range(2 * os.cpu_count())]
    load.run(f"127.0.0.1:{port}", requests, 64, f"/r/{tag}-%/n0", timeout=240)
    for s in busy:
        s.stop()
    mine = spans.tagged(t.stop(), tag)
    if t.final["counters"]["missed_probes"]:
        assert_counted(t, mine, requests)
        return
    assert not dropped(t.final)
    assert_edges(assert_exact(mine, tag, requests, ["n0"]))


def test_nginx_file_by_sendfile(services, traced, tag, tmp_path):
    port, size = net.free_port(), 300_000
    leg = tmp_path / "www" / "r" / f"{tag}-0"
    leg.mkdir(parents=True)
    tmp_path.chmod(0o755)
    (leg / "n0").write_bytes(b"x" * size)
    services.nginx(f"sendfile on; server {{ listen 127.0.0.1:{port}; root {tmp_path}/www; }}", port=port)
    t = traced("--opt-in-attributes")
    sent = load.run(f"127.0.0.1:{port}", 50, 4, f"/r/{tag}-0/n0")
    assert sent["bytes"] > 50 * size
    mine = assert_exact(t.stop(), tag, 50, ["n0"])
    sizes = {s.attrs.get("http.response.body.size") for s in mine}
    assert sizes == {size}, sizes
    # The body counts until its last byte: the client cannot have it before the server wrote it all.
    for c in (s for s in mine if s.kind == CLIENT):
        server = [s for s in mine if s.parent == c.id]
        assert len(server) == 1 and server[0].start >= c.start


def test_curl(services, traced, tag):
    port = net.free_port()
    services.nginx(f"server {{ listen 127.0.0.1:{port}; location / {{ return 204; }} }}", port=port)
    t = traced()
    for i in range(20):  # each is a process of a few milliseconds
        subprocess.run(["curl", "-sSf", f"http://127.0.0.1:{port}/r/{tag}-{i}/n0?token=secret&q=1"], check=True)
    mine = assert_exact(t.stop(), tag, 20, ["n0"])
    assert_edges(mine)
    clients = [s for s in mine if s.kind == CLIENT]
    assert {s.service for s in clients} == {"curl"}
    assert {s.service for s in mine if s.kind == SERVER} == {"nginx"}
    assert {s.attrs["server.port"] for s in clients} == {port}
    servers = [s for s in mine if s.kind == SERVER]
    assert all(s.attrs["user_agent.original"].startswith("curl/") for s in servers)
    assert all("secret" not in str(s.raw) for s in mine), "a query value that looks like a secret was exported"
    assert all("token" not in s.name for s in mine), {s.name for s in mine}


def test_status_rules(services, traced, tag):
    port = net.free_port()
    services.nginx(f"""server {{ listen 127.0.0.1:{port};
        location ~ /n404 {{ return 404; }} location ~ /n503 {{ return 503; }} location / {{ return 200 ok; }} }}""",
                   port=port)
    t = traced()
    with load.Raw(("127.0.0.1", port)) as c:
        for i, leg in enumerate(("n404", "n503", "n200")):
            c.get(f"/r/{tag}-{i}/{leg}")
    mine = spans.tagged(t.stop(), tag)
    by = {(s.kind, s.leg): s for s in mine}
    assert len(mine) == 6 == len(by)
    assert by[SERVER, "n404"].status == 0 and by[CLIENT, "n404"].status == 2
    assert by[SERVER, "n503"].status == 2 and by[CLIENT, "n503"].status == 2
    assert by[SERVER, "n200"].status == 0 and by[CLIENT, "n200"].status == 0
    assert by[CLIENT, "n404"].attrs["error.type"] == "404" and by[SERVER, "n503"].attrs["error.type"] == "503"
    assert "error.type" not in by[SERVER, "n404"].attrs


@pytest.mark.parametrize("listen,target", [("[::1]:{}", "[::1]:{}"), ("[::]:{} ipv6only=off", "127.0.0.1:{}")],
                         ids=["ipv6", "v4-mapped"])
def test_ipv6(services, traced, tag, listen, target):
    port = net.free_port()
    host = "::1" if "[::1]" in target else "127.0.0.1"
    services.nginx(f"server {{ listen {listen.format(port)}; location / {{ return 200 ok; }} }}", port=port, host=host)
    t = traced()
    load.run(target.format(port), 200, 8, f"/r/{tag}-%/n0")
    mine = assert_exact(t.stop(), tag, 200, ["n0"])
    assert_edges(mine)
    assert {s.attrs["client.address"] for s in mine if s.kind == SERVER} == {host}
    assert {s.attrs["network.peer.address"] for s in mine if s.kind == CLIENT} == {host}


def test_unix_stream(services, traced, tag, tmp_path):
    path = tmp_path / "s"
    services.nginx(f"server {{ listen unix:{path}; location / {{ return 200 ok; }} }}", unix=path)
    t = traced()
    load.run(f"unix:{path}", 500, 16, f"/r/{tag}-%/n0")
    mine = assert_exact(t.stop(), tag, 500, ["n0"])
    assert_edges(mine)


@pytest.mark.alone
@pytest.mark.parametrize("server,n", [("nginx", 4000), ("gunicorn", 2000)])
def test_unix_connections_that_end(services, traced, tag, tmp_path, server, n):
    """One connection per request, closed by both in silence (nginx is told of the end without reading): none is kept."""
    path = tmp_path / "s"
    if server == "nginx":
        services.nginx(f"server {{ listen unix:{path}; location / {{ return 200 ok; }} }}", unix=path)
    else:
        gunicorn(services, unix=path)
    t = traced("--max-connections", str(n))  # there are twice as many ends
    for i in range(n):
        with load.Raw(str(path)) as c:
            assert c.get(f"/r/{tag}-{i}/n0")[0] == 200
    mine = assert_exact(t.stop(), tag, n, ["n0"])
    assert_edges(mine)
    assert t.final["counters"]["evicted"] == 0 and "kernel.no_state" not in dropped(t.final)


def unix_listener(path):
    s = socket.socket(socket.AF_UNIX)
    s.bind(str(path))
    s.listen()
    return s


def test_unix_answer_that_lasts_to_the_end(traced, tag, tmp_path):
    """How long such an answer was the server's end is told by no event there: by its transfers."""
    t, n = traced("--opt-in-attributes"), 5
    with unix_listener(tmp_path / "s") as listener:
        for i in range(n):
            with socket.socket(socket.AF_UNIX) as c:
                c.connect(str(tmp_path / "s"))
                s, _ = listener.accept()
                c.sendall(f"GET /r/{tag}-{i}/n0 HTTP/1.0\r\nHost: a\r\n\r\n".encode())
                s.recv(65536)
                s.sendall(b"HTTP/1.0 200 OK\r\n\r\n" + b"x" * 1000)
                time.sleep(0.1 * SLOW)
                for _ in range(3):
                    s.sendall(b"x" * 20_000)
                s.close()
                while c.recv(65536):
                    pass
    mine = assert_exact(t.stop(), tag, n, ["n0"])
    assert_edges(mine)
    assert {s.attrs.get("http.response.body.size") for s in mine} == {61_000}


def test_unix_answer_before_the_request_is_sent(traced, tag, tmp_path):
    """The answer is written at once, the upload read later: the client's call that sends it returns long after."""
    t, size, n = traced(), 4_000_000, 4
    with unix_listener(tmp_path / "s") as listener:

        def serve():
            for _ in range(n):
                with listener.accept()[0] as s:
                    got = len(s.recv(65536))
                    s.sendall(b"HTTP/1.1 413 No\r\nContent-Length: 2\r\n\r\nok")
                    time.sleep(0.4)
                    while got < size:
                        got += len(s.recv(1 << 20))
                    s.recv(1)  # not closed before the client's call has returned: what has ended by then is another's

        server = threading.Thread(target=serve)
        server.start()
        for i in range(n):
            with socket.socket(socket.AF_UNIX) as c:
                c.connect(str(tmp_path / "s"))
                head = f"PUT /r/{tag}-{i}/n0 HTTP/1.1\r\nHost: a\r\nContent-Length: {size}\r\n\r\n".encode()
                c.sendall((head + b"x" * size)[:size])
                c.recv(999)
        server.join()
    mine = assert_exact(t.stop(), tag, n, ["n0"])
    assert_edges(mine)
    assert all(s.end - s.start > 300e6 for s in mine if s.kind == CLIENT)


@pytest.mark.alone
def test_unix_connections_that_end_at_once(services, traced, tag, tmp_path):
    """Many were open, and are closed in silence; none is opened any more that would show it. They make room for others."""
    path, port, n = tmp_path / "s", net.free_port(), 400
    services.nginx(f"""server {{ listen unix:{path}; listen 127.0.0.1:{port} backlog=1024;
        location / {{ return 200 ok; }} }}""", unix=path)
    t = traced("--max-connections", str(3 * n))  # ends; those of either kind fit
    for address in (str(path), ("127.0.0.1", port)):
        held = [load.Raw(address) for _ in range(n)]
        for i, c in enumerate(held):
            assert c.get(f"/r/{tag}-{i if address == str(path) else i + n}/n0")[0] == 200
        if address == str(path):
            for c in held:
                c.close()
            time.sleep(6 + 2 * SLOW)  # they are looked for every 5 s
    mine = assert_exact(t.stop(), tag, 2 * n, ["n0"])
    for c in held:
        c.close()
    assert_edges(mine)
    assert t.final["counters"]["evicted"] == 0 and "kernel.no_state" not in dropped(t.final)


@pytest.mark.parametrize("selection", [(), ("--exe", "sockops"), ("--exclude", "python*")], ids=["all", "exe", "exclude"])
def test_unix_clients_that_live_for_a_moment(services, traced, tag, tmp_path, selection):
    """Thirty at once on two cores: each is known by name and seen from its first byte, however late it is looked at."""
    path = tmp_path / "s"
    services.start([tool("sockops"), "serve", f"unix:{path}", "read", "write"], "sockops", unix=path)
    t, n = traced(*selection), 300
    for first in range(0, n, 30):
        clients = [subprocess.Popen([tool("sockops"), "get", f"unix:{path}", "read", "write", "1", f"/r/{tag}-{i}-%/n0"],
                                    stdout=subprocess.DEVNULL) for i in range(first, first + 30)]
        assert [c.wait(60 * SLOW) for c in clients] == [0] * 30
    assert_edges(assert_exact(t.stop(), tag, n, ["n0"]))


def test_unix_client_that_is_selected_late(services, traced, tag, tmp_path):
    """--port: it has used a connection before it listens. Nobody has counted what went over it: no request on it is
    joined with another's. What it opens since is known from the first byte, where a kernel lists one process (6.1)."""
    path, port, late = tmp_path / "s", net.free_port(), net.free_port()
    services.nginx(f"server {{ listen unix:{path}; listen 127.0.0.1:{port}; location / {{ return 200 ok; }} }}", unix=path)
    t = traced("--port", f"{port},{late}")
    services.start([python(), SERVICES / "late_client.py", late, path, tag], "late", port=late)
    time.sleep(2.5 * SLOW)
    got = t.stop()
    by_id = {s.id: s for s in got}
    old, new = (spans.tagged(got, f"{tag}-{which}") for which in ("old", "new"))
    assert spans.count(old) == {(CLIENT, "n0"): 40, (SERVER, "n0"): 40}
    assert spans.count(new) == {(CLIENT, "n0"): 20, (SERVER, "n0"): 20}
    joined = [s for s in old + new if s.parent in by_id]
    assert all(by_id[s.parent].rid == s.rid and s.kind == SERVER for s in joined), joined
    one_process = tuple(map(int, os.uname().release.split(".")[:2])) >= (6, 1)
    assert len([s for s in joined if s in new]) == (20 if one_process else 0)


def test_listeners_and_connections_from_before(services, traced, tag):
    """A listener and keep-alive connections older than wirespan: roles and addresses from the first byte."""
    port = net.free_port()
    services.nginx(f"server {{ listen 127.0.0.1:{port}; location / {{ return 200 ok; }} }}", port=port)
    old = [load.Raw(("127.0.0.1", port)) for _ in range(8)]
    for i, c in enumerate(old):
        if i % 2:  # half of them were used, half are fresh
            assert c.get("/before")[0] == 200
    t = traced()
    for i, c in enumerate(old):
        assert c.get(f"/r/{tag}-{i}/n0")[0] == 200
        assert c.get(f"/r/{tag}-{i + 100}/n0")[0] == 200
        c.close()
    mine = assert_exact(t.stop(), tag, 16, ["n0"])
    assert_edges(mine)
    assert {s.attrs["network.peer.port"] for s in mine if s.kind == CLIENT} == {port}


@pytest.mark.alone
def test_more_connections_than_room(services, traced, tag):
    """Those that were forgotten come back: their next request is whole, and the books say what happened."""
    port, connections, rounds = net.free_port(), 150, 3
    services.nginx(f"server {{ listen 127.0.0.1:{port}; location / {{ return 200 ok; }} }}", port=port)
    t = traced("--port", str(port), "--max-connections", "64")
    held = [load.Raw(("127.0.0.1", port)) for _ in range(connections)]
    for k in range(rounds):
        for i, c in enumerate(held):
            assert c.get(f"/r/{tag}-{k * connections + i}/n0")[0] == 200
    mine = spans.tagged(t.stop(), tag)
    for c in held:
        c.close()
    assert {(s.kind, s.code) for s in mine} == {(SERVER, 200)}
    assert len({s.rid for s in mine}) == len(mine)
    if "kernel.no_state" in dropped(t.final):  # plans whose kernel side has no more room either
        assert 0 < len(mine) < connections * rounds
    else:
        assert len(mine) == connections * rounds and not dropped(t.final)
        assert t.final["counters"]["evicted"] >= connections * rounds - 64
        assert "--max-connections" in t.stderr()


def test_short_lived_servers_and_clients(services, traced, tag):
    """A server that lives for one request, a client that lives for 50 ms."""
    t = traced()
    code = ("import socket,sys,time\n"
            "l=socket.create_server(('127.0.0.1',int(sys.argv[1])))\n"
            "s,_=l.accept()\ns.recv(65536)\n"
            "s.sendall(b'HTTP/1.1 200 OK\\r\\nContent-Length: 0\\r\\n\\r\\n')\n")
    for i in range(5):
        port = net.free_port()
        server = subprocess.Popen(["/usr/bin/python3", "-S", "-c", code, str(port)])
        end = 200
        while end:
            r = subprocess.run(["curl", "-s", "-o", "/dev/null", "-w", "%{http_code}",
                                f"http://127.0.0.1:{port}/r/{tag}-{i}/n0"], capture_output=True, text=True)
            if r.stdout == "200":
                break
            end -= 1
        assert end, "the server never listened"
        server.wait(10)
    mine = [s for s in spans.tagged(t.stop(), tag) if s.name != "connect"]
    assert spans.count([s for s in mine if s.code]) == {(SERVER, "n0"): 5, (CLIENT, "n0"): 5}
    assert_edges([s for s in mine if s.code])


@pytest.mark.alone
def test_books_name_every_stage(services, traced, tag):
    port = net.free_port()
    services.nginx(f"server {{ listen 127.0.0.1:{port}; location / {{ return 200 ok; }} }}", port=port)
    t = traced()
    load.run(f"127.0.0.1:{port}", 100, 1, f"/r/{tag}-%/n0")
    got = t.stop()
    names = [r["stage"] for r in t.final["stages"]]
    assert names == ["kernel", "source", "stream", "proto", "match", "enrich", "sample", "batch", "export"]
    assert stage(t.final, "kernel")["out"] == stage(t.final, "source")["in"]
    assert stage(t.final, "export")["out"] == len(got)
    seen, shown, _, lost = t.totals()
    assert shown == len(got) and lost == 0 and seen <= shown
