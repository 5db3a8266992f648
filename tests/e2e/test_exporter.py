# SPDX-License-Identifier: Apache-2.0
"""The exporter alone (tests/tools/export_load.c) against real servers: gRPC's own, and TLS by OpenSSL."""

import contextlib
import gzip
import http.server
import json
import os
import pathlib
import socket
import ssl
import struct
import subprocess
import threading
from concurrent import futures

import grpc
import pytest

from rig import SLOW, WIRESPAN

OUT = pathlib.Path(os.environ.get("WS_OUT", ".output"))
LOAD = OUT / "tests/tools/export_load"
SERVICE = "opentelemetry.proto.collector.trace.v1.TraceService"


def fields(data):
    """(number, value) of each length-delimited field of a protobuf message."""
    at = 0

    def varint():
        nonlocal at
        value = shift = 0
        while True:
            byte = data[at]
            at += 1
            value |= (byte & 0x7F) << shift
            shift += 7
            if not byte & 0x80:
                return value

    while at < len(data):
        tag = varint()
        wire = tag & 7
        if wire == 2:
            size = varint()
            yield tag >> 3, data[at : at + size]
            at += size
        elif wire == 0:
            varint()
        else:
            at += {1: 8, 5: 4}[wire]


def span_numbers(request):
    numbers = []
    for _, resource_spans in fields(request):
        for number, scope_spans in fields(resource_spans):
            if number != 2:
                continue
            for number, span in fields(scope_spans):
                if number == 2:
                    numbers.append(int.from_bytes(dict(fields(span))[2], "big"))
    return numbers


def run_load(*args, timeout=30):
    done = subprocess.run([LOAD, *map(str, args)], capture_output=True, text=True, timeout=timeout, check=False)
    books = json.loads(done.stdout) if done.stdout else None
    if books:
        assert books["balanced"]
    return books, done.stderr


class Collector:
    """A gRPC server that answers each call with what `outcomes` says: bytes, or a function of the context."""

    def __init__(self, outcomes, credentials=None):
        self.outcomes = list(outcomes)
        self.calls = []
        self.metadata = []
        self.server = grpc.server(futures.ThreadPoolExecutor(2), options=[("grpc.so_reuseport", 0)])
        handler = grpc.unary_unary_rpc_method_handler(self.export)
        self.server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, {"Export": handler}),))
        if credentials:
            self.port = self.server.add_secure_port("127.0.0.1:0", credentials)
        else:
            self.port = self.server.add_insecure_port("127.0.0.1:0")

    def export(self, request, context):
        self.calls.append(span_numbers(request))
        self.metadata.append(dict(context.invocation_metadata()))
        self.remaining = context.time_remaining()
        outcome = self.outcomes.pop(0) if len(self.outcomes) > 1 else self.outcomes[0]
        return outcome(context) if callable(outcome) else outcome

    def __enter__(self):
        self.server.start()
        return self

    def __exit__(self, *_):
        self.server.stop(0).wait()


def fail(code, message="", details=None):
    def outcome(context):
        if details is not None:
            context.set_trailing_metadata((("grpc-status-details-bin", details),))
        context.abort(code, message)

    return outcome


def retry_info(seconds, nanos=0):
    """google.rpc.Status with a google.rpc.RetryInfo, by hand."""
    duration = b"\x08" + bytes([seconds]) + (b"\x10" + _varint(nanos) if nanos else b"")
    info = b"\x0a" + bytes([len(duration)]) + duration
    kind = b"type.googleapis.com/google.rpc.RetryInfo"
    detail = b"\x0a" + bytes([len(kind)]) + kind + b"\x12" + bytes([len(info)]) + info
    return b"\x08\x0e\x12\x04busy\x1a" + bytes([len(detail)]) + detail


def _varint(value):
    out = b""
    while value > 0x7F:
        out += bytes([value & 0x7F | 0x80])
        value >>= 7
    return out + bytes([value])


@pytest.mark.parametrize("packed", [0, 1])
def test_grpc_acknowledges(packed):
    with Collector([b""]) as c:
        books, err = run_load("otlp-grpc", f"http://127.0.0.1:{c.port}/ignored", "spans=100", f"gzip={packed}",
                              "headers=X-Tenant=a%20b")
    assert [len(call) for call in c.calls] == [40, 40, 20]
    assert sum(c.calls, []) == list(range(1, 101))
    assert books["out"] == 100 and books["retries"] == 0
    assert c.metadata[0]["x-tenant"] == "a b"
    assert "OTel-OTLP-Exporter-C/" in c.metadata[0]["user-agent"]
    assert 0 < c.remaining <= 5
    assert err == ""


def test_grpc_partial_success():
    with Collector([b"\x0a\x07\x08\x03\x12\x03bad"]) as c:
        books, err = run_load("otlp-grpc", f"http://127.0.0.1:{c.port}", "spans=10")
    assert books["out"] == 7 and books["rejected"] == 3
    assert ": 3 of 10 spans rejected: bad\n" in err


