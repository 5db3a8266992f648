# SPDX-License-Identifier: Apache-2.0
"""FastAPI with one shared httpx client: awaited, gathered, in a thread with and without the context; with LATE=task after the
answer, with LATE=worker by a task that whoever finds none starts, and that ends when nothing is left to do."""
import asyncio
import os

import fastapi
import httpx
import requests

LEAF = os.environ["LEAF"]
POOL = int(os.environ.get("POOL", "400"))
TIMEOUT = float(os.environ.get("TIMEOUT", "60"))
# Not in the application's lifespan: Daphne has none.
client = httpx.AsyncClient(limits=httpx.Limits(max_connections=POOL, max_keepalive_connections=0 if os.environ.get("CLOSE") else None))
app = fastapi.FastAPI()


async def get(rid, leg):
    try:
        await client.get(f"{LEAF}/r/{rid}/{leg}", timeout=TIMEOUT)
    except httpx.TimeoutException:
        await client.get(f"{LEAF}/r/{rid}/{leg}", timeout=60)


def blocking(rid, leg):
    try:
        requests.get(f"{LEAF}/r/{rid}/{leg}", timeout=TIMEOUT)
    except requests.Timeout:
        requests.get(f"{LEAF}/r/{rid}/{leg}", timeout=60)


async def late(rid):
    await asyncio.sleep(0.02)
    await get(rid, "n1f")


worker, backlog = None, []


async def work():
    global worker
    await asyncio.sleep(0.5)  # the request that has started it is over by then
    while backlog:
        await asyncio.gather(*(late(backlog.pop(0)) for _ in range(min(16, len(backlog)))))
    worker = None


@app.get("/r/{rid}/n0")
async def hop(rid: str, background: fastapi.BackgroundTasks):
    global worker
    loop = asyncio.get_running_loop()
    await get(rid, "n1a")
    await asyncio.gather(get(rid, "n1b"), get(rid, "n1c"))
    await asyncio.to_thread(blocking, rid, "n1d")
    await loop.run_in_executor(None, blocking, rid, "n1e")
    if os.environ.get("LATE") == "task":
        background.add_task(late, rid)
    elif os.environ.get("LATE") == "worker":
        backlog.append(rid)
        if not worker:
            worker = asyncio.create_task(work())
    return rid
