# SPDX-License-Identifier: Apache-2.0
"""FastAPI with a client of its own: a small pool whose callbacks start what has waited, in the dialler's context."""
import asyncio
import collections
import os
import urllib.parse

import fastapi

LEAF = urllib.parse.urlsplit(os.environ["LEAF"])
SIZE, USES = 4, 20  # connections, and requests on each: new ones are dialled all the time
app = fastapi.FastAPI()
free, waiting = [], collections.deque()
made = 0


class Connection(asyncio.Protocol):
    def connection_made(self, transport):
        self.transport, self.uses = transport, 0

    def send(self, path, answer):
        self.answer, self.uses = answer, self.uses + 1
        self.transport.write(f"GET {path} HTTP/1.1\r\nHost: leaf\r\n\r\n".encode())

    def data_received(self, data):
        global made
        self.answer.set_result(data)
        if self.uses < USES and waiting:
            self.send(*waiting.popleft())
        elif self.uses < USES:
            free.append(self)
        else:
            self.transport.close()
            made -= 1
            if waiting and not made:
                asyncio.ensure_future(dial(*waiting.popleft()))


async def dial(path, answer):
    global made
    made += 1
    _, connection = await asyncio.get_running_loop().create_connection(Connection, LEAF.hostname, LEAF.port)
    connection.send(path, answer)


async def get(path):
    answer = asyncio.get_running_loop().create_future()
    if free:
        free.pop().send(path, answer)
    elif made < SIZE:
        await dial(path, answer)
    else:
        waiting.append((path, answer))
    await answer


@app.get("/r/{rid}/n0")
async def hop(rid: str):
    await get(f"/r/{rid}/n1a")
    await asyncio.gather(get(f"/r/{rid}/n1b"), get(f"/r/{rid}/n1c"))
    return rid
