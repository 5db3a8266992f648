# SPDX-License-Identifier: Apache-2.0
"""aiohttp, server and client: one long-lived task per connection; awaited, gathered, in the executor, a task of its own.
With CERT over HTTPS, both ways."""
import asyncio
import os
import ssl

import aiohttp
import requests
from aiohttp import web

LEAF = os.environ["LEAF"]
POOL = int(os.environ.get("POOL", "400"))
TIMEOUT = float(os.environ.get("TIMEOUT", "60"))


async def ask(app, rid, leg, timeout):
    async with app["client"].get(f"{LEAF}/r/{rid}/{leg}", timeout=aiohttp.ClientTimeout(timeout)) as r:
        await r.read()


async def get(app, rid, leg):
    try:
        await ask(app, rid, leg, TIMEOUT)
    except asyncio.TimeoutError:
        await ask(app, rid, leg, 60)


def blocking(rid, leg):
    try:
        requests.get(f"{LEAF}/r/{rid}/{leg}", timeout=TIMEOUT)
    except requests.Timeout:
        requests.get(f"{LEAF}/r/{rid}/{leg}", timeout=60)


async def hop(request):
    app, rid = request.app, request.match_info["rid"]
    await get(app, rid, "n1a")
    await asyncio.gather(get(app, rid, "n1b"), get(app, rid, "n1c"))
    await asyncio.get_running_loop().run_in_executor(None, blocking, rid, "n1d")
    await asyncio.create_task(get(app, rid, "n1e"))
    return web.Response(text=rid)


async def clients(app):
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(
            limit=POOL, force_close=bool(os.environ.get("CLOSE")))) as app["client"]:
        yield


if os.environ.get("UVLOOP"):
    import uvloop

    uvloop.install()
application = web.Application()
application.cleanup_ctx.append(clients)
application.router.add_get("/r/{rid}/n0", hop)
own = None
if "CERT" in os.environ:
    own = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    own.load_cert_chain(os.environ["CERT"], os.environ["KEY"])
web.run_app(application, host="127.0.0.1", port=int(os.environ["PORT"]), ssl_context=own, print=None)
