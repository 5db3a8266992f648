#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Who caused this call? Real services, a request id in every path, every edge held against it.

    accuracy.py             `make accuracy`: every row at 1, 16, 128 and 512 connections, 2,000 edges or more per cell
    accuracy.py --short     the rows that `make test` runs, at 16 connections, 300 edges
    accuracy.py --only aio  rows whose name has one of these in it

At 16 connections twice more: with a connection for every request and every call, and impatient: one request in four is
given up after at most 20 ms and asked again, one call in eight is answered too late and made again. How many edges there
are is what the service that is called was asked.

A wrong edge fails the run, and so does a row that finds fewer than its share; of requests that were given up none is
expected. What is missing is given with wirespan's own reasons.
"""
import argparse
import collections
import dataclasses
import json
import math
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import time

sys.dont_write_bytecode = True
HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

from rig import OUT, PYTHONS, WIRESPAN, golang, load, net, node, python, spans, tls  # noqa: E402
from rig.proc import Services  # noqa: E402
from rig.spans import CLIENT  # noqa: E402
from rig.tracer import Tracer, dropped  # noqa: E402

SERVICES = HERE / "services"
EXTRA = OUT / "accuracy"  # tests/accuracy/requirements.txt
PYENV = pathlib.Path(os.environ.get("PYENV_ROOT") or pathlib.Path.home() / ".pyenv")


@dataclasses.dataclass
class Conf:
    """An argument: the path of what is made of a file in services/, behind `option`."""
    name: str
    option: str = ""

    def write(self, directory, **values):
        text = (SERVICES / self.name).read_text()
        for key, value in values.items():
            text = text.replace("{%s}" % key, str(value))
        path = pathlib.Path(directory) / self.name.removesuffix(".in")
        path.write_text(text)
        return f"{self.option}{path}"


@dataclasses.dataclass
class Row:
    name: str
    argv: list           # with {port}
    legs: list
    bar: float = 0.999   # of the edges that have to be right; 0: none is expected, and none may be wrong
    env: dict = dataclasses.field(default_factory=dict)
    short: bool = False
    python: str = ""
    limit: int = 512     # connections that the server takes at once
    also: bool = False   # `make test` runs it with impatience too
    hurried: float = 1.0 # at the most that bar where calls are made again
    tls: bool = False    # it is asked, and asks, over HTTPS


def module(name):
    return [python(), "-m", name]


ASGI = ["n1a", "n1b", "n1c", "n1d", "n1e"]
WSGI = ["n1a", "n1b", "n1c", "n1d"]


def frameworks():
    # A machine may stand still for longer than servers keep an idle connection by default.
    uvicorn = [*module("uvicorn"), "--app-dir", str(SERVICES), "asgi_app:app", "--port", "{port}", "--log-level", "error",
               "--timeout-keep-alive", "600"]
    gunicorn = [*module("gunicorn"), "--chdir", str(SERVICES), "-b", "127.0.0.1:{port}", "--log-level", "error",
                "--keep-alive", "600"]
    return [
        Row("FastAPI on uvicorn, httpx", [*uvicorn, "--loop", "asyncio", "--http", "h11"], ASGI, short=True, also=True),
        Row("FastAPI on uvicorn, httpx, pool of 10", [*uvicorn, "--loop", "asyncio", "--http", "h11"], ASGI,
            env={"POOL": "10"}),
        Row("FastAPI on uvicorn, calls after the answer too", [*uvicorn, "--loop", "asyncio", "--http", "h11"],
            [*ASGI, "n1f"], bar=0.9, env={"LATE": "task"}),  # at 512 requests may take longer than such a call waits for them
        # Its calls are for whoever has left something to do, long after the request that started it was over.
        Row("FastAPI on uvicorn, a worker that a request starts", [*uvicorn, "--loop", "asyncio", "--http", "h11"], ["n1f"],
            bar=0, env={"LATE": "worker"}),
        Row("FastAPI on uvicorn with uvloop", [*uvicorn, "--loop", "uvloop"], ASGI, short=True),
        Row("FastAPI on uvicorn with uvloop, pool of 10", [*uvicorn, "--loop", "uvloop"], ASGI, env={"POOL": "10"}),
        Row("FastAPI on uvicorn with uvloop, calls after the answer too", [*uvicorn, "--loop", "uvloop"], [*ASGI, "n1f"],
            bar=0.9, env={"LATE": "task"}),
        Row("FastAPI on hypercorn, httpx", [*module("hypercorn"), "-b", "127.0.0.1:{port}", "--keep-alive", "600",
                                           "asgi_app:app"], ASGI),
        # A reactor of Twisted's on asyncio; requests reach the application through a queue of its own.
        Row("FastAPI on Daphne, httpx", [*module("daphne"), "-b", "127.0.0.1", "-p", "{port}", "-v", "0", "asgi_app:app"], ASGI,
            env={"PYTHONPATH": str(EXTRA)}),
        Row("FastAPI on gunicorn with uvicorn workers",
            [*gunicorn, "-w", "2", "-k", "uvicorn.workers.UvicornWorker", "asgi_app:app"], ASGI),
        Row("aiohttp server and client", [python(), str(SERVICES / "aiohttp_app.py")], ASGI, short=True, also=True),
        Row("aiohttp server and client, pool of 10", [python(), str(SERVICES / "aiohttp_app.py")], ASGI, env={"POOL": "10"}),
        # The next request is read before the connection's task waits for it, and waits for that itself.
        Row("aiohttp server and client on uvloop", [python(), str(SERVICES / "aiohttp_app.py")], ASGI, short=True,
            env={"UVLOOP": "1"}),
        Row("Tornado server and client", [python(), str(SERVICES / "tornado_app.py")], ["n1a", "n1b"], bar=0, short=True),
        *(Row(f"FastAPI on {loop}, a pool whose callbacks start what waited",
              [x.replace("asgi_app", "gateway_app") for x in [*uvicorn, "--loop", loop]], ["n1a", "n1b", "n1c"], bar=0,
              short=loop == "asyncio") for loop in ("asyncio", "uvloop")),
        Row("FastAPI, Tornado's client imported late", [a.replace("asgi_app", "late_import_app") for a in uvicorn],
            ["n1a", "n1b", "n1c"], bar=0, short=True),
        Row("Flask on gunicorn gthread, requests", [*gunicorn, "-k", "gthread", "--threads", "16", "wsgi_app:app"], WSGI,
            short=True, also=True),
        Row("Flask on gunicorn sync, requests", [*gunicorn, "-w", "4", "wsgi_app:app"], WSGI, limit=128),
        Row("Flask on gunicorn gevent, requests", [*gunicorn, "-k", "gevent", "wsgi_app:app"], WSGI, short=True),
        *(Row(f"gevent, {name}", [python(), str(SERVICES / "gevent_app.py")], [leg], bar=bar, env={"MODE": mode}, short=not bar)
          for name, leg, mode, bar in (("pywsgi", "n1a", "own", 0.999), ("greenlets that a request starts", "n1b", "spawn", 0),
                                       ("readers that hand over to workers", "n1a", "workers", 0),
                                       ("a selectors loop beside greenlets", "n1a", "loop", 0))),
        Row("Flask on waitress, requests", [python(), str(SERVICES / "wsgi_app.py")], WSGI, short=True, also=True,
            env={"WSGI": "waitress"}),
        Row("Flask on werkzeug, requests", [python(), str(SERVICES / "wsgi_app.py")], WSGI, env={"WSGI": "werkzeug"},
            limit=128),
    ]


def tls_rows():
    """The same services over HTTPS, both ways."""
    uvicorn = [*module("uvicorn"), "--app-dir", str(SERVICES), "asgi_app:app", "--port", "{port}", "--log-level", "error",
               "--timeout-keep-alive", "600", "--ssl-certfile", "{cert}", "--ssl-keyfile", "{key}"]
    gunicorn = [*module("gunicorn"), "--chdir", str(SERVICES), "-b", "127.0.0.1:{port}", "--log-level", "error",
                "--keep-alive", "600", "--certfile", "{cert}", "--keyfile", "{key}"]

    def row(name, argv, legs, **kw):
        return Row(f"{name}, over TLS", argv, legs, tls=True, limit=128, **kw)

    return [row("FastAPI on uvicorn, httpx", [*uvicorn, "--loop", "asyncio", "--http", "h11"], ASGI, short=True),
            row("FastAPI on uvicorn with uvloop", [*uvicorn, "--loop", "uvloop"], ASGI),
            # The first request comes with the end of the handshake: it is read before the connection's task waits for it.
            row("aiohttp server and client", [python(), str(SERVICES / "aiohttp_app.py")], ASGI),
            row("Flask on gunicorn gthread, 8 workers, requests", [*gunicorn, "-w", "8", "-k", "gthread", "--threads", "16",
                                                                    "wsgi_app:app"], WSGI, short=True),
            row("asyncio streams", [python(), str(SERVICES / "streams.py")], ASGI, short=True),
            row("Node.js: https, fetch", [str(node.system()), str(SERVICES / "node_app.js")], ASGI, bar=0.99, short=True),
            row("Go, net/http", [golang.Build(SERVICES / "go")], ["n1a", "n1b", "n1c", "n1d"], short=True),
            row("nginx, two workers, shared connections", ["/usr/sbin/nginx", "-c", Conf("nginx.conf.in")], ["n0"], bar=0.99)]


def interpreters():
    """{version: executable} of the CPythons from 3.8 on that this machine has."""
    found = {}
    for exe in [*sorted(PYENV.glob("versions/3.*/bin/python3")), *PYTHONS, pathlib.Path("/usr/bin/python3")]:
        r = subprocess.run([exe, "-c", "import sys; print('%d.%d.%d' % sys.version_info[:3])"], capture_output=True, text=True)
        if not r.returncode and tuple(map(int, r.stdout.split(".")[:2])) >= (3, 8):
            version, where = r.stdout.strip(), exe.parent.name
            found[version + (" of the distribution" if exe.parent == pathlib.Path("/usr/bin") else
                             "" if where == "bin" else " with a Java project" if where == version else f" in a root of {where}")] = exe
    return found


def go_rows():
    """net/http in programs that `go build` of every version that this machine has makes."""
    legs = ["n1a", "n1b", "n1c", "n1d"]

    def row(name, build, mode="", at=(), **kw):
        # A goroutine that a request started and that asks twice may have done so for another.
        return Row(name, [build], list(at) or legs, env={"MODE": mode, **kw.pop("env", {})}, hurried=0.6, **kw)

    system = golang.Build(SERVICES / "go")
    out = [row(f"Go {system.version}, net/http", system, short=True, also=True),
           row("Go, stripped and static", golang.Build(SERVICES / "go", variant="static")),
           row("Go, position independent", golang.Build(SERVICES / "go", variant="pie")),
           row("Go, pool of 10", system, env={"POOL": "10"}),
           row("Go, calls after the answer too", system, "late", [*legs, "n1f"], bar=0.8),
           # A channel hands the work over: nothing there can be followed.
           row("Go, workers that read a channel", system, "workers", ["n1e"], bar=0),
           # … and nobody is to be taken in by where the workers come from.
           row("Go, workers that a request starts", system, "lazy", ["n1e"], bar=0, short=True),
           # … unless the call says itself whose it is.
           row("Go, workers and waiters with the request's context", system, "carried", ["n1a", "n1b", "n1c"], short=True),
           row("Go, httputil.ReverseProxy", system, "proxy", ["n1a"])]
    return out + [row(f"Go {v}, net/http", golang.Build(SERVICES / "go", version=v)) for v in golang.toolchains()]


def node_rows():
    """Node.js as its project builds it, with the event loop's symbols."""
    service = SERVICES / "node_app.js"

    def row(name, exe, legs, mode="", **kw):
        # It asks again in a timer's callback, and a request that was given up may still be at work.
        return Row(name, [str(exe), str(service)], legs, env={"MODE": mode, **kw.pop("env", {})}, hurried=0, **kw)

    exe = node.system()
    out = [row(f"Node.js {node.version(exe)}: http, fetch", exe, ASGI, bar=0.99, short=True, also=True),
           row("Node.js, back from the thread pool", exe, ["n1a", "n1b"], "pool", bar=0.9),
           row("Node.js, a timer between", exe, ["n1a", "n1b"], "timer", bar=0),
           row("Node.js, setImmediate() between", exe, ["n1a"], "immediate", bar=0),
           # Who is done starts what another request had queued.
           row("Node.js, an agent of 10 sockets", exe, ASGI, bar=0, env={"POOL": "10"}, short=True),
           row("Node.js, a limit of 8 calls at a time", exe, ["n1a", "n1b", "n1c"], "limit", bar=0, short=True),
           row("Node.js, the same beside a file", exe, ["n1a"], "beside", bar=0, env={"FILE": str(WIRESPAN)}, short=True),
           row("Node.js, the same behind a call and beside a file", exe, ["n1a", "n1b"], "behind", bar=0, env={"FILE": str(WIRESPAN)}),
           row("Node.js, a limit that two kinds of handlers share", exe, ["n1a", "n1b"], "kinds", bar=0),
           row("Node.js, the same behind a timer", exe, ["n1a", "n1b"], "hidden", bar=0),
           row("Node.js, calls after the answer too", exe, ["n1a", "n1b"], "late", bar=0.49)]
    return out + [row(f"Node.js {node.version(e)}: http, fetch", e, ASGI, bar=0.99) for e in node.others()]


