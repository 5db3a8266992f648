# SPDX-License-Identifier: Apache-2.0
"""What end-to-end tests, scenarios and the bench share: processes, the tracer, spans, load, names.

    proc    start, await and stop services, by pid
    tracer  wirespan itself: start, books, stop, read what it exported
    spans   OTLP JSON lines as objects, and parents checked by the request id in the path
    net     free ports, network namespaces
    load    requests that are counted exactly
"""
import os
import pathlib
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
OUT = pathlib.Path(os.environ.get("WS_OUT") or ROOT / ".output")
# How much slower than a machine of today this one is: time-outs are stretched by it, bursts of load are cut.
SLOW = float(os.environ.get("WS_SLOW", "1"))
WIRESPAN = pathlib.Path(os.environ.get("WS_BINARY") or OUT / "wirespan")


def python():
    """The interpreter that has the frameworks: the tests' own environment, else the one running this."""
    venv = OUT / "venv" / "bin" / "python"
    return str(venv) if venv.exists() else sys.executable


# Other versions and builds of it, as `make python-versions` brings them.
PYTHONS = sorted((OUT / "tests" / "python").glob("*/python3"))


def tool(name):
    """A helper built by `make tools`."""
    path = OUT / "tests" / "tools" / name
    if not path.exists():
        raise FileNotFoundError(f"{path}: run `make tools` first")
    return str(path)
