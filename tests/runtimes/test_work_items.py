# SPDX-License-Identifier: Apache-2.0
"""--executor-spans: the name of what a work item runs, in every CPython that is here."""
import collections
import pathlib
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests"))
from rig import load, net, spans, tracer  # noqa: E402
from rig.proc import Services  # noqa: E402
from rig.spans import INTERNAL, SERVER  # noqa: E402
from test_python_layout import KNOWN, each  # noqa: E402

SERVICE = ROOT / "tests/e2e/services/work_items.py"


@each(KNOWN)
@pytest.mark.timeout(120)
def test_names(python, tmp_path):
    port, n = net.free_port(), 3
    services = Services(tmp_path)
    try:
        services.start([python, SERVICE, port], "work_items", port=port)
        t = tracer.Tracer("--port", str(port), "--executor-spans", directory=tmp_path / "tracer")
        names = []
        with load.Raw(("127.0.0.1", port)) as c:
            for i in range(n):
                status, answer = c.get(f"/r/x-{i}/n0")[:2]
                assert status == 200
                names.append(answer.partition(b"\r\n\r\n")[2].decode().split("\n"))
        got = t.stop()
    finally:
        services.stop()
    assert len(names[0]) == 14 and names[0] == names[1] == names[2]
    servers = {s.id: s for s in got if s.kind == SERVER}
    assert len(servers) == n
    for server in servers.values():
        mine = [s for s in got if s.kind == INTERNAL and s.parent == server.id]
        assert [s.name for s in sorted(mine, key=lambda s: s.start)] == names[0]
        assert all(s.attrs.get("code.function.name", "executor") == s.name for s in mine)
    assert collections.Counter(s.kind for s in got) == {SERVER: n, INTERNAL: n * len(names[0])}
