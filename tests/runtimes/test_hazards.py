# SPDX-License-Identifier: Apache-2.0
"""Libraries with which contexts mislead (user/runtime/hazards.c): noticed when they are there, and when they come."""
import json
import os
import pathlib
import re
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests"))
from rig import OUT, python  # noqa: E402

# package: something else in the same directory that is mapped from the start
NEIGHBOURS = {"tornado": "pydantic_core", "pycurl": "pydantic_core", "": "neighbour"}
# Modules that nobody packages any more: what matters is where they are, and what the import runs.
MODULE = """\
static struct { long head[2]; void *init, *index, *copy; const char *name, *doc; long size; void *rest[5]; } def =
	{{1}, .name = "m", .size = -1};
void *PyModule_Create2(void *, int);
#define INIT(name) void *PyInit_##name(void) { return PyModule_Create2(&def, 1013); }
INIT(neighbour)
INIT(pycurl)
"""
TABLE = re.findall(r'\{"(\w*)", "(\w+)", "(\w+)",\s*(?:/\*.*?\*/\s*)?"([^"]+)"\}',
                   (ROOT / "user/runtime/hazards.c").read_text())


def test_every_row_has_a_test():
    assert TABLE and {row[0] for row in TABLE} == set(NEIGHBOURS)


@pytest.mark.parametrize("package,module,init,why", TABLE, ids=[row[0] or row[1] for row in TABLE])
def test_hazard(package, module, init, why, tmp_path):
    """It is known that the import will come."""
    name = f"{package}.{module}".removeprefix(".")
    code = f"import {NEIGHBOURS[package]}; print(1, flush=True); input(); import {name}; print(2, flush=True); input()"
    directory = tmp_path / "site-packages"
    if not package:
        directory.mkdir()
        (tmp_path / "module.c").write_text(MODULE)
        for m in ("neighbour", module):
            subprocess.run(["cc", "-shared", "-fPIC", "-o", directory / f"{m}.so", tmp_path / "module.c"], check=True)
    with subprocess.Popen([python(), "-c", code], env={**os.environ, "PYTHONPATH": str(directory)},
                          stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as p:
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
    (site,) = [s for s in before["sites"] if s["hook"] == "hazard" and f"/{name.replace('.', '/')}." in s["path"]]
    nm = subprocess.run(["nm", "-D", "--defined-only", site["path"].split("/root", 1)[1]], capture_output=True, text=True)
    start = int(next(line.split()[0] for line in nm.stdout.splitlines() if line.endswith(f" {init}")), 16)
    assert 0 <= site["offset"] - start < 64  # (code is mapped where it lies in the file)
    assert after["hazard"] == why
