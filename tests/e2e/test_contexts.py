# SPDX-License-Identifier: Apache-2.0
"""Contexts that mislead: work that looks like one request's and is another's. A parent may be missing, never wrong."""
import contextlib
import pathlib
import time

import pytest
import waitress
from conftest import SERVICES

from rig import PYTHONS, SLOW, load, net, python, spans
from rig.spans import CLIENT

APP = """\
import asyncio, collections, concurrent.futures, os, queue, threading, time
import fastapi, httpx, requests, uvicorn
LEAF = os.environ["LEAF"]
app = fastapi.FastAPI()
started, pending, bells = set(), collections.deque(), queue.SimpleQueue()
inbox, items, pool = asyncio.Queue(), queue.Queue(), concurrent.futures.ThreadPoolExecutor(2)
async def call(rid):
    async with httpx.AsyncClient() as c:
        await c.get(f"{LEAF}/r/{rid}/n1")
async def worker():
    while True:
        await call(await inbox.get())
        await asyncio.sleep(0.1)  # busy when the next comes: nobody is woken then
async def poller():
    while True:
        await asyncio.sleep(0.05)
        while pending:
            await call(pending.popleft())
def loop():
    while True:
        requests.get(f"{LEAF}/r/{items.get()}/n1")
def bell():
    while True:
        bells.get()
        time.sleep(0.2)
        requests.get(f"{LEAF}/r/{pending.popleft()}/n1")
def once(what, start):
    if what not in started:
        started.add(what)
        return start()
@app.get("/r/{rid}/{leg}")
async def hop(rid: str, leg: str, kind: str):
    if kind == "queue":
        once(kind, lambda: asyncio.create_task(worker()))
        inbox.put_nowait(rid)
    elif kind == "poll":
        once(kind, lambda: asyncio.create_task(poller()))
        pending.append(rid)
    elif kind == "executor":
        once(kind, lambda: pool.submit(loop))
        items.put(rid)
    elif kind == "bell":
        once(kind, lambda: threading.Thread(target=bell, daemon=True).start())
        pending.append(rid)
        bells.put(True)
        await asyncio.sleep(1)
    return rid
uvicorn.run(app, host="127.0.0.1", port=int(os.environ["PORT"]), log_level="error")
"""

HUB = """\
import asyncio, os, urllib.request
LEAF, waiting = os.environ["LEAF"], {}
ANSWER = b"HTTP/1.1 200 OK\\r\\nContent-Length: 2\\r\\n\\r\\nok"
class Hub(asyncio.Protocol):
    def connection_made(self, transport):
        self.transport = transport
    def data_received(self, data):
        rid = data.split()[1].decode().split("/")[2]
        if rid.endswith("bang"):
            for f in waiting.values():
                f.set_result(None)
            waiting.clear()
            asyncio.get_running_loop().call_later(1, self.transport.write, ANSWER)
        else:
            self.task = asyncio.get_running_loop().create_task(self.wait(rid))
    async def wait(self, rid):
        await waiting.setdefault(rid, asyncio.get_running_loop().create_future())
        await asyncio.to_thread(urllib.request.urlopen, f"{LEAF}/r/{rid}/n1")
        self.transport.write(ANSWER)
async def main():
    server = await asyncio.get_running_loop().create_server(Hub, "127.0.0.1", int(os.environ["PORT"]))
    await server.serve_forever()
asyncio.run(main())
"""

