# SPDX-License-Identifier: Apache-2.0
"""A collector that misbehaves as told, and counts what it accepted."""
import gzip
import http.server
import threading
import time


def _fields(data):
    """(field number, wire type, value or bytes) of one protobuf message."""
    i = 0

    def varint():
        nonlocal i
        n = shift = 0
        while True:
            b = data[i]
            i += 1
            n |= (b & 127) << shift
            shift += 7
            if b < 128:
                return n

    while i < len(data):
        key = varint()
        if key & 7 == 2:
            n = varint()
            yield key >> 3, 2, data[i:i + n]
            i += n
        elif key & 7 == 0:
            yield key >> 3, 0, varint()
        else:
            n = 8 if key & 7 == 1 else 4
            yield key >> 3, key & 7, data[i:i + n]
            i += n


def span_ids(body):
    """Ids of the spans of an ExportTraceServiceRequest: resource_spans 1, scope_spans 2, spans 2, span_id 2."""
    for f, _, rs in _fields(body):
        if f != 1:
            continue
        for g, _, ss in _fields(rs):
            if g != 2:
                continue
            for h, _, s in _fields(ss):
                if h == 2:
                    yield next(v for k, _, v in _fields(s) if k == 2).hex()


class BadCollector:
    """Answers the n-th export as plan[n] says, the last entry for all that follow:

    200, 400, 429, 500, 503   that status; (503, "1") with Retry-After: 1
    "bare"                    200 that says nothing of what it is made of
    "garbage"                 bytes that are no HTTP
    "cut"                     a 200 whose body ends early by a close
    "slow"                    nothing, for a minute
    """

    def __init__(self, *plan, port=0):
        self.accepted, self.seen, self.answers = [], 0, []
        self.stopping = threading.Event()
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if self.headers.get("Content-Encoding") == "gzip":
                    body = gzip.decompress(body)
                what = plan[min(outer.seen, len(plan) - 1)]
                outer.seen += 1
                outer.answers.append((time.monotonic(), what))
                outer.answer(self, what, list(span_ids(body)))

            def log_message(self, *args):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self.server.daemon_threads = True
        self.port = self.server.server_address[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.thread = threading.Thread(target=self.server.serve_forever, daemon=True)
        self.thread.start()

    def answer(self, h, what, ids):
        status, after = what if isinstance(what, tuple) else (what, None)
        if status == "slow":
            self.stopping.wait(60)
            h.close_connection = True
        elif status == "garbage":
            h.wfile.write(b"\0\1\2 this is not HTTP \xff" * 20)
            h.close_connection = True
        elif status == "bare":
            self.accepted += ids
            h.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        elif status == "cut":
            h.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/x-protobuf\r\nContent-Length: 500\r\n\r\n\n")
            h.close_connection = True
        else:
            if status == 200:
                self.accepted += ids
            h.send_response(status)
            if after:
                h.send_header("Retry-After", after)
            h.send_header("Content-Type", "application/x-protobuf")
            h.send_header("Content-Length", "0")
            h.end_headers()

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.stopping.set()
        self.server.shutdown()
        self.server.server_close()