def java_rows():
    """Virtual threads, if there is a JDK that publishes their numbers."""
    jdk = next((p for p in sorted(pathlib.Path("/usr/lib/jvm").glob("*/bin/javac")) if jdk_version(p) >= 24), None)
    if not jdk:
        print("no JDK 24 or later under /usr/lib/jvm: no rows for virtual threads", file=sys.stderr)
        return []
    argv = [str(jdk.with_name("java")), "-XX:+UseSerialGC", str(SERVICES / "VirtualThreads.java")]
    return [Row(f"JDK {jdk_version(jdk)}, a virtual thread per request", argv, ["n1a", "n1b"], bar=0.99),
            Row("JDK, virtual threads that a request's own starts", argv, ["n1c"], bar=0),
            Row("JDK, a pool of platform threads", argv, ["n1a", "n1b"], bar=0, env={"MODE": "platform"})]


def jdk_version(javac):
    r = subprocess.run([javac, "-version"], capture_output=True, text=True)
    return int((r.stdout + r.stderr).split()[-1].split(".")[0])


def proxy_rows():
    """What is passed on as it came: the call's path is the request's."""
    haproxy = ["/usr/sbin/haproxy", "-db", "-f", SERVICES / "haproxy.cfg"]
    nginx = ["/usr/sbin/nginx", "-c", Conf("nginx.conf.in")]
    envoy = [EXTRA / "envoy/_bin/envoy", "--concurrency", "2", "--log-level", "error", "--disable-hot-restart",
             "-c", Conf("envoy.yaml.in")]
    traefik = [EXTRA / "bin/traefik", "--entrypoints.web.address=127.0.0.1:{port}", "--log.level=ERROR",
               Conf("traefik.yaml.in", "--providers.file.filename=")]
    caddy = [EXTRA / "bin/caddy", "run", "--adapter", "caddyfile", "--config", Conf("Caddyfile.in")]
    return [Row("HAProxy, two threads", haproxy, ["n0"], bar=0.99, short=True),
            Row("nginx, two workers, shared connections", nginx, ["n0"], bar=0.99),
            Row("Envoy, two workers", envoy, ["n0"], bar=0.99),
            Row("Traefik", traefik, ["n0"], bar=0.99),
            Row("Caddy", caddy, ["n0"], bar=0.99)]