# Four at a time: the last one's read sets a future that ends the wait of all.
FOUR = """\
import asyncio, contextvars, os, sys, urllib.parse, urllib.request
LEAF, kind, group, done = os.environ["LEAF"], os.environ["KIND"], [], None
ANSWER = b"HTTP/1.1 200 OK\\r\\nContent-Length: 2\\r\\n\\r\\nok"
def call(rid):
    urllib.request.urlopen(f"{LEAF}/r/{rid}/n1").read()
def answer(four):
    for _, transport in four:
        transport.write(ANSWER)
def take():
    four, group[:] = group[:], []
    return four
async def batcher():
    global done
    while True:
        done = asyncio.get_running_loop().create_future()
        await done
        four = take()
        for rid, _ in four:
            call(rid)
        answer(four)
class Four(asyncio.Protocol):
    def connection_made(self, transport):
        self.transport, self.context = transport, contextvars.copy_context()
    def data_received(self, data):
        global done
        self.rid = data.split()[1].decode().split("/")[2]
        group.append((self.rid, self.transport))
        if kind == "shared":
            done = done or asyncio.get_running_loop().create_future()
            done.add_done_callback(self.go, context=self.context)
        if len(group) == 4:
            done.set_result(None)
            done = None
    def go(self, _):
        if group:
            four = take()
            call(self.rid)
            asyncio.get_running_loop().call_later(0.2, answer, four)
        else:
            call(self.rid)
class Client(asyncio.Protocol):
    \"""A call on a connection of its own; its answer starts the next that waits.\"""
    busy, waiting = False, []
    def __init__(self, rid, server):
        self.rid, self.server = rid, server
    def connection_made(self, transport):
        transport.write(f"GET /r/{self.rid}/n1 HTTP/1.1\\r\\nHost: x\\r\\nConnection: close\\r\\n\\r\\n".encode())
    def data_received(self, data):
        if not self.server:
            return  # the rest of it: head and body may come in two pieces
        asyncio.get_running_loop().call_later(0.2, self.server.write, ANSWER)
        self.server = None
        Client.busy = False
        if Client.waiting:
            Client.start(*Client.waiting.pop(0))
    @staticmethod
    def start(rid, server):
        url, Client.busy = urllib.parse.urlsplit(LEAF), True
        asyncio.ensure_future(asyncio.get_running_loop().create_connection(lambda: Client(rid, server), url.hostname, url.port))
class Pool(Four):
    def data_received(self, data):
        rid = data.split()[1].decode().split("/")[2]
        if Client.busy:
            Client.waiting.append((rid, self.transport))
        else:
            Client.start(rid, self.transport)
async def main():
    if kind == "batch":
        task = asyncio.create_task(batcher())
    server = await asyncio.get_running_loop().create_server(Pool if kind == "client" else Four, "127.0.0.1", int(os.environ["PORT"]))
    await server.serve_forever()
if "uvloop" in sys.argv:
    import uvloop
    uvloop.install()
asyncio.run(main())
"""

# Tasks that gather what is there after a moment, call for each and answer all: each connection's own, or one for all that
# a connection starts, before its first request is read or while it is made.
GATHER = """\
import asyncio, os, sys, urllib.parse
LEAF, kind = urllib.parse.urlsplit(os.environ["LEAF"]), os.environ["KIND"]
ANSWER = b"HTTP/1.1 200 OK\\r\\nContent-Length: 2\\r\\n\\r\\nok"
queue, connections, tasks = asyncio.Queue(), 0, []
async def call(rid):
    reader, writer = await asyncio.open_connection(LEAF.hostname, LEAF.port)
    writer.write(f"GET /r/{rid}/n1 HTTP/1.1\\r\\nHost: x\\r\\nConnection: close\\r\\n\\r\\n".encode())
    await reader.read()
    writer.close()
def rid_of(head):
    return head.split()[1].decode().split("/")[2]
async def gather(get, more):
    while True:
        group = [await get()]
        await asyncio.sleep(0.1)
        while more():
            group.append(await get())
        for rid, _ in group:
            await call(rid)
        for _, writer in group:
            writer.write(ANSWER)
def begin():
    global connections
    connections += 1
    if connections == 2 and kind != "own":  # the first only looks whether the port is open
        tasks.append(asyncio.create_task(gather(queue.get, lambda: not queue.empty())))
async def serve(reader, writer):
    async def get():
        return rid_of(await reader.readuntil(b"\\r\\n\\r\\n")), writer
    begin()
    try:
        if kind == "own":
            await gather(get, lambda: b"\\r\\n\\r\\n" in reader._buffer)
        while True:
            queue.put_nowait(await get())
    except asyncio.IncompleteReadError:
        writer.close()
class Serve(asyncio.Protocol):
    def connection_made(self, transport):
        self.transport = transport
        begin()
    def data_received(self, data):
        queue.put_nowait((rid_of(data), self.transport))
async def main():
    port = int(os.environ["PORT"])
    if kind == "made":
        server = await asyncio.get_running_loop().create_server(Serve, "127.0.0.1", port)
    else:
        server = await asyncio.start_server(serve, "127.0.0.1", port)
    await server.serve_forever()
if "uvloop" in sys.argv:
    import uvloop
    uvloop.install()
asyncio.run(main())
"""

