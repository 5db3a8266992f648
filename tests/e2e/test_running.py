# SPDX-License-Identifier: Apache-2.0
"""Running it: selection, a paused consumer, kill -9, recording, permissions, wrong use."""
import os
import pathlib
import re
import secrets
import shutil
import signal
import stat
import subprocess
import tempfile
import threading
import time

import pytest
from chain import assert_edges, assert_exact, flask_chain

from rig import SLOW, WIRESPAN, load, net, python, spans
from rig.spans import CLIENT, SERVER
from rig.tracer import dropped, imbalance, stage


@pytest.fixture
def nginx(services):
    port = net.free_port()
    services.nginx(f"server {{ listen 127.0.0.1:{port}; location / {{ return 200 ok; }} }}", port=port)
    return port


def run(*args, prefix=(), timeout=30, **env):
    return subprocess.run([*prefix, WIRESPAN, *args], capture_output=True, text=True, timeout=timeout * SLOW,
                          env={**os.environ, **env})


def curl(port, path):
    subprocess.run(["curl", "-sSf", "-o", "/dev/null", f"http://127.0.0.1:{port}{path}"], check=True)


# ---- selection ------------------------------------------------------------------------------------


def test_select_port(services, start, nginx, tag):
    other = net.free_port()
    services.nginx(f"server {{ listen 127.0.0.1:{other}; location / {{ return 200 ok; }} }}", port=other)
    t = start("--port", f"{nginx},1-2")
    for i in range(10):
        curl(nginx, f"/r/{tag}-{i}/n0")
        curl(other, f"/r/{tag}-{i + 100}/n0")
    mine = assert_exact(t.stop(), tag, 10, ["n0"], outer_client=False)
    assert all(int(s.rid.split("-")[1]) < 100 for s in mine)
    assert_edges(mine, outer_client=False)  # curl is not selected: nobody's child


# A hundred listening sockets, and the one that is asked for behind them.
MANY = """
import http.server, socket, sys
others = [socket.create_server(("127.0.0.1", 0)) for _ in range(100)]
class H(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()
http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), H).serve_forever()
"""


@pytest.mark.parametrize("before", [True, False], ids=["before", "later"])
def test_select_port_among_many(services, start, tag, before):
    port = net.free_port()
    if not before:
        t = start("--port", str(port))
    services.start([python(), "-c", MANY, str(port)], "many", port=port)
    if before:
        t = start("--port", str(port))
    else:
        time.sleep(0.5)  # the decision is made behind the event
    for i in range(10):
        curl(port, f"/r/{tag}-{i}/n0")
    assert spans.count(spans.tagged(t.stop(), tag)) == {(SERVER, "n0"): 10}


def test_select_pid_and_both_sides(services, start, nginx, tag):
    """A selected process is traced as server and as client: nginx that proxies to another nginx."""
    front = net.free_port()
    proxy = services.nginx(f"""server {{ listen 127.0.0.1:{front};
        location / {{ rewrite ^(.*)/n0$ $1/n1 break; proxy_pass http://127.0.0.1:{nginx}; }} }}""", port=front)
    workers = subprocess.run(["pgrep", "-P", str(proxy.pid)], capture_output=True, text=True).stdout.split()
    t = start("--pid", ",".join([str(proxy.pid), *workers]))
    for i in range(10):
        curl(front, f"/r/{tag}-{i}/n0")
    mine = spans.tagged(t.stop(), tag)
    assert spans.count(mine) == {(SERVER, "n0"): 10, (CLIENT, "n1"): 10}
    e = assert_edges(mine, outer_client=False)
    assert len(e.right) == 10 == len(e.roots)


def test_select_exe(start, nginx, tag):
    t = start("--exe", "*/curl")
    for i in range(10):
        curl(nginx, f"/r/{tag}-{i}/n0")
    assert spans.count(spans.tagged(t.stop(), tag)) == {(CLIENT, "n0"): 10}


def test_exclude(start, nginx, tag):
    t = start("--exclude", "curl")
    for i in range(10):
        curl(nginx, f"/r/{tag}-{i}/n0")
    assert spans.count(spans.tagged(t.stop(), tag)) == {(SERVER, "n0"): 10}


def test_exclude_path(start, nginx, tag):
    t = start("--exclude-path", f"/health,/r/{tag}-7/*", "--port", str(nginx))
    for i in range(10):
        curl(nginx, f"/r/{tag}-{i}/n0")
        curl(nginx, "/health")
    got = t.stop()
    assert not [s for s in got if s.path == "/health"]
    assert {s.rid for s in spans.tagged(got, tag)} == {f"{tag}-{i}" for i in range(10) if i != 7}
    assert sum(r["dropped"].get("path_excluded", 0) for r in t.final["stages"]) == 11


