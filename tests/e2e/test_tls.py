# SPDX-License-Identifier: Apache-2.0
"""Inside TLS: real libraries, servers and clients. What is encrypted gives the spans, parents and books of what is not."""
import collections
import os
import pathlib
import re
import shutil
import socket
import subprocess

import pytest
from chain import assert_edges, assert_exact, gunicorn, uvicorn
from conftest import SERVICES

from rig import PYTHONS, SLOW, golang, net, node, python, spans, tls


@pytest.fixture(scope="module")
def identity(tmp_path_factory):
    return tls.identity(tmp_path_factory.mktemp("identity"))


class Sites:
    """HTTPS servers, one of each kind."""

    def __init__(self, services, identity):
        self.services, self.id = services, identity

    def python(self, port, **env):
        return self.services.script(SERVICES / "tls_echo.py", port=port, env={"PORT": port, **self.id, **env})

    def node(self, port, **env):
        return self.services.start([node.system(), SERVICES / "tls_node.js"], "node", port=port, env={"PORT": port, **self.id, **env})

    def go(self, port, build=None, **env):
        return self.services.start([(build or golang.Build(SERVICES / "tls_go")).program()], "go", port=port,
                                   env={"PORT": port, **self.id, **env})

    def nginx(self, port, body="return 200 ok;", workers=1, more="ssl_protocols TLSv1.2;"):
        return self.services.nginx(f"""proxy_ssl_session_reuse on;
            server {{ listen 127.0.0.1:{port} ssl; ssl_certificate {self.id['CERT']}; ssl_certificate_key {self.id['KEY']};
                      {more} location / {{ {body} }} }}""", port=port, workers=workers)

    def gunicorn(self, port, workers=1, **env):
        return gunicorn(self.services, "--certfile", self.id["CERT"], "--keyfile", self.id["KEY"], "--workers", str(workers),
                        "--threads", "4", port=port, **self.id, **env)

    def uvicorn(self, port, *args, **env):
        return uvicorn(self.services, port, "--ssl-certfile", self.id["CERT"], "--ssl-keyfile", self.id["KEY"], *args,
                       **self.id, **env)


# Where probes have none the version of TLS is not known.
COOKIES = tuple(map(int, re.findall(r"\d+", os.uname().release)[:2])) >= (5, 15)


@pytest.fixture
def sites(services, identity):
    return Sites(services, identity)


def ask(identity, port, n, connections, path, **kw):
    tls.load(identity, f"127.0.0.1:{port}", n, connections, path, **kw)


def probe_openssl(sites, identity):
    """That the load's own library is read inside from its first connection on: a server that has it mapped stays."""
    port = net.free_port()
    sites.python(port)
    ask(identity, port, 300, 1, "/")


def curl(identity, port, paths):
    r = subprocess.run(["curl", "-sS", "--fail", "--http1.1", "--cacert", identity["CA"],
                        *(f"https://127.0.0.1:{port}{p}" for p in paths)], capture_output=True, text=True, timeout=60 * SLOW)
    assert r.returncode == 0, r.stderr


def test_servers(sites, traced, tag, identity):
    """Every kind of server, asked by OpenSSL's own socket calls: each request once at both ends, joined."""
    ports = {kind: net.free_port() for kind in ("python", "node", "nginx", "gunicorn", "uvicorn", "go")}
    for kind, port in ports.items():
        getattr(sites, kind)(port)
    t = traced()
    for kind, port in ports.items():
        ask(identity, port, 60, 6, f"/r/{tag}-{kind}%/n0")
        curl(identity, port, [f"/r/{tag}-c{kind}{i}/n0" for i in range(20)])
    mine = assert_exact(t.stop(), tag, 80 * len(ports), ["n0"])
    assert_edges(mine)
    assert {s.attrs.get("url.scheme") for s in mine if s.kind == spans.SERVER} == {"https"}
    for s in mine:
        assert s.attrs.get("tls.protocol.version") == (("1.2" if "nginx" in s.rid else "1.3") if COOKIES else None), s


