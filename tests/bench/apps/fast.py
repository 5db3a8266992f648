# SPDX-License-Identifier: Apache-2.0
"""The smallest FastAPI service."""
import fastapi

app = fastapi.FastAPI()


@app.get("/f")
async def f():
    return {"ok": True}
