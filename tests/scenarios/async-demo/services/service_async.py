# SPDX-License-Identifier: Apache-2.0
"""service-async: an async step, a blocking step in a pool of three, and a call to itself.

`click` is passed on in the query, as a customer number would be; it is how the check knows which click
a call belongs to. Nothing reads it on the way.
"""
import asyncio
import concurrent.futures
import contextlib
import os
import time

import fastapi
import httpx
import requests

PORT = int(os.environ.get("PORT", "8082"))
LEAF = os.environ.get("LEAF", "http://127.0.0.1:9100")
pool = concurrent.futures.ThreadPoolExecutor(3)
client = None


@contextlib.asynccontextmanager
async def lifespan(_app):
    global client
    # uvicorn closes what was idle for five seconds, httpx's own limit as well: whoever asks just then gets an error.
    async with httpx.AsyncClient(timeout=60, limits=httpx.Limits(keepalive_expiry=2)) as client:
        yield


app = fastapi.FastAPI(lifespan=lifespan)


async def pure_async():
    await asyncio.sleep(0.01)
    return "awaited"


def blocking(click):
    time.sleep(0.1)
    return requests.get(f"{LEAF}/block", params={"click": click}, timeout=60).text


@app.get("/compute")
async def compute(click: str = ""):
    one = await pure_async()
    two = await asyncio.get_running_loop().run_in_executor(pool, blocking, click)
    three = (await client.get(f"http://127.0.0.1:{PORT}/internal-task", params={"click": click})).json()
    return {"async": one, "pool": two, "internal": three}


@app.get("/internal-task")
async def internal_task():
    await asyncio.sleep(0.02)
    return {"internal": True}


@app.get("/health")
async def health():
    return "ok"