def test_sessions_come_and_go(sites, traced, tag, identity):
    """A session for each request: the library's objects get the same addresses again and again."""
    ports = {kind: net.free_port() for kind in ("python", "nginx", "gunicorn", "node", "go")}
    for kind, port in ports.items():
        getattr(sites, kind)(port)
    t = traced()
    for kind, port in ports.items():
        ask(identity, port, 100, 4, f"/r/{tag}-{kind}%/n0", again=True)
    assert_edges(assert_exact(t.stop(), tag, 100 * len(ports), ["n0"]))


def test_chain(sites, traced, tag, identity):
    """Through five services, all over HTTPS: every parent is proven as it is in the clear."""
    ports = [net.free_port() for _ in range(5)]

    def at(port):
        return f"https://127.0.0.1:{port}"

    sites.node(ports[4])
    sites.gunicorn(ports[3], NEXT=at(ports[4]))
    sites.go(ports[2], NEXT=at(ports[3]))
    sites.uvicorn(ports[1], NEXT=at(ports[2]))
    sites.node(ports[0], NEXT=at(ports[1]))
    t = traced()
    ask(identity, ports[0], 60, 4, f"/r/{tag}-%/n0")
    assert_edges(assert_exact(t.stop(), tag, 60, ["n0", "n1", "n2", "n3", "n4"]))


@pytest.mark.parametrize("env", [{}, {"WRAP": "1"}, {"MAX_VERSION": "0x303"}, {"STRESS": "1"}],
                         ids=["plain", "wrapped", "1.2", "stress"])
def test_go(sites, traced, tag, identity, env):
    """Go's server and client, each with many sessions at once: goroutines that wait go on in other threads."""
    front, behind = net.free_port(), net.free_port()
    sites.go(behind, **env)
    sites.go(front, NEXT=f"https://127.0.0.1:{behind}", GODEBUG="http2client=0", **env)
    t = traced()
    probe_openssl(sites, identity)
    for _ in range(20):
        socket.create_connection(("127.0.0.1", front)).close()  # no session comes of it
    ask(identity, front, 300, 30, f"/r/{tag}-%/n0")
    ask(identity, front, 60, 6, f"/r/{tag}-again%/n0", again=True)
    mine = assert_exact(t.stop(), tag, 360, ["n0", "n1"])
    assert_edges(mine)
    if COOKIES:
        assert {s.attrs.get("tls.protocol.version") for s in mine} == {"1.2" if "MAX_VERSION" in env else "1.3"}


def test_go_versions(sites, traced, tag, identity):
    """What `make go-toolchains` has put there, and what is linked in other ways: stripped, position independent, with C."""
    source = SERVICES / "tls_go"
    builds = [golang.Build(source, version=v) for v in golang.toolchains()]
    builds += [golang.Build(source, variant=v) for v in golang.VARIANTS if v]
    pairs = [(net.free_port(), net.free_port()) for _ in builds]
    for build, (front, behind) in zip(builds, pairs):
        sites.go(behind, build=build)
        sites.go(front, build=build, NEXT=f"https://127.0.0.1:{behind}", GODEBUG="http2client=0")
    t = traced()
    probe_openssl(sites, identity)
    for front, _ in pairs:
        ask(identity, front, 60, 6, f"/r/{tag}-{front}.%/n0")
    assert_edges(assert_exact(t.stop(), tag, 60 * len(builds), ["n0", "n1"]))


def test_go_passes_sessions_on(sites, traced, tag, identity):
    """Sessions of others through a program that has its own: what it moves is nobody's text."""
    ports = [net.free_port() for _ in range(3)]
    sites.python(ports[2])
    sites.go(ports[1], THROUGH=f"127.0.0.1:{ports[2]}")
    sites.go(ports[0], NEXT=f"https://127.0.0.1:{ports[1]}")
    t = traced()
    probe_openssl(sites, identity)
    ask(identity, ports[0], 60, 6, f"/r/{tag}-%/n0")
    mine = spans.tagged(t.stop(), tag)
    count = collections.Counter((s.kind, s.leg) for s in mine)
    assert count == {(kind, leg): 60 for kind in (spans.CLIENT, spans.SERVER) for leg in ("n0", "n1")}
    assert {s.service for s in mine if s.kind == spans.SERVER and s.leg == "n1"} == {"tls_echo"}