def rows():
    out = frameworks() + tls_rows() + go_rows() + node_rows() + java_rows() + proxy_rows()
    for version, exe in interpreters().items():
        out.append(Row(f"asyncio streams on CPython {version}", [str(exe), str(SERVICES / "streams.py")], ASGI,
                       short=version.startswith("3.11") and "distribution" in version, python=version))
        if int(version.split(".")[1]) >= 14:  # a pool's worker begins in a copy of the context that was the first to need it
            out.append(Row(f"CPython {version}, threads inherit contexts", [str(exe), str(SERVICES / "streams.py")], ASGI,
                           env={"PYTHON_THREAD_INHERIT_CONTEXT": "1"}, python=version))
    return out


# What nobody waits for any more, or comes when nobody does: counted, and part of giving up.
CUT = ()
# What the load generator does, and what the services are told.
WAYS = {"": ([], {}),
        "closing": (["--close"], {"CLOSE": "1"}),
        "impatient": (["--impatient"], {"TIMEOUT": "0.2", "SLOW": "1"})}


def ask(who, port, requests, connections, path, options=()):
    if who:
        tls.load(who, f"127.0.0.1:{port}", requests, connections, path, again="--close" in options)
    else:
        load.run(f"127.0.0.1:{port}", requests, connections, path, options=options)


