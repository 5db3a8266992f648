# SPDX-License-Identifier: Apache-2.0
"""Runs in the arm64 guest: an HTTP server and client that nothing was done to, under every plan of WS_PLANS."""
import os
import pathlib
import subprocess
import sys
import tempfile
import xml.etree.ElementTree

from rig import WIRESPAN, load, net, spans, tracer
from rig.proc import Services
from rig.spans import CLIENT, SERVER

REQUESTS = 5


def one(plan, services, directory):
    port, tag = net.free_port(), load.tag()
    (directory / "r").mkdir(parents=True)
    for i in range(REQUESTS):
        (directory / f"r/{tag}-{i}").mkdir()
        (directory / f"r/{tag}-{i}/n0").write_text("ok")
    services.start(["python3", "-m", "http.server", "--bind", "127.0.0.1", str(port)], "http", port=port, cwd=directory)
    t = tracer.Tracer(attach=plan, directory=directory / "wirespan", ready=60)
    try:
        for i in range(REQUESTS):
            subprocess.run(["curl", "-sSf", "-o", "/dev/null", f"http://127.0.0.1:{port}/r/{tag}-{i}/n0"], check=True)
        mine = spans.tagged(t.stop(), tag)
    finally:
        t.kill()
    want = {(SERVER, "n0"): REQUESTS, (CLIENT, "n0"): REQUESTS}
    assert spans.count(mine) == want, f"{spans.count(mine)}\n{t.stderr()}"
    e = spans.check_edges(mine)
    assert not e.wrong and not e.missing, e
    assert {s.code for s in mine} == {200}
    assert {s.service for s in mine if s.kind == CLIENT} == {"curl"}, mine


def main():
    """What the matrix reads: "version", "features", "verifier", "junit.xml", as for the tests of e2e."""
    results = pathlib.Path(os.environ["WS_RESULTS"])
    (results / "version").write_text(pathlib.Path("/proc/version").read_text())
    features = subprocess.run([WIRESPAN, "features"], capture_output=True, text=True)
    (results / "features").write_text(features.stdout)
    (results / "verifier").write_text(subprocess.run([WIRESPAN.parent / "verifier"], capture_output=True, text=True).stdout)
    suite, failed = xml.etree.ElementTree.Element("testsuite"), 0
    for plan in tracer.demanded():
        case = xml.etree.ElementTree.SubElement(suite, "testcase", name=f"test_http[{plan}]")
        with tempfile.TemporaryDirectory() as d, Services(pathlib.Path(d) / "services") as services:
            try:
                one(plan, services, pathlib.Path(d) / "www")
                print(f"arm64 {plan}: {2 * REQUESTS} spans, every edge right", flush=True)
            except (AssertionError, RuntimeError, TimeoutError, tracer.NotPossible, subprocess.CalledProcessError) as e:
                failed += 1
                print(f"arm64 {plan}: {type(e).__name__}: {e}", flush=True)
                xml.etree.ElementTree.SubElement(case, "failure")
    xml.etree.ElementTree.ElementTree(suite).write(results / "junit.xml")
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