def test_proxy(sites, traced, tag, identity):
    """nginx in front of a service, TLS on both of its sides."""
    front, behind = net.free_port(), net.free_port()
    sites.python(behind)
    sites.nginx(front, f"proxy_pass https://127.0.0.1:{behind};")
    t = traced()
    ask(identity, front, 100, 4, f"/r/{tag}-%/n0")
    mine = spans.tagged(t.stop(), tag)
    by, short = {s.id: s for s in mine}, []
    for inner in (s for s in mine if s.service == "tls_echo"):
        way = [inner]
        while way[-1].parent in by:
            way.append(by[way[-1].parent])
        assert {s.rid for s in way} == {inner.rid}
        short += [way] if [s.kind for s in way] != [spans.SERVER, spans.CLIENT] * 2 else []
    assert not spans.duplicates(mine)
    # Where the kernel did not run every program that was due, one may have said whose bytes the next are, or who accepted: it
    # counts them, and no more ways than that may be incomplete. Mostly it is none.
    missed = t.final["counters"]["missed_probes"]
    assert 0 <= 400 - len(mine) <= missed and len(short) <= missed, (len(mine), short)


LINKED = {"symbols": ["-static"], "stripped": ["-static", "-s"],
          "pie": ["-s", "-pie", "-Wl,-Bstatic", "-lssl", "-lcrypto", "-Wl,-Bdynamic"]}


@pytest.mark.parametrize("how", LINKED)
def test_linked_in(sites, start, tag, identity, tmp_path, how):
    """OpenSSL inside a program: by its symbols, and, where they are gone, by what it says of its errors."""
    r = subprocess.run(["gcc", "-O2", "-o", tmp_path / "linked", SERVICES / "tls_linked.c", *LINKED[how], "-lssl", "-lcrypto"],
                       capture_output=True, text=True)
    assert r.returncode == 0, r.stderr
    ports = {by: net.free_port() for by in ("INT", "EX")}
    for by, port in ports.items():
        sites.services.start([tmp_path / "linked"], "linked", port=port, env={"PORT": port, **sites.id, by: "1"})
    t = start("--log-level", "debug", "--port", ",".join(map(str, ports.values())))
    for port in ports.values():
        ask(identity, port, 4, 1, "/")  # what moves TLS is looked through
    t.wait_log("linked: OpenSSL is read inside")
    for by, port in ports.items():
        ask(identity, port, 60, 6, f"/r/{tag}-{by}.%/n0")
        ask(identity, port, 60, 6, f"/r/{tag}-again.{by}.%/n0", again=True)
    mine = spans.tagged(t.stop(), tag)
    assert len(mine) == 240 and len({s.rid for s in mine}) == 240 and {s.kind for s in mine} == {spans.SERVER}


def test_workers_with_equal_pointers(sites, traced, tag, identity):
    """Workers forked from one process have their sessions at the same addresses."""
    port = net.free_port()
    sites.gunicorn(port, workers=8)
    t = traced()
    ask(identity, port, 400, 24, f"/r/{tag}-%/n0")
    assert_edges(assert_exact(t.stop(), tag, 400, ["n0"]))


def kernel_tls():
    """How many directions of connections the kernel has taken over to encrypt or decrypt."""
    return sum(int(n) for n in re.findall(r"^Tls[TR]xSw\s+(\d+)", pathlib.Path("/proc/net/tls_stat").read_text(), re.M))


def test_ktls(sites, traced, tag, identity, tmp_path):
    """Where the kernel encrypts: what nginx writes goes through the library still, files are sent by the kernel itself."""
    subprocess.run(["modprobe", "tls"], capture_output=True)
    if not pathlib.Path("/proc/net/tls_stat").exists():
        pytest.skip("this kernel has no TLS of its own (CONFIG_TLS)")
    (tmp_path / "file").write_bytes(b"x" * 100_000)
    port, before = net.free_port(), kernel_tls()
    sites.nginx(port, f"root {tmp_path}; try_files /file =404; sendfile on;", more="ssl_conf_command Options KTLS;")
    t = traced()
    probe_openssl(sites, identity)
    ask(identity, port, 60, 6, f"/r/{tag}-%/n0")
    mine = assert_exact(t.stop(), tag, 60, ["n0"])
    assert_edges(mine, missing=60)  # TCP's own positions are hidden: there is nothing to join by
    assert kernel_tls() >= before + 6, "nginx did not let the kernel encrypt"
    assert {s.attrs["http.response.status_code"] for s in mine} == {200}


