# SPDX-License-Identifier: Apache-2.0
"""gevent, whose finalizers block: greenlets change in the middle of whatever allocates, copies of contexts among it."""
import contextvars
import gc
import sys

import gevent
import gevent.pywsgi
import gevent.queue  # noqa: F401  (its hooks are looked at)

hub = gevent.get_hub()
switched = 0


class Blocks:
    def __init__(self):
        self.me = self

    def __del__(self):
        global switched
        if gevent.getcurrent() is not hub:
            switched += 1
            gevent.sleep(0)


def churn():
    while True:
        Blocks()
        [contextvars.copy_context() for _ in range(400)]
        gevent.sleep(0)


def application(environ, start_response):
    answer = str(switched).encode()
    start_response("200 OK", [("Content-Length", str(len(answer)))])
    return [answer]


gc.set_threshold(100, 5, 5)
for _ in range(4):
    gevent.spawn(churn)
gevent.pywsgi.WSGIServer(("127.0.0.1", int(sys.argv[1])), application, log=None).serve_forever()
