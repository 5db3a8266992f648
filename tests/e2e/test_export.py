# SPDX-License-Identifier: Apache-2.0
"""OTLP to a real Collector, and to collectors that are absent, late, slow, wrong or broken."""
import os
import re
import signal
import subprocess
import time

import pytest
from chain import assert_edges, assert_exact, flask_chain

from rig import SLOW, load, net, spans
from rig.otlp import BadCollector
from rig.spans import CLIENT, SERVER
from rig.tracer import dropped, imbalance, stage


@pytest.fixture
def nginx(services):
    port = net.free_port()
    services.nginx(f"server {{ listen 127.0.0.1:{port}; location / {{ return 200 ok; }} }}", port=port)
    return port


@pytest.mark.alone
@pytest.mark.parametrize("protocol", ["http/protobuf", "grpc"])
@pytest.mark.parametrize("compression", ["none", "gzip"])
def test_real_collector_acknowledges_all(services, start, collector, nginx, tag, protocol, compression):
    """What the Collector wrote to its file = what the books call exported = what was asked, per request."""
    c = collector()
    endpoint = f"http://127.0.0.1:{c.grpc if protocol == 'grpc' else c.http}"
    # only nginx: then nothing else of this machine is in the sums
    t = start("--endpoint", endpoint, "--protocol", protocol, "--compression", compression, "--port", str(nginx),
              exporter="otlp")
    load.run(f"127.0.0.1:{nginx}", 3000, 16, f"/r/{tag}-%/n0")
    t.stop(signal.SIGTERM)
    got = c.spans()
    assert stage(t.final, "export")["out"] == len(got) == 3000
    assert not dropped(t.final)
    assert_exact(got, tag, 3000, ["n0"], outer_client=False)


def test_collector_gets_whole_traces(services, start, collector, tag):
    c = collector()
    port = flask_chain(services, 3)
    t = start("--endpoint", f"http://127.0.0.1:{c.http}", exporter="otlp")
    load.run(f"127.0.0.1:{port}", 100, 8, f"/r/{tag}-%/n0")
    t.stop()
    got = c.spans()
    assert_edges(assert_exact(got, tag, 100, ["n0", "n1", "n2"]))
    for s in spans.tagged(got, tag):
        assert s.service and s.pid and s.resource["host.name"]
        assert s.raw["traceId"] != "0" * 32 and len(s.raw["traceId"]) == 32


@pytest.mark.alone
def test_telemetry_is_not_traced(services, start, collector, nginx, tag):
    """Exporting is HTTP too: traced, it would feed on itself."""
    c = collector()
    t = start("--endpoint", f"http://127.0.0.1:{c.http}", exporter="otlp")
    load.run(f"127.0.0.1:{nginx}", 200, 4, f"/r/{tag}-%/n0")
    time.sleep(3)  # several rounds of feeding, if there were any
    t.stop()
    got = c.spans()
    assert not [s for s in got if s.path == "/v1/traces" or s.attrs.get("server.port") in (c.http, c.grpc)]
    assert not [s for s in got if s.service in ("otelcol", "wirespan")]
    assert_exact(got, tag, 200, ["n0"])
    assert len(re.findall(r"\(pid \d+\) receives OTLP: .* --no-default-excludes", t.stderr())) == 1
    assert stage(t.final, "match")["dropped"]["telemetry"] >= 1


@pytest.mark.parametrize("plan", [["bare"], [503, 503, 503, 200], ["garbage", "garbage", 200]],
                         ids=["bare", "503", "garbage"])
def test_no_export_feeds_another(start, nginx, tag, plan):
    """The same where the collector says little, or refuses: nothing is exported but what was asked."""
    with BadCollector(*plan) as c:
        # the collector's process is selected: what it is asked is left out for what it is, not for whose it is
        t = start("--endpoint", c.url, "--port", f"{nginx},{c.port}", exporter="otlp")
        load.run(f"127.0.0.1:{nginx}", 20, 1, f"/r/{tag}-%/n0")
        end = time.monotonic() + 30 * SLOW
        while len(c.accepted) < 20 and time.monotonic() < end:
            time.sleep(0.3)
        time.sleep(3)  # several rounds of feeding, if there were any
        t.stop()
        match = stage(t.final, "match")
        assert match["out"] == len(c.accepted) == 20
        assert match["dropped"]["telemetry"] == c.seen


