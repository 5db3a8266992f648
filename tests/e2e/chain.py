# SPDX-License-Identifier: Apache-2.0
"""Chains of unmodified services, and the assertions that every test of counts and parents makes."""
import collections
import contextlib
import warnings

from conftest import SERVICES

from rig import SLOW, net, python, spans
from rig.spans import CLIENT, SERVER

# Seconds. A machine may stand still for longer than servers keep an idle connection by default.
KEEP_ALIVE = "600"


@contextlib.contextmanager
def case(name):
    """One of several cases that share a tracer, whose start is most of what a short test costs: says which one failed."""
    try:
        yield
    except Exception as e:
        e.add_note(f"case: {name}")
        raise


def whole(mine, n, kinds, missed):
    """(the spans, how many requests) that nothing is missing of. Not all n only where the kernel has `missed` programs that
    were due: no more than these, and it is said. None does that but one that preempts itself, on an emulated processor."""
    if not missed or SLOW == 1:
        return mine, n
    by = collections.defaultdict(list)
    for s in mine:
        by[s.rid].append(s)
    good = {rid for rid, of in by.items() if sorted((s.kind, s.leg) for s in of) == sorted(kinds)}
    assert n - len(good) <= missed, f"{len(good)} of {n} requests are whole, {missed} probes were missed"
    if len(good) < n:
        warnings.warn(f"{n - len(good)} of {n} requests are not whole: the kernel missed {missed} probes", stacklevel=2)
    return [s for s in mine if s.rid in good], len(good)


def assert_exact(got, tag, n, legs, outer_client=True, missed=0):
    """n requests, each with a client and a server span per leg, no more, no less, none twice. `missed`: see whole()."""
    kinds = [(SERVER, leg) for leg in legs] + [(CLIENT, leg) for leg in legs if outer_client or leg != "n0"]
    mine, n = whole(spans.tagged(got, tag), n, kinds, missed)
    assert spans.count(mine) == {kind: n for kind in kinds}
    assert not spans.duplicates(mine)
    return mine


def assert_edges(mine, missing=0, outer_client=True):
    """No wrong parent, ever; exactly `missing` not found (None: any number, it is printed)."""
    e = spans.check_edges(mine, outer_client)
    assert not e.wrong, f"{e}; first wrong: {e.wrong[:3]}\n{spans.tree([s for s in mine if s.rid == e.wrong[0].rid])}"
    if missing is None:
        print(f"parents: {e}")
    else:
        assert len(e.missing) == missing, f"{e}; first missing: {e.missing[:3]}"
    return e


def base(port):
    return f"http://127.0.0.1:{port}"


def flask_chain(services, depth, sleep=0, **env):
    """Flask services, each asking the next; returns the port of the first."""
    ports = [net.free_port() for _ in range(depth)]
    for i in reversed(range(depth)):
        services.script(SERVICES / "hop_flask.py", f"hop{i}", port=ports[i], env={
            "PORT": ports[i], "NEXT": base(ports[i + 1]) if i + 1 < depth else "", "SLEEP": sleep, **env})
    return ports[0]


def gunicorn(services, *args, port=None, unix=None, **env):
    bind = f"unix:{unix}" if unix else f"127.0.0.1:{port}"
    return services.start([python(), "-m", "gunicorn", "--bind", bind, "--log-level", "warning", "--keep-alive", KEEP_ALIVE,
                           *args, "hop_flask:app"], "gunicorn", port=port, unix=unix, cwd=SERVICES, env=env)


def uvicorn(services, port, *args, **env):
    return services.start([python(), "-m", "uvicorn", "--host", "127.0.0.1", "--port", str(port), "--log-level", "warning",
                           "--timeout-keep-alive", KEEP_ALIVE, *args, "hop_fastapi:app"], "uvicorn", port=port,
                          cwd=SERVICES, env=env)
