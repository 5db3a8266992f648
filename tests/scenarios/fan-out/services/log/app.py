# SPDX-License-Identifier: Apache-2.0
"""log: keeps records in PostgreSQL."""
import contextlib
import os

import asyncpg
import fastapi

DSN = os.environ.get("DATABASE", "postgresql://postgres@127.0.0.1:5432/postgres")
pool = None


@contextlib.asynccontextmanager
async def lifespan(_app):
    global pool
    async with asyncpg.create_pool(DSN, min_size=2, max_size=8, ssl=False) as pool:
        await pool.execute("CREATE TABLE IF NOT EXISTS log (site text, status int, click text)")
        yield


app = fastapi.FastAPI(lifespan=lifespan)


@app.post("/api/log")
async def log(record: dict):
    await pool.execute("INSERT INTO log (site, status, click) VALUES ($1, $2, $3)",
                       record["site"], record["status"], record["click"])
    return {"stored": True}


@app.get("/api/count")
async def count():
    return {"count": await pool.fetchval("SELECT count(*) FROM log")}