def post(port, path, *headers):
    subprocess.run(["curl", "-s", "-o", "/dev/null", "-X", "POST", *[x for h in headers for x in ("-H", h)],
                    f"http://127.0.0.1:{port}{path}"], check=True)


def test_a_request_blinds_nobody(services, traced, tag):
    """What looks like telemetry can be sent by anybody to anybody: the answer tells that the path is not there."""
    port = flask_chain(services, 1)
    t = traced()
    for path in ("/v1/logs", "/v1/traces", "/api/v1/logs"):
        post(port, f"{path}?{tag}", "Content-Type: application/json", "User-Agent: OTel-OTLP-Exporter-Python/1.27")
    load.run(f"127.0.0.1:{port}", 10, 1, f"/r/{tag}-%/n0")
    got = t.stop()
    assert_edges(assert_exact(got, tag, 10, ["n0"]))
    asked = [s for s in got if s.kind == SERVER and s.attrs.get("url.query") == tag]
    assert len(asked) == 3 and {s.code for s in asked} <= {404, 405}
    assert "hop_flask (pid" not in t.stderr()


@pytest.mark.alone
@pytest.mark.parametrize("named", [False, True], ids=["all", "named"])
@pytest.mark.parametrize("answer", [200, "bare"])
def test_receiver(start, tag, named, answer):
    """Left out, said and counted, unless it was selected by name; its telemetry is left out in any case."""
    with BadCollector(answer) as c:
        t = start(*(["--port", str(c.port)] if named else []))
        post(c.port, f"/v1/traces?{tag}", "Content-Type: application/x-protobuf", "Content-Length: 0")
        time.sleep(1)
        post(c.port, f"/r/{tag}-0/n0", "Content-Length: 0")
        got = t.stop()
    line = f"(pid {os.getpid()}) receives OTLP: it is left out from now on; --no-default-excludes traces it"
    assert (line in t.stderr()) == (not named)
    assert spans.count(spans.tagged(got, tag)) == {(SERVER if named else CLIENT, "n0"): 1}
    assert not [s for s in got if tag in (s.attrs.get("url.query") or s.attrs.get("url.full", "").partition("?")[2])]
    left = stage(t.final, "match")["dropped"]
    assert left["telemetry"] >= 1 and left.get("receiver", 0) == (not named)


@pytest.mark.alone
def test_collector_that_comes_late(services, start, collector, nginx, tag):
    """Refused at first; what waited is sent once it is there, once."""
    port = net.free_port()
    t = start("--endpoint", f"http://127.0.0.1:{port}", "--port", str(nginx), exporter="otlp")
    load.run(f"127.0.0.1:{nginx}", 500, 4, f"/r/{tag}-%/n0")
    t.wait_log("refused")
    c = collector(http=port)
    end = time.monotonic() + 40
    while stage(t.books(), "export")["out"] < 500 and time.monotonic() < end:
        time.sleep(0.5)
    t.stop()
    assert_exact(c.spans(), tag, 500, ["n0"], outer_client=False)
    assert not dropped(t.final)


@pytest.mark.alone
def test_collector_absent(services, start, nginx, tag):
    """Ends within its limit and counts all that was lost."""
    t = start("--endpoint", f"http://127.0.0.1:{net.free_port()}", "--port", str(nginx), "--shutdown-timeout", "2s",
              exporter="otlp")
    load.run(f"127.0.0.1:{nginx}", 300, 4, f"/r/{tag}-%/n0")
    t.wait_log("refused")
    began = time.monotonic()
    t.service.signal(signal.SIGTERM)
    t.service.p.wait(10)
    assert time.monotonic() - began < 5
    log = t.stderr()
    assert t.totals()[3] == 300, log
    assert len([x for x in log.splitlines() if "refused" in x]) <= 3, "the same error again and again"


