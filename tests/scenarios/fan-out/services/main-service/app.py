# SPDX-License-Identifier: Apache-2.0
"""main: asks upstream, the old way and the new one."""
import os

import flask
import requests

app = flask.Flask(__name__)
UPSTREAM = os.environ.get("UPSTREAM", "http://127.0.0.1:5001")


@app.get("/check-sites")
def check_sites():
    return requests.get(f"{UPSTREAM}/api/check-sites", params=flask.request.args, timeout=60).json()


@app.get("/check-sites-v2")
def check_sites_v2():
    return requests.get(f"{UPSTREAM}/api/check-sites-v2", params=flask.request.args, timeout=60).json()


if __name__ == "__main__":
    app.run("127.0.0.1", int(os.environ.get("PORT", "5000")), threaded=True)