def test_exclude_path_takes_calls_along(services, start, tag):
    """What was asked of others for a path that is left out is left out with it: no child without its parent."""
    port = flask_chain(services, 3)
    t = start("--exclude-path", f"/r/{tag}-*5/n0")
    for i in range(10):
        curl(port, f"/r/{tag}-{i}/n0")
    got = t.stop()
    mine = [s for s in spans.tagged(got, tag) if s.rid != f"{tag}-5"]
    assert not [s for s in spans.tagged(got, tag) if s.rid == f"{tag}-5"]
    assert_edges(assert_exact(mine, tag, 9, ["n0", "n1", "n2"]))
    assert sum(r["dropped"].get("path_excluded", 0) for r in t.final["stages"]) == 6


def test_command(start, nginx, tag, tmp_path):
    """`wirespan -- CMD`: what this one command calls, and its exit status."""
    out = tmp_path / "o.json"
    r = run("--exporter", "json", "--format", "json", "--output", str(out), "--control", "off", "--",
            "curl", "-sf", f"http://127.0.0.1:{nginx}/r/{tag}-0/n0")
    assert r.returncode == 0, r.stderr
    mine = spans.tagged(spans.parse(out.read_text()), tag)
    assert spans.count(mine) == {(CLIENT, "n0"): 1}
    assert run("--exporter", "none", "--control", "off", "--", "sh", "-c", "exit 7").returncode == 7


def test_duration(start):
    began = time.monotonic()
    t = start("--duration", "2s")
    assert t.service.p.wait(15 * SLOW) == 0
    assert 1.5 < time.monotonic() - began < 14 * SLOW


# ---- the consumer stands still --------------------------------------------------------------------


@pytest.mark.alone
def test_paused_consumer(services, traced, nginx, tag):
    """Stopped for a second under load: the service does not notice, every loss is on the books."""
    t = traced("--ring-size", "1MiB")
    few = 200  # their events fit into the ring, whoever has the processors
    load.run(f"127.0.0.1:{nginx}", few, 16, f"/r/{tag}-1%/n0")
    t.settle()
    p = load.spawn(f"127.0.0.1:{nginx}", 16_000, 16, f"/r/{tag}-2%/n0")
    time.sleep(0.2)
    t.service.signal(signal.SIGSTOP)
    time.sleep(1)
    t.service.signal(signal.SIGCONT)
    out, err = p.communicate(timeout=60 * SLOW)
    assert p.returncode == 0, err
    t.settle()  # the ring is empty again
    load.run(f"127.0.0.1:{nginx}", few, 4, f"/r/{tag}-3%/n0")
    got = t.stop()
    assert not imbalance(t.final)
    mine = spans.tagged(got, tag)
    assert not spans.duplicates(mine)
    lost = dropped(t.final)
    missing = 2 * (16_000 + 2 * few) - len(mine)
    print(f"missing {missing} spans; books: {lost}")
    assert missing >= 0
    assert lost.get("kernel.ring_full", 0) > 0, "the pause was too short to test anything"
    # a span is lost only with an event of its own or with the head of a message in a gap
    assert missing <= sum(lost.values())
    e = spans.check_edges(mine)
    by = {s.id for s in mine}
    wrong = [s for s in e.wrong if s.parent in by]
    assert not wrong, wrong[:3]
    # before and after the pause nothing is missing
    for phase in "13":
        part = [s for s in mine if s.rid.split("-")[1][0] == phase]
        assert spans.count(part) == {(SERVER, "n0"): few, (CLIENT, "n0"): few}, f"phase {phase}"


# ---- nothing remains ------------------------------------------------------------------------------


def held_ids(pid):
    """Ids of the BPF programs, maps and links that a process holds."""
    ids = set()
    for f in pathlib.Path(f"/proc/{pid}/fdinfo").iterdir():
        try:
            text = f.read_text()
        except OSError:
            continue
        ids |= {(m[1], int(m[2])) for m in re.finditer(r"^(prog|map|link)_id:\s*(\d+)", text, re.M)}
    return ids


def known_ids():
    ids = set()
    for kind in ("prog", "map", "link"):
        out = subprocess.run(["/usr/sbin/bpftool", kind, "show"], capture_output=True, text=True).stdout
        ids |= {(kind, int(m[1])) for m in re.finditer(r"^(\d+): ", out, re.M)}
    return ids


def pins():
    return sorted(str(p) for p in pathlib.Path("/sys/fs/bpf").rglob("*"))


