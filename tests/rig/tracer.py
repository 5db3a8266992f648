# SPDX-License-Identifier: Apache-2.0
"""wirespan under test: start, wait until the hooks are live, read the books, stop, read the spans."""
import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import tempfile
import time

from . import SLOW, WIRESPAN, spans
from .proc import Service

NOT_POSSIBLE = 3  # exit code: not possible on this machine


def demanded():
    """Attach plans that have to work here: WS_PLANS=fentry,kprobe."""
    return [p for p in os.environ.get("WS_PLANS", "").split(",") if p]


def plans():
    """Attach plans to test: those demanded, else those that `wirespan features` says are granted."""
    if demanded() or not WIRESPAN.exists():
        return demanded()
    r = subprocess.run([WIRESPAN, "features"], capture_output=True, text=True, timeout=60 * SLOW)
    return re.findall(r"^(\S+)\s+granted", r.stdout, re.M)


class NotPossible(Exception):
    """This machine cannot do what was asked, by wirespan's own probing; the text is its reason."""


def imbalance(books):
    """What does not add up, as text; "" if every stage balances (in = out + held + dropped)."""
    bad = []
    for r in books["stages"]:
        total = r["out"] + r.get("held", 0) + sum(r["dropped"].values())
        if r["in"] != total:
            bad.append(f"{r['stage']}: in {r['in']} != out {r['out']} + held {r.get('held', 0)} + {r['dropped']}")
    return "; ".join(bad)


def stage(books, name):
    return next(r for r in books["stages"] if r["stage"] == name)


def dropped(books):
    """{"stage.reason": count} of everything that was lost, what was left out on purpose excepted."""
    on_purpose = {"unselected", "telemetry", "receiver", "path_excluded", "sampled_out"}
    return {f"{r['stage']}.{why}": n for r in books["stages"] for why, n in r["dropped"].items()
            if n and why not in on_purpose}


class Tracer:
    def __init__(self, *args, attach=None, directory=None, exporter="json", env=None, prefix=(), ready=30,
                 ring="16MiB"):
        self.dir = pathlib.Path(directory or tempfile.mkdtemp(prefix="wirespan-"))
        self.dir.mkdir(parents=True, exist_ok=True)
        self.output, self.log = self.dir / "spans.json", self.dir / "wirespan.log"
        # short: the path of a socket has at most 107 characters
        self.control = pathlib.Path(tempfile.mkdtemp(prefix="ws-")) / "s"
        self.exporter = exporter
        # What a machine that stands still for a moment makes of a ring of the default size is no test of ours.
        argv = [*prefix, WIRESPAN, "--control", self.control, *(["--ring-size", ring] if ring else [])]
        if exporter == "json":
            # a batch that is not full leaves after a second by default: every test would wait that long for its end
            argv += ["--exporter", "json", "--format", "json", "--output", self.output, "--schedule-delay", "100ms"]
        elif exporter:
            argv += ["--exporter", exporter]
        if attach:
            argv += ["--attach", attach]
        self.service = Service([*argv, *args], self.log, name="wirespan", env=env)
        self.final = None
        if ready:
            self.wait_ready(ready)

    @property
    def pid(self):
        return self.service.pid

    def stderr(self):
        return self.log.read_text(errors="replace")

    def wait_ready(self, timeout):
        end = time.monotonic() + timeout * SLOW
        while "wirespan: ready" not in self.stderr():
            code = self.service.p.poll()
            if code == NOT_POSSIBLE:
                raise NotPossible(self.stderr().strip().splitlines()[-1])
            if code is not None:
                raise RuntimeError(f"wirespan ended with {code} before it was ready:\n{self.stderr()}")
            if time.monotonic() > end:
                self.service.stop()
                raise TimeoutError(f"wirespan not ready after {timeout} s:\n{self.stderr()}")
            time.sleep(0.02)

    def wait_log(self, text, timeout=20):
        """Waits until wirespan has said `text`."""
        end = time.monotonic() + timeout * SLOW
        while text not in self.stderr():
            assert time.monotonic() < end, f"{text!r} was not said within {timeout} s:\n{self.stderr()}"
            time.sleep(0.05)

    def books(self):
        r = subprocess.run([WIRESPAN, "stats", "--control", self.control, "--format", "json"],
                           capture_output=True, text=True, timeout=20 * SLOW)
        if r.returncode:
            raise RuntimeError(f"wirespan stats: {r.stderr.strip()}")
        return json.loads(r.stdout)

    def settle(self, timeout=20):
        """Waits until nothing is under way any more: two snapshots, 0.3 s apart, with equal numbers of
        exchanges and spans (events flow for every socket of the machine, this question's too), that
        balance, with nothing waiting. What goes on for longer, a request without an answer or traffic of
        others, ends the wait at the time limit; the last snapshot still has to balance."""
        end = time.monotonic() + timeout * SLOW
        patience = time.monotonic() + timeout * SLOW / 4  # for exchanges that stay open
        last, books = None, self.books()
        while time.monotonic() < end:
            rows = [r for r in books["stages"] if r["unit"] in ("messages", "exchanges", "spans")]
            key = [(r["in"], r["out"]) for r in rows]
            waiting = sum(r["held"] for r in rows if r["unit"] == "spans" or time.monotonic() < patience)
            if key == last and not waiting and not imbalance(books):
                break
            last = key
            time.sleep(0.3)
            books = self.books()
        return books

    def stop(self, sig=signal.SIGINT, timeout=30, settle=True, code=0):
        """Settles, checks the books, ends wirespan; returns the exported spans (exporter json)."""
        if settle:
            self.final = self.settle()
            assert not imbalance(self.final), imbalance(self.final)
        self.service.signal(sig)
        try:
            got = self.service.p.wait(timeout * SLOW)
        except subprocess.TimeoutExpired:
            self.service.stop()
            raise AssertionError(f"wirespan did not end within {timeout} s of {sig!r}:\n{self.stderr()}") from None
        assert got == code, f"wirespan ended with {got}:\n{self.stderr()}"
        return self.spans() if self.exporter == "json" else None

    def spans(self):
        return spans.parse(self.output.read_text()) if self.output.exists() else []

    def totals(self):
        """Numbers of the last lines: "3,412 requests seen, 3,412 spans shown in 853 traces, 0 dropped."""
        m = re.search(r"([\d,]+) requests? seen, ([\d,]+) spans? \w+(?: in ([\d,]+) traces?)?, ([\d,]+) dropped",
                      self.stderr())
        return [int((g or "0").replace(",", "")) for g in m.groups()] if m else None

    def _status_kib(self, field):
        return int(re.search(rf"{field}:\s+(\d+)", pathlib.Path(f"/proc/{self.pid}/status").read_text()).group(1))

    def rss_peak_kib(self):
        return self._status_kib("VmHWM")

    def cpu_seconds(self):
        f = pathlib.Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(f[11]) + int(f[12])) / os.sysconf("SC_CLK_TCK")

    def kill(self):
        if self.service.alive():
            self.service.stop()
        shutil.rmtree(self.control.parent, ignore_errors=True)

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.kill()
        if exc[0] is not None:
            print(f"--- wirespan, end of its log:\n{self.service.tail(20)}")
