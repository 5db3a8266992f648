# SPDX-License-Identifier: Apache-2.0
"""work_items.py PORT: each request is done by work items of every kind in turn; answers with the names that they should
have, as Python says, a line each. Needs nothing but CPython 3.8."""
import concurrent.futures
import contextvars
import functools
import http.server
import sys
import time


def plain(n=0):
    return n


class Shop:
    def method(self):
        return self

    @staticmethod
    def still():
        return None

    def __call__(self):
        return None


def nest():
    def inner():
        return None
    return inner


def größe():
    return None


long_name = eval("lambda: None")
long_name.__qualname__ = "x" * 70
pool = concurrent.futures.ThreadPoolExecutor(2)
KINDS = [
    (plain, "plain"),
    (Shop().method, "Shop.method"),
    (Shop.still, "Shop.still"),
    (nest(), "nest.<locals>.inner"),
    (lambda: None, "<lambda>"),
    (functools.partial(plain, 3), "plain"),
    (functools.partial(Shop().method), "Shop.method"),
    # what asyncio.to_thread() makes
    (functools.partial(contextvars.copy_context().run, plain, 5), "plain"),
    (functools.partial(contextvars.copy_context().run, Shop().method), "Shop.method"),
    (long_name, "x" * 63),
    # no Python function, or no plain name
    (Shop(), "executor"),
    (functools.partial(time.sleep, 0), "executor"),
    (dict, "executor"),
    (größe, "executor"),
]


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        for fn, _ in KINDS:
            pool.submit(fn).result()
        body = "\n".join(name for _, name in KINDS).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
