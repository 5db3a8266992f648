# SPDX-License-Identifier: Apache-2.0
"""Who called whom, through frameworks that were never touched: every parent right, wrong = 0."""
import collections
import time

import pytest
from chain import assert_edges, assert_exact, base, case, flask_chain, gunicorn, uvicorn
from conftest import SERVICES

from rig import load, net, python, spans
from rig.spans import CLIENT, SERVER


def test_flask_requests_chain(services, traced, tag):
    port = flask_chain(services, 3, sleep=2)
    t = traced()
    cases = {1: 50, 32: 320}
    for concurrency, requests in cases.items():
        load.run(f"127.0.0.1:{port}", requests, concurrency, f"/r/{tag}-{concurrency}-%/n0")
    got = t.stop()
    for concurrency, requests in cases.items():
        with case(f"{concurrency} at once"):
            mine = assert_exact(got, f"{tag}-{concurrency}", requests, ["n0", "n1", "n2"])
            e = assert_edges(mine)
            assert len(e.roots) == requests
            assert len({s.trace for s in mine}) == requests
            evidence = {s.attrs.get("wirespan.parent.evidence") for s in mine if s.kind == CLIENT and s.leg != "n0"}
            assert evidence <= {"thread"}, evidence


def test_gunicorn(services, traced, tag):
    """gthread's pool takes the connection on the main thread and the request on a worker."""
    leaf = net.free_port()
    services.script(SERVICES / "hop_flask.py", "leaf", port=leaf, env={"PORT": leaf})
    workers = {"sync": ("--workers", "2"), "gthread": ("--workers", "1", "--threads", "8")}
    ports = {}
    for kind, args in workers.items():
        ports[kind] = net.free_port()
        gunicorn(services, "-k", kind, *args, port=ports[kind], NEXT=base(leaf), SLEEP=2)
    t = traced()
    for kind, port in ports.items():
        load.run(f"127.0.0.1:{port}", 320, 8, f"/r/{tag}-{kind}-%/n0")
    got = t.stop()
    for kind in workers:
        with case(kind):
            mine = assert_exact(got, f"{tag}-{kind}", 320, ["n0", "n1"])
            assert_edges(mine)
            names = {s.service for s in mine if s.leg == "n0" and s.kind == SERVER}
            assert names == {"hop_flask"}, "gunicorn is named after the application that it serves"


def test_nginx_in_front_of_gunicorn(services, traced, tag, tmp_path):
    """proxy_pass: nginx forwards /r/ID/n0 as /r/ID/n1, so that the two legs can be told apart."""
    fronts = {}
    for over in ("unix", "tcp"):
        fronts[over], back, sock = net.free_port(), net.free_port(), tmp_path / "g.sock"
        gunicorn(services, "-k", "gthread", "--threads", "8", **({"unix": sock} if over == "unix" else {"port": back}))
        upstream = f"unix:{sock}" if over == "unix" else f"127.0.0.1:{back}"
        services.nginx(f"""upstream g {{ server {upstream}; }} server {{ listen 127.0.0.1:{fronts[over]};
            location / {{ rewrite ^(.*)/n0$ $1/n1 break; proxy_pass http://g; }} }}""", port=fronts[over])
    t = traced()
    cases = [(over, connections, f"{tag}-{over}{connections}") for over in fronts for connections in (1, 16)]
    for over, connections, mark in cases:
        load.run(f"127.0.0.1:{fronts[over]}", 320, connections, f"/r/{mark}-%/n0")
    got = t.stop()
    for over, connections, mark in cases:
        with case(f"{over}, {connections} connections"):
            assert_edges(assert_exact(got, mark, 320, ["n0", "n1"]))


def test_nginx_keepalive_upstream(services, traced, tag):
    """Upstream connections that live on and are shared by requests of many clients."""
    port, back = net.free_port(), net.free_port()
    services.nginx(f"server {{ listen 127.0.0.1:{back}; location / {{ return 200 ok; }} }}", port=back)
    services.nginx(f"""upstream b {{ server 127.0.0.1:{back}; keepalive 8; }} server {{ listen 127.0.0.1:{port};
        location / {{ rewrite ^(.*)/n0$ $1/n1 break; proxy_http_version 1.1; proxy_set_header Connection "";
                      proxy_pass http://b; }} }}""", port=port)
    t = traced()
    load.run(f"127.0.0.1:{port}", 2000, 32, f"/r/{tag}-%/n0")
    mine = assert_exact(t.stop(), tag, 2000, ["n0", "n1"])
    assert_edges(mine)