@pytest.mark.alone
def test_kill_9_leaves_nothing(services, start, traced, plan, nginx, tag):
    mounts, pinned = pathlib.Path("/proc/self/mountinfo").read_text(), pins()
    t = traced()
    load.run(f"127.0.0.1:{nginx}", 500, 8, f"/r/{tag}-%/n0")
    ours = held_ids(t.pid)
    assert {k for k, _ in ours} == {"prog", "map", "link"} and ours <= known_ids()
    t.service.signal(signal.SIGKILL)
    t.service.p.wait(5 * SLOW)
    end = time.monotonic() + 5 * SLOW  # freed after a grace period of the kernel's
    while (left := ours & known_ids()) and time.monotonic() < end:
        time.sleep(0.1)
    assert not left, left
    assert pins() == pinned
    assert pathlib.Path("/proc/self/mountinfo").read_text() == mounts
    # Definitions of return probes are the kernel's to keep, run into by nobody, until the next one comes, on whatever plan.
    defined = [line for at in ("tracing", "debug/tracing") if (p := pathlib.Path(f"/sys/kernel/{at}/kprobe_events")).exists()
               for line in p.read_text().splitlines() if f":wirespan_{t.pid}/" in line]
    assert bool(defined) == (plan == "kprobe"), defined
    start().stop(settle=False)
    assert not defined or f":wirespan_{t.pid}/" not in p.read_text()
    load.run(f"127.0.0.1:{nginx}", 500, 8, f"/r/{tag}-%/n0")


def test_start_again_after_kill_9(services, start, nginx, tag):
    """The control socket of the dead one is in the way of nobody."""
    dead = start()
    dead.service.signal(signal.SIGKILL)
    dead.service.p.wait(5 * SLOW)
    t = start("--control", str(dead.control))
    curl(nginx, f"/r/{tag}-0/n0")
    r = run("stats", "--control", str(dead.control), "--format", "json")
    assert r.returncode == 0, r.stderr
    assert_exact(t.stop(settle=False), tag, 1, ["n0"])


@pytest.fixture
def busy():
    """Every core has more to do than it can."""
    burn = [subprocess.Popen(["sh", "-c", "while :; do :; done"]) for _ in range(2 * os.cpu_count())]
    yield
    for p in burn:
        p.kill()
        p.wait()


@pytest.mark.alone
def test_start_in_the_middle_of_load(services, start, nginx, tag, busy):
    """Services that are hammered while wirespan comes up have their names from the first span on."""
    n = 2000000
    with load.spawn(f"127.0.0.1:{nginx}", n, 64, f"/r/{tag}-%/n0") as p:
        time.sleep(0.3)
        t = start()
        assert p.poll() is None, "the load was over before wirespan was ready"
        time.sleep(2)
        p.kill()
    served = [s for s in spans.tagged(t.stop(), tag) if s.kind == SERVER]
    assert len(served) > 100
    assert {(s.service, s.pid is None) for s in served} == {("nginx", False)}
    assert "undescribed" in t.final["counters"]


# ---- recording ------------------------------------------------------------------------------------


def test_record_and_replay(services, start, nginx, tag, tmp_path):
    """A recording gives the same bytes each time, to somebody who is nobody, without secrets in it."""
    file = tmp_path / "rec"
    t = start("record", str(file), exporter=None)
    for i in range(20):
        with load.Raw(("127.0.0.1", nginx)) as c:
            c.get(f"/r/{tag}-{i}/n0", headers=["Authorization: Bearer s3cr3t-token", "Cookie: sid=s3cr3t-cookie"])
    time.sleep(1)
    t.stop(settle=False)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert b"s3cr3t" not in file.read_bytes()
    with tempfile.TemporaryDirectory() as d:  # pytest's own are closed to others
        os.chmod(d, 0o755)
        copy = pathlib.Path(d) / "copy"
        copy.write_bytes(file.read_bytes())
        os.chown(copy, 65534, 65534)
        copy.chmod(0o600)
        nobody = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
        outs = [run("replay", str(copy), "--format", "json", prefix=nobody) for _ in range(2)]
    assert [r.returncode for r in outs] == [0, 0], outs[0].stderr
    assert outs[0].stdout == outs[1].stdout
    mine = assert_exact(spans.parse(outs[0].stdout), tag, 20, ["n0"])
    assert_edges(mine)
    assert {s.service for s in mine if s.kind == SERVER} == {"nginx"}, "a recording carries what enrichment answered"


def test_recording_without_secrets_of_command_lines(start, nginx, tag, tmp_path):
    """Recordings hold the arguments of every program that is executed, and the request lines."""
    file = tmp_path / "rec"
    t = start("record", str(file), exporter=None)
    url = f"http://u:s3cr3t@127.0.0.1:{nginx}/r/{tag}-0/n0?token=s3cr3t&x=1"
    args = ["curl", "-sSf", "-o", "/dev/null", "-H", "Authorization: Bearer s3cr3t", "-H", "Cookie: sid=s3cr3t",
            "-H", "X-Api-Key: s3cr3t", "-H", "Proxy-Authorization: Basic s3cr3t"]
    subprocess.run([*args, url], check=True)
    subprocess.run([*args, "-u", "me:s3cr3t", url.replace("u:s3cr3t@", "").replace("-0/", "-1/")], check=True)
    (tmp_path / "body").write_text("password=s3cr3t")
    for more in ([], ["-H", "Transfer-Encoding: chunked"]):
        subprocess.run(["curl", "-sSf", "-o", "/dev/null", "--data-binary", f"@{tmp_path / 'body'}", *more,
                        url.replace("u:s3cr3t@", "").replace("-0/", "-2/")], check=True)
    subprocess.run(["sh", "-c", f": --password s3cr3t; exec curl -sSf -o /dev/null -u 'a:s3cr3t' '{url}'"], check=True)
    time.sleep(1)
    t.stop(settle=False)
    data = file.read_bytes()
    assert b"s3cr3t" not in data
    assert b"/dev/null\0-H\0Authorization: ****" in data, "the arguments themselves are there"
    replayed = spans.tagged(spans.parse(run("replay", str(file), "--format", "json").stdout), tag)
    assert {s.attrs["url.query"] for s in replayed if s.kind == SERVER} == {"token=REDACTED&x=1"}


