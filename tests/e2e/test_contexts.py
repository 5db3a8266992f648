# SPDX-License-Identifier: Apache-2.0
"""Contexts that mislead: work that looks like one request's and is another's. A parent may be missing, never wrong."""
import time

from conftest import SERVICES

from rig import load, net, python, spans
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


def start_service(services, tmp_path, text):
    port, leaf = net.free_port(), net.free_port()
    (tmp_path / "service.py").write_text(text)
    services.start([python(), SERVICES / "hop_flask.py"], "leaf", port=leaf, env={"PORT": leaf})
    services.start([python(), tmp_path / "service.py"], "service", port=port,
                   env={"PORT": port, "LEAF": f"http://127.0.0.1:{leaf}"})
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