SHAPES = {  # what clients ask, what nginx makes of it
    "as-is": ("/r/{tag}-%/n0", ""),
    "rewritten": ("/r/{tag}-%/n0", "rewrite ^(.*)/n0$ $1/n1 break;"),
    "prefix": ("/api/r/{tag}-%/n0", "rewrite ^/api(/.*)$ $1 break;"),
    "same-path": ("/api/x?rid={tag}-%", "rewrite ^/api(/.*)$ $1 break;"),
}


def slow_nginx(services, how, shape, tag):
    """nginx in front of nginx, with timers between a request and its call. Its port, and what to ask it for."""
    port, back, mute = net.free_port(), net.free_port(), net.free_port()
    url, rewrite = SHAPES[shape]
    services.nginx(f"server {{ listen 127.0.0.1:{back}; location / {{ return 200 ok; }} }}", port=back)
    services.start([python(), SERVICES / "raw.py", "mute", mute], "mute", port=mute)
    limit = "limit_req zone=z burst=1000;" if how == "delayed" else ""
    dead = {"delayed": None, "retried": mute, "refused": net.free_port()}[how]
    # neither is ever given up: a time-out of 100 ms may be the backend's, too, where the machine stands still
    servers = f"server 127.0.0.1:{back} max_fails=0;" + (f" server 127.0.0.1:{dead} max_fails=0;" if dead else "")
    services.nginx(f"""limit_req_zone $server_name zone=z:1m rate=400r/s; upstream b {{ {servers} }}
        server {{ listen 127.0.0.1:{port}; location / {{ {limit} {rewrite} proxy_read_timeout 100ms; proxy_pass http://b; }} }}
        """, port=port)
    return port, url.format(tag=tag)


@pytest.mark.parametrize("how", ["delayed", "retried", "refused"])
def test_nginx_timers_are_never_guessed(services, traced, tag, how):
    """A request that a timer starts or repeats runs after other requests' callbacks: maybe no parent, never theirs."""
    fronts = {shape: slow_nginx(services, how, shape, f"{tag}-{shape}") for shape in SHAPES}
    t = traced()
    for port, url in fronts.values():
        load.run(f"127.0.0.1:{port}", 400, 16, url, any_status=True)
    got = t.stop()
    for shape in SHAPES:
        with case(shape):
            assert_own_or_none(spans.tagged(got, f"{tag}-{shape}"))


def assert_own_or_none(got):
    by_id = {s.id: s for s in got}
    calls = [s for s in got if s.kind == CLIENT and s.service == "nginx" and s.name != "connect"]
    assert len(calls) >= 400
    drawn = [s for s in calls if s.parent in by_id]
    wrong = [s for s in drawn if by_id[s.parent].rid != s.rid or by_id[s.parent].kind != SERVER]
    print(f"parents: {len(drawn)} of {len(calls)} drawn")
    assert not wrong, [(s, s.attrs.get("wirespan.parent.evidence"), by_id[s.parent]) for s in wrong[:3]]


def haproxy(services, tmp_path, backend=""):
    """A reactor that is not on the tested list, in front of nginx. Its port."""
    port, back = net.free_port(), net.free_port()
    services.nginx(f"server {{ listen 127.0.0.1:{back}; location / {{ return 200 ok; }} }}", port=back)
    conf = tmp_path / "haproxy.cfg"
    conf.write_text(f"""\
global
    nbthread 1
defaults
    mode http
    timeout connect 5s
    timeout client 30s
    timeout server 30s
frontend f
    bind 127.0.0.1:{port}
    default_backend b
backend b
    {backend}
    http-reuse always
    server s 127.0.0.1:{back} maxconn 4
""")
    services.start(["/usr/sbin/haproxy", "-db", "-f", conf], "haproxy", port=port)
    return port


def test_haproxy_is_never_guessed(services, traced, tag, tmp_path):
    """What it rewrites is not what was asked for: parents only where they can be proven, none wrong."""
    port = haproxy(services, tmp_path, "http-request replace-path (.*)/n0 \\1/n1")
    t = traced()
    load.run(f"127.0.0.1:{port}", 1000, 16, f"/r/{tag}-%/n0")
    mine = assert_exact(t.stop(), tag, 1000, ["n0", "n1"])
    e = assert_edges(mine, missing=None)
    assert all(s.kind == CLIENT and s.leg == "n1" for s in e.missing), "only the reactor's own calls may lack a parent"


