# SPDX-License-Identifier: Apache-2.0
"""Free ports and network namespaces."""
import itertools
import os
import random
import socket
import subprocess
import time

from . import SLOW

# Which of several that run side by side (pytest-xdist: gw0, gw1, …): each has ports and networks of its own.
_WORKER = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0")[2:]) % 4
_serial = itertools.count()

# Below the range that the kernel takes the ports of outgoing connections from (net.ipv4.ip_local_port_range):
# a port of that range can be taken between the question and the bind(), and can be given out twice.
# 10080 is a "bad port" of the Fetch standard (section 2.9): fetch() refuses to connect to it.
_ports = (p for p in random.sample(range(10_000 + _WORKER, 32_000, 4), 22_000 // 4) if p != 10_080)


def free_port(family=socket.AF_INET):
    """A port that nothing uses now, and that this run has not given out before."""
    for port in _ports:
        with socket.socket(family, socket.SOCK_STREAM) as s:
            try:
                s.bind(("::1" if family == socket.AF_INET6 else "127.0.0.1", port))
                return port
            except OSError:
                continue
    raise RuntimeError("no free port left")


def wait_port(port, host="127.0.0.1", timeout=20, alive=None):
    """Waits until something accepts. `alive` is asked between tries, so that a dead service ends the wait."""
    end = time.monotonic() + timeout * SLOW
    while True:
        try:
            socket.create_connection((host, port), 1).close()
            return
        except OSError as e:
            if alive is not None and not alive():
                raise RuntimeError(f"{host}:{port}: the service ended before it listened") from e
            if time.monotonic() > end:
                raise TimeoutError(f"{host}:{port}: nothing listens after {timeout} s") from e
            time.sleep(0.02)


def wait_path(path, timeout=20, alive=None):
    end = time.monotonic() + timeout * SLOW
    while True:
        with socket.socket(socket.AF_UNIX) as s:
            try:
                s.connect(str(path))
                return
            except OSError as e:
                if alive is not None and not alive():
                    raise RuntimeError(f"{path}: the service ended before it listened") from e
                if time.monotonic() > end:
                    raise TimeoutError(f"{path}: nothing listens after {timeout} s") from e
                time.sleep(0.02)


def sh(*argv, check=True):
    r = subprocess.run(argv, capture_output=True, text=True, timeout=30 * SLOW)
    if check and r.returncode:
        raise RuntimeError(f"{' '.join(argv)}: {r.stderr.strip() or r.stdout.strip()}")
    return r.stdout


class Netns:
    """A network namespace with its loopback up, joined to the host by a veth pair (10.231.N.0/30)."""

    def __init__(self):
        n = next(_serial)
        self.name = f"ws{os.getpid()}n{n}"
        self.veth, self.peer = f"wsh{os.getpid() % 100000}n{n}", f"wsp{os.getpid() % 100000}n{n}"
        self.host_ip, self.ip = (f"10.231.{n % 60 * 4 + _WORKER}.{i}" for i in (1, 2))

    def __enter__(self):
        sh("ip", "netns", "add", self.name)
        try:
            self.run("ip", "link", "set", "lo", "up")
            sh("ip", "link", "add", self.veth, "type", "veth", "peer", "name", self.peer, "netns", self.name)
            sh("ip", "addr", "add", f"{self.host_ip}/30", "dev", self.veth)
            sh("ip", "link", "set", self.veth, "up")
            self.run("ip", "addr", "add", f"{self.ip}/30", "dev", self.peer)
            self.run("ip", "link", "set", self.peer, "up")
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *exc):
        sh("ip", "link", "del", self.veth, check=False)
        sh("ip", "netns", "del", self.name, check=False)

    def argv(self, *argv):
        return ["ip", "netns", "exec", self.name, *argv]

    def run(self, *argv):
        return sh(*self.argv(*argv))
