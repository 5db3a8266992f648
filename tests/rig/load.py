# SPDX-License-Identifier: Apache-2.0
"""Load that counts: tests/tools/load, curl and raw sockets."""
import json
import secrets
import socket
import subprocess

from . import SLOW, tool


def tag():
    """Marks the requests of one test, so that other traffic of the machine does not count."""
    return "t" + secrets.token_hex(4)


def run(target, requests, connections, path, prefix=(), options=(), timeout=120, any_status=False):
    """Exactly `requests` over `connections`; "%" in path is the number. Returns the tool's own count. A request that
    failed (unless any status will do) or had to be sent again is an error of its own, before anybody counts spans: the
    service was disturbed."""
    r = subprocess.run([*prefix, tool("load"), *options, str(target), str(requests), str(connections), path],
                       capture_output=True, text=True, timeout=timeout * SLOW)
    if r.returncode == 2 or not r.stdout:
        raise RuntimeError(f"load: {r.stderr.strip()}")
    sent = json.loads(r.stdout)
    assert sent["answered"] == requests and not sent["resent"] and (any_status or not sent["failed"]), (
        f"the load itself failed: {sent}")
    return sent


def spawn(target, requests, connections, path):
    return subprocess.Popen([tool("load"), str(target), str(requests), str(connections), path],
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def request(path, headers=(), host="t", method="GET", body=b"", version="1.1"):
    lines = [f"{method} {path} HTTP/{version}", f"Host: {host}", *headers]
    if body:
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def response_end(data):
    """Length of the first complete response in data (Content-Length only), or None."""
    end = data.find(b"\r\n\r\n")
    if end < 0:
        return None
    length = 0
    for line in data[:end].split(b"\r\n")[1:]:
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            length = int(value)
    return end + 4 + length if len(data) >= end + 4 + length else None


class Raw:
    """A client connection that this test holds in its hands."""

    def __init__(self, address, family=None, timeout=10):
        if family is None:
            family = socket.AF_UNIX if isinstance(address, str) else (
                socket.AF_INET6 if ":" in address[0] else socket.AF_INET)
        self.s = socket.socket(family, socket.SOCK_STREAM)
        self.s.settimeout(timeout * SLOW)
        self.s.connect(address)
        if family != socket.AF_UNIX:
            self.s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.buf = b""

    def answer(self):
        """Reads one response; returns (status, whole bytes)."""
        while (n := response_end(self.buf)) is None:
            data = self.s.recv(65536)
            if not data:
                raise ConnectionError(f"closed after {self.buf[:80]!r}")
            self.buf += data
        one, self.buf = self.buf[:n], self.buf[n:]
        return int(one[9:12]), one

    def get(self, path, **kw):
        self.s.sendall(request(path, **kw))
        return self.answer()

    def close(self):
        self.s.close()

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.close()
