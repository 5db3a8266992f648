# SPDX-License-Identifier: Apache-2.0
"""frontend: two buttons."""
import os

import flask
import requests

app = flask.Flask(__name__)
SYNC = os.environ.get("SERVICE_SYNC", "http://127.0.0.1:8081")
ASYNC = os.environ.get("SERVICE_ASYNC", "http://127.0.0.1:8082")


@app.get("/")
def page():
    return ('<button onclick="fetch(\'/call-sync-chain\')">sync chain</button>'
            '<button onclick="fetch(\'/call-async\')">async</button>')


@app.get("/call-sync-chain")
def call_sync_chain():
    return requests.get(f"{SYNC}/process", params=flask.request.args, timeout=30).json()


@app.get("/call-async")
def call_async():
    return requests.get(f"{ASYNC}/compute", params=flask.request.args, timeout=30).json()


@app.get("/health")
def health():
    return "ok"


if __name__ == "__main__":
    app.run("127.0.0.1", int(os.environ.get("PORT", "5000")), threaded=True)