# A connection that is not read any more, whose context another request's task may get the address of.
PAUSE = """\
import asyncio, os, urllib.parse
LEAF, held = urllib.parse.urlsplit(os.environ["LEAF"]), asyncio.Event()
ANSWER = b"HTTP/1.1 200 OK\\r\\nContent-Length: 2\\r\\n\\r\\nok"
class Pause(asyncio.Protocol):
    def connection_made(self, transport):
        self.transport = transport
    def data_received(self, data):
        rid, loop = data.split()[1].decode().split("/")[2], asyncio.get_running_loop()
        if rid.endswith("hold"):
            self.transport.pause_reading()
            held.set()
            loop.call_later(1, self.transport.write, ANSWER)
        else:
            self.task = loop.create_task(self.wait(rid))
    async def wait(self, rid):
        await held.wait()
        await asyncio.gather(*(self.call(rid) for _ in range(4)))
        self.transport.write(ANSWER)
    async def call(self, rid):
        reader, writer = await asyncio.open_connection(LEAF.hostname, LEAF.port)
        writer.write(f"GET /r/{rid}/n1 HTTP/1.1\\r\\nHost: x\\r\\nConnection: close\\r\\n\\r\\n".encode())
        await reader.read()
        writer.close()
async def main():
    server = await asyncio.get_running_loop().create_server(Pause, "127.0.0.1", int(os.environ["PORT"]))
    await server.serve_forever()
asyncio.run(main())
"""

# Two tasks for each connection: one serves it, the other has work of its own. Neither waits when the first request comes.
GUARD = """\
import asyncio, os, sys, urllib.parse
LEAF = urllib.parse.urlsplit(os.environ["LEAF"])
ANSWER = b"HTTP/1.1 200 OK\\r\\nContent-Length: 2\\r\\n\\r\\nok"
async def call(rid):
    reader, writer = await asyncio.open_connection(LEAF.hostname, LEAF.port)
    writer.write(f"GET /r/{rid}/n1 HTTP/1.1\\r\\nHost: x\\r\\nConnection: close\\r\\n\\r\\n".encode())
    await reader.read()
    writer.close()
class Guard(asyncio.Protocol):
    def connection_made(self, transport):
        loop = asyncio.get_running_loop()
        self.transport, self.waiter, self.rids, self.open = transport, None, [], True
        self.tasks = [loop.create_task(self.guard()), loop.create_task(self.serve())]
    def connection_lost(self, _):
        self.open = False
    def data_received(self, data):
        self.rids.append(data.split()[1].decode().split("/")[2])
        if self.waiter:
            self.waiter.set_result(None)
    async def serve(self):
        await asyncio.sleep(0.1)
        while self.open:
            if not self.rids:
                self.waiter = asyncio.get_running_loop().create_future()
                await self.waiter
                self.waiter = None
            rid = self.rids.pop(0)
            await call(rid)
            await asyncio.sleep(0.2)
            self.transport.write(ANSWER)
    async def guard(self):
        while self.open:
            await asyncio.sleep(0.03)
            await call(sys.argv[2] + "-guard")
async def main():
    server = await asyncio.get_running_loop().create_server(Guard, "127.0.0.1", int(os.environ["PORT"]))
    await server.serve_forever()
if "uvloop" in sys.argv:
    import uvloop
    uvloop.install()
asyncio.run(main())
"""

