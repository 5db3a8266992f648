# SPDX-License-Identifier: Apache-2.0
"""Scenario 2, fan-out: main, upstream, service1, service2, log; HTTPS stand-in and PostgreSQL of their own.

    python tests/scenarios/fan-out/run.py                 start and stay; ports 5000 to 5004
    ... --load N                                          and N workers asking, 0.5 to 2 s apart
    ... --fast [--check]                                  without a pause, then end; traced and checked (root)
"""
import argparse
import concurrent.futures
import json
import os
import pathlib
import pwd
import random
import subprocess
import sys
import tempfile
import time
import urllib.request

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parents[1]), str(HERE)]

from rig import net, python, tracer  # noqa: E402
from rig.proc import Services  # noqa: E402

VERSIONS = ("/check-sites", "/check-sites-v2")


def postgres(services):
    """A cluster of our own in the log directory, run by the user postgres; the machine's is not touched."""
    programs = sorted(pathlib.Path("/usr/lib/postgresql").glob("*/bin"))
    if not programs:
        raise SystemExit("fan-out: no PostgreSQL: run `make deps`")
    user, port = pwd.getpwnam("postgres"), net.free_port()
    data = services.dir / "pg"
    data.mkdir()
    os.chown(data, user.pw_uid, user.pw_gid)
    for d in (services.dir, services.dir.parent):
        d.chmod(0o755)
    as_user = ["setpriv", f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups"]
    r = subprocess.run([*as_user, programs[-1] / "initdb", "-D", data, "-A", "trust", "--no-sync"],
                       capture_output=True, text=True, cwd="/")
    if r.returncode:
        raise SystemExit(f"fan-out: initdb: {r.stderr.strip()}")
    services.start([*as_user, programs[-1] / "postgres", "-D", data, "-k", data, "-h", "127.0.0.1", "-p", port, "-F"],
                   "postgres", port=port, cwd="/")
    return f"postgresql://postgres@127.0.0.1:{port}/postgres"


def site(services):
    key, cert, port = services.dir / "key.pem", services.dir / "cert.pem", net.free_port()
    net.sh("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", str(key), "-out", str(cert),
           "-days", "2", "-subj", "/CN=site.test", "-addext", "subjectAltName=IP:127.0.0.1")
    services.start([python(), HERE / "site.py", port, cert, key], "site", port=port)
    return f"https://127.0.0.1:{port}", cert


def start(services, own_ports=False):
    """Starts all; returns main's base URL, log's, and the ports of the five."""
    ports = [net.free_port() for _ in range(5)] if own_ports else list(range(5000, 5005))
    at = [f"http://127.0.0.1:{p}" for p in ports]
    d = HERE / "services"
    url, ca = site(services)

    def fastapi(name, port, **env):
        services.start([python(), "-m", "uvicorn", "--host", "127.0.0.1", "--port", port, "--log-level", "warning",
                        "app:app"], name, port=port, cwd=d / name, env={"PYTHONPATH": d, **env})

    fastapi("log", ports[4], DATABASE=postgres(services))
    for name, port in (("service1", ports[2]), ("service2", ports[3])):
        fastapi(name, port, SITE=url, SITE_CA=ca, LOG=at[4])
    fastapi("upstream", ports[1], SERVICE1=at[2], SERVICE2=at[3])
    services.script(d / "main-service" / "app.py", "main", port=ports[0], cwd=d / "main-service",
                    env={"PORT": ports[0], "UPSTREAM": at[1]})
    return at[0], at[4], ports


def fetch(url):
    with urllib.request.urlopen(url, timeout=90) as r:
        return json.loads(r.read())


def ask(base, workers, per_worker, pause):
    """Workers that ask, both versions in turn; returns {click: version}."""
    def one(w):
        rnd, done = random.Random(w), {}
        for i in range(per_worker):
            version = VERSIONS[(w + i) % 2]
            assert [r["status"] for r in fetch(f"{base}{version}?click=w{w}n{i}")] == [200, 200]
            done[f"w{w}n{i}"] = version
            time.sleep(rnd.uniform(*pause))
        return done

    out = {}
    with concurrent.futures.ThreadPoolExecutor(workers) as pool:
        for done in pool.map(one, range(workers)):
            out.update(done)
    return out


def check(base, log, ports, load, directory, attach):
    import expect
    before = fetch(f"{log}/api/count")["count"]
    t = tracer.Tracer("--port", ",".join(map(str, ports)), attach=attach, directory=directory)
    try:
        done = ask(base, load, 10 if load == 1 else 2, (0, 0))
        spans = t.stop()
    finally:
        t.kill()
    problems, gaps = expect.check(spans, done, load == 1)
    stored = fetch(f"{log}/api/count")["count"] - before
    if stored != 2 * len(done):
        problems.append(f"the database holds {stored} records more, not {2 * len(done)}")
    problems += [f"dropped: {why}: {n}" for why, n in tracer.dropped(t.final).items()]
    print(f"fan-out, {attach}, {load} at once: {len(done)} clicks, {len(spans)} spans, {len(problems)} problems")
    for (a, b), (n, errors, ms) in sorted(expect.graph(spans).items()):
        print(f"  {a} -> {b}: {n} calls, {errors} errors, {ms / n:.0f} ms")
    for line in gaps + problems[:10]:
        print(f"  {line}")
    return not problems


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--load", type=int, metavar="N", default=0, help="workers that ask")
    p.add_argument("--fast", action="store_true", help="ask without a pause, then end")
    p.add_argument("--check", action="store_true", help="trace it and check every span (root)")
    p.add_argument("--attach", help="with --check: this plan only")
    a = p.parse_args()
    if os.geteuid():
        raise SystemExit("fan-out: run it as root: its database runs as the user postgres")
    with tempfile.TemporaryDirectory(prefix="fan-out-") as d, Services(pathlib.Path(d) / "log") as services:
        base, log, ports = start(services, own_ports=a.check)
        if a.check:
            runs = [(load, plan) for plan in ([a.attach] if a.attach else ["socket", "syscall"])
                    for load in ([a.load] if a.load else [1, 64])]
            ok = [check(base, log, ports, load, pathlib.Path(d) / f"{plan}{load}", plan) for load, plan in runs]
            return 0 if all(ok) else 1
        print(f"main: {base}{VERSIONS[0]} and {base}{VERSIONS[1]}", flush=True)
        if a.fast:
            print(f"{len(ask(base, a.load or 3, 6, (0, 0)))} clicks, {fetch(f'{log}/api/count')['count']} records")
            return 0
        try:
            while True:
                if a.load:
                    ask(base, a.load, 10, (0.5, 2))
                else:
                    time.sleep(1)
        except KeyboardInterrupt:
            return 0


if __name__ == "__main__":
    sys.exit(main())
