# SPDX-License-Identifier: Apache-2.0
"""What scenario 2 has to show: the tree of each click, calls in order in v1 and together in v2.

The service that the scenario calls main lives in main-service: "main" alone says nothing, and wirespan
names such a program after what is above it.
"""
import collections

from rig.spans import CLIENT, SERVER

KIND = {SERVER: "server", CLIENT: "client"}


def tree(version):
    api = "/api" + version
    return {
        (SERVER, "main-service", version): None,
        (CLIENT, "main-service", api): (SERVER, "main-service", version),
        (SERVER, "upstream", api): (CLIENT, "main-service", api),
        (CLIENT, "upstream", "/check-one"): (SERVER, "upstream", api),
        (CLIENT, "upstream", "/check-two"): (SERVER, "upstream", api),
        (SERVER, "service1", "/check-one"): (CLIENT, "upstream", "/check-one"),
        (SERVER, "service2", "/check-two"): (CLIENT, "upstream", "/check-two"),
        # the sites themselves are others': their calls are seen inside TLS
        (CLIENT, "service1", "/site-one"): (SERVER, "service1", "/check-one"),
        (CLIENT, "service2", "/site-two"): (SERVER, "service2", "/check-two"),
        (CLIENT, "service1", "/api/log"): (SERVER, "service1", "/check-one"),
        (CLIENT, "service2", "/api/log"): (SERVER, "service2", "/check-two"),
        # two of them: each hangs under the client of its own service
        (SERVER, "log", "/api/log"): (CLIENT, ("service1", "service2"), "/api/log"),
    }


def click_of(span):
    text = f"{span.attrs.get('url.query', '')}&{span.attrs.get('url.full', '').partition('?')[2]}"
    return next((p[6:] for p in text.split("&") if p.startswith("click=")), None)


def matches(span, want):
    services = want[1] if isinstance(want[1], tuple) else (want[1],)
    return span.kind == want[0] and span.service in services and span.path == want[2]


def check_click(click, version, mine, by_id, problems, one_at_a_time):
    for key, parent in tree(version).items():
        here = [s for s in mine if matches(s, key)]
        name = f"click {click}: {KIND[key[0]]} {key[1]} {key[2]}"
        expected = 2 if key == (SERVER, "log", "/api/log") else 1
        if len(here) != expected:
            problems.append(f"{name}: {len(here)} spans, not {expected}")
        for s in here:
            p = by_id.get(s.parent)
            if parent is None:
                if s.parent:
                    problems.append(f"{name}: has a parent, {p}")
            elif p is not None and matches(p, parent) and click_of(p) == click and p.trace == s.trace:
                continue
            else:
                problems.append(f"{name}: parent is {p or s.parent or 'missing'}")
        if expected == 2 and len({s.parent for s in here}) != len(here):
            problems.append(f"{name}: two calls under one parent")
    one = next((s for s in mine if matches(s, (CLIENT, "upstream", "/check-one"))), None)
    two = next((s for s in mine if matches(s, (CLIENT, "upstream", "/check-two"))), None)
    if one and two and (one_at_a_time or not version.endswith("-v2")):  # under load they may well not overlap
        together = max(one.start, two.start) < min(one.end, two.end)
        if together != version.endswith("-v2"):
            how = "overlap" if together else "follow each other"
            problems.append(f"click {click}: the two calls {how} in {version}")


def check(spans, clicks, one_at_a_time=True):
    """Returns (problems, gaps) as lists of text."""
    problems, gaps = [], collections.Counter()
    by_id = {s.id: s for s in spans}
    of = collections.defaultdict(list)
    for s in spans:
        of[click_of(s)].append(s)
    known = len(tree("/check-sites")) + 1  # /api/log is served twice
    for click, version in clicks.items():
        mine = of[click]
        check_click(click, version, mine, by_id, problems, one_at_a_time)
        if len(mine) > known:
            problems.append(f"click {click}: {len(mine)} spans, not {known}")
        over_tls = [s for s in mine if s.attrs.get("url.full", "").startswith("https:")]
        if len(over_tls) != 2 or {s.attrs.get("http.response.status_code") for s in over_tls} != {200}:
            problems.append(f"click {click}: over HTTPS: {over_tls}, not two that were answered by 200")
        ids = {s.id for s in mine}
        if not [s for s in spans if s.attrs.get("db.system.name") == "postgresql" and s.parent in ids]:
            gaps["the INSERT under /api/log is not seen (2 for each click)"] += 1
    if one_at_a_time:
        took = {v: sorted(s.ms for s in spans if s.kind == SERVER and s.service == "main-service" and s.path == v)
                for v in ("/check-sites", "/check-sites-v2")}
        v1, v2 = (x[len(x) // 2] if x else 0 for x in took.values())
        if not 0.35 * v1 < v2 < 0.75 * v1:
            problems.append(f"v2 took {v2:.0f} ms, v1 {v1:.0f} ms: not about half")
    return problems, [f"known gap: {n} × {what}" for what, n in gaps.items()]


def graph(spans):
    """The service graph from what was exported: {(caller, callee): [calls, errors, total ms]}."""
    by_id, edges = {s.id: s for s in spans}, collections.defaultdict(lambda: [0, 0, 0.0])
    for s in spans:
        p = by_id.get(s.parent)
        if s.kind == SERVER and p is not None and p.kind == CLIENT:
            e = edges[p.service, s.service]
            e[0] += 1
            e[1] += s.status == 2
            e[2] += s.ms
    return edges