@pytest.mark.alone
def test_replay_is_the_same_on_a_busy_machine(services, start, nginx, tag, tmp_path, busy):
    """What is one batch and what two depends on the recording, not on when threads get to run."""
    file = tmp_path / "rec"
    t = start("record", str(file), exporter=None)
    for i in range(8):
        curl(nginx, f"/r/{tag}-{i}/n0")
        time.sleep(0.4)  # longer in all than a batch waits when traced live
    t.stop(settle=False)
    outs = [run("replay", str(file), "--format", "json").stdout for _ in range(25)]
    assert len(set(outs)) == 1
    assert spans.count(spans.tagged(spans.parse(outs[0]), tag)) == {(CLIENT, "n0"): 8, (SERVER, "n0"): 8}


@pytest.mark.parametrize("damage", ["empty", "garbage", "cut", "missing"])
def test_replay_of_something_else(tmp_path, damage, start, nginx, tag):
    file = tmp_path / "rec"
    if damage == "cut":
        t = start("record", str(file), exporter=None)
        for i in range(5):
            curl(nginx, f"/r/{tag}-{i}/n0")
        time.sleep(1)
        t.stop(settle=False)
        file.write_bytes(file.read_bytes()[:-37])
    elif damage != "missing":
        file.write_bytes(b"" if damage == "empty" else os.urandom(5000))
    r = run("replay", str(file), "--format", "json")
    lines = r.stderr.strip().splitlines()
    assert lines and any(str(file) in line for line in lines), r.stderr
    assert r.returncode in ((0, 1) if damage == "cut" else (1, 2, 3))


# ---- containers -----------------------------------------------------------------------------------


def cgroup_hierarchies():
    """{"v1": directory, "v2": directory}: of those that are mounted one each in which a process needs no limits to be put."""
    found = {}
    for line in pathlib.Path("/proc/self/mountinfo").read_text().splitlines():
        where, (kind, _, options) = line.split()[4], line.partition(" - ")[2].split()
        if kind == "cgroup2" or kind == "cgroup" and {"pids", "freezer", "cpuacct"} & set(options.split(",")):
            found["v2" if kind == "cgroup2" else "v1"] = pathlib.Path(where)
    return found


def test_container_by_its_cgroup(services, start, tag):
    """A service in a group that is named as container runtimes name theirs, in every version of cgroups that is there."""
    made, want = [], {}
    hierarchies = cgroup_hierarchies()
    if not hierarchies:
        pytest.skip("no cgroup hierarchy is mounted")
    try:
        for version, where in hierarchies.items():
            port, container = net.free_port(), secrets.token_hex(32)
            for group in (where / f"wirespan-{tag}", where / f"wirespan-{tag}" / f"docker-{container}.scope"):
                group.mkdir()
                made.append(group)
            enter = ["sh", "-c", f'echo $$ >{made[-1]}/cgroup.procs && exec "$@"', "sh"]
            services.nginx(f"server {{ listen 127.0.0.1:{port}; location / {{ return 200 ok; }} }}", port=port, prefix=enter)
            want[f"{tag}-{version}"] = port, container
        t = start()
        for rid, (port, _) in want.items():
            curl(port, f"/r/{rid}/n0")
        served = {s.rid: s.resource.get("container.id") for s in spans.tagged(t.stop(), tag) if s.kind == SERVER}
        assert served == {rid: container for rid, (_, container) in want.items()}
    finally:
        services.stop()
        for group in reversed(made):
            group.rmdir()


# ---- what it says when it cannot ------------------------------------------------------------------


def one_line(r):
    lines = [x for x in r.stderr.splitlines() if x.startswith("wirespan: ")]
    assert len(lines) == 1, r.stderr
    return lines[0]


def test_without_root():
    r = run("--control", "off", prefix=["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"])
    assert r.returncode in (1, 3)
    line = one_line(r)
    assert "CAP_BPF" in line and "wirespan features" in line


