# SPDX-License-Identifier: Apache-2.0
"""`make bench`: what tracing costs, without and with it in turn, on this machine.

Each case runs in rounds of off, socket, off, syscall, …, so that drift of the machine hits all alike, and
the medians are compared. wrk keeps 64 connections busy; every request is encoded and posted to a sink
that acknowledges it. Loss comes from the books, and is held against what wrk sent.

    bench.py [--rounds N] [--seconds N] [--cases nginx,https,fastapi,flask,aiohttp,go] [--plans socket,syscall] [--body BYTES] [--no-seen]
             [--no-stats] [--quick] [--json FILE]

Interrupted, it reports the rounds that it has.
"""
import argparse
import json
import os
import pathlib
import re
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

from rig import golang, load, net, python, tls, tool, tracer  # noqa: E402
from rig.proc import Service, Services  # noqa: E402

APPS = HERE / "apps"


def wrk(port, seconds, connections, scheme="http"):
    """requests, requests per second, p50 and p99 in ms, errors."""
    r = subprocess.run(["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--latency", f"{scheme}://127.0.0.1:{port}/f"],
                       capture_output=True, text=True, timeout=seconds + 60)
    unit = {"us": 1e-3, "ms": 1, "s": 1e3, "m": 6e4}

    def percentile(p):
        m = re.search(rf"^\s+{p}%\s+([\d.]+)(us|ms|s|m)", r.stdout, re.M)
        return float(m[1]) * unit[m[2]]

    m = re.search(r"(\d+) requests in", r.stdout)
    if not m:
        raise RuntimeError(f"wrk: {r.stdout}{r.stderr}")
    errors = sum(int(n) for n in re.findall(r"(?:connect|read|write|timeout|responses:) (\d+)", r.stdout))
    return {"requests": int(m[1]), "rps": float(re.search(r"Requests/sec:\s+([\d.]+)", r.stdout)[1]),
            "p50": percentile(50), "p99": percentile(99), "errors": errors}


def listen(name, port, directory):
    if name != "https":
        return f"listen 127.0.0.1:{port};"
    who = tls.identity(directory)
    return f"listen 127.0.0.1:{port} ssl; ssl_certificate {who['CERT']}; ssl_certificate_key {who['KEY']};"


def start_case(name, services, body):
    port = net.free_port()
    if name in ("nginx", "https"):
        www = services.dir / "www"
        www.mkdir()
        (www / "f").write_text("x" * body)
        for d in [www, *www.parents][:4]:
            d.chmod(0o755)
        services.nginx(f"open_file_cache max=10; sendfile on; server {{ {listen(name, port, services.dir)} root {www}; }}", port=port)
    elif name == "fastapi":
        services.start([python(), "-m", "uvicorn", "--host", "127.0.0.1", "--port", port, "--log-level", "warning",
                        "--no-access-log", "fast:app"], "uvicorn", port=port, cwd=APPS)
    elif name in ("aiohttp", "go"):
        leaf = net.free_port()
        services.nginx(f"server {{ listen 127.0.0.1:{leaf}; location / {{ return 200 ok; }} }}", port=leaf)
        argv = [golang.Build(APPS / "go").program()] if name == "go" else [python(), APPS / "aio.py"]
        services.start(argv, name, port=port, env={"PORT": port, "LEAF": f"http://127.0.0.1:{leaf}"})
    else:
        services.start([python(), "-m", "gunicorn", "-k", "gthread", "--threads", "4", "--bind", f"127.0.0.1:{port}",
                        "--log-level", "warning", "--keep-alive", "60", "plain:app"], "gunicorn", port=port, cwd=APPS)
    return port


