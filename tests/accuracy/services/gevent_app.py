# SPDX-License-Identifier: Apache-2.0
"""Greenlets by hand. MODE: own (pywsgi; the request's greenlet calls), spawn (one that it starts does), workers (readers
that end when they have put their request into a queue, and a few workers at a time), loop (selectors, not gevent's)."""
import os

if os.environ["MODE"] != "loop":
    from gevent import monkey

    monkey.patch_all()

import collections  # noqa: E402
import http.client  # noqa: E402
import selectors  # noqa: E402
import socket  # noqa: E402
import time  # noqa: E402

import gevent  # noqa: E402
import gevent.pool  # noqa: E402
import gevent.pywsgi  # noqa: E402
import gevent.server  # noqa: E402

ADDRESS = ("127.0.0.1", int(os.environ["PORT"]))
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


def ask(path, timeout):
    c = http.client.HTTPConnection(os.environ["LEAF_ADDRESS"], timeout=timeout)
    try:
        c.request("GET", path)
        c.getresponse().read()
    finally:
        c.close()


def get(path, leg):
    try:
        ask(path.replace("/n0", f"/{leg}"), float(os.environ.get("TIMEOUT", "60")))
    except TimeoutError:
        ask(path.replace("/n0", f"/{leg}"), 60)


def application(environ, start_response):
    if os.environ["MODE"] == "own":
        get(environ["PATH_INFO"], "n1a")
    else:
        gevent.spawn(get, environ["PATH_INFO"], "n1b").join()
    start_response("200 OK", [("Content-Length", "2")])
    return [b"ok"]


def path_of(head):
    return head.split(b" ", 2)[1].decode()


def workers():
    queue = collections.deque()
    pool = gevent.pool.Pool(3)

    def read(sock):
        head = sock.recv(65536)
        if head:
            queue.append((sock, path_of(head)))
        else:
            sock.close()

    def work(sock, path):
        get(path, "n1a")
        sock.sendall(ANSWER)
        gevent.spawn(read, sock)

    def hand_out():
        while True:
            while queue:
                pool.spawn(work, *queue.popleft())
            gevent.sleep(0.001)

    gevent.spawn(hand_out)
    listener = socket.create_server(ADDRESS, backlog=1024)
    while True:
        gevent.spawn(read, listener.accept()[0])


def loop():
    """Every request is answered a while after it was read, when others have been."""
    sel, due = selectors.DefaultSelector(), collections.deque()
    listener = socket.create_server(ADDRESS, backlog=1024)
    sel.register(listener, selectors.EVENT_READ)
    while True:
        for key, _ in sel.select(0.001):
            sock = key.fileobj
            if sock is listener:
                sock = listener.accept()[0]
                sock.setblocking(False)
                sel.register(sock, selectors.EVENT_READ)
                continue
            head = sock.recv(65536)
            if head:
                due.append((time.monotonic() + 0.004, sock, path_of(head)))
            else:
                sel.unregister(sock)
                sock.close()
        while due and due[0][0] < time.monotonic():
            _, sock, path = due.popleft()
            get(path, "n1a")
            sock.send(ANSWER)


if os.environ["MODE"] == "loop":
    loop()
elif os.environ["MODE"] == "workers":
    workers()
else:
    gevent.pywsgi.WSGIServer(ADDRESS, application, log=None, backlog=1024).serve_forever()