def test_without_a_capability():
    r = run("--control", "off", prefix=["setpriv", "--bounding-set=-bpf,-perfmon,-sys_admin",
                                        "--inh-caps=-bpf,-perfmon,-sys_admin"])
    assert r.returncode in (1, 3)
    assert "CAP_" in one_line(r)


def test_in_another_pid_namespace():
    r = run("--control", "off", prefix=["unshare", "-p", "-f", "--mount-proc"])
    assert r.returncode == 3
    assert one_line(r).endswith("told apart. A pod needs hostPID: true, a container --pid=host.")


def test_event_loops_only_where_waits_are_seen(services, start, nginx):
    """Without CAP_SYS_ADMIN tracefs may be out of reach: the banner does not promise what it needs; said once."""
    t = start(prefix=["setpriv", "--bounding-set=-sys_admin", "--inh-caps=-sys_admin"])
    curl(nginx, "/")
    port = net.free_port()
    services.nginx(f"server {{ listen 127.0.0.1:{port}; location / {{ return 200 ok; }} }}", port=port)
    curl(port, "/")
    time.sleep(1)
    t.stop(settle=False)
    refused = t.stderr().count("what threads wait for cannot be seen")
    assert refused == (0 if ", event loops" in t.stderr() else 1), t.stderr()
    assert (", threads" in t.stderr()) == (", event loops" in t.stderr()), t.stderr()


def only_capabilities(*names):
    """Argument prefix: root's user id, and no rights but these."""
    few = ",".join(["-all", *(f"+{n}" for n in names)])
    return ["setpriv", f"--bounding-set={few}", f"--inh-caps={few}"]


def without(*directories):
    """Argument prefix: these are empty for the command, where they exist."""
    hide = "; ".join(f"[ ! -d {d} ] || mount -t tmpfs none {d} || exit 125" for d in directories)
    return ["unshare", "--mount", "sh", "-c", f'{hide}; exec "$@"', "sh"]


# What is proven by probes in runtimes.
PROBED = "context,executor,goroutine,goroutine-inherited,request-context,turn,turn-continued"
NO_TRACEFS = without("/sys/kernel/debug", "/sys/kernel/tracing")


@pytest.mark.parametrize("hide", [[], NO_TRACEFS], ids=["tracefs-as-it-is", "no-tracefs"])
def test_without_sys_admin(request, start, plan, nginx, tag, hide):
    """The capabilities that the documentation asks for, and not CAP_SYS_ADMIN: nothing can be mounted, spans are exact,
    and what cannot be seen is said at start. Where kernel.perf_event_paranoid is above 2 Debian's kernels have perf
    events, so kprobes and tracepoints, for CAP_SYS_ADMIN only; kernels before 6.6 have uprobes for nobody else."""
    # maps count as locked memory before 5.11, and only this raises the limit
    old = ["sys_resource"] if tuple(map(int, re.findall(r"\d+", os.uname().release)[:2])) < (5, 11) else []
    few = [*hide, *only_capabilities("bpf", "perfmon", "net_admin", "sys_ptrace", "dac_read_search", *old)]
    features = run("features", prefix=few)
    assert features.returncode == 0, features.stderr
    paranoid = int(pathlib.Path("/proc/sys/kernel/perf_event_paranoid").read_text())
    tracepoints, uprobes = (bool(re.search(rf"^{name} .* yes$", features.stdout, re.M)) for name in ("syscall-tp", "uprobe"))
    # where they need no perf event, they need no more than that
    multi = re.search(r"^uprobe-multi .* yes$", run("features").stdout, re.M)
    assert uprobes or not multi, features.stdout
    if why := re.search(rf"^{plan} +refused: (\S+):", features.stdout, re.M):
        assert why[1] == {"syscall": "syscall-tp", "kprobe": "kprobe"}[plan], features.stdout
        tracefs = not hide and pathlib.Path("/sys/kernel/tracing/events").exists()
        assert paranoid > 2 or (plan == "syscall" and not tracefs), features.stdout
        assert paranoid > 2 or re.search(r"^syscall-tp .* needs: tracefs;", features.stdout, re.M), features.stdout
        r = run("--control", "off", "--attach", plan, prefix=few)
        assert r.returncode == 3 and why[1] in one_line(r)
        request.node.user_properties.append(("refused", why[1]))  # the table of tests/vm shows it
        return
    t = start(attach=plan, prefix=few)
    for i in range(10):
        curl(nginx, f"/r/{tag}-{i}/n0")
    mine = assert_exact(t.stop(), tag, 10, ["n0"])
    assert_edges(mine)
    assert {s.service for s in mine} == {"nginx", "curl"}
    assert ("what threads wait for cannot be seen" in t.stderr()) == (not tracepoints and plan != "fentry"), t.stderr()
    first = next(line for line in t.stderr().splitlines() if " · plan " in line)  # warnings may stand before it
    assert (", contexts, goroutines, turns" in first) == uprobes and ("contexts" in first) == uprobes, first
    assert ", virtual threads" in first, first  # they are read, not probed
    assert t.stderr().count("not followed: contexts, goroutines, turns; not read inside: TLS: uprobes: ") == int(not uprobes), t.stderr()
    if not uprobes:
        for more, said in ((("--evidence-off", "context,executor"), "not followed: goroutines, turns; not read inside: TLS: uprobes: "),
                           (("--evidence-off", "context,executor", "--no-tls"), "not followed: goroutines, turns: uprobes: "),
                           (("--evidence-off", PROBED), ": not read inside: TLS: uprobes: "),
                           (("--evidence-off", PROBED, "--no-tls"), None)):
            off = run("--control", "off", "--exporter", "none", "-d", "1ms", *more, prefix=few)
            assert off.returncode == 0, off.stderr
            assert ((said or "uprobes: ") in off.stderr) == bool(said), off.stderr


