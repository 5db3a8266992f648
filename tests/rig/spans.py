# SPDX-License-Identifier: Apache-2.0
"""Exported spans, and the check of every parent by the request id that the tests carry in the path.

Every request of a test goes to /r/<id>/<leg>. The id names the request that came in from outside, the
leg how deep it is: /r/<id>/n0 is what the load generator asked, /r/<id>/n1 what the first service asked
the second, and so on. So every span says by itself who its parent has to be, and a wrong edge cannot
hide behind a right total.
"""
import collections
import json
import re
import urllib.parse

SERVER, CLIENT, INTERNAL = 2, 3, 1


def _value(v):
    if "intValue" in v:
        return int(v["intValue"])
    if "arrayValue" in v:
        return [_value(x) for x in v["arrayValue"].get("values", [])]
    for k in ("stringValue", "boolValue", "doubleValue"):
        if k in v:
            return v[k]
    return None


def _attrs(rows):
    return {r["key"]: _value(r["value"]) for r in rows or []}


LEG = re.compile(r"/r/([^/]+)/([^/]*)")


class Span:
    def __init__(self, raw, resource, scope):
        self.raw, self.resource, self.scope = raw, resource, scope
        self.trace, self.id = raw["traceId"], raw["spanId"]
        self.parent = raw.get("parentSpanId") or ""
        self.name, self.kind = raw["name"], raw["kind"]
        self.start, self.end = int(raw["startTimeUnixNano"]), int(raw["endTimeUnixNano"])
        self.attrs = _attrs(raw.get("attributes"))
        self.status = raw.get("status", {}).get("code", 0)
        self.links = raw.get("links", [])
        # not urllib: it refuses what a Host header may hold
        m = re.match(r"(?:[a-z]+://[^/?#]*)?([^?#]*)", self.attrs.get("url.path") or self.attrs.get("url.full") or "")
        self.path = m[1]

    @property
    def service(self):
        return self.resource.get("service.name")

    @property
    def pid(self):
        return self.resource.get("process.pid")

    @property
    def ms(self):
        return (self.end - self.start) / 1e6

    @property
    def code(self):
        return self.attrs.get("http.response.status_code")

    @property
    def rid(self):
        """Request id: /r/ID/leg, or rid=ID in the query, where every request has the same path."""
        m = LEG.search(self.path)
        if m:
            return m[1]
        query = self.attrs.get("url.query") or self.attrs.get("url.full", "").partition("?")[2]
        return dict(urllib.parse.parse_qsl(query)).get("rid")

    @property
    def leg(self):
        m = LEG.search(self.path)
        return m[2] if m else None

    def __repr__(self):
        kind = {SERVER: "SERVER", CLIENT: "CLIENT", INTERNAL: "INTERNAL"}.get(self.kind, self.kind)
        return f"<{kind} {self.service} {self.path or self.name} {self.code} {self.id} parent={self.parent or '-'}>"


def parse(text):
    """All spans of OTLP JSON lines (one ExportTraceServiceRequest a line)."""
    out = []
    for line in text.splitlines():
        if not line.strip():
            continue
        for rs in json.loads(line).get("resourceSpans", []):
            resource = _attrs(rs.get("resource", {}).get("attributes"))
            for ss in rs.get("scopeSpans", []):
                out += [Span(s, resource, ss.get("scope", {})) for s in ss.get("spans", [])]
    return out


def tagged(spans, tag):
    """Those of one test, or of one case of it (TAG-CASE): other processes of the machine may be traced meanwhile."""
    return [s for s in spans if s.rid and (s.rid == tag or s.rid.startswith(f"{tag}-"))]


class Edges:
    """right, wrong and missing parents of a list of spans; `wrong` and `missing` hold the spans."""

    def __init__(self, right, wrong, missing, roots):
        self.right, self.wrong, self.missing, self.roots = right, wrong, missing, roots

    def __repr__(self):
        return f"right {len(self.right)}, wrong {len(self.wrong)}, missing {len(self.missing)}, roots {len(self.roots)}"


def expected_parent(span):
    """(kind, leg) of the parent that this span has to have, or None: it is the first of its request.

    A server span hangs under the client span of the same leg, a client span of leg n(k+1) under the
    server span of leg n(k). A letter after the number tells siblings apart (n1a, n1b).
    """
    depth = int("".join(c for c in span.leg[1:] if c.isdigit()))
    if span.kind == SERVER:
        return CLIENT, span.leg
    return (SERVER, f"n{depth - 1}") if depth else None


def check_edges(spans, outer_client=True):
    """Holds every span of /r/<id>/n… against expected_parent(). Without outer_client the one who asked
    n0 is not traced, and the server span of n0 is the first."""
    by_id = {s.id: s for s in spans}
    right, wrong, missing, roots = [], [], [], []
    for s in spans:
        want = expected_parent(s)
        if want == (CLIENT, "n0") and not outer_client:
            want = None
        p = by_id.get(s.parent)
        if want is None:
            (wrong if s.parent else roots).append(s)
        elif not s.parent:
            missing.append(s)
        elif (p is not None and p.rid == s.rid and p.trace == s.trace and p.kind == want[0]
              and (p.leg == want[1] or (p.kind == SERVER and p.leg.rstrip("abcdefgh") == want[1]))):
            right.append(s)
        else:
            wrong.append(s)
    return Edges(right, wrong, missing, roots)


def count(spans):
    """{(kind, leg): number}, for exact comparison."""
    return dict(collections.Counter((s.kind, s.leg) for s in spans))


def duplicates(spans):
    """Ids seen more than once: a request exported twice."""
    return [i for i, n in collections.Counter(s.id for s in spans).items() if n > 1]


def tree(spans):
    """Text of the trees, for a failing test's message."""
    by_id = {s.id for s in spans}
    kids = collections.defaultdict(list)
    for s in sorted(spans, key=lambda s: s.start):
        kids[s.parent if s.parent in by_id else ""].append(s)
    out = []

    def walk(s, depth):
        arrow = "-> " if s.kind == CLIENT else ""
        lost = " (parent not exported)" if s.parent and depth == 0 else ""
        out.append(f"{'  ' * depth}{s.service}: {arrow}{s.name} {s.path} {s.code} {s.ms:.1f} ms{lost}")
        for k in kids[s.id]:
            walk(k, depth + 1)

    for s in kids[""]:
        walk(s, 0)
    return "\n".join(out)