PIPE = """\
import asyncio, os
import fastapi, httpx, uvicorn
app, client = fastapi.FastAPI(), httpx.AsyncClient()
@app.get("/r/{rid}/n0")
async def hop(rid: str):
    if rid.endswith("big"):
        await asyncio.sleep(0.1)
        return fastapi.Response(b"x" * 12_000_000)
    await client.get(f"{os.environ['LEAF']}/r/{rid}/n1")
    return rid
uvicorn.run(app, host="127.0.0.1", port=int(os.environ["PORT"]), log_level="error", loop="asyncio", http="h11")
"""


# Requests wait in a deque there: for a thread of waitress' pool, or for the task of the connection.
WAITING = """\
import asyncio, os, sys, time
LEAF, PORT = os.environ["LEAF"], int(os.environ["PORT"])
if sys.argv[1] == "waitress":
    import urllib.request, waitress
    def app(environ, start_response):
        rid = environ["PATH_INFO"].split("/")[2]
        time.sleep(0.2)
        urllib.request.urlopen(f"{LEAF}/r/{rid}/n1").read()
        start_response("200 OK", [("Content-Length", str(len(rid)))])
        return [rid.encode()]
    waitress.serve(app, host="127.0.0.1", port=PORT, threads=2, _quiet=True)
else:
    import aiohttp, uvloop
    from aiohttp import web
    async def hop(request):
        rid = request.match_info["rid"]
        await asyncio.sleep(0.2)
        async with aiohttp.ClientSession() as session, session.get(f"{LEAF}/r/{rid}/n1"):
            pass
        return web.Response(text=rid)
    app = web.Application()
    app.router.add_get("/r/{rid}/n0", hop)
    web.run_app(app, host="127.0.0.1", port=PORT, loop=uvloop.new_event_loop(), print=None)
"""


def start_service(services, tmp_path, text, *argv, exe=None, **env):
    port, leaf = net.free_port(), net.free_port()
    (tmp_path / "service.py").write_text(text)
    services.start([python(), SERVICES / "hop_flask.py"], "leaf", port=leaf, env={"PORT": leaf})
    services.start([exe or python(), tmp_path / "service.py", *argv], "service", port=port,
                   env={"PORT": port, "LEAF": f"http://127.0.0.1:{leaf}", **env})
    return port


def get(port, path):
    c = load.Raw(("127.0.0.1", port))
    c.s.sendall(load.request(path))
    return c


def edges(got):
    """[(id of the call, id of its parent or None)]"""
    by_id = {s.id: s for s in got}
    return [(s.rid, by_id[s.parent].rid if s.parent in by_id else None) for s in got if s.kind == CLIENT and s.leg == "n1"]


def test_workers_that_a_request_was_the_first_to_need(services, traced, tag, tmp_path):
    """A queue's worker, a poller, a loop in an executor, a thread behind a bell: started in one request, they serve all."""
    port = start_service(services, tmp_path, APP)
    t = traced()
    for kind in ("queue", "poll", "executor", "bell"):
        open_ = []
        for i in range(4):
            open_.append(get(port, f"/r/{tag}-{kind}{i}/n0?kind={kind}"))
            time.sleep(0.03)
        for c in open_:
            assert c.answer()[0] == 200
            c.close()
        time.sleep(1)
    got = edges(spans.tagged(t.stop(), tag))
    assert len(got) == 16, got
    assert not [e for e in got if e[1] not in (None, e[0])], got