def test_without_btf():
    """A kernel without type information, made by hiding it."""
    release = os.uname().release
    for place in (f"/boot/vmlinux-{release}", f"/lib/modules/{release}/vmlinux-{release}",
                  f"/lib/modules/{release}/build/vmlinux", f"/usr/lib/modules/{release}/kernel/vmlinux",
                  f"/usr/lib/debug/boot/vmlinux-{release}", f"/usr/lib/debug/boot/vmlinux-{release}.debug",
                  f"/usr/lib/debug/lib/modules/{release}/vmlinux"):
        if os.path.exists(place):
            pytest.skip(f"{place} has type information too")
    hide = without("/sys/kernel/btf")
    r = run("--control", "off", prefix=hide)
    assert r.returncode == 3
    assert "CONFIG_DEBUG_INFO_BTF" in one_line(r)
    r = run("features", prefix=hide)
    assert r.returncode == 3 and "granted" not in r.stdout and "CONFIG_DEBUG_INFO_BTF" in r.stdout


def test_refused_plan_says_why():
    plans = re.findall(r"^(\S+) +(granted|refused)(?:: (\S+): (.*))?", run("features").stdout, re.M)
    assert len(plans) == 4
    if all(how == "granted" for _, how, _, _ in plans):
        pytest.skip("this kernel grants every plan")
    for plan, how, what, why in plans:
        if how == "refused":
            r = run("--control", "off", "--attach", plan)
            line = one_line(r)
            assert r.returncode == 3 and plan in line and what in line and why in line, r.stderr


def test_features_names_every_plan():
    r = run("features")
    assert r.returncode == (0 if " granted" in r.stdout else 3), r.stderr
    for plan in ("fentry", "kprobe", "socket", "syscall"):
        assert plan in r.stdout
    # no root: still an answer, not a crash
    r = run("features", prefix=["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"])
    assert r.returncode == 3, r.stderr
    rows = {x.split()[0]: x for x in r.stdout.splitlines() if "; needs: " in x}
    for row, cap in (("privilege", "sudo"), ("ringbuf", "CAP_BPF;"), ("tp-btf", "CAP_PERFMON;"), ("iter", "CAP_PERFMON;")):
        assert cap in rows[row].partition("; needs: ")[2], r.stdout
    for row in rows.values():
        if "not permitted" in row and not row.startswith("privilege"):
            assert "needs: CAP_" in row, row


@pytest.mark.parametrize("args,says", [
    (["--no-such-flag"], "no-such-flag"), (["--port", "70000"], "70000"), (["--attach", "magic"], "magic"),
    (["--config", "/nonexistent.yaml"], "/nonexistent.yaml"),
    (["--output", "/nonexistent/x", "--format", "json", "--control", "off"], "/nonexistent/x"),
    (["--output", "/", "--format", "json", "--control", "off"], "directory"),
    (["--endpoint", "https://127.0.0.1:1", "--certificate", "/nonexistent/ca", "--control", "off"], "/nonexistent/ca"),
    (["record", "/nonexistent/rec", "--control", "off"], "/nonexistent/rec"),
    (["--endpoint", "ftp://x"], "ftp"), (["replay"], "replay"),
], ids=lambda v: " ".join(v) if isinstance(v, list) else "")
def test_wrong_use(args, says):
    """Said before anything is loaded: one line, and not a word of what would have run."""
    r = run(*args)
    assert r.returncode == 2, (r.returncode, r.stderr)
    assert says in one_line(r)
    assert "plan" not in r.stderr


def test_wrong_output_of_a_replay(start, nginx, tag, tmp_path):
    t = start("record", str(tmp_path / "rec"), exporter=None)
    t.stop(settle=False)
    r = run("replay", str(tmp_path / "rec"), "--format", "json", "--output", "/nonexistent/x")
    assert r.returncode == 2 and "/nonexistent/x" in one_line(r)


