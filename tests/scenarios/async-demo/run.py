# SPDX-License-Identifier: Apache-2.0
"""Scenario 1, async-demo: sync and async Python side by side, four unmodified services.

    python tests/scenarios/async-demo/run.py                 start and stay; ports 5000, 8081, 8082, 9100
    python tests/scenarios/async-demo/run.py --load 3        and 3 workers clicking, 0.5 to 2 s apart
    ... --fast                                               workers click without a pause, then all ends
    ... --fast --check                                       and traced, every parent held against expect.py
"""
import argparse
import concurrent.futures
import pathlib
import random
import sys
import tempfile
import time
import urllib.request

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parents[1]), str(HERE)]

from rig import net, python, tracer  # noqa: E402
from rig.proc import Services  # noqa: E402

BUTTONS = ("/call-sync-chain", "/call-async")
WORKERS = 3  # of service_async's pool


def start(services, own_ports=False):
    """Starts the four; returns the frontend's base URL and all ports."""
    front, sync, async_, leaf = [net.free_port() for _ in range(4)] if own_ports else (5000, 8081, 8082, 9100)
    d = HERE / "services"

    def at(port):
        return f"http://127.0.0.1:{port}"

    services.script(d / "leaf.py", port=leaf, cwd=d, env={"PORT": leaf})
    services.start([python(), "-m", "uvicorn", "--host", "127.0.0.1", "--port", async_, "--log-level", "warning",
                    "service_async:app"], "service_async", port=async_, cwd=d, env={"PORT": async_, "LEAF": at(leaf)})
    services.script(d / "service_sync.py", port=sync, cwd=d, env={"PORT": sync, "SERVICE_ASYNC": at(async_)})
    services.script(d / "frontend.py", port=front, cwd=d,
                    env={"PORT": front, "SERVICE_SYNC": at(sync), "SERVICE_ASYNC": at(async_)})
    return at(front), [front, sync, async_, leaf]


def click(base, button, name):
    with urllib.request.urlopen(f"{base}{button}?click={name}", timeout=60) as r:
        assert r.status == 200
    return name, button


def clicks(base, workers, per_worker, pause):
    """Workers that click at random; returns {click: button}."""
    def one(w):
        rnd, done = random.Random(w), {}
        for i in range(per_worker):
            name, button = click(base, rnd.choice(BUTTONS), f"w{w}n{i}")
            done[name] = button
            time.sleep(rnd.uniform(*pause))
        return done

    out = {}
    with concurrent.futures.ThreadPoolExecutor(workers) as pool:
        for done in pool.map(one, range(workers)):
            out.update(done)
    return out


def check(base, ports, load, per_worker, directory, attach, executor):
    import expect
    # those who listen: the one who clicks is not part of the system
    t = tracer.Tracer("--port", ",".join(map(str, ports)), *(["--executor-spans"] if executor else []), attach=attach,
                      directory=directory)
    try:
        done = clicks(base, load, per_worker, (0, 0))
        spans = t.stop()
    finally:
        t.kill()
    problems, gaps = expect.check(spans, done, WORKERS, executor)
    lost = tracer.dropped(t.final)
    kind = ", work items" if executor else ""
    print(f"async-demo, {attach}, {load} at once{kind}: {len(done)} clicks, {len(spans)} spans, {len(problems)} problems")
    for g in gaps:
        print(f"  {g}")
    for p in problems[:10]:
        print(f"  {p}")
    if lost:
        print(f"  dropped: {lost}")
    return not problems and not lost


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--load", type=int, metavar="N", default=0, help="workers that click")
    p.add_argument("--fast", action="store_true", help="click without a pause, then end")
    p.add_argument("--check", action="store_true", help="trace it and check every span (root)")
    p.add_argument("--attach", help="with --check: this plan only")
    a = p.parse_args()
    with tempfile.TemporaryDirectory(prefix="async-demo-") as d, Services(pathlib.Path(d) / "log") as services:
        base, ports = start(services, own_ports=a.check)
        if a.check:
            runs = [(load, plan) for plan in ([a.attach] if a.attach else ["socket", "syscall"])
                    for load in ([a.load] if a.load else [1, 64])]
            ok = [check(base, ports, load, 10 if load == 1 else 3, pathlib.Path(d) / f"{plan}{load}", plan, load > 1)
                  for load, plan in runs]
            return 0 if all(ok) else 1
        print(f"frontend: {base}{BUTTONS[0]} and {base}{BUTTONS[1]}", flush=True)
        if a.fast:
            print(f"{len(clicks(base, a.load or 3, 20, (0, 0)))} clicks")
            return 0
        try:
            while True:
                if a.load:
                    clicks(base, a.load, 10, (0.5, 2))
                else:
                    time.sleep(1)
        except KeyboardInterrupt:
            return 0


if __name__ == "__main__":
    sys.exit(main())
