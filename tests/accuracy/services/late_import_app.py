# SPDX-License-Identifier: Apache-2.0
"""FastAPI with Tornado's client, which the first request that needs it imports."""
import asyncio
import os

import fastapi

LEAF = os.environ["LEAF"]
app = fastapi.FastAPI()
client = None


async def get(path):
    global client
    from tornado.httpclient import AsyncHTTPClient

    if client is None:
        client = AsyncHTTPClient(max_clients=10)
    await client.fetch(LEAF + path)


@app.get("/r/{rid}/n0")
async def hop(rid: str):
    await get(f"/r/{rid}/n1a")
    await asyncio.gather(get(f"/r/{rid}/n1b"), get(f"/r/{rid}/n1c"))
    return rid