def proxied(got, tag):
    """{evidence or None: calls} of HAProxy's calls, each held against the request that it passes on."""
    mine = spans.tagged(got, tag)
    by_id = {s.id: s for s in mine}
    found = collections.Counter()
    for s in mine:
        if s.kind != CLIENT or s.service != "haproxy":
            continue
        parent = by_id.get(s.parent)
        assert not s.parent or (parent.kind == SERVER and parent.rid == s.rid and parent.service == "haproxy"), (s, parent)
        found[s.attrs.get("wirespan.parent.evidence")] += 1
    return found


def test_forwarded_content(services, traced, tag, tmp_path):
    """Passed on as they came, four at a time, the others queued: by their content, if that differs."""
    port = haproxy(services, tmp_path)
    t = traced()
    load.run(f"127.0.0.1:{port}", 2000, 64, f"/r/{tag}-%/n0")
    assert proxied(t.stop(), tag) == {"content": 2000}


def test_forwarded_content_of_equals(services, traced, tag, tmp_path):
    """The same request from everybody: only one that was alone can be told."""
    port = haproxy(services, tmp_path)
    t = traced()
    load.run(f"127.0.0.1:{port}", 500, 16, f"/r/{tag}/n0")
    got = t.stop()
    calls = [s for s in spans.tagged(got, tag) if s.kind == CLIENT and s.service == "haproxy"]
    assert len(calls) == 500
    parents = [s.parent for s in calls if s.parent]
    assert len(set(parents)) == len(parents), "two calls of one request"
    assert len(parents) < 450, "equal requests told apart"


def test_single_where_contexts_are_switched_off(services, traced, tag):
    a, b = net.free_port(), net.free_port()
    uvicorn(services, b)
    uvicorn(services, a, NEXT=base(b))
    # these services leave no work behind
    t = traced("--evidence-single", "--evidence-off", "context,executor")
    for i in range(4):
        with load.Raw(("127.0.0.1", a)) as c:
            assert c.get(f"/r/{tag}-{i}/n0")[0] == 200
        time.sleep(2.2)  # nothing of the one before can still be at work
    mine = assert_exact(t.stop(), tag, 4, ["n0", "n1"])
    assert_edges(mine)


def test_fastapi_background_tasks_never_wrong(services, traced, tag, tmp_path):
    """Calls that a request leaves behind, while the next one is the only one alive: theirs, not the next one's."""
    script = tmp_path / "late.py"
    script.write_text("""\
import asyncio, os, fastapi, httpx, uvicorn
app = fastapi.FastAPI()
async def late(rid):
    async with httpx.AsyncClient() as c:
        await c.get(f"{os.environ['NEXT']}/r/{rid}/n1")
@app.get("/r/{rid}/{leg}")
async def hop(rid: str, leg: str, background: fastapi.BackgroundTasks):
    background.add_task(late, rid)
    await asyncio.sleep(0.02)
    return rid
uvicorn.run(app, host="127.0.0.1", port=int(os.environ["PORT"]), log_level="error", timeout_keep_alive=600)
""")
    port, leaf = net.free_port(), net.free_port()
    services.script(SERVICES / "hop_flask.py", "leaf", port=leaf, env={"PORT": leaf})
    services.script(script, "late", port=port, env={"PORT": port, "NEXT": base(leaf)})
    t = traced()
    for concurrency in (1, 2, 8):
        load.run(f"127.0.0.1:{port}", 60, concurrency, f"/r/{tag}-{concurrency}.%/n0")
        time.sleep(0.5)
    got = spans.tagged(t.stop(), tag)
    by_id = {s.id: s for s in got}
    late = [s for s in got if s.kind == CLIENT and s.leg == "n1"]
    assert len(late) == 180
    wrong = [(s, by_id[s.parent]) for s in late if s.parent in by_id and by_id[s.parent].rid != s.rid]
    assert not wrong, wrong[:3]


