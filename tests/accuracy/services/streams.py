# SPDX-License-Identifier: Apache-2.0
"""Nothing but the standard library, for every interpreter from 3.8: asyncio streams, one task per connection.

Awaited, gathered, a task of its own, and http.client in the executor. With CERT over HTTPS, both ways.
"""
import asyncio
import http.client
import os
import socket
import ssl
import urllib.parse

LEAF = urllib.parse.urlsplit(os.environ["LEAF"])
serving = set()  # before 3.12 nothing holds a task that waits for a stream: the collector takes it


TIMEOUT = float(os.environ.get("TIMEOUT", "60"))
TRUST = OWN = None
if "CERT" in os.environ:
    TRUST = ssl.create_default_context(cafile=os.environ["CA"])
    OWN = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    OWN.load_cert_chain(os.environ["CERT"], os.environ["KEY"])


async def ask(path):
    reader, writer = await asyncio.open_connection(LEAF.hostname, LEAF.port, ssl=TRUST)
    writer.write(f"GET {path} HTTP/1.1\r\nHost: leaf\r\nConnection: close\r\n\r\n".encode())
    try:
        await writer.drain()
        await reader.read()
    finally:
        writer.close()


async def fetch(path):
    try:
        await asyncio.wait_for(ask(path), TIMEOUT)
    except asyncio.TimeoutError:
        await ask(path)


def ask_blocking(path, timeout):
    c = (http.client.HTTPSConnection(LEAF.hostname, LEAF.port, timeout=timeout, context=TRUST) if TRUST else
         http.client.HTTPConnection(LEAF.hostname, LEAF.port, timeout=timeout))
    try:
        c.request("GET", path)
        c.getresponse().read()
    finally:
        c.close()


def blocking(path):
    try:
        ask_blocking(path, TIMEOUT)
    except socket.timeout:
        ask_blocking(path, 60)


async def serve(reader, writer):
    loop = asyncio.get_running_loop()
    serving.add(asyncio.current_task())
    try:
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            rid = head.split()[1].decode().split("/")[2]
            await fetch(f"/r/{rid}/n1a")
            await asyncio.gather(fetch(f"/r/{rid}/n1b"), fetch(f"/r/{rid}/n1c"))
            await loop.run_in_executor(None, blocking, f"/r/{rid}/n1d")
            await asyncio.ensure_future(fetch(f"/r/{rid}/n1e"))
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
            await writer.drain()
    except (asyncio.IncompleteReadError, ConnectionError):
        writer.close()
    finally:
        serving.discard(asyncio.current_task())


async def main():
    server = await asyncio.start_server(serve, "127.0.0.1", int(os.environ["PORT"]), backlog=1024, ssl=OWN)
    async with server:
        await server.serve_forever()


asyncio.run(main())