def probe_times(pid):
    """(runs, ns) summed over the programs that a process holds, from the kernel's own statistics."""
    runs = ns = 0
    ids = set()
    for f in pathlib.Path(f"/proc/{pid}/fdinfo").iterdir():
        try:
            m = re.search(r"^prog_id:\s*(\d+)", f.read_text(), re.M)
        except OSError:
            continue
        if m:
            ids.add(m[1])
    for i in ids:
        r = subprocess.run(["/usr/sbin/bpftool", "-j", "prog", "show", "id", i], capture_output=True, text=True)
        if r.returncode == 0:
            p = json.loads(r.stdout)
            runs += p.get("run_cnt", 0)
            ns += p.get("run_time_ns", 0)
    return runs, ns


class Sink:
    """The acknowledging sink, and what it counted."""

    def __init__(self, directory):
        self.service = Service([tool("sink")], directory / "sink.log", name="sink", wait=False)
        end = time.monotonic() + 5
        while not (m := re.search(r"ready (\d+)", self.service.log.read_text())):
            assert time.monotonic() < end, self.service.tail()
            time.sleep(0.02)
        self.port = int(m[1])

    def totals(self):
        return json.loads(urllib.request.urlopen(f"http://127.0.0.1:{self.port}/", timeout=5).read())


def traced_run(port, plan, a, directory, bpf_stats, scheme="http"):
    sink = Sink(directory)
    t = None
    try:
        t = tracer.Tracer("--endpoint", f"http://127.0.0.1:{sink.port}", "--port", str(port), attach=plan,
                          exporter="otlp", directory=directory, ring=None)
        cpu, (runs, ns) = t.cpu_seconds(), probe_times(t.pid)
        r = wrk(port, a.seconds, a.connections, scheme)
        runs2, ns2 = probe_times(t.pid)
        books = t.settle(30)
        r["cpu_ms_per_1000"] = 1e6 * (t.cpu_seconds() - cpu) / r["requests"]
        r["rss_kib"] = t.rss_peak_kib()
        r["lost"] = tracer.dropped(books)
        r["imbalance"] = tracer.imbalance(books)
        r["exported"] = tracer.stage(books, "export")["out"]
        r["acknowledged"] = sink.totals()["spans"]
        if bpf_stats and runs2 > runs:
            r["ns_per_probe"], r["probes_per_request"] = (ns2 - ns) / (runs2 - runs), (runs2 - runs) / r["requests"]
        t.service.signal(15)
        t.service.p.wait(30)
        return r
    finally:
        if t:
            t.kill()
        sink.service.stop()


def sysctl_stats(on):
    try:
        pathlib.Path("/proc/sys/kernel/bpf_stats_enabled").write_text("1" if on else "0")
        return True
    except OSError:
        return False


def median(rows, key):
    values = [r[key] for r in rows if r.get(key) is not None]
    return statistics.median(values) if values else None


def scheme_of(name):
    return "https" if name == "https" else "http"


def run_rounds(name, a, tmp, port, results):
    wrk(port, 2, a.connections, scheme_of(name))  # warm
    for i in range(a.rounds):
        for plan in a.plans:
            off = wrk(port, a.seconds, a.connections, scheme_of(name))
            traced = traced_run(port, plan, a, tmp / f"{name}{i}{plan}", False, scheme_of(name))
            results["off"].append(off)
            results[plan].append(traced)
            print(f"  {name} round {i + 1}: off {off['rps']:.0f}/s, {plan} {traced['rps']:.0f}/s", file=sys.stderr, flush=True)


def run_stats(name, a, tmp, port):
    """Statistics cost two clock reads per probe: a run of their own, not compared."""
    if a.no_stats or not sysctl_stats(True):
        return {}
    try:
        return {plan: traced_run(port, plan, a, tmp / f"{name}stats{plan}", True, scheme_of(name)) for plan in a.plans}
    finally:
        sysctl_stats(False)


def bench_case(name, a, tmp):
    """The case's figures, None if there is no round, and whether it was interrupted."""
    results, probes, interrupted = {"off": [], **{p: [] for p in a.plans}}, {}, False
    with Services(tmp / name) as services:
        port = start_case(name, services, a.body)
        try:
            run_rounds(name, a, tmp, port, results)
            probes = run_stats(name, a, tmp, port)
        except KeyboardInterrupt:
            interrupted = True
    plans = [p for p in a.plans if results[p]]
    return (figures(name, results, probes, plans) if plans else None), interrupted