def test_told_by_another_request(services, traced, tag, tmp_path):
    """Three long polls whose futures are set while a fourth request is read: each goes on with its own work."""
    port = start_service(services, tmp_path, HUB)
    t = traced()
    open_ = []
    for rid in ("a", "b", "c", "bang"):
        open_.append(get(port, f"/r/{tag}-{rid}/n0"))
        time.sleep(0.1)
    for c in open_:
        assert c.answer()[0] == 200
        c.close()
    got = edges(spans.tagged(t.stop(), tag))
    assert sorted(got) == [(f"{tag}-{r}", f"{tag}-{r}") for r in "abc"]


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
@pytest.mark.parametrize("kind", ["batch", "shared", "client"])
def test_woken_for_several(services, traced, tag, tmp_path, kind, loop):
    """A task that was there from the start; callbacks of several on one future, the first of which answers all; a pool whose
    connections write when they are made, and start what waits when they have their answer."""
    port = start_service(services, tmp_path, FOUR, loop, KIND=kind)
    t = traced()
    with contextlib.ExitStack() as stack:
        open_ = [stack.enter_context(load.Raw(("127.0.0.1", port))) for _ in range(4)]
        for i in range(3):
            for n, c in enumerate(open_):
                c.s.sendall(load.request(f"/r/{tag}-{i}{'abcd'[n]}/n0"))
                time.sleep(0 if kind == "client" else 0.03)  # there all but the first have to wait
            for c in open_:
                assert c.answer()[0] == 200
    got = edges(spans.tagged(t.stop(), tag))
    assert len(got) == 12, got
    assert not [e for e in got if e[1] not in (None, e[0])], got


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
@pytest.mark.parametrize("kind", ["own", "started", "made"])
def test_gathered(services, traced, tag, tmp_path, kind, loop):
    """Several requests that one task works on at a time: of one connection, one behind the other, or of all."""
    port = start_service(services, tmp_path, GATHER, loop, KIND=kind)
    t = traced()
    with contextlib.ExitStack() as stack:
        open_ = [stack.enter_context(load.Raw(("127.0.0.1", port))) for _ in range(1 if kind == "own" else 4)] * 4
        for i in range(3):
            for n, c in enumerate(open_[:4]):
                c.s.sendall(load.request(f"/r/{tag}-{i}{'abcd'[n]}/n0"))
                time.sleep(0.01)
            for c in open_[:4]:
                assert c.answer()[0] == 200
    got = edges(spans.tagged(t.stop(), tag))
    assert len(got) == 12, got
    assert not [e for e in got if e[1] not in (None, e[0])], got


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_first_of_a_connection(services, traced, tag, tmp_path, loop):
    """Read before the connection's task is there to wait for it: of the two that were made for the connection it is the
    work of the one that answers it."""
    port = start_service(services, tmp_path, GUARD, loop, tag)
    t = traced()
    for name in "ab":
        with load.Raw(("127.0.0.1", port)) as c:
            for i in range(3):
                assert c.get(f"/r/{tag}-{name}{i}/n0")[0] == 200
    got = edges(spans.tagged(t.stop(), tag))
    guards = [e for e in got if e[0] == f"{tag}-guard"]
    assert len(guards) > 5 and not [e for e in guards if e[1]], got
    assert sorted(e for e in got if e not in guards) == [(f"{tag}-{n}{i}", f"{tag}-{n}{i}") for n in "ab" for i in range(3)], got


def test_address_of_a_reader(services, traced, tag, tmp_path):
    """Its transport has stopped reading, and its context is gone; the tasks of another request get the address."""
    port = start_service(services, tmp_path, PAUSE)
    t = traced()
    open_ = []
    for rid in ("a", "hold"):
        open_.append(get(port, f"/r/{tag}-{rid}/n0"))
        time.sleep(0.1)
    for c in open_:
        assert c.answer()[0] == 200
        c.close()
    assert edges(spans.tagged(t.stop(), tag)) == 4 * [(f"{tag}-a", f"{tag}-a")]


def test_pipelined_behind_a_large_answer(services, traced, tag, tmp_path):
    """The second is served in a copy of the first's context, while most of the first's answer is still to be sent."""
    port = start_service(services, tmp_path, PIPE)
    t = traced()
    with load.Raw(("127.0.0.1", port)) as c:
        c.s.sendall(load.request(f"/r/{tag}-big/n0"))
        time.sleep(0.03)
        c.s.sendall(load.request(f"/r/{tag}-next/n0"))
        time.sleep(0.5)
        assert [c.answer()[0] for _ in range(2)] == [200, 200]
    assert edges(spans.tagged(t.stop(), tag)) == [(f"{tag}-next", None)]


