# SPDX-License-Identifier: Apache-2.0
"""What scenario 1 has to show: the tree of each button, held against the spans of each click."""
import collections

from rig.spans import CLIENT, INTERNAL, SERVER

# (kind, service, path) -> its parent; None: the click itself (the client who clicked is not traced).
COMPUTE = {
    (CLIENT, "service_async", "/block"): (SERVER, "service_async", "/compute"),
    (SERVER, "leaf", "/block"): (CLIENT, "service_async", "/block"),
    (CLIENT, "service_async", "/internal-task"): (SERVER, "service_async", "/compute"),
    (SERVER, "service_async", "/internal-task"): (CLIENT, "service_async", "/internal-task"),
}
TREES = {
    "/call-sync-chain": {
        (SERVER, "frontend", "/call-sync-chain"): None,
        (CLIENT, "frontend", "/process"): (SERVER, "frontend", "/call-sync-chain"),
        (SERVER, "service_sync", "/process"): (CLIENT, "frontend", "/process"),
        (CLIENT, "service_sync", "/compute"): (SERVER, "service_sync", "/process"),
        (SERVER, "service_async", "/compute"): (CLIENT, "service_sync", "/compute"),
        **COMPUTE,
    },
    "/call-async": {
        (SERVER, "frontend", "/call-async"): None,
        (CLIENT, "frontend", "/compute"): (SERVER, "frontend", "/call-async"),
        (SERVER, "service_async", "/compute"): (CLIENT, "frontend", "/compute"),
        **COMPUTE,
    },
}
KIND = {SERVER: "server", CLIENT: "client"}


def click_of(span):
    """The click of a span: from the query that every call of it carries."""
    text = f"{span.attrs.get('url.query', '')}?{span.attrs.get('url.full', '')}"
    for part in text.replace("?", "&").split("&"):
        if part.startswith("click="):
            return part[6:]
    return None


# What a pool's worker that was waiting for work when wirespan came does next is not followed.
POOL_CALL = (CLIENT, "service_async", "/block")


def work_item(span, by_id):
    """The INTERNAL span above the pool's call: what is wrong with it, and its parent."""
    item = by_id.get(span.parent)
    if item is None or item.kind != INTERNAL or item.service != span.service:
        return f"below {item}, not below its work item", None
    wait, run = (item.attrs.get(f"wirespan.executor.{k}_ns", -1) for k in ("wait", "run"))
    if {item.name, item.attrs.get("code.function.name")} != {"blocking"}:
        return f"work item {item} is not named after what it runs", None
    if wait < 0 or run < 100_000_000 or item.end - item.start != wait + run:
        return f"odd work item {item}: waited {wait}, ran {run} of {item.end - item.start}", None
    if not item.start <= span.start <= span.end <= item.end:
        return f"not within its work item {item}", None
    return "", by_id.get(item.parent)


def check(spans, clicks, waiting=0, executor=False):
    """Holds the spans against `clicks` ({click: button}), with at most `waiting` of the pool's workers idle when the
    tracer started; `executor`: work items have spans. Returns (problems, gaps): lists of text."""
    problems, gaps = [], 0
    by_id = {s.id: s for s in spans}
    seen = collections.defaultdict(list)
    for s in spans:
        if click_of(s) in clicks:
            seen[click_of(s), s.kind, s.service, s.path].append(s)

    def key(s):
        return s.kind, s.service, s.path

    for click, button in clicks.items():
        want = TREES[button]
        traces = set()
        for k, parent in want.items():
            here = seen.pop((click, *k), [])
            name = f"click {click}: {KIND[k[0]]} {k[1]} {k[2]}"
            if len(here) != 1:
                problems.append(f"{name}: {len(here)} spans, not 1")
                continue
            s = here[0]
            p = by_id.get(s.parent)
            if executor and k == POOL_CALL and s.parent:
                odd, p = work_item(s, by_id)
                if odd:
                    problems.append(f"{name}: {odd}")
                    continue
            if parent is None:
                traces.add(s.trace)
                if s.parent:
                    problems.append(f"{name}: has a parent, {p}")
            elif p is not None and key(p) == parent and click_of(p) == click and p.trace == s.trace:
                traces.add(s.trace)
            elif not s.parent and k == POOL_CALL and gaps < waiting:
                gaps += 1
            else:
                problems.append(f"{name}: parent is {p or s.parent or 'missing'}, not {KIND[parent[0]]} {parent[1:]}")
        if len(traces) > 1 and not gaps:
            problems.append(f"click {click}: {len(traces)} traces, not 1")
    problems += [f"click {k[0]}: {len(v)} unexpected spans {v[0]}" for k, v in seen.items()]
    said = f"known gap: {gaps} × the pool's call without a parent (its worker was waiting when wirespan started)"
    return problems, [said] if gaps else []