def figures(name, results, probes, plans):
    off = results["off"]
    out = {"case": name, "untraced_rps": median(off, "rps"), "untraced_p50_ms": median(off, "p50"),
           "untraced_p99_ms": median(off, "p99"), "plans": {}}
    for plan in plans:
        rows = results[plan]
        requests = sum(r["requests"] for r in rows)
        acked = sum(r["acknowledged"] for r in rows)
        out["plans"][plan] = {
            "throughput_ratio": median(rows, "rps") / out["untraced_rps"],
            "p50_ratio": median(rows, "p50") / out["untraced_p50_ms"],
            "p99_ratio": median(rows, "p99") / out["untraced_p99_ms"],
            "cpu_ms_per_1000_requests": median(rows, "cpu_ms_per_1000"),
            "ns_per_probe": probes.get(plan, {}).get("ns_per_probe"),
            "probes_per_request": probes.get(plan, {}).get("probes_per_request"),
            "peak_rss_mib": max(r["rss_kib"] for r in rows) / 1024,
            "requests": requests, "acknowledged": acked,
            # wrk stops mid-flight: up to one request per connection and run is sent and not counted by it
            "uncounted": max(0, requests - acked - sum(sum(r["lost"].values()) for r in rows)),
            "lost": {k: sum(r["lost"].get(k, 0) for r in rows) for r0 in rows for k in r0["lost"]},
            "imbalance": [r["imbalance"] for r in rows if r["imbalance"]],
            "errors": sum(r["errors"] for r in rows),
            "untraced_errors": sum(r["errors"] for r in off),
        }
    return out


def seen_of_sent(a, tmp):
    """Spans seen / requests sent at 1, 64 and 512 connections, by the client that counts exactly."""
    rows = []
    with Services(tmp / "seen") as services:
        port = net.free_port()
        services.nginx(f"server {{ listen 127.0.0.1:{port} backlog=1024; location / {{ return 200 ok; }} }}", port=port)
        for plan in a.plans:
            for connections in (1, 64, 512):
                n = 20_000
                t = tracer.Tracer("--port", str(port), attach=plan, directory=tmp / f"seen{plan}{connections}")
                try:
                    sent = load.run(f"127.0.0.1:{port}", n, connections, "/r/bench-%/n0")
                    spans = t.stop()
                finally:
                    t.kill()
                rows.append({"plan": plan, "connections": connections, "sent": sent["answered"], "seen": len(spans),
                             "lost": tracer.dropped(t.final)})
    return rows


def shared_library(a, tmp):
    """What tracing costs where few processes have one libssl mapped, and where 200 have: resident memory at its peak."""
    rows = []
    for workers in (1, 200):
        with Services(tmp / f"shared{workers}") as services:
            port, who = net.free_port(), tls.identity(services.dir)
            services.nginx(f"server {{ listen 127.0.0.1:{port} ssl; ssl_certificate {who['CERT']}; "
                           f"ssl_certificate_key {who['KEY']}; location / {{ return 200 ok; }} }}", port=port, workers=workers)
            t = tracer.Tracer("--port", str(port), attach=a.plans[0], directory=tmp / f"sharing{workers}", ring=None)
            try:
                tls.load(who, f"127.0.0.1:{port}", 2000, 32, "/r/bench-%/n0", again=True)
                t.settle()
                rss = t.rss_peak_kib()
                seen = len(t.stop())
            finally:
                t.kill()
            rows.append({"processes": workers + 1, "rss_mib": rss / 1024, "sent": 2000, "seen": seen})
    return rows


def fmt(v, spec):
    return "-" if v is None else format(v, spec)


