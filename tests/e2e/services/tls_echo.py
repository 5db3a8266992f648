# SPDX-License-Identifier: Apache-2.0
"""An HTTPS server by asyncio's streams: TLS in memory, ciphertext carried by the program. Answers in two pieces."""
import asyncio
import os
import ssl


async def serve(reader, writer):
    try:
        while True:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello")
            writer.write(b"world")
            await writer.drain()
    except (asyncio.IncompleteReadError, ConnectionError):
        writer.close()


async def main():
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(os.environ["CERT"], os.environ["KEY"])
    server = await asyncio.start_server(serve, "127.0.0.1", int(os.environ["PORT"]), ssl=context)
    await server.serve_forever()

asyncio.run(main())
