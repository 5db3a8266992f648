# SPDX-License-Identifier: Apache-2.0
"""FastAPI with one shared httpx client: awaited, gathered, in a thread with and without the context, after the answer."""
import asyncio
import os

import fastapi
import httpx
import requests

LEAF = os.environ["LEAF"]
POOL = int(os.environ.get("POOL", "400"))
# Not in the application's lifespan: Daphne has none.
client = httpx.AsyncClient(timeout=60, limits=httpx.Limits(max_connections=POOL))
app = fastapi.FastAPI()


async def late(rid):
    await asyncio.sleep(0.02)
    await client.get(f"{LEAF}/r/{rid}/n1f")


@app.get("/r/{rid}/n0")
async def hop(rid: str, background: fastapi.BackgroundTasks):
    loop = asyncio.get_running_loop()
    await client.get(f"{LEAF}/r/{rid}/n1a")
    await asyncio.gather(client.get(f"{LEAF}/r/{rid}/n1b"), client.get(f"{LEAF}/r/{rid}/n1c"))
    await asyncio.to_thread(requests.get, f"{LEAF}/r/{rid}/n1d")
    await loop.run_in_executor(None, requests.get, f"{LEAF}/r/{rid}/n1e")
    if os.environ.get("LATE"):
        background.add_task(late, rid)
    return rid
