# SPDX-License-Identifier: Apache-2.0
"""Flask and requests: in the view, in a pool shared by all requests, in threads of its own. WSGI=werkzeug or waitress serves it."""
import concurrent.futures
import os
import threading

import flask
import requests

LEAF = os.environ["LEAF"]
TIMEOUT = float(os.environ.get("TIMEOUT", "60"))
app = flask.Flask(__name__)
pool = concurrent.futures.ThreadPoolExecutor(int(os.environ.get("POOL", "16")))
local = threading.local()


def get(rid, leg):
    if not hasattr(local, "session") or os.environ.get("CLOSE"):
        local.session = requests.Session()
    try:
        local.session.get(f"{LEAF}/r/{rid}/{leg}", timeout=TIMEOUT)
    except requests.Timeout:
        local.session.get(f"{LEAF}/r/{rid}/{leg}", timeout=60)


@app.get("/r/<rid>/n0")
def hop(rid):
    get(rid, "n1a")
    list(pool.map(get, [rid, rid], ["n1b", "n1c"]))
    get(rid, "n1d")
    return rid


if os.environ.get("WSGI") == "werkzeug":
    app.run(host="127.0.0.1", port=int(os.environ["PORT"]), threaded=True)
elif os.environ.get("WSGI") == "waitress":
    import waitress

    waitress.serve(app, host="127.0.0.1", port=int(os.environ["PORT"]), threads=16, connection_limit=1000, _quiet=True)