# Requests over two connections to one port, one of which names its server: HTTP/1.0 needs no Host.
HOSTLESS = """
import os, socket, ssl, sys
context = ssl.create_default_context(cafile=os.environ["CA"])
context.check_hostname = False
for i, name in enumerate(["localhost", None]):
    with context.wrap_socket(socket.create_connection(("127.0.0.1", int(sys.argv[1]))), server_hostname=name) as c:
        c.sendall(f"GET {sys.argv[2] % i} HTTP/1.0\\r\\n\\r\\n".encode())
        assert b"200 OK" in c.recv(4096)
"""


def test_no_host(sites, traced, tag, identity):
    """Where no Host names the server, what its client has asked the handshake for does."""
    ports = {kind: net.free_port() for kind in ("python", "node", "nginx", "gunicorn", "uvicorn", "go")}
    for kind, port in ports.items():
        getattr(sites, kind)(port)
    t = traced()
    probe_openssl(sites, identity)
    for kind, port in ports.items():
        ask(identity, port, 10, 2, f"/r/{tag}-named{kind}%/n0")
        subprocess.run([python(), "-c", HOSTLESS, str(port), f"/r/{tag}-{kind}%d/n0"], check=True, env=identity, timeout=60 * SLOW)
    mine = spans.tagged(t.stop(), tag)
    for kind, port in ports.items():
        got = {(s.rid.removeprefix(f"{tag}-{kind}"), s.kind): (s.attrs.get("server.address"), s.attrs.get("server.port"))
               for s in mine if re.fullmatch(f"{tag}-{kind}\\d", s.rid)}
        assert got == {("0", spans.SERVER): ("localhost", port), ("1", spans.SERVER): (None, None),
                       ("0", spans.CLIENT): ("localhost", port), ("1", spans.CLIENT): ("127.0.0.1", port)}, (kind, got)
    assert {s.attrs["server.address"] for s in mine if "named" in s.rid} == {"127.0.0.1"}


def test_early_data(sites, traced, tag, identity, tmp_path):
    """Requests that come with the first bytes of a session that is taken up again: before the handshake is over, and once."""
    port, session, early = net.free_port(), tmp_path / "session", tmp_path / "early"
    sites.nginx(port, more="ssl_protocols TLSv1.3; ssl_early_data on;")
    t = traced()
    probe_openssl(sites, identity)

    def s_client(*args, text):
        r = subprocess.run(["openssl", "s_client", "-connect", f"127.0.0.1:{port}", "-tls1_3", "-ign_eof", *args], input=text,
                           capture_output=True, text=True, timeout=60 * SLOW)
        assert "200 OK" in r.stdout, r.stdout + r.stderr
        return r.stdout

    def request(n):
        return f"GET /r/{tag}-{n}/n0 HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"

    s_client("-sess_out", session, text=request("late"))
    for n in range(10):
        early.write_text(request(n))
        assert "Early data was accepted" in s_client("-sess_in", session, "-sess_out", session, "-early_data", early, text="")
    assert_edges(assert_exact(t.stop(), tag, 11, ["n0"]))


def test_gnutls(sites, traced, tag, identity):
    if not shutil.which("wget"):
        pytest.fail("wget is not installed: make deps")
    port = net.free_port()
    sites.nginx(port)

    def wget(paths):
        subprocess.run(["wget", "-q", "-O", "/dev/null", "--ca-certificate", identity["CA"],
                        *(f"https://127.0.0.1:{port}{p}" for p in paths)], check=True, timeout=60 * SLOW)

    t = traced("--log-level", "debug")
    # Nobody has had this library mapped before: it is found while its process lives, and one request may be over sooner.
    wget(["/"] * 300)
    t.wait_log("GnuTLS is read inside")
    wget([f"/r/{tag}-{i}/n0" for i in range(20)])
    assert_edges(assert_exact(t.stop(), tag, 20, ["n0"]))


