#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Where CPython keeps what user/runtime/python.c reads, one row per minor version.

python_offsets.py [--write] INTERPRETER...

Asks each interpreter for its own headers and compiles offsetof programs against them. What no header says (the
layout of _asyncio.Future) is measured: a future gets a callback in a known context, and the word that points to
that context is looked for. --write merges the rows into user/runtime/python_offsets.h; without it they are printed.
"""
import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile

HEADER = pathlib.Path(__file__).resolve().parents[2] / "user/runtime/python_offsets.h"

# Field of struct python_offsets, and its spelling; %(…)s: one of SPELLINGS.
FIELDS = [
    ("tss_key", "offsetof(_PyRuntimeState, %(key)s)"),
    ("interp_main", "offsetof(_PyRuntimeState, interpreters.main)"),
    ("threads_head", "offsetof(struct _is, %(head)s)"),
    ("thread_next", "offsetof(PyThreadState, next)"),
    ("thread_id", "offsetof(PyThreadState, thread_id)"),
    ("context", "offsetof(PyThreadState, context)"),
    ("stack", "%(stack)s"),
    ("entered", "offsetof(struct _pycontextobject, ctx_entered)"),
    ("type_methods", "offsetof(PyTypeObject, tp_methods)"),
    ("type_new", "offsetof(PyTypeObject, tp_new)"),
    ("func_qualname", "offsetof(PyFunctionObject, func_qualname)"),
    ("str_data", "sizeof(PyASCIIObject)"),
    ("tuple_item", "offsetof(PyTupleObject, ob_item)"),
]

MEASURED = ["fut_context", "item_fn_1", "item_fn_2", "item_fn_3"]

CHUNK = "offsetof(PyThreadState, datastack_chunk)"
SPELLINGS = [  # from 3.12, 3.11, from 3.8
    {"key": "autoTSSkey", "head": "threads.head", "stack": CHUNK},
    {"key": "gilstate.autoTSSkey", "head": "threads.head", "stack": CHUNK},
    {"key": "gilstate.autoTSSkey", "head": "tstate_head", "stack": "0"},
]

PROGRAM = """
#define Py_BUILD_CORE 1
#include <Python.h>
#include <stddef.h>
#include "internal/pycore_context.h"
%s
#if PY_MINOR_VERSION >= 9
#include "internal/pycore_interp.h"
#include "internal/pycore_runtime.h"
#endif
#ifdef Py_GIL_DISABLED
#error "free-threaded builds have another layout"
#endif
/* The size of a symbol is a number that needs no running of the program. */
%s
"""

# (Not sys.executable: a virtual environment has no headers, but says where they are.)
ASK = """
import json, sys, sysconfig
print(json.dumps([list(sys.version_info[:2]), sysconfig.get_paths()["include"],
                  [bool(sysconfig.get_config_var(v)) for v in ("Py_DEBUG", "Py_TRACE_REFS", "Py_GIL_DISABLED")]]))