def test_asyncio_work_of_its_own_is_never_a_requests(services, traced, tag, tmp_path):
    """A poll every 0.3 s since start-up, and calls that a request leaves behind for 2.5 s, while one request is alive."""
    script = tmp_path / "own.py"
    script.write_text("""\
import asyncio, contextlib, os, fastapi, httpx, uvicorn
async def call(rid, leg, after=0):
    await asyncio.sleep(after)
    async with httpx.AsyncClient() as c:
        await c.get(f"{os.environ['NEXT']}/r/{rid}/{leg}")
async def poll():
    for i in range(1000):
        await call(f"{os.environ['TAG']}-poll{i}", "p", 0.3)
@contextlib.asynccontextmanager
async def life(app):
    t = asyncio.create_task(poll())
    yield
    t.cancel()
app = fastapi.FastAPI(lifespan=life)
@app.get("/r/{rid}/{leg}")
async def hop(rid: str, leg: str, background: fastapi.BackgroundTasks):
    background.add_task(call, rid, "n1", 2.5)
    await asyncio.sleep(2)
    return rid
uvicorn.run(app, host="127.0.0.1", port=int(os.environ["PORT"]), log_level="error", timeout_keep_alive=600)
""")
    port, leaf = net.free_port(), net.free_port()
    services.script(SERVICES / "hop_flask.py", "leaf", port=leaf, env={"PORT": leaf})
    t = traced()
    own = services.script(script, "own", port=port, env={"PORT": port, "NEXT": base(leaf), "TAG": tag})
    for i in range(3):
        with load.Raw(("127.0.0.1", port)) as c:
            assert c.get(f"/r/{tag}-{i}/n0")[0] == 200
    time.sleep(3)
    own.stop()  # it would go on for ever
    got = spans.tagged(t.stop(), tag)
    by_id = {s.id: s for s in got}
    calls = [s for s in got if s.kind == CLIENT and s.leg in ("p", "n1")]
    assert sum(s.leg == "n1" for s in calls) == 3 and sum(s.leg == "p" for s in calls) >= 10
    assert not [(s, by_id[s.parent]) for s in calls if s.parent in by_id and by_id[s.parent].rid != s.rid]


def test_fastapi_httpx(services, traced, tag):
    """64 requests live on one thread: their contexts tell them apart."""
    a, b = net.free_port(), net.free_port()
    uvicorn(services, b, SLEEP=5)
    uvicorn(services, a, NEXT=base(b))
    t = traced()
    load.run(f"127.0.0.1:{a}", 640, 64, f"/r/{tag}-%/n0")
    assert_edges(assert_exact(t.stop(), tag, 640, ["n0", "n1"]))


def test_contexts_switched_off_are_never_guessed(services, traced, tag):
    """The same without them: what cannot be proven is a root, it is counted, and its links name who may have called."""
    a, b = net.free_port(), net.free_port()
    uvicorn(services, b, SLEEP=5)
    uvicorn(services, a, NEXT=base(b))
    t = traced("--evidence-off", "context,executor", "--link-candidates")
    load.run(f"127.0.0.1:{a}", 640, 64, f"/r/{tag}-%/n0")
    mine = assert_exact(t.stop(), tag, 640, ["n0", "n1"])
    e = assert_edges(mine, missing=None)
    assert len(e.missing) == 640 and all(s.kind == CLIENT and s.leg == "n1" for s in e.missing)
    by_id = {s.id: s for s in mine}
    for s in e.missing:
        linked = [by_id[link["spanId"]] for link in s.raw["links"]]
        assert len(linked) <= 64 and all(c.kind == SERVER and c.leg == "n0" for c in linked)
        assert [c.trace for c in linked if c.rid == s.rid] == [
            link["traceId"] for link in s.raw["links"] if by_id[link["spanId"]].rid == s.rid] != []


def test_fan_out_in_order(services, traced, tag):
    """One request that makes three calls, one after the other, to three services."""
    ports = [net.free_port() for _ in range(4)]
    for p in ports[1:]:
        services.script(SERVICES / "hop_flask.py", "leaf", port=p, env={"PORT": p})
    services.script(SERVICES / "hop_flask.py", "fan", port=ports[0],
                    env={"PORT": ports[0], "NEXT": " ".join(base(p) for p in ports[1:])})
    t = traced()
    load.run(f"127.0.0.1:{ports[0]}", 100, 8, f"/r/{tag}-%/n0")
    mine = assert_exact(t.stop(), tag, 100, ["n0", "n1a", "n1b", "n1c"])
    assert_edges(mine)
    by = {(s.rid, s.kind, s.leg): s for s in mine}
    for i in range(100):
        rid = f"{tag}-{i}"
        assert by[rid, CLIENT, "n1a"].end <= by[rid, CLIENT, "n1b"].start
        assert by[rid, CLIENT, "n1b"].end <= by[rid, CLIENT, "n1c"].start
        for leg in ("n0", "n1a", "n1b", "n1c"):
            c, s = by[rid, CLIENT, leg], by[rid, SERVER, leg]
            assert c.start <= s.start, "a joined client span starts after its server span"