def test_switched_off(sites, start, tag, identity):
    port = net.free_port()
    sites.nginx(port)
    t = start("--no-tls", "--port", str(port))
    ask(identity, port, 10, 2, f"/r/{tag}-%/n0")
    assert not spans.tagged(t.stop(), tag)
    assert t.final["counters"]["tls_opaque"] >= 2  # others' are seen until it is decided that they are not


def test_library_that_is_not_read(services, start, tag, identity, tmp_path):
    """Java's: its connections are counted, and it is named."""
    if not shutil.which("java"):
        pytest.skip("no java on this machine")
    store, port = tmp_path / "store.p12", net.free_port()
    subprocess.run(["openssl", "pkcs12", "-export", "-in", identity["CERT"], "-inkey", identity["KEY"], "-out", store,
                    "-passout", "pass:wirespan"], check=True)
    t = start("--port", str(port))
    services.start(["java", "-XX:+UseSerialGC", SERVICES / "Encrypted.java"], "java", port=port,
                   env={"PORT": port, "STORE": store})
    ask(identity, port, 10, 2, f"/r/{tag}-%/n0")
    t.wait_log("TLS by Java (JSSE) is not read inside")
    assert not spans.tagged(t.stop(), tag)
    assert t.final["counters"]["tls_opaque"] >= 2  # others' are seen until it is decided that they are not


def test_rustls_is_named(start):
    """A client of Rust's, stripped: what cannot be read is counted, and told by what it was built from."""
    uv = pathlib.Path(python()).with_name("uv")
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        t = start()
        with subprocess.Popen([uv, "pip", "install", "--no-config", "--no-cache", "--no-deps", "--dry-run", "--python", python(),
                               "--index-url", f"https://127.0.0.1:{port}/", "nosuch"], stderr=subprocess.DEVNULL) as client:
            t.wait_log("TLS by rustls is not read inside")
            client.kill()
    t.stop()
    assert t.final["counters"]["tls_opaque"]


def test_from_before(sites, traced, tag, identity):
    """Sessions that were there first: a client that carries its ciphertext, and one whose sockets are its library's own."""
    ports = {kind: net.free_port() for kind in ("nginx", "gunicorn")}
    for kind, port in ports.items():
        getattr(sites, kind)(port)
    front = {kind: net.free_port() for kind in ports}
    for kind, port in front.items():
        sites.uvicorn(port, NEXT=f"https://127.0.0.1:{ports[kind]}")
    for port in front.values():
        ask(identity, port, 4, 1, f"/r/{tag}b-%/n0")
    t = traced()
    for kind, port in front.items():
        ask(identity, port, 20, 1, f"/r/{tag}-{kind}%/n0")
    mine = [s for s in spans.tagged(t.stop(), tag) if s.kind == spans.CLIENT and s.leg == "n1"]
    assert len(mine) == 40 and all(s.parent for s in mine)


if PYTHONS:
    @pytest.mark.parametrize("exe", PYTHONS, ids=[e.parent.name for e in PYTHONS])
    def test_other_builds(services, start, tag, identity, exe):
        """OpenSSL as other systems have it, in roots of their own (1.1 of bullseye among them), or in an interpreter's module."""
        port = net.free_port()
        shared = {k: v for k, v in identity.items() if k in ("CERT", "KEY")}
        services.start([exe, SERVICES / "tls_echo.py"], "tls_echo", port=port, env={"PORT": port, **shared})
        t = start("--log-level", "debug")
        ask(identity, port, 1500, 1, "/")  # nobody has had the client's library mapped before
        t.wait_log("libssl.so.3: OpenSSL is read inside")
        ask(identity, port, 60, 6, f"/r/{tag}-%/n0")
        ask(identity, port, 60, 6, f"/r/{tag}-again%/n0", again=True)
        assert_edges(assert_exact(t.stop(), tag, 120, ["n0"]))
