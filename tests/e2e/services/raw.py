# SPDX-License-Identifier: Apache-2.0
"""Servers on bare sockets, for what frameworks do not do. raw.py MODE PORT|PATH

    threads   a thread per connection, answers every request; closes after "Connection: close"
    half      reads to the end of the stream, then answers, then closes (a half-closed client)
    never     reads and never answers
    deaf      reads one request, and closes a second (WS_SLOW times that) later without having looked again
    reset     answers the first BYTES of the response, then resets
    pass      accepts in one process, hands the socket to another (SCM_RIGHTS), which answers
    dup       answers on a duplicate of the descriptor and closes the original first
"""
import os
import socket
import struct
import sys
import threading
import time

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nok\n"


def read_head(s, buf=b""):
    while b"\r\n\r\n" not in buf:
        data = s.recv(65536)
        if not data:
            return None
        buf += data
    return buf


def threads(s):
    while head := read_head(s):
        s.sendall(ANSWER)
        if b"connection: close" in head.lower():
            break
    s.close()


def half(s):
    while s.recv(65536):
        pass
    s.sendall(ANSWER)
    s.close()


def never(s):
    while s.recv(65536):
        pass
    s.close()


def deaf(s):
    read_head(s)
    time.sleep(float(os.environ.get("WS_SLOW", "1")))
    s.close()


def reset(s):
    if read_head(s):
        s.sendall(ANSWER[: int(os.environ["BYTES"])])
    s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    s.close()


def mute(s):
    """Takes everything and never answers."""
    while s.recv(65536):
        pass


def dup(s):
    other = socket.socket(fileno=os.dup(s.fileno()))
    s.close()
    threads(other)


def passed(sock):
    """The receiver of passed descriptors: one thread each."""
    while True:
        _, fds, _, _ = socket.recv_fds(sock, 16, 1)
        if not fds:
            return
        threading.Thread(target=threads, args=(socket.socket(fileno=fds[0]),), daemon=True).start()


def main():
    mode, where = sys.argv[1:]
    ours, theirs = socket.socketpair()
    if mode == "pass" and not os.fork():
        ours.close()
        passed(theirs)
        os._exit(0)
    theirs.close()
    if where.isdigit():
        listener = socket.create_server(("127.0.0.1", int(where)), backlog=512)
    else:
        listener = socket.create_server(where, family=socket.AF_UNIX, backlog=512)
    while True:
        s, _ = listener.accept()
        if mode == "pass":
            socket.send_fds(ours, [b"x"], [s.fileno()])
            s.close()
        else:
            threading.Thread(target=globals()[mode], args=(s,), daemon=True).start()


main()
