# SPDX-License-Identifier: Apache-2.0
"""`make demo`: three small services (and the one they call), traced without touching them.

Clicks both buttons of scenario 1 under the console view and prints what it shows, then holds what was
recorded beside it against the expectation. Ends with 1 if a trace is not right.
"""
import pathlib
import signal
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parents[1]), str(HERE)]

import expect  # noqa: E402
import run  # noqa: E402

from rig import WIRESPAN, tracer  # noqa: E402
from rig.proc import Services  # noqa: E402


def main():
    with tempfile.TemporaryDirectory(prefix="wirespan-demo-") as d, Services(pathlib.Path(d) / "log") as services:
        d = pathlib.Path(d)
        print("Starting frontend, service-sync, service-async and leaf: plain Flask and FastAPI, no tracing in them.")
        base, ports = run.start(services, own_ports=True)
        selected = ["--port", ",".join(map(str, ports))]
        print(f"Tracing: sudo {WIRESPAN} {' '.join(selected)}\n", flush=True)
        try:
            shown = tracer.Tracer(*selected, exporter="console", directory=d / "console", ring=None)
            checked = tracer.Tracer(*selected, directory=d / "json")
        except tracer.NotPossible as e:
            print(f"demo: not possible on this machine: {e}", file=sys.stderr)
            return 3
        try:
            clicks = {}
            for i, b in enumerate(run.BUTTONS):
                clicks.update([run.click(base, b, f"button{i}")])
                time.sleep(2.5)  # a trace is printed when it has been quiet for a second
            spans = checked.stop()
            shown.service.signal(signal.SIGINT)
            code = shown.service.p.wait(20)
        finally:
            shown.kill()
            checked.kill()
        print(shown.stderr())
        problems, _ = expect.check(spans, clicks)
        if code:
            problems.append(f"the console view ended with {code}")
        problems += [f"not shown: {b}" for b in run.BUTTONS if b not in shown.stderr()]
        problems += [f"dropped: {why}: {n}" for why, n in tracer.dropped(checked.final).items()]
        if problems:
            print("\n".join(["demo: the traces are not right:", *problems]), file=sys.stderr)
            return 1
        print(f"""
Both traces are right: {len(spans)} spans, every parent there is the true one.

Where to look next:
  sudo {WIRESPAN}                       everything on this machine, as above; Ctrl-C ends it
  sudo {WIRESPAN} --endpoint http://localhost:4318    the same, to an OpenTelemetry collector
  {WIRESPAN} features                   what works on this kernel, and what would grant the rest
  {sys.executable} {HERE / 'run.py'} --load 3     keeps these services running, with three people clicking""")
    return 0


if __name__ == "__main__":
    sys.exit(main())
