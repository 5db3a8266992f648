# SPDX-License-Identifier: Apache-2.0
"""Who is asked: answers everything after 0 to 8 ms, so that requests overlap and overtake each other; with SLOW one path in
eight after 0.6 s the first time; with CERT over HTTPS. When it is told to end it leaves in LOG what it was asked: the truth."""
import asyncio
import os
import random
import signal
import ssl
import zlib

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
asked = []


def delay(path):
    if os.environ.get("SLOW") and zlib.crc32(path) % 8 == 0 and asked.count(path) == 1:
        return 0.6
    return random.random() * 0.008


class Leaf(asyncio.Protocol):
    def connection_made(self, transport):
        self.transport, self.buf = transport, b""

    def data_received(self, data):
        self.buf += data
        while b"\r\n\r\n" in self.buf:
            head, _, self.buf = self.buf.partition(b"\r\n\r\n")
            path = head.split(b" ", 2)[1]
            asked.append(path)
            asyncio.get_running_loop().call_later(delay(path), self.answer, b"connection: close" in head.lower())

    def answer(self, close):
        self.transport.write(ANSWER)
        if close:
            self.transport.close()


async def main():
    loop = asyncio.get_running_loop()
    tls = None
    if "CERT" in os.environ:
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(os.environ["CERT"], os.environ["KEY"])
    server = await loop.create_server(Leaf, "127.0.0.1", int(os.environ["PORT"]), backlog=4096, ssl=tls)
    done = asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, done.set)
    await done.wait()
    server.close()
    with open(os.environ.get("LOG", os.devnull), "wb") as f:
        f.write(b"\n".join(asked))


asyncio.run(main())
