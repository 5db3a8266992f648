# SPDX-License-Identifier: Apache-2.0
"""HTTPS requests that are counted: ADDRESS REQUESTS CONNECTIONS PATH, "%" in the path is the number. Each connection is a
thread's own and made in any case; AGAIN=1 closes it behind every request, so that sessions come and go on the same
addresses."""
import http.client
import itertools
import os
import ssl
import sys
import threading

host, _, port = sys.argv[1].partition(":")
requests, connections, path = int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
context = ssl.create_default_context(cafile=os.environ["CA"])
numbers = itertools.count()
failed = []


def client():
    c = http.client.HTTPSConnection(host, int(port), timeout=60, context=context)
    try:
        c.connect()
        while (n := next(numbers)) < requests:
            c.request("GET", path.replace("%", str(n)))
            r = c.getresponse()
            r.read()
            if r.status != 200:
                raise OSError(r.status)
            if os.environ.get("AGAIN"):
                c.close()
    except OSError as e:
        failed.append(e)
    c.close()


threads = [threading.Thread(target=client) for _ in range(connections)]
for t in threads:
    t.start()
for t in threads:
    t.join()
sys.exit(f"{len(failed)} connections failed, the first: {failed[0]!r}" if failed else 0)