def test_pool_grown_inside_a_request(services, traced, tag, tmp_path):
    """Threads created in one request and reused by others: adopting the creator's request would be wrong."""
    script = tmp_path / "pool.py"
    script.write_text("""\
import concurrent.futures, os, sys, flask, requests
app = flask.Flask(__name__)
pool = concurrent.futures.ThreadPoolExecutor(8)
@app.get("/r/<rid>/<leg>")
def hop(rid, leg):
    return pool.submit(lambda: requests.get(f"{os.environ['LEAF']}/r/{rid}/n1").text).result()
app.run("127.0.0.1", int(os.environ["PORT"]), threaded=True)
""")
    port, leaf = net.free_port(), net.free_port()
    services.script(SERVICES / "hop_flask.py", "leaf", port=leaf, env={"PORT": leaf})
    services.script(script, "pool", port=port, env={"PORT": port, "LEAF": base(leaf)})
    t = traced()
    load.run(f"127.0.0.1:{port}", 320, 16, f"/r/{tag}-%/n0")
    mine = assert_exact(t.stop(), tag, 320, ["n0", "n1"])
    e = assert_edges(mine, missing=None)
    assert all(s.kind == CLIENT and s.leg == "n1" for s in e.missing)


def test_thread_per_call_inherits(services, traced, tag, tmp_path):
    """A thread made for one piece of work, which ends with it: its binding counts."""
    script = tmp_path / "spawn.py"
    script.write_text("""\
import os, threading, flask, requests
app = flask.Flask(__name__)
@app.get("/r/<rid>/<leg>")
def hop(rid, leg):
    t = threading.Thread(target=lambda: requests.get(f"{os.environ['LEAF']}/r/{rid}/n1"))
    t.start(); t.join()
    return "ok"
app.run("127.0.0.1", int(os.environ["PORT"]), threaded=True)
""")
    port, leaf = net.free_port(), net.free_port()
    services.script(SERVICES / "hop_flask.py", "leaf", port=leaf, env={"PORT": leaf})
    services.script(script, "spawn", port=port, env={"PORT": port, "LEAF": base(leaf)})
    t = traced()
    load.run(f"127.0.0.1:{port}", 160, 16, f"/r/{tag}-%/n0")
    mine = assert_exact(t.stop(), tag, 160, ["n0", "n1"])
    assert_edges(mine)
    assert len({s.trace for s in spans.tagged(mine, tag)}) == 160


@pytest.mark.parametrize("how", ["select", "poll", "epoll"])
def test_who_waits_for_others_serves_several(services, traced, tag, how):
    """One client at a time, and a timer that runs for the first time while its request is open: no parent."""
    leaf, ports = net.free_port(), {kind: net.free_port() for kind in ("now", "later", "same", "both")}
    services.start([python(), SERVICES / "raw.py", "threads", leaf], "leaf", port=leaf)
    for kind, port in ports.items():
        services.start([python(), SERVICES / "waiting.py", port, leaf, how, *(["threads"] if kind == "both" else [])],
                       kind, port=port)
    t = traced()
    for kind, port in ports.items():
        with load.Raw(("127.0.0.1", port)) as c:
            for i in range(1 if kind in ("later", "same") else 5):
                assert c.get(f"/r/{tag}-{kind}-{i}/n0")[0] == 200
    got = t.stop()
    for kind in ("now", "both"):
        with case(kind):
            mine = spans.tagged(got, f"{tag}-{kind}")
            assert len([s for s in mine if s.kind == CLIENT and s.leg.startswith("n1")]) == (5 if kind == "now" else 10)
            assert_edges(mine)
    for kind in ("later", "same"):
        with case(kind):
            call, = [s for s in spans.tagged(got, f"{tag}-{kind}") if s.kind == CLIENT and s.leg == "timer"]
            assert not call.parent
            assert call.attrs["wirespan.parent.missing"] == "this thread serves several connections at a time"
