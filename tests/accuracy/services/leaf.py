# SPDX-License-Identifier: Apache-2.0
"""Who is asked: answers everything after 0 to 8 ms, so that requests overlap and overtake each other."""
import asyncio
import os
import random

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


class Leaf(asyncio.Protocol):
    def connection_made(self, transport):
        self.transport, self.buf = transport, b""

    def data_received(self, data):
        self.buf += data
        while b"\r\n\r\n" in self.buf:
            head, _, self.buf = self.buf.partition(b"\r\n\r\n")
            asyncio.get_running_loop().call_later(random.random() * 0.008, self.answer, b"connection: close" in head.lower())

    def answer(self, close):
        self.transport.write(ANSWER)
        if close:
            self.transport.close()


async def main():
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Leaf, "127.0.0.1", int(os.environ["PORT"]), backlog=4096)
    await server.serve_forever()


asyncio.run(main())
