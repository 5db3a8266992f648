# SPDX-License-Identifier: Apache-2.0
"""Tornado, server and client. Its client starts queued requests in the context of whoever finished before."""
import asyncio
import os

import tornado.httpclient
import tornado.web

LEAF = os.environ["LEAF"]
TIMEOUT = float(os.environ.get("TIMEOUT", "60"))


class Hop(tornado.web.RequestHandler):
    async def get(self, rid):
        client = tornado.httpclient.AsyncHTTPClient()
        for leg in ("n1a", "n1b"):
            try:
                await client.fetch(f"{LEAF}/r/{rid}/{leg}", request_timeout=TIMEOUT)
            except tornado.httpclient.HTTPError:
                await client.fetch(f"{LEAF}/r/{rid}/{leg}", request_timeout=60)
        self.write(rid)


async def main():
    tornado.web.Application([(r"/r/([^/]+)/n0", Hop)]).listen(int(os.environ["PORT"]), "127.0.0.1")
    await asyncio.Event().wait()


asyncio.run(main())