@pytest.mark.parametrize("plan,accepted", [
    ([503, 503, 200], 400), ([(503, "1"), 200], 400), ([429, 200], 400), (["garbage", 200], 400), (["cut", 200], None),
    ([400], 0), ([500], 0),
], ids=["503", "retry-after", "429", "garbage", "cut-body", "400", "500"])
def test_collector_answers(services, start, nginx, tag, plan, accepted):
    """Retryable answers are retried until accepted, others are counted as rejected; nothing twice."""
    with BadCollector(*plan) as c:
        t = start("--endpoint", c.url, "--port", str(nginx), "--batch-size", "400", exporter="otlp")
        load.run(f"127.0.0.1:{nginx}", 400, 4, f"/r/{tag}-%/n0")
        end = time.monotonic() + 30
        while time.monotonic() < end:
            e = stage(t.books(), "export")
            if e["in"] == 400 and e["out"] + sum(e["dropped"].values()) == 400:
                break
            time.sleep(0.3)
        t.stop()
        e = stage(t.final, "export")
        assert not imbalance(t.final)
        assert e["out"] + sum(e["dropped"].values()) == 400
        assert len(set(c.accepted)) == len(c.accepted), "sent again after it was accepted"
        if accepted is not None:
            assert len(c.accepted) == accepted == e["out"]
        if plan[0] == (503, "1"):
            assert c.answers[1][0] - c.answers[0][0] >= 0.95, "Retry-After was not honoured"
        if accepted == 0:
            assert e["dropped"]["rejected"] == 400


@pytest.mark.alone
def test_collector_that_never_answers(services, start, nginx, tag):
    """A slow collector holds nothing up: the service goes on, the end comes in time, the loss is counted."""
    with BadCollector("slow") as c:
        t = start("--endpoint", c.url, "--port", str(nginx), "--shutdown-timeout", "1s", exporter="otlp")
        load.run(f"127.0.0.1:{nginx}", 2000, 8, f"/r/{tag}-%/n0")
        time.sleep(1.5)
        began = time.monotonic()
        t.service.signal(signal.SIGTERM)
        t.service.p.wait(10)
        assert time.monotonic() - began < 4
        assert t.totals()[3] == 2000, t.stderr()


def test_queue_is_bounded(services, start, nginx, tag):
    """The queue's bound in spans: what does not fit is dropped, counted, and memory stays where it was."""
    with BadCollector("slow") as c:
        t = start("--endpoint", c.url, "--port", str(nginx), "--queue-spans", "1000", "--shutdown-timeout", "1s",
                  exporter="otlp")
        load.run(f"127.0.0.1:{nginx}", 20_000, 8, f"/r/{tag}-%/n0")
        end = time.monotonic() + 20 * SLOW
        while True:
            books = t.books()
            full = sum(r["dropped"].get("queue_full", 0) for r in books["stages"])
            if full >= 20_000 - 1000 - 2 * 512 or time.monotonic() > end:
                break
            time.sleep(0.2)
        assert 20_000 - 1000 - 2 * 512 <= full <= 20_000, books
        # Not the queue's alone: until it is decided that the load generator is not selected (one exec ago), its spans
        # are held as well, 20,000 of about 2.3 KiB at the most.
        assert t.rss_peak_kib() < 128 * 1024
        t.service.signal(signal.SIGTERM)
        t.service.p.wait(10)


@pytest.mark.alone
@pytest.mark.parametrize("sig", [signal.SIGINT, signal.SIGTERM])
def test_shutdown_flushes(services, start, nginx, tag, sig):
    """Stopped in the moment after the last answer: nothing is lost."""
    t = start("--port", str(nginx))
    load.run(f"127.0.0.1:{nginx}", 1000, 8, f"/r/{tag}-%/n0")
    got = t.stop(sig, settle=False)
    assert_exact(got, tag, 1000, ["n0"], outer_client=False)
    assert t.totals()[1] == 1000 and t.totals()[3] == 0
