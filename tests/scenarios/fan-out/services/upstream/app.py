# SPDX-License-Identifier: Apache-2.0
"""upstream: asks service1 and service2, one after the other (v1) or together (v2)."""
import asyncio
import contextlib
import os

import fastapi
import httpx

ONE = os.environ.get("SERVICE1", "http://127.0.0.1:5002") + "/check-one"
TWO = os.environ.get("SERVICE2", "http://127.0.0.1:5003") + "/check-two"
# uvicorn closes what was idle for five seconds, httpx's own limit as well: whoever asks just then gets an error.
LIMITS = httpx.Limits(keepalive_expiry=2)
client = None


@contextlib.asynccontextmanager
async def lifespan(_app):
    global client
    async with httpx.AsyncClient(timeout=60, limits=LIMITS) as client:
        yield


app = fastapi.FastAPI(lifespan=lifespan)


async def ask(url, click):
    return (await client.get(url, params={"click": click})).json()


@app.get("/api/check-sites")
async def check_sites(click: str = ""):
    return [await ask(ONE, click), await ask(TWO, click)]


@app.get("/api/check-sites-v2")
async def check_sites_v2(click: str = ""):
    return await asyncio.gather(ask(ONE, click), ask(TWO, click))