RETRYABLE = ["CANCELLED", "DEADLINE_EXCEEDED", "ABORTED", "OUT_OF_RANGE", "UNAVAILABLE", "DATA_LOSS"]


FAILURES = [code for code in grpc.StatusCode if code is not grpc.StatusCode.OK]


@pytest.mark.parametrize("code", FAILURES, ids=lambda code: code.name)
def test_grpc_retry_table(code):
    with Collector([fail(code, "grüße %"), b""]) as c:
        books, err = run_load("otlp-grpc", f"http://127.0.0.1:{c.port}", "spans=5")
    if code.name in RETRYABLE:
        assert c.calls == [[1, 2, 3, 4, 5]] * 2
        assert books["out"] == 5 and books["retries"] == 1
    else:
        assert c.calls == [[1, 2, 3, 4, 5]]
        assert books["out"] == 0 and books["rejected"] == 5
    assert f": {code.name}: grüße %" in err


@pytest.mark.parametrize("code", [grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.UNAVAILABLE])
def test_grpc_retry_info(code):
    with Collector([fail(code, "busy", retry_info(0, 700_000_000)), b""]) as c:
        books, err = run_load("otlp-grpc", f"http://127.0.0.1:{c.port}", "spans=5")
    assert books["out"] == 5 and books["retries"] == 1
    assert "next try in 7" in err  # 700 ms, and up to a tenth more


def test_grpc_details_that_are_garbage():
    with Collector([fail(grpc.StatusCode.RESOURCE_EXHAUSTED, "no", b"\xff\xff\xff")]) as c:
        books, _ = run_load("otlp-grpc", f"http://127.0.0.1:{c.port}", "spans=5")
    assert books["rejected"] == 5


def test_grpc_server_too_slow():
    gate = threading.Event()

    def slow(context):
        gate.wait(10)
        return b""

    with Collector([slow, b""]) as c:
        books, err = run_load("otlp-grpc", f"http://127.0.0.1:{c.port}", "spans=5", "timeout_ms=300")
        gate.set()
    assert books["out"] == 5 and books["retries"] == 1
    assert "no answer within 0.3 s (retrying" in err or "DEADLINE_EXCEEDED" in err


def test_grpc_stops_within_limit():
    gate = threading.Event()
    with Collector([lambda context: gate.wait(20) and b""]) as c:
        books, _ = run_load("otlp-grpc", f"http://127.0.0.1:{c.port}", "spans=5", "timeout_ms=60000", "limit_ms=300",
                            timeout=5)
        gate.set()
    assert books["out"] == 0 and books["shutdown"] == 5


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        if self.headers["content-encoding"] == "gzip":
            body = gzip.decompress(body)
        self.server.calls.append(span_numbers(body))
        self.send_response(200)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


class HttpServer:
    def __init__(self, context=None):
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.calls = self.calls = []
        self.server.handle_error = lambda *_: None  # refused handshakes are what some tests want
        if context:
            self.server.socket = context.wrap_socket(self.server.socket, server_side=True)
        self.port = self.server.server_port

    def __enter__(self):
        self.thread = threading.Thread(target=self.server.serve_forever)
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()


def test_grpc_to_a_server_that_is_not_grpc():
    with HttpServer() as s:
        books, err = run_load("otlp-grpc", f"http://127.0.0.1:{s.port}", "spans=5", "limit_ms=500")
    assert books["out"] == 0 and books["shutdown"] == 5
    assert len(err.splitlines()) == 1 and "is this a gRPC endpoint?" in err