"""

MEASURE_FUTURE = """
import asyncio, contextvars, ctypes
loop = asyncio.new_event_loop()
from _asyncio import Future
f, c = Future(loop=loop), contextvars.Context()
f.add_done_callback(print, context=c)
words = (ctypes.c_uint64 * (Future.__basicsize__ // 8)).from_address(id(f))
at = [i * 8 for i, w in enumerate(words) if w == id(c)]
assert len(at) == 1, at
print(at[0])
"""

# From a work item to its function: in a dictionary of its own, beside or inside the object, or in a tuple of the item's.
MEASURE_ITEM = """
import concurrent.futures.thread, os, struct, sys
memory = os.open("/proc/self/mem", os.O_RDONLY)
def word(at):
    try:
        return struct.unpack("<Q", os.pread(memory, 8, at))[0] if 0 < at < 1 << 47 else 0
    except OSError:
        return 0
class Pool(concurrent.futures.thread.ThreadPoolExecutor):
    def _adjust_thread_count(self):
        pass
def paths(item, fn):
    # What follows the object is its own only with Py_TPFLAGS_INLINE_VALUES; else the values may lie there by chance.
    inline = sys.version_info >= (3, 13) and type(item).__flags__ & 1 << 2
    near, far = range(-32, 65 if inline else type(item).__basicsize__, 8), range(0, 65)
    one = {(a, 0, 0) for a in near if word(id(item) + a) == id(fn)}
    two = {(a, b, 0) for a in near for b in far if word(word(id(item) + a) + b) == id(fn)}
    return one | two | {(16, b, c) for b in far for c in far if word(word(word(id(item) + 16) + b) + c) == id(fn)}
keep = []
found = []
for i in range(8):
    first, second = (eval("lambda: %d" % k) for k in (i, -i))
    pool = Pool(1)
    pool.submit(first)
    item = pool._work_queue.get()
    keep += [first, second, pool, item]
    there = paths(item, first)
    # What lies beside it by chance does not follow.
    if hasattr(item, "fn"):
        item.fn = second
    else:
        item.task = (second, *item.task[1:])
    found.append(there & paths(item, second))
print(*sorted(set.intersection(*found[1:]), key=lambda p: (sum(map(bool, p)), p[::-1]))[0])
"""


def ask(python, code):
    return subprocess.run([python, "-c", code], check=True, capture_output=True, text=True).stdout


def compiled(include, old, spelling):
    """({field: offset}, ""), or ({}, what the compiler says) if these headers do not know those names."""
    values = "\n".join(f"char value_{name}[{expr % spelling} + 1];" for name, expr in FIELDS)
    source = PROGRAM % ('#include "internal/pycore_pystate.h"' if old else "", values)
    with tempfile.TemporaryDirectory() as tmp:
        obj = os.path.join(tmp, "o.o")
        p = subprocess.run([os.environ.get("CC", "gcc"), "-w", "-fno-common", "-x", "c", "-I" + include,
                            "-I" + include + "/internal", "-c", "-o", obj, "-"],
                           input=source, capture_output=True, text=True)
        if p.returncode:
            return {}, p.stderr
        symbols = subprocess.run(["readelf", "-sW", obj], check=True, capture_output=True, text=True).stdout
        rows = (r for r in map(str.split, symbols.split("\n")) if r and r[-1].startswith("value_"))
        return {r[-1][6:]: int(r[2], 0) - 1 for r in rows}, ""


def has_headers(python):
    version, include, odd = json.loads(ask(python, ASK))
    return os.path.exists(os.path.join(include, "internal", "pycore_context.h"))


def row(python):
    """(minor version, {field: offset}) of this interpreter."""
    (major, minor), include, odd = json.loads(ask(python, ASK))
    if major != 3 or any(odd):
        raise SystemExit(f"{python}: a build with another layout")
    said = []
    for spelling in SPELLINGS:
        out, err = compiled(include, minor == 8, spelling)
        if out:
            break
        said.append(err)
    else:
        raise SystemExit(f"{python}:\n" + "\n".join(said))
    measured = ask(python, MEASURE_FUTURE).split() + ask(python, MEASURE_ITEM).split()
    out.update(zip(MEASURED, map(int, measured)))
    return minor, out


def committed():
    """{minor version: {field: offset}} of the table in the tree."""
    rows = {}
    if HEADER.exists():
        for minor, body in re.findall(r"^\t\[(\d+)\] = \{(.*?)\},$", HEADER.read_text(), re.M | re.S):
            rows[int(minor)] = {k: int(v) for k, v in re.findall(r"\.(\w+) = (-?\d+)", body)}
    return rows


def write(rows):
    names = [n for n, _ in FIELDS] + MEASURED
    lines = ["/* SPDX-License-Identifier: Apache-2.0 */",
             "/* Made by tests/tools/python_offsets.py from the headers of each version, x86-64: do not edit. */",
             "#ifndef WS_RUNTIME_PYTHON_OFFSETS_H", "#define WS_RUNTIME_PYTHON_OFFSETS_H", "",
             "#include <stdint.h>", "",
             "/* Bytes from the start of the structure that holds the field. */",
             "struct python_offsets {",
             "\tuint32_t tss_key;\t   /* _PyRuntime: autoTSSkey, under which every thread keeps its PyThreadState */",
             "\tuint32_t interp_main;  /* _PyRuntime: the main interpreter */",
             "\tuint32_t threads_head; /* PyInterpreterState: first of the list of threads */",
             "\tuint32_t thread_next, thread_id, context; /* PyThreadState */",
             "\tuint32_t stack;\t\t\t\t  /* PyThreadState: datastack_chunk; 0: frames are objects */",
             "\tuint32_t entered;\t\t\t  /* PyContext: ctx_entered */",
             "\tuint32_t type_methods, type_new;\t  /* PyTypeObject */",
             "\tuint32_t func_qualname;\t\t\t  /* PyFunctionObject */",
             "\tuint32_t str_data;\t\t\t  /* of an ASCII string: its characters */",
             "\tuint32_t tuple_item;\t\t\t  /* PyTupleObject: the first */",
             "\tuint32_t fut_context;\t\t\t  /* _asyncio.Future: fut_context0 */",
             "\t/* concurrent.futures.thread._WorkItem: to its function, from pointer to pointer; 0: there already */",
             "\tint32_t item_fn_1, item_fn_2, item_fn_3;",
             "};", "",
             "/* Index: minor version of CPython 3; all zero where unknown. */",
             "static const struct python_offsets python_offsets[] = {"]
    for minor in sorted(rows):
        items = [f".{n} = {rows[minor][n]}" for n in names]
        parts = [", ".join(items[i:i + 5]) for i in range(0, len(items), 5)]
        lines.append(f"\t[{minor}] = {{ " + ",\n\t\t".join(parts) + " },")
    lines += ["};", "", "#endif", ""]
    HEADER.write_text("\n".join(lines))


def main(args):
    rows = {}
    for python in (a for a in args if a != "--write"):
        minor, found = row(python)
        if rows.setdefault(minor, found) != found:
            raise SystemExit(f"3.{minor}: two layouts: {rows[minor]} and, in {python}, {found}")
        print(f"3.{minor}", found)
    if "--write" in args:
        write({**committed(), **rows})


if __name__ == "__main__":
    main(sys.argv[1:])
