# SPDX-License-Identifier: Apache-2.0
"""The smallest Flask service."""
import flask

app = flask.Flask(__name__)


@app.get("/f")
def f():
    return {"ok": True}
