# SPDX-License-Identifier: Apache-2.0
"""A Flask service in a chain. NEXT: the services that it asks, one after the other, before it answers.

FORWARD=1 passes received trace headers on, as a gateway does; SLEEP is in milliseconds.
"""
import os
import socket
import threading
import time

import flask
import requests

app = flask.Flask(__name__)
NEXT = os.environ.get("NEXT", "").split()
SLEEP = float(os.environ.get("SLEEP", "0")) / 1000
HEADERS = ("traceparent", "tracestate", "b3", "x-b3-traceid", "x-b3-spanid", "x-b3-sampled")
local = threading.local()


def session():
    if not hasattr(local, "session"):
        local.session = requests.Session()
    return local.session


@app.get("/r/<rid>/<leg>")
def hop(rid, leg):
    depth = int("".join(c for c in leg if c.isdigit()))
    headers = {}
    if os.environ.get("FORWARD"):
        headers = {h: flask.request.headers[h] for h in HEADERS if h in flask.request.headers}
    time.sleep(SLEEP)
    for i, base in enumerate(NEXT):
        letter = "" if len(NEXT) == 1 else "abcdefgh"[i]
        session().get(f"{base}/r/{rid}/n{depth + 1}{letter}", headers=headers, timeout=30).raise_for_status()
    return rid + "\n"


@app.get("/connect/<rid>/<host>/<int:port>")
def dial(rid, host, port):
    """Asks a peer that cannot be reached; says how it failed."""
    try:
        requests.get(f"http://{host}:{port}/r/{rid}/n1", timeout=2)
    except requests.RequestException as e:
        return type(e).__name__
    return "answered"


@app.get("/unix/<rid>")
def dial_unix(rid):
    """The same over AF_UNIX, by the path in the query."""
    with socket.socket(socket.AF_UNIX) as s:
        try:
            s.connect(flask.request.args["path"])
        except OSError as e:
            return type(e).__name__
    return "answered"


if __name__ == "__main__":
    app.run("127.0.0.1", int(os.environ["PORT"]), threaded=True)
