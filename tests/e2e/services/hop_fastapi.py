# SPDX-License-Identifier: Apache-2.0
"""A FastAPI service in a chain, one shared httpx client; NEXT as in hop_flask.py, asked together if GATHER is set."""
import asyncio
import contextlib
import os

import fastapi
import httpx

NEXT = os.environ.get("NEXT", "").split()
SLEEP = float(os.environ.get("SLEEP", "0")) / 1000
client = None


@contextlib.asynccontextmanager
async def lifespan(_app):
    global client
    async with httpx.AsyncClient(timeout=30, limits=httpx.Limits(max_connections=200)) as client:
        yield


app = fastapi.FastAPI(lifespan=lifespan)


@app.get("/r/{rid}/{leg}")
async def hop(rid: str, leg: str):
    depth = int("".join(c for c in leg if c.isdigit()))
    await asyncio.sleep(SLEEP)
    urls = [f"{base}/r/{rid}/n{depth + 1}{'' if len(NEXT) == 1 else 'abcdefgh'[i]}" for i, base in enumerate(NEXT)]
    if os.environ.get("GATHER"):
        await asyncio.gather(*(client.get(u) for u in urls))
    else:
        for u in urls:
            await client.get(u)
    return {"id": rid}
