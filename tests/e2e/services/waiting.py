# SPDX-License-Identifier: Apache-2.0
"""A server with one thread and blocking sockets: PORT LEAF_PORT HOW, how it waits for requests (select, poll,
epoll). With a last argument "threads" every connection has a thread, which may wait for its own.

GET /…-now…    is served at once, with a call to the leaf
GET /…-later…  is put aside and answered half a second later. A timer of the server's own, which has nothing to do with
                the request, calls the leaf in the meantime
GET /…-same…   the same, but the timer happens to be due when the request is read
GET /…-both…   a thread of its own serves it: waits for its client and its call, whichever comes first; calls again
"""
import selectors
import socket
import sys
import threading
import time

PORT, LEAF = int(sys.argv[1]), ("127.0.0.1", int(sys.argv[2]))
SELECTORS = {"select": selectors.SelectSelector, "poll": selectors.PollSelector, "epoll": selectors.EpollSelector}
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


def ask(path, wait=None):
    with socket.create_connection(LEAF) as c:
        c.sendall(f"GET {path} HTTP/1.1\r\nHost: leaf\r\nConnection: close\r\n\r\n".encode())
        if wait:
            wait(c)
        while c.recv(65536):
            pass


def serve_both(conn, path):
    def whichever(call):
        with SELECTORS[sys.argv[3]]() as s:
            s.register(conn, selectors.EVENT_READ)
            s.register(call, selectors.EVENT_READ)
            s.select()

    ask(f"{path}/n1a", whichever)
    ask(f"{path}/n1b")
    conn.sendall(ANSWER)


def serve_threads(conn):
    while data := conn.recv(65536):
        serve_both(conn, data.split()[1].decode().rsplit("/", 1)[0])
    conn.close()


def main():
    listener = socket.create_server(("127.0.0.1", PORT))
    ready, held = SELECTORS[sys.argv[3]](), []
    ready.register(listener, selectors.EVENT_READ)
    timers = []
    while True:
        for key, _ in ready.select(0.02):
            if key.fileobj is listener:
                conn = listener.accept()[0]
                if sys.argv[4:] == ["threads"]:
                    threading.Thread(target=serve_threads, args=(conn,), daemon=True).start()
                else:
                    ready.register(conn, selectors.EVENT_READ)
                continue
            conn = key.fileobj
            data = conn.recv(65536)
            if not data:
                ready.unregister(conn)
                conn.close()
                continue
            path = data.split()[1].decode().rsplit("/", 1)[0]
            if "-now" in path:
                ask(f"{path}/n1")
                conn.sendall(ANSWER)
                continue
            held.append((time.monotonic() + 0.5, conn))
            timers.append((time.monotonic() + (0.25 if "-later" in path else 0), path))
        for at, path in list(timers):
            if time.monotonic() >= at:
                timers.remove((at, path))
                ask(f"{path}/timer")
        for at, conn in list(held):
            if time.monotonic() >= at:
                held.remove((at, conn))
                conn.sendall(ANSWER)


main()