# A pool whose loop reads all that are ready before it hands any of them over; its class has the name of waitress' own.
CHANNEL = """\
import collections, os, select, socket, threading, time, urllib.request
LEAF, waiting, more, channels = os.environ["LEAF"], collections.deque(), threading.Condition(), {}
class HTTPChannel:
    def __init__(self, s):
        self.s = s
def work():
    while True:
        with more:
            while not waiting:
                more.wait()
            channel = waiting.popleft()
        rid = channel.head.split()[1].decode().split("/")[2]
        urllib.request.urlopen(f"{LEAF}/r/{rid}/n1").read()
        channel.s.send(b"HTTP/1.1 200 OK\\r\\nContent-Length: 2\\r\\n\\r\\nok")
for _ in range(4):
    threading.Thread(target=work, daemon=True).start()
listener, poll = socket.create_server(("127.0.0.1", int(os.environ["PORT"]))), select.epoll()
poll.register(listener, select.EPOLLIN)
while True:
    ready = []
    for fd, _ in poll.poll():
        if fd == listener.fileno():
            s, _ = listener.accept()
            s.setblocking(False)
            channels[s.fileno()] = HTTPChannel(s)
            poll.register(s, select.EPOLLIN)
            continue
        channels[fd].head = channels[fd].s.recv(65536)
        if channels[fd].head:
            ready.append(channels[fd])
        else:
            poll.unregister(fd)
            channels.pop(fd).s.close()
    with more:
        for channel in ready:
            waiting.append(channel)
        more.notify_all()
    time.sleep(0.05)
"""


def three_of_each(stack, port, tag):
    """One request, by which it is known that deques have to be followed there; then three on each of six connections, one
    at a time. Returns the last connection."""
    with load.Raw(("127.0.0.1", port)) as c:
        assert c.get(f"/r/{tag}-first/n0")[0] == 200
    time.sleep(2 * SLOW)
    open_ = [stack.enter_context(load.Raw(("127.0.0.1", port))) for _ in range(6)]
    for i in range(3):
        for n, c in enumerate(open_):
            c.s.sendall(load.request(f"/r/{tag}-{n}.{i}/n0"))
        for c in open_:
            assert c.answer()[0] == 200
    return c


def test_another_class_of_that_name(services, traced, tag, tmp_path):
    port = start_service(services, tmp_path, CHANNEL)
    t = traced()
    with contextlib.ExitStack() as stack:
        three_of_each(stack, port, tag)
    got = edges(spans.tagged(t.stop(), tag))
    assert len(got) == 19 and not [e for e in got if e[1] not in (None, e[0])], got


SERVERS = [("waitress", None), ("aiohttp", None), *(("waitress", exe) for exe in PYTHONS)]


@pytest.mark.parametrize("server, exe", SERVERS, ids=[f"{s}-{exe.parent.name}" if exe else s for s, exe in SERVERS])
def test_waiting_in_a_deque(services, traced, tag, tmp_path, server, exe):
    """More than the pool can take, one after the other on kept connections; then two in one read, which nothing tells
    apart, and one that was sent while the one before was being served."""
    (tmp_path / "waitress").symlink_to(pathlib.Path(waitress.__file__).parent)  # it is all Python: any interpreter takes it
    port = start_service(services, tmp_path, WAITING, server, exe=exe)
    t = traced()
    with contextlib.ExitStack() as stack:
        c = three_of_each(stack, port, tag)
        c.s.sendall(load.request(f"/r/{tag}-both1/n0") + load.request(f"/r/{tag}-both2/n0"))
        assert [c.answer()[0] for _ in range(2)] == [200, 200]
        c.s.sendall(load.request(f"/r/{tag}-one/n0"))
        time.sleep(0.05)
        c.s.sendall(load.request(f"/r/{tag}-other/n0"))
        assert [c.answer()[0] for _ in range(2)] == [200, 200]
    got = {rid.removeprefix(f"{tag}-"): parent and parent.removeprefix(f"{tag}-")
           for rid, parent in edges(spans.tagged(t.stop(), tag))}
    assert got.pop("first") in (None, "first")
    alone = {f"{n}.{i}" for n in range(6) for i in range(3)} | {"one", "other"}
    assert got == {**{rid: rid for rid in alone}, "both1": None, "both2": None}