def measure(row, connections, way, edges, directory):
    """One cell: {right, wrong, missing, why, expected} of the service's own calls, and what of that belongs to requests
    that were given up."""
    options, env = WAYS[way]
    asked = pathlib.Path(directory) / "asked"
    requests = max(math.ceil(edges / len(row.legs)), 2 * connections)
    port, leaf = net.free_port(), net.free_port()
    tag = load.tag()
    who = tls.identity(directory) if row.tls else {}
    leaf_url = f"http{'s' * row.tls}://127.0.0.1:{leaf}"
    with Services(directory) as services:
        leaf_service = services.start([python(), SERVICES / "leaf.py"], "leaf", port=leaf,
                                      env={"PORT": leaf, "LOG": asked, **who, **env})
        values = {"port": port, "leaf": f"127.0.0.1:{leaf}", "leaf_host": "127.0.0.1", "leaf_port": leaf, "dir": directory,
                  "scheme": "https" if who else "http", "ssl": " ssl" if who else "",
                  "identity": f"ssl_certificate {who['CERT']}; ssl_certificate_key {who['KEY']};" if who else ""}
        argv = [a.program() if isinstance(a, golang.Build) else a.write(directory, **values) if isinstance(a, Conf)
                else str(a).replace("{port}", str(port)).replace("{cert}", who.get("CERT", "")).replace("{key}", who.get("KEY", ""))
                for a in row.argv]
        services.start(argv, "service", port=port, cwd=SERVICES,
                       env={"PORT": port, "LEAF": leaf_url, "LEAF_ADDRESS": f"127.0.0.1:{leaf}", **who, **row.env, **env})
        tracer = Tracer("--port", f"{port},{leaf}", directory=directory)
        try:
            ask(who, port, 2 * connections, connections, f"/r/{tag}w-%/n0")
            time.sleep(1.5)  # a worker that was still importing when it was found is looked at again after a second
            ask(who, port, requests, connections, f"/r/{tag}-%/n0", options)
            got = tracer.stop(timeout=60)
        finally:
            tracer.service.stop()
        leaf_service.stop()
    lost = {k: n for k, n in dropped(tracer.final).items() if way != "impatient" or k not in CUT}
    assert not lost, lost
    truth = collections.Counter(m.groups() for m in map(ASKED.search, asked.read_text().split("\n"))
                                if m and m[1].startswith(f"{tag}-") and m[2] in row.legs)
    mine = [s for s in spans.tagged(got, tag) if s.kind == CLIENT and s.leg in row.legs]
    again = {s.rid.removesuffix(".again") for s in spans.tagged(got, tag) if s.rid.endswith(".again")}
    cell = judge([s for s in mine if s.rid not in again], got, sum(n for (rid, _), n in truth.items() if rid not in again))
    given_up = judge([s for s in mine if s.rid in again], got, sum(n for (rid, _), n in truth.items() if rid in again))
    assert way != "impatient" or given_up["expected"], "nothing was given up"
    warm_up = [s for s in spans.tagged(got, f"{tag}w") if s.kind == CLIENT and s.leg in row.legs]  # where pools grow
    return {**cell, "given_up": given_up, "warm_up_wrong": judge(warm_up, got, 0)["wrong"]}


