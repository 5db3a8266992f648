# SPDX-License-Identifier: Apache-2.0
"""aiohttp, server and client: one long-lived task per connection; awaited, gathered, in the executor, a task of its own."""
import asyncio
import os

import aiohttp
import requests
from aiohttp import web

LEAF = os.environ["LEAF"]
POOL = int(os.environ.get("POOL", "400"))


async def get(app, rid, leg):
    async with app["client"].get(f"{LEAF}/r/{rid}/{leg}") as r:
        await r.read()


async def hop(request):
    app, rid = request.app, request.match_info["rid"]
    await get(app, rid, "n1a")
    await asyncio.gather(get(app, rid, "n1b"), get(app, rid, "n1c"))
    await asyncio.get_running_loop().run_in_executor(None, requests.get, f"{LEAF}/r/{rid}/n1d")
    await asyncio.create_task(get(app, rid, "n1e"))
    return web.Response(text=rid)


async def clients(app):
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=POOL)) as app["client"]:
        yield


if os.environ.get("UVLOOP"):
    import uvloop

    uvloop.install()
application = web.Application()
application.cleanup_ctx.append(clients)
application.router.add_get("/r/{rid}/n0", hop)
web.run_app(application, host="127.0.0.1", port=int(os.environ["PORT"]), print=None)
