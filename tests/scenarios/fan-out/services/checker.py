# SPDX-License-Identifier: Apache-2.0
"""What service1 and service2 have in common: check a site over HTTPS, tell the log."""
import contextlib
import os
import ssl

import fastapi
import httpx

SITE = os.environ.get("SITE", "https://127.0.0.1:5443")
LOG = os.environ.get("LOG", "http://127.0.0.1:5004")
# uvicorn closes what was idle for five seconds, httpx's own limit as well: whoever asks just then gets an error.
LIMITS = httpx.Limits(keepalive_expiry=2)


def make_app(path, site):
    clients = {}

    @contextlib.asynccontextmanager
    async def lifespan(_app):
        tls = ssl.create_default_context(cafile=os.environ.get("SITE_CA"))
        async with httpx.AsyncClient(timeout=60, limits=LIMITS) as log, \
                   httpx.AsyncClient(timeout=60, limits=LIMITS, verify=tls) as https:
            clients.update(log=log, site=https)
            yield

    app = fastapi.FastAPI(lifespan=lifespan)

    @app.get(path)
    async def check(click: str = ""):
        r = await clients["site"].get(f"{SITE}/{site}", params={"click": click})
        record = {"site": site, "status": r.status_code, "click": click}
        await clients["log"].post(f"{LOG}/api/log", json=record, params={"click": click})
        return record

    return app