ASKED = re.compile(r"^/r/([^/]+)/(\w+)$")


def judge(calls, everything, asked):
    by_id = {s.id: s for s in everything}
    n, why = collections.Counter(), collections.Counter()
    for s in calls:
        p = by_id.get(s.parent)
        if not s.parent:
            n["missing"] += 1
            why[s.attrs.get("wirespan.parent.missing", "no reason given")] += 1
        elif p is not None and p.rid == s.rid and p.leg == "n0" and p.trace == s.trace:
            n["right"] += 1
        else:
            n["wrong"] += 1
            why[f"WRONG by {s.attrs.get('wirespan.parent.evidence')}"] += 1
    expected = max(asked, len(calls))  # what was given up may have been asked, and not heard
    return {"expected": expected, "seen": len(calls), "right": n["right"], "wrong": n["wrong"],
            "missing": expected - n["right"] - n["wrong"], "why": dict(why)}


def ways_of(row, a):
    """Beside connections that are kept and patience."""
    if a.ways is not None:
        return [w for w in a.ways.split(",") if w]
    if row.tls:  # its load knows no impatience
        return [] if a.short else ["closing"]
    return ["impatient"] * row.also if a.short else ["closing", "impatient"]


def show(row, connections, way, cell):
    """Prints the cell; True if it is as good as it has to be."""
    up = cell["given_up"]
    bar = min(row.bar, row.hurried) if way == "impatient" else row.bar
    good = not (cell["wrong"] or up["wrong"] or cell["warm_up_wrong"]) and cell["right"] >= bar * cell["expected"]
    good = good and cell["seen"] >= 0.99 * cell["expected"]  # what nobody saw cannot be wrong
    why = [f"{n} × {w}" for w, n in sorted(cell["why"].items(), key=lambda x: -x[1])]
    if cell["warm_up_wrong"]:
        why.append(f"**{cell['warm_up_wrong']} wrong in the warm-up**")
    if up["expected"]:
        why.append(f"of requests that were given up {up['right']} right, {up['wrong']} wrong, {up['missing']} missing")
    print(f"| {row.name} | {connections}{', ' * bool(way)}{way} | {cell['expected']} | {cell['right']} | {cell['wrong']} | "
          f"{cell['missing']} | {', '.join(why)}{'' if good else ' **below the bar**'} |", flush=True)
    return good


