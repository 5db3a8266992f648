# SPDX-License-Identifier: Apache-2.0
"""The smallest aiohttp service that calls another one."""
import os

import aiohttp
from aiohttp import web


async def f(request):
    async with request.app["session"].get(os.environ["LEAF"] + "/leaf") as r:
        await r.read()
    return web.Response(text="ok")


async def session(app):
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=256)) as app["session"]:
        yield


app = web.Application()
app.router.add_get("/f", f)
app.cleanup_ctx.append(session)
web.run_app(app, host="127.0.0.1", port=int(os.environ["PORT"]), print=None, access_log=None)
