# SPDX-License-Identifier: Apache-2.0
"""A client that begins to listen (late_client.py PORT UNIX_PATH TAG) when it has used its connection for a while: asks
for /r/TAG-old-…/n0 on that then, four at a time, and for /r/TAG-new-…/n0 on a connection of its own. Then it waits."""
import socket
import sys
import time

PORT, PATH, TAG = int(sys.argv[1]), sys.argv[2], sys.argv[3]


def connect():
    s = socket.socket(socket.AF_UNIX)
    s.connect(PATH)
    return s


def ask(s, paths):
    for path in paths:
        s.sendall(f"GET {path} HTTP/1.1\r\nHost: t\r\n\r\n".encode())
        time.sleep(0.002)
    got = b""
    while got.count(b"\r\n\r\nok") < len(paths):
        got += s.recv(65536)


old = connect()
ask(old, ["/before"] * 3)
listener = socket.create_server(("127.0.0.1", PORT))
time.sleep(1)
for i in range(0, 40, 4):
    ask(old, [f"/r/{TAG}-old-{k}/n0" for k in range(i, i + 4)])
new = connect()
for i in range(20):
    ask(new, [f"/r/{TAG}-new-{i}/n0"])
time.sleep(600)
