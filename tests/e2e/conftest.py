# SPDX-License-Identifier: Apache-2.0
"""Fixtures: services, the tracer on each attach plan, the real Collector.

A test counts spans exactly and checks every parent (rig/spans.py). What this machine cannot do is
skipped by probing, with wirespan's own words for it, and printed at the end (-rs).
"""
import fcntl
import inspect
import os
import pathlib
import re
import subprocess
import sys

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

pytest.register_assert_rewrite("chain")

from rig import OUT, WIRESPAN, load, net, spans, tracer  # noqa: E402
from rig.proc import Services  # noqa: E402

HERE = pathlib.Path(__file__).resolve().parent
SERVICES = HERE / "services"


def pytest_report_header():
    r = subprocess.run([WIRESPAN, "--version"], capture_output=True, text=True) if WIRESPAN.exists() else None
    return f"{r.stdout.strip() if r else 'no wirespan at ' + str(WIRESPAN)}, kernel {os.uname().release}"


def pytest_configure(config):
    config.addinivalue_line("markers", "alone: asserts what the whole machine did, or needs all of it; the others may run "
                                       "side by side (-n 4)")
    if "s" not in (config.option.reportchars or ""):
        config.option.reportchars = (config.option.reportchars or "fE") + "s"


# What wirespan lost is said of the whole machine: drops of processes that are not selected are among them.
OF_THE_MACHINE = re.compile(r"\bdropped\(|\.totals\(\)\[3\]")


def pytest_collection_modifyitems(items):
    for item in items:
        if not item.get_closest_marker("alone") and OF_THE_MACHINE.search(inspect.getsource(item.function)):
            raise pytest.UsageError(f"{item.nodeid} asserts what the whole machine lost: mark it with alone")
    items.sort(key=lambda item: item.get_closest_marker("alone") is not None)  # in one row: fewer waits for each other


@pytest.hookimpl(wrapper=True, tryfirst=True)  # around what limits a test's time
def pytest_runtest_protocol(item):
    """Under pytest-xdist: the tests that are marked so run while no other does. Who waits for that is behind the
    door, so that those who come later wait as well."""
    if "PYTEST_XDIST_WORKER" not in os.environ:
        return (yield)
    how = fcntl.LOCK_EX if item.get_closest_marker("alone") else fcntl.LOCK_SH
    with open(OUT / ".e2e-door", "w") as door, open(OUT / ".e2e-room", "w") as room:
        fcntl.flock(door, how)
        fcntl.flock(room, how)
        fcntl.flock(door, fcntl.LOCK_UN)
        return (yield)


@pytest.fixture(scope="session", autouse=True)
def possible():
    if not WIRESPAN.exists():
        pytest.exit(f"{WIRESPAN} is not built: run make", 2)
    if os.geteuid():
        pytest.exit("the end-to-end tests load programs into the kernel: run them as root", 2)


@pytest.fixture
def services(tmp_path):
    with Services(tmp_path / "services") as s:
        yield s


@pytest.fixture(params=tracer.plans())
def plan(request):
    """Every attach plan that this kernel grants; those of WS_PLANS, where it is set: refused, they fail."""
    return request.param


@pytest.fixture
def tag():
    return load.tag()


class Start:
    """start(*args): a running tracer; stopped and, if the test passed, checked at its end."""

    def __init__(self, directory):
        self.dir, self.all = directory, []

    def __call__(self, *args, **kw):
        try:
            t = tracer.Tracer(*args, directory=self.dir / f"wirespan{len(self.all)}", **kw)
        except tracer.NotPossible as e:
            if tracer.demanded() and kw.get("attach") in (None, *tracer.demanded()):
                pytest.fail(f"{kw.get('attach', 'auto')}: {e}")
            pytest.skip(f"{kw.get('attach', 'auto')}: {e}")
        self.all.append(t)
        return t


@pytest.fixture
def start(tmp_path):
    s = Start(tmp_path)
    yield s
    for t in s.all:
        t.kill()
        print(f"--- wirespan's log:\n{t.service.tail(20)}")


@pytest.fixture
def traced(start, plan):
    """The tracer on each plan, ready."""
    return lambda *args, **kw: start(*args, attach=plan, **kw)


class Collector:
    """The real OpenTelemetry Collector: receives OTLP on both ports, writes what it took to a file."""

    def __init__(self, services, directory, grpc=None, http=None):
        self.grpc, self.http = grpc or net.free_port(), http or net.free_port()
        self.output = directory / f"collector-{self.http}.json"
        config = directory / f"collector-{self.http}.yaml"
        config.write_text(f"""\
receivers:
  otlp:
    protocols:
      grpc: {{endpoint: "127.0.0.1:{self.grpc}"}}
      http: {{endpoint: "127.0.0.1:{self.http}"}}
exporters:
  file: {{path: "{self.output}", flush_interval: 100ms}}
service:
  telemetry: {{metrics: {{level: none}}}}
  pipelines:
    traces: {{receivers: [otlp], exporters: [file]}}
""")
        build = HERE.parent / "tools" / "collector" / "build.sh"
        binary = subprocess.run([build], capture_output=True, text=True)
        if binary.returncode == 3:
            pytest.skip(binary.stderr.strip().splitlines()[-1])
        assert binary.returncode == 0, binary.stderr
        self.service = services.start([binary.stdout.strip(), "--config", config], "otelcol", port=self.http)

    def spans(self):
        return spans.parse(self.output.read_text()) if self.output.exists() else []


@pytest.fixture
def collector(services, tmp_path):
    return lambda **kw: Collector(services, tmp_path, **kw)