def report(data):
    print(f"\n{data['machine']}; wrk, {data['connections']} connections, {data['seconds']} s × "
          f"{data['rounds']} rounds, medians\n")
    print(f"{'case':8} {'plan':8} {'untraced/s':>10} {'ratio':>6} {'p50':>5} {'p99':>5} {'cpu ms/1000':>11} "
          f"{'ns/probe':>8} {'RSS MiB':>7} {'requests':>9} {'acked':>9} {'lost':>6} {'uncounted':>9}")
    for c in data["cases"]:
        for plan, r in c["plans"].items():
            print(f"{c['case']:8} {plan:8} {c['untraced_rps']:10.0f} {r['throughput_ratio']:6.3f} "
                  f"{r['p50_ratio']:5.2f} "
                  f"{r['p99_ratio']:5.2f} {fmt(r['cpu_ms_per_1000_requests'], '11.2f')} "
                  f"{fmt(r['ns_per_probe'], '8.0f')} {r['peak_rss_mib']:7.1f} {r['requests']:9} "
                  f"{r['acknowledged']:9} {sum(r['lost'].values()):6} {r['uncounted']:9}")
            for k, n in r["lost"].items():
                print(f"{'':17} lost: {k}: {n}")
            if r["errors"] or r["untraced_errors"]:
                print(f"{'':17} wrk's errors: {r['errors']} with wirespan, {r['untraced_errors']} without (all plans)")
            for line in r["imbalance"]:
                print(f"{'':17} THE BOOKS DO NOT BALANCE: {line}")
    if data["seen"]:
        print("\nspans seen / requests sent (nginx):")
    for r in data["seen"]:
        print(f"  {r['plan']:8} {r['connections']:4} connections: {r['seen']} / {r['sent']} = "
              f"{100 * r['seen'] / r['sent']:.2f} %"
              + (f", on the books: {r['lost']}" if r["lost"] else ""))


    for r in data["shared"]:
        print(f"{r['processes']} processes share one libssl: peak RSS {r['rss_mib']:.1f} MiB; {r['seen']} / {r['sent']} "
              f"requests seen, a TLS session each")


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--rounds", type=int, default=5)
    p.add_argument("--seconds", type=int, default=5)
    p.add_argument("--connections", type=int, default=64)
    p.add_argument("--cases", default="nginx,https,fastapi,flask,aiohttp,go")
    p.add_argument("--plans", default="granted", help="attach plans; by default all that this kernel grants")
    p.add_argument("--body", type=int, default=100, help="bytes of nginx's file")
    p.add_argument("--no-seen", action="store_true", help="leave out spans seen of requests sent")
    p.add_argument("--no-stats", action="store_true", help="leave out what a probe takes")
    p.add_argument("--quick", action="store_true", help="one round of two seconds: does it work?")
    p.add_argument("--json", help="the same figures, for machines")
    a = p.parse_args()
    a.plans = tracer.plans() if a.plans == "granted" else a.plans.split(",")
    if a.quick:
        a.rounds, a.seconds = 1, 2
    data = {"machine": f"{os.cpu_count()} CPUs, kernel {os.uname().release}", "connections": a.connections,
            "seconds": a.seconds, "rounds": a.rounds, "cases": [], "seen": []}
    with tempfile.TemporaryDirectory(prefix="wirespan-bench-") as d:
        os.chmod(d, 0o755)
        tmp = pathlib.Path(d)
        interrupted = False
        for case in a.cases.split(","):
            got, interrupted = bench_case(case, a, tmp)
            data["cases"] += [got] if got else []
            if interrupted:
                break
        data["seen"] = [] if a.no_seen or interrupted else seen_of_sent(a, tmp)
        data["shared"] = [] if interrupted or "https" not in a.cases else shared_library(a, tmp)
    report(data)
    text = json.dumps(data)
    if a.json:
        pathlib.Path(a.json).write_text(text + "\n")
    else:
        print(f"\n{text}")
    bad = [r for c in data["cases"] for r in c["plans"].values() if r["imbalance"] or r["uncounted"] or
           r["errors"] > r["untraced_errors"]]
    return 130 if interrupted else 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
