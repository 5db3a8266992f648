# SPDX-License-Identifier: Apache-2.0
"""service-sync: a classic Flask service that sleeps and then asks the async one."""
import os
import time

import flask
import requests

app = flask.Flask(__name__)
ASYNC = os.environ.get("SERVICE_ASYNC", "http://127.0.0.1:8082")


@app.get("/process")
def process():
    time.sleep(0.05)
    return {"sync": True, "async": requests.get(f"{ASYNC}/compute", params=flask.request.args, timeout=30).json()}


@app.get("/health")
def health():
    return "ok"


if __name__ == "__main__":
    app.run("127.0.0.1", int(os.environ.get("PORT", "8081")), threaded=True)