def summary(cells):
    """The table of README: a line per service, right edges of those expected. No cell there has a wrong one."""
    columns = list(dict.fromkeys((c["connections"], c["way"]) for c in cells))
    heads = [f"{n}{', ' * bool(way)}{way}" for n, way in columns]
    print(f"\n| service | {' | '.join(heads)} | missing because |\n|{'---|' * (len(columns) + 2)}")
    for service in dict.fromkeys(c["service"] for c in cells):
        mine = {(c["connections"], c["way"]): c for c in cells if c["service"] == service}
        texts = [cell_text(mine[at]) if at in mine else "" for at in columns]
        why = sum((collections.Counter(c["why"]) for c in mine.values()), collections.Counter())
        print(f"| {service} | {' | '.join(texts)} | {'; '.join(w for w, _ in why.most_common(2))} |")


def cell_text(cell):
    wrong = f", **{cell['wrong']} wrong**" if cell["wrong"] else ""
    return f"{cell['right']}{'' if cell['right'] == cell['expected'] else ' of ' + str(cell['expected'])}{wrong}"


def main():
    p = argparse.ArgumentParser(formatter_class=argparse.RawDescriptionHelpFormatter, description=__doc__)
    p.add_argument("--short", action="store_true")
    p.add_argument("--only", metavar="NAMES")
    p.add_argument("--connections", default="1,16,128,512")
    p.add_argument("--ways", metavar="NAMES", help="of closing,impatient: at 16 connections besides")
    p.add_argument("--edges", type=int, default=2000)
    p.add_argument("--json", metavar="FILE")
    a = p.parse_args()
    wanted = a.only.lower().split(",") if a.only else None
    chosen = [r for r in rows() if (any(w in r.name.lower() for w in wanted) if wanted else r.short or not a.short)]
    levels, edges = ([16], 300) if a.short else ([int(c) for c in a.connections.split(",") if c], a.edges)
    passed, failed, cells = 0, 0, []
    print("| service | connections | edges | right | wrong | missing | why missing |\n|---|---|---|---|---|---|---|", flush=True)
    for row in chosen:
        for connections, way in [(c, "") for c in levels] + [(16, w) for w in ways_of(row, a)]:
            if connections > row.limit:
                continue
            with tempfile.TemporaryDirectory(prefix="ws-accuracy-") as d:
                try:
                    cell = measure(row, connections, way, edges, d)
                except Exception as e:  # the other rows go on
                    failed += 1
                    print(f"| {row.name} | {connections} {way} | failed: {' '.join(str(e).split())[:300]} |||||", flush=True)
                    continue
            good = show(row, connections, way, cell)
            passed, failed = passed + good, failed + (not good)
            cells.append({"service": row.name, "connections": connections, "way": way, **cell})
    if cells and not a.short:
        summary(cells)
    if a.json:
        pathlib.Path(a.json).write_text(json.dumps(cells, indent=1))
    print(f"{passed} passed, {failed} failed")
    return int(failed > 0 or not passed)


if __name__ == "__main__":
    sys.exit(main())
