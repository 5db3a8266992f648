# SPDX-License-Identifier: Apache-2.0
"""Libraries with which contexts mislead (user/runtime/hazards.c): noticed when they are there, and when they come."""
import json
import pathlib
import re
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests"))
from rig import OUT, python  # noqa: E402

# package: something else in the same directory that is mapped from the start
NEIGHBOURS = {"tornado": "pydantic_core"}
TABLE = re.findall(r'\{"(\w+)", "(\w+)", "(\w+)",\s*"([^"]+)"\}', (ROOT / "user/runtime/hazards.c").read_text())


def test_every_row_has_a_test():
    assert TABLE and {row[0] for row in TABLE} == set(NEIGHBOURS)


@pytest.mark.parametrize("package,module,init,why", TABLE, ids=[row[0] for row in TABLE])
def test_hazard(package, module, init, why):
    code = f"import {NEIGHBOURS[package]}; print(1, flush=True); input(); import {package}.{module}; print(2, flush=True); input()"
    with subprocess.Popen([python(), "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as p:
        seen = []
        for _ in range(2):
            p.stdout.readline()
            seen.append(json.loads(subprocess.run([OUT / "tests/tools/rtinspect", str(p.pid)], capture_output=True,
                                                  text=True).stdout))
            p.stdin.write("\n")
            p.stdin.flush()
        p.wait(10)
    before, after = seen
    assert before["kind"] == 1 and before["hazard"] == "", before
    (site,) = [s for s in before["sites"] if s["hook"] == "hazard"]
    assert f"/{package}/{module}." in site["path"]
    nm = subprocess.run(["nm", "-D", "--defined-only", site["path"].split("/root", 1)[1]], capture_output=True, text=True)
    start = int(next(line.split()[0] for line in nm.stdout.splitlines() if line.endswith(f" {init}")), 16)
    assert 0 <= site["offset"] - start < 64  # (code is mapped where it lies in the file)
    assert after["hazard"] == why
