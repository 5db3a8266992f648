# SPDX-License-Identifier: Apache-2.0
"""leaf: whom the blocking step calls."""
import os

import flask

app = flask.Flask(__name__)


@app.get("/block")
def block():
    return "blocked"


if __name__ == "__main__":
    app.run("127.0.0.1", int(os.environ.get("PORT", "9100")), threaded=True)