def test_config_mistakes_come_all_at_once(tmp_path):
    f = tmp_path / "c.yaml"
    f.write_text("ring-size: 3\nnonsense: 1\nexporter: [a]\n")
    r = run("check-config", str(f))
    assert r.returncode == 2
    for where in ("c.yaml:1:", "c.yaml:2:", "c.yaml:3:"):
        assert where in r.stderr + r.stdout, r.stderr


def test_pid_of_nobody(services, start, nginx, tag):
    """All of them: wrong use. Some of them: a warning, and the others are traced. A thread is no process."""
    with subprocess.Popen(["sleep", "0"]) as gone:
        pass
    r = run("--control", "off", "--pid", f"{gone.pid}")
    assert r.returncode == 2 and f"--pid {gone.pid}: no such process" in one_line(r)
    done = threading.Event()
    thread = threading.Thread(target=done.wait)
    thread.start()
    r = run("--control", "off", "--pid", f"{thread.native_id}")
    done.set()
    thread.join()
    assert r.returncode == 2 and "no such process" in one_line(r)
    port = net.free_port()
    alive = services.nginx(f"server {{ listen 127.0.0.1:{port}; location / {{ return 200 ok; }} }}", port=port)
    t = start("--pid", f"{gone.pid},{alive.pid}")
    assert f"--pid {gone.pid}: no such process; the others" in t.stderr()
    assert f"--pid {alive.pid}" not in t.stderr()
    curl(port, f"/r/{tag}-0/n0")
    assert_exact(t.stop(), tag, 1, ["n0"], outer_client=False)


def test_disabled():
    r = run("--control", "off", OTEL_SDK_DISABLED="true")
    assert r.returncode == 0 and r.stdout == ""
    assert r.stderr == "wirespan: OTEL_SDK_DISABLED is true: nothing is traced\n"
    r = run("--control", "off", "--", "sh", "-c", "echo ran; exit 7", OTEL_SDK_DISABLED="true")
    assert (r.returncode, r.stdout) == (7, "ran\n"), "the command is not the one that is disabled"
    r = run("--control", "off", "--", "/nonexistent/command", OTEL_SDK_DISABLED="true")
    assert r.returncode == 127 and "/nonexistent/command" in r.stderr


def test_dist_outside_of_a_checkout(tmp_path):
    root = pathlib.Path(__file__).resolve().parents[2]
    (tmp_path / "tests").mkdir()
    for name in ("Makefile", "VERSION", *(str(f.relative_to(root)) for f in root.glob("tests/*.mk"))):
        shutil.copy(root / name, tmp_path / name)
    r = subprocess.run(["make", "-s", "-C", tmp_path, "dist", "O=out"], capture_output=True, text=True, timeout=60)
    assert r.returncode and not (tmp_path / "out").exists()
    said = [x for x in r.stderr.splitlines() if not x.startswith(("make: ***", "make[", "find: "))]
    assert len(said) == 1 and "not a git checkout" in said[0], r.stderr


@pytest.mark.parametrize("what", ["fifo", "directory", "device"])
def test_config_that_is_no_file(tmp_path, what):
    path = {"fifo": tmp_path / "fifo", "directory": tmp_path, "device": pathlib.Path("/dev/zero")}[what]
    if what == "fifo":
        os.mkfifo(path)
    for args in (["check-config", str(path)], ["--config", str(path)]):
        r = run(*args, timeout=5)
        assert r.returncode == 2 and f"{path}: not a configuration file" in one_line(r)


def test_stats_as_text_and_json(start):
    t = start()
    texts = [run("stats", "--control", str(t.control), *how) for how in ([], ["--format", "text"], ["--format", "json"])]
    assert [r.returncode for r in texts] == [0, 0, 0], texts
    assert texts[0].stdout.splitlines()[2] == texts[1].stdout.splitlines()[2]  # the table's head
    assert "STAGE" in texts[1].stdout and texts[2].stdout.startswith("{")


def test_stats_of_nobody(tmp_path):
    r = run("stats", "--control", str(tmp_path / "none"))
    assert r.returncode == 1 and str(tmp_path / "none") in one_line(r)