def test_grpc_to_a_server_that_resets():
    """How a server ends what it does not understand is a race: a reset, or a pipe that broke, says the same."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        def reset():
            with contextlib.suppress(OSError):
                while True:
                    c = listening.accept()[0]
                    c.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                    c.close()
        thread = threading.Thread(target=reset)
        thread.start()
        books, err = run_load("otlp-grpc", f"http://127.0.0.1:{listening.getsockname()[1]}", "spans=5", "limit_ms=500")
        listening.shutdown(socket.SHUT_RDWR)
        thread.join()
    assert books["out"] == 0 and books["shutdown"] == 5
    assert "is this a gRPC endpoint?" in err and ("connection reset by peer" in err or "broken pipe" in err), err


def openssl(*args, cwd):
    subprocess.run(["openssl", *args], cwd=cwd, check=True, capture_output=True)


@pytest.fixture(scope="module")
def pki(tmp_path_factory):
    """A CA, and a certificate signed by it for the server and for the client."""
    at = tmp_path_factory.mktemp("pki")
    openssl("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", "ca.key", "-out", "ca.pem", "-days", "2",
            "-subj", "/CN=test CA", cwd=at)
    (at / "ext").write_text("subjectAltName=IP:127.0.0.1\n")
    for name in ("server", "client"):
        openssl("req", "-newkey", "rsa:2048", "-nodes", "-keyout", f"{name}.key", "-out", f"{name}.csr",
                "-subj", f"/CN={name}", cwd=at)
        openssl("x509", "-req", "-in", f"{name}.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial",
                "-out", f"{name}.pem", "-days", "2", "-extfile", "ext", cwd=at)
    return at


def https_server(pki, client_needed):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pki / "server.pem", pki / "server.key")
    if client_needed:
        context.load_verify_locations(pki / "ca.pem")
        context.verify_mode = ssl.CERT_REQUIRED
    return HttpServer(context)


def test_https_with_client_certificate(pki):
    with https_server(pki, client_needed=True) as s:
        books, err = run_load("otlp-http", f"https://127.0.0.1:{s.port}/v1/traces", "gzip=1", f"ca={pki}/ca.pem",
                              f"cert={pki}/client.pem", f"key={pki}/client.key")
    assert books["out"] == 100 and sum(s.calls, []) == list(range(1, 101))
    assert err == ""


def test_https_refuses_without_client_certificate(pki):
    with https_server(pki, client_needed=True) as s:
        books, err = run_load("otlp-http", f"https://127.0.0.1:{s.port}/v1/traces", f"ca={pki}/ca.pem", "limit_ms=500")
    assert books["out"] == 0 and books["shutdown"] == 100 and s.calls == []
    assert "retrying" in err


def test_https_unknown_ca(pki):
    with https_server(pki, client_needed=False) as s:
        books, err = run_load("otlp-http", f"https://127.0.0.1:{s.port}/v1/traces", "limit_ms=500")
    assert books["out"] == 0 and s.calls == []
    assert "OTEL_EXPORTER_OTLP_CERTIFICATE names its CA" in err


@pytest.mark.parametrize("what", ["ca", "cert", "key"])
def test_tls_files_that_are_none(pki, what):
    """Known before anything is sent, and not retried for ever."""
    files = {"ca": pki / "ca.pem", "cert": pki / "client.pem", "key": pki / "client.key", what: __file__}
    r = subprocess.run([WIRESPAN, "-e", "https://127.0.0.1:1", "--certificate", files["ca"], "--client-certificate",
                        files["cert"], "--client-key", files["key"], "--control", "off", "-d", "1s"],
                       capture_output=True, text=True, timeout=30 * SLOW)
    assert r.returncode == 2 and f"{__file__}: there is no" in r.stderr and "PEM" in r.stderr, r.stderr


def test_tls_key_of_another(pki):
    with https_server(pki, client_needed=True) as s:
        books, err = run_load("otlp-http", f"https://127.0.0.1:{s.port}/v1/traces", f"ca={pki}/ca.pem", "limit_ms=500",
                              f"cert={pki}/client.pem", f"key={pki}/server.key")
    assert books["out"] == 0 and "belong together?" in err, err


def test_grpc_over_tls(pki):
    key, cert, ca = ((pki / name).read_bytes() for name in ("server.key", "server.pem", "ca.pem"))
    credentials = grpc.ssl_server_credentials([(key, cert)], ca, True)
    with Collector([b""], credentials) as c:
        books, err = run_load("otlp-grpc", f"https://127.0.0.1:{c.port}", f"ca={pki}/ca.pem", f"cert={pki}/client.pem",
                              f"key={pki}/client.key")
    assert books["out"] == 100 and err == ""


def test_grpc_over_tls_without_http2(pki):
    with https_server(pki, client_needed=False) as s:
        books, err = run_load("otlp-grpc", f"https://127.0.0.1:{s.port}", f"ca={pki}/ca.pem", "limit_ms=500", "spans=5")
    assert books["out"] == 0
    assert "is this a gRPC endpoint?" in err


def test_json_lines_to_a_pipe_and_a_file(tmp_path):
    path = tmp_path / "out.json"
    books, err = run_load("json", path, "spans=100")
    assert books["out"] == 100 and err == ""
    assert path.stat().st_mode & 0o777 == 0o600
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert len(lines) == 3
    spans = [s for line in lines for s in line["resourceSpans"][0]["scopeSpans"][0]["spans"]]
    assert [int(s["spanId"], 16) for s in spans] == list(range(1, 101))
    assert spans[0]["name"] == "GET /nü\ufffd"
    assert spans[0]["attributes"][0] == {"key": "http.response.status_code", "value": {"intValue": "200"}}


def test_json_to_a_full_disk():
    books, err = run_load("json", "/dev/full", "spans=100")
    assert books["out"] == 0 and books["write_failed"] == 100
    assert err == "wirespan: /dev/full: No space left on device (40 spans lost)\n"


def test_json_reader_that_stops_reading():
    """A full pipe must neither block the end nor lose count."""
    read, write = os.pipe()
    with subprocess.Popen([LOAD, "json", f"/proc/self/fd/{write}", "spans=2000", "limit_ms=300"], pass_fds=[write],
                          stdout=subprocess.PIPE, text=True) as p:
        out, _ = p.communicate(timeout=10)
    os.close(read)
    os.close(write)
    books = json.loads(out)
    assert books["balanced"] and books["shutdown"] > 0 and books["out"] + books["shutdown"] == 2000