@pytest.mark.parametrize("how", ["json-full", "console-full", "console-closed"])
def test_output_that_takes_nothing(how, nginx, tag):
    """Every span lost at the very end: one line says so, and the exit code is that of a failure."""
    args = ["--format", "json", "--output", "/dev/full"] if how == "json-full" else ["--exporter", "console"]
    with open("/dev/full", "wb") as full:
        p = subprocess.Popen([WIRESPAN, "--control", "off", "--port", str(nginx), "-d", "20s", *args],
                             stdout=full if how == "console-full" else subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        said = ""
        while "ready" not in said:
            line = p.stderr.readline()
            assert line, said
            said += line
        if how == "console-closed":
            p.stdout.close()
            p.stdout = None
        curl(nginx, f"/r/{tag}-0/n0")
        time.sleep(2.5)
        if how != "console-closed":  # that one ends by itself
            p.send_signal(signal.SIGINT)
        said += p.communicate(timeout=10)[1]
    finally:
        p.kill()
    assert p.returncode == 1, said
    why = "closed by its reader" if how == "console-closed" else "No space left on device"
    assert len([x for x in said.splitlines() if why in x]) == 1, said
    assert " 0 spans " in said and "output failed" in said, said


def test_second_signal_ends_at_once(start, nginx, tag):
    """The collector is away and would be waited for; who asks twice is not made to wait."""
    t = start("--endpoint", f"http://127.0.0.1:{net.free_port()}", "--port", str(nginx), "--shutdown-timeout", "60s",
              exporter=None)
    curl(nginx, f"/r/{tag}-0/n0")
    t.wait_log("refused")
    t.service.signal(signal.SIGINT)
    time.sleep(2)
    assert t.service.alive(), t.stderr()
    t.service.signal(signal.SIGINT)
    assert t.service.p.wait(3) == 0
    assert "asked to end once more" in t.stderr() and "shutdown limit reached" in t.stderr(), t.stderr()


def test_console_trees(services, start, nginx, tag):
    """The terminal view on a pipe: the tree, the raw path, no colour; totals at the end."""
    t = start(exporter="console")
    curl(nginx, f"/r/{tag}-0/n0")
    time.sleep(2)
    t.stop()
    text = t.service.log.read_text()
    assert f"/r/{tag}-0/n0" in text and "nginx" in text and "curl" in text
    assert "\x1b[" not in text
    assert t.totals()[1] >= 2 and stage(t.final, "export")["out"] >= 2


def test_requests_right_behind_listen(services, start, plan, tag, tmp_path):
    """Selected by the port that it has just begun to listen on: before user space can have heard of it."""
    script, port = tmp_path / "early.py", net.free_port()
    script.write_text("""\
import socket, sys, time
time.sleep(1)  # its exec was decided on long ago
s = socket.create_server(("127.0.0.1", int(sys.argv[1])))
c, _ = s.accept()
while c.recv(65536):
    c.sendall(b"HTTP/1.1 200 OK\\r\\nContent-Length: 2\\r\\n\\r\\nok")
""")
    t = start("--port", str(port), attach=plan)
    services.start([python(), script, port], "early", wait=False)
    while True:
        try:
            c = load.Raw(("127.0.0.1", port))
            break
        except ConnectionRefusedError:
            pass
    for i in range(20):
        assert c.get(f"/r/{tag}-{i}/n0")[0] == 200
    c.close()
    assert spans.count(spans.tagged(t.stop(), tag)) == {(SERVER, "n0"): 20}


# How a process comes by a listening socket that it never called listen() on. A connection waits there already: nothing
# but the start of the program is between its exec and its accept(), or ("late") its exec was decided on long ago.
GIVEN = """\
import os, select, socket, sys, time
def serve(s):
    c, _ = s.accept()
    while c.recv(65536):
        c.sendall(b"HTTP/1.1 200 OK\\r\\nContent-Length: 2\\r\\n\\r\\nok")
def become(what, s):
    os.dup2(s.fileno(), 3)
    os.set_inheritable(3, True)  # it may have been 3
    os.execv(sys.executable, [sys.executable, __file__, what])
how = sys.argv[1]
if how in ("given", "late"):
    time.sleep(how == "late")
    serve(socket.socket(fileno=3))
    sys.exit()
time.sleep(1)
s = socket.socket()
s.bind(("127.0.0.1", int(sys.argv[2])))
listens, told = os.pipe()
if how == "preforked" and not os.fork():
    os.read(listens, 1)
    serve(s)
    os._exit(0)
if how == "preforked":
    time.sleep(.5)
s.listen()
os.write(told, b"x")
if how == "activated":
    select.select([s], [], [])
    become("late", s)
if how == "exec" or how == "fork-exec" and not os.fork():
    become("given", s)
os.wait()
"""


@pytest.mark.parametrize("how", ["exec", "fork-exec", "preforked", "activated"])
def test_given_listener(services, start, plan, tag, tmp_path, how):
    """Who accepts on a port that is asked for is selected, from the first request on, whoever listened there."""
    script, port = tmp_path / "given.py", net.free_port()
    script.write_text(GIVEN)
    argv = [python(), script, how, port]
    activate = shutil.which("systemd-socket-activate")
    if how == "activated" and activate:
        argv = [activate, "-l", f"127.0.0.1:{port}", python(), script, "late"]
    t = start("--port", str(port), attach=plan)
    service = services.start(argv, how, wait=False)
    while True:
        try:
            c = load.Raw(("127.0.0.1", port))
            break
        except ConnectionRefusedError:
            assert service.alive(), service.tail()
            time.sleep(.01)
    for i in range(20):
        assert c.get(f"/r/{tag}-{i}/n0")[0] == 200
    c.close()
    assert spans.count(spans.tagged(t.stop(), tag)) == {(SERVER, "n0"): 20}
