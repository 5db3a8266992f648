# SPDX-License-Identifier: Apache-2.0
"""What runtime__inspect() says about real interpreters, against what they say themselves, nm and objdump.

Interpreters: those of the system, of pyenv, of `make python-versions`, and of WS_PYTHONS (commands, separated by colons).
Each also in a virtual environment, and as a copy without any symbol, but for those that live in a root of their own.
"""
import ctypes
import functools
import glob
import json
import os
import pathlib
import re
import shutil
import struct
import subprocess
import sys
import time

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
OUT = pathlib.Path(os.environ.get("WS_OUT") or ROOT / ".output")
INSPECT = OUT / "tests/tools/rtinspect"

sys.path.insert(0, str(ROOT / "tests/tools"))
import python_offsets  # noqa: E402

# A loop, a pool, and a thread that stays inside a context whose address is known. Says so, then waits for its input.
APP = """
import asyncio, concurrent.futures, contextvars, ctypes, json, sys, threading
get = ctypes.pythonapi.PyThreadState_Get
get.restype = ctypes.c_void_p
def me(c=None):
    return [threading.get_native_id(), threading.get_ident(), get(), c]
def inside(context, started, over):
    started.set_result(me(id(context)))
    over.wait()
async def main():
    pool, over = concurrent.futures.ThreadPoolExecutor(2), threading.Event()
    context, started = contextvars.copy_context(), concurrent.futures.Future()
    pool.submit(context.run, inside, context, started, over)
    inner = await asyncio.wrap_future(started)
    other = await asyncio.get_running_loop().run_in_executor(pool, me)
    print(json.dumps([me(), inner, other]), flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    over.set()
asyncio.new_event_loop().run_until_complete(main())
"""
IDLE = "import sys; print('[]', flush=True); sys.stdin.read()"

FUNCTIONS = {
    "context_copy": {"PyContext_CopyCurrent"},
    "context_new": {"context_tp_new", "PyContext_Copy", "_contextvars_Context_copy"},
    "future_result": {"_asyncio_Future_set_result"},
    "queue_put": {"_queue_SimpleQueue_put", "_queue_SimpleQueue_put_nowait"},
    "queue_get": {"_queue_SimpleQueue_get", "_queue_SimpleQueue_get_nowait"},
    "deque_put": {"deque_append"},
    "deque_get": {"deque_popleft"},
}


def version_of(python):
    r = subprocess.run([python, "-c", "import sys; print(*sys.version_info[:2])"], capture_output=True, text=True)
    return tuple(map(int, r.stdout.split())) if not r.returncode else (0, 0)


def interpreters():
    pyenv = os.environ.get("PYENV_ROOT") or pathlib.Path.home() / ".pyenv"
    found = [p for where in ("/usr/bin", "/usr/local/bin") for p in glob.glob(where + "/python3.*")]
    found = [p for p in found if re.search(r"/python3\.\d+$", p)] + glob.glob(f"{pyenv}/versions/3*/bin/python3")
    found += glob.glob(f"{OUT}/tests/python/*/python3")
    found += [p for p in os.environ.get("WS_PYTHONS", "").split(":") if p]
    return sorted({os.path.realpath(p): p for p in found}.values())


ALL = interpreters()
KNOWN = [p for p in ALL if version_of(p)[1] in python_offsets.committed()]
# Whose files this process can open by the names that they have for it.
HERE = [p for p in KNOWN if not pathlib.Path(p).with_name("root").is_dir()]


def each(pythons):
    return pytest.mark.parametrize("python", pythons, ids=lambda p: p.replace("/", "-").strip("-"))


class Process:
    """Runs a script, and waits for its first line."""

    def __init__(self, argv, script, **env):
        self.p = subprocess.Popen([*map(str, argv), "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                  text=True, env={**os.environ, **env})
        self.said = json.loads(self.p.stdout.readline() or "null")

    def __enter__(self):
        assert self.said is not None, f"did not start: {self.p.wait()}"
        return self

    def __exit__(self, *exc):
        self.p.stdin.close()
        try:
            self.p.wait(10)
        except subprocess.TimeoutExpired:
            self.p.kill()
            self.p.wait()
        self.p.stdout.close()

    def inspect(self):
        return inspect(self.p.pid)

    def words(self, addr, n=1):
        with open(f"/proc/{self.p.pid}/mem", "rb", buffering=0) as f:
            f.seek(addr)
            return struct.unpack(f"<{n}Q", f.read(8 * n))


def inspect(pid):
    # (A wrapper script that execs keeps its pid.)
    return json.loads(subprocess.run([INSPECT, str(pid)], capture_output=True, text=True).stdout)


def sites(r):
    return [(s["hook"], s["ret"], s["offset"]) for s in r["sites"]]


def thread_pointer(tid):
    """What the kernel has in the thread's fs base, which is what the programs in it will read."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
    libc.ptrace.restype = ctypes.c_long
    regs = (ctypes.c_uint64 * 27)()  # struct user_regs_struct

    def ptrace(request, data=None):
        if libc.ptrace(request, tid, None, data):
            raise OSError(ctypes.get_errno(), "ptrace")

    ptrace(16)  # PTRACE_ATTACH
    os.waitpid(tid, 0x40000000)  # __WALL
    ptrace(12, ctypes.addressof(regs))  # PTRACE_GETREGS
    ptrace(17)  # PTRACE_DETACH
    return regs[21]


# ---- the state ---------------------------------------------------------------------------------------

def check_state(p, r):
    assert r["why"] == "" and r["kind"] == 1 and r["tgid"] == p.p.pid
    for tid, ident, state, context in p.said:
        tp = thread_pointer(tid)
        assert tp == ident
        assert p.words(tp + r["tls"])[0] == state
        assert p.words(state + r["thread_id"])[0] == tp
        if context:
            assert p.words(state + r["context"])[0] == context
            assert p.words(context + r["entered"])[0] & 0xffffffff == 1


@each(KNOWN)
def test_state(python):
    with Process([python], APP) as p:
        r = p.inspect()
        check_state(p, r)
        assert r["version"].startswith("CPython %d.%d" % version_of(python))
        hooks = [s["hook"] for s in r["sites"]]
        assert {h: hooks.count(h) for h in FUNCTIONS} == {
            "context_copy": 1, "context_new": 3, "future_result": 1, "queue_put": 2, "queue_get": 2,
            "deque_put": 1, "deque_get": 1}
    assert "error" in p.inspect()  # gone


@each(KNOWN)
def test_before_import(python):
    """Modules that are not mapped yet are found where they will be."""
    with Process([python], APP) as p, Process([python], IDLE) as idle:
        maps = pathlib.Path(f"/proc/{idle.p.pid}/maps").read_text()
        assert "/_queue." not in maps
        assert sites(idle.inspect()) == sites(p.inspect())


@each(HERE)
def test_virtual_environment(python, tmp_path):
    if subprocess.run([python, "-m", "venv", "--without-pip", tmp_path / "v"], capture_output=True).returncode:
        pytest.skip(f"{python} -m venv does not work")
    if subprocess.run([tmp_path / "v/bin/python", "-c", "import ctypes"], capture_output=True).returncode:
        pytest.skip(f"{python}: has no ctypes without the variables that its wrapper sets")
    with Process([tmp_path / "v/bin/python"], APP) as p, Process([python], APP) as plain:
        check_state(p, p.inspect())
        assert sites(p.inspect()) == sites(plain.inspect())


def test_fork():
    """A child that its parent made without exec."""
    script = """
import os, sys, threading, json
threading.Thread(target=threading.Event().wait, daemon=True).start()
r, w = os.pipe()
pid = os.fork()
if not pid:
    os.close(w)
    os.read(r, 1)
    os._exit(0)
print(pid, flush=True)
sys.stdin.read()
os.close(w)
os.wait()
os._exit(0)
"""
    with Process([KNOWN[0]], script) as p:
        r = inspect(p.said)
        assert (r["kind"], r["why"], r["tgid"]) == (1, "", p.said)
        assert sites(r) == sites(p.inspect())


# ---- the sites ---------------------------------------------------------------------------------------

# Where the functions are, by the interpreter's own objects: a method's descriptor (PyMethodDescrObject) points to its
# PyMethodDef, the second word of which is the function.
TRUTH = """
import collections, ctypes, json, sys, _asyncio, _queue, contextvars
word = lambda a: ctypes.c_uint64.from_address(a).value
method = lambda t, n: word(word(id(t.__dict__[n]) + 40) + 8)
export = lambda n: ctypes.cast(getattr(ctypes.pythonapi, n), ctypes.c_void_p).value
q, c, d = _queue.SimpleQueue, contextvars.Context, collections.deque
print(json.dumps({
    "context_copy": [export("PyContext_CopyCurrent")],
    "context_new": [export("PyContext_Copy"), method(c, "copy"), word(id(c) + %d)],
    "future_result": [method(_asyncio.Future, "set_result")],
    "queue_put": [method(q, "put"), method(q, "put_nowait")],
    "queue_get": [method(q, "get"), method(q, "get_nowait")],
    "deque_put": [method(d, "append")],
    "deque_get": [method(d, "popleft")]}), flush=True)
sys.stdin.read()
""" % python_offsets.committed()[11]["type_new"]


@functools.lru_cache
def segments(path):
    """[(offset in the file, address, size)]"""
    out = subprocess.run(["readelf", "-lW", path], capture_output=True, text=True, check=True).stdout
    rows = [line.split() for line in out.split("\n")]
    return [(int(r[1], 16), int(r[2], 16), int(r[4], 16)) for r in rows if r and r[0] == "LOAD"]


def address(path, offset):
    """Of a byte of the file, before the file is moved to where it is mapped."""
    return next(offset - o + a for o, a, n in segments(path) if o <= offset < o + n)


def in_file(pid, addr):
    """(path, offset) of an address of the process."""
    for line in pathlib.Path(f"/proc/{pid}/maps").read_text().split("\n"):
        w = line.split(None, 5)
        start, end = (int(x, 16) for x in w[0].split("-")) if w else (0, 0)
        if start <= addr < end:
            return w[5], addr - start + int(w[2], 16)
    raise AssertionError(f"{addr:#x} is not mapped")


@functools.lru_cache
def code_symbols(path):
    """{address: names}, suffixes of the compiler (.lto_priv.0, .isra.3) cut off."""
    out, found = subprocess.run(["nm", "--defined-only", path], capture_output=True, text=True).stdout, {}
    for r in (line.split() for line in out.split("\n")):
        if len(r) == 3 and r[1] in "tTwW":
            found.setdefault(int(r[0], 16), set()).add(re.sub(r"\..*", "", r[2]))
    return found


def disassembled(path, start, stop):
    """{address: mnemonic} from a function's first instruction on."""
    out = subprocess.run(["objdump", "-d", "--no-show-raw-insn", f"--start-address={start}", f"--stop-address={stop}",
                          path], capture_output=True, text=True, check=True).stdout
    return {int(a, 16): m for a, m in re.findall(r"^\s*([0-9a-f]+):\s+(\S+)", out, re.M)}


@each(HERE)
def test_functions(python):
    """Each site is in the right function, on an instruction, and on a cheap one or the very first."""
    with Process([python], TRUTH) as p:
        for hook, addresses in p.said.items():
            starts = {in_file(p.p.pid, a) for a in addresses}
            got = [s for s in p.inspect()["sites"] if s["hook"] == hook]
            assert len(got) == len(starts)
            for s in got:
                path = s["path"].split("/root", 1)[1]
                start = max(o for f, o in starts if f == path and o <= s["offset"])
                starts.remove((path, start))  # each is found once
                first, at = address(path, start), address(path, s["offset"])
                code = disassembled(path, first, at + 16)
                assert at in code, s
                assert re.match(r"push|call|j|nop", code[at]) or at == first, (s, code)
                before = [m for a, m in code.items() if a < at]
                assert before in ([], ["endbr64"]) if s["ret"] else not any(re.match("j|call|ret", m) for m in before)
                names = code_symbols(path).get(first)  # none: stripped
                assert names is None or names & FUNCTIONS[hook], (s, names)


@each(HERE)
def test_stripped(python, tmp_path):
    """The same interpreter and modules without any symbol."""
    with Process([python], APP) as p:
        want = p.inspect()
        files = {s["path"].split("/root", 1)[1].lstrip("/") for s in want["sites"]}
        files.add(os.readlink(f"/proc/{p.p.pid}/exe").lstrip("/"))
    if not any(code_symbols("/" + f) for f in files):
        pytest.skip(f"{python}: has none to begin with")
    for f in files:
        shutil.copy("/" + f, tmp_path)
        subprocess.run(["strip", "--strip-all", tmp_path / os.path.basename(f)], check=True)
    exe = next(tmp_path / os.path.basename(f) for f in files if "/bin/" in f)
    prefix = subprocess.run([python, "-c", "import sys; print(sys.base_prefix)"], capture_output=True, text=True)
    with Process([exe], APP, PYTHONHOME=prefix.stdout.strip(), PYTHONPATH=str(tmp_path),
                 LD_LIBRARY_PATH=str(tmp_path)) as p:
        got = p.inspect()
        check_state(p, got)
        assert all(str(tmp_path) in s["path"] for s in got["sites"]), got
        assert not any(code_symbols(s["path"]) for s in got["sites"])
        assert sites(got) == sites(want)

        # Replaced on disk, as an upgrade does: still read from what is mapped.
        for f in list(tmp_path.iterdir()):
            f.unlink()
            f.write_text("not it")
        if os.geteuid():
            return  # what is deleted can be opened through map_files only
        got = p.inspect()
        assert sites(got) == sites(want), got
        assert all("/map_files/" in s["path"] for s in got["sites"])


# ---- what it must not say ----------------------------------------------------------------------------

@each(KNOWN)
def test_while_it_starts(python):
    """At any moment of its start: nothing, "not started yet", or the whole truth."""
    with Process([python], IDLE) as p:
        want = p.inspect()
    seen = set()
    for i in range(25):
        p = subprocess.Popen([python, "-c", "import sys; sys.stdin.read()"], stdin=subprocess.PIPE)
        try:
            time.sleep(i * 0.001)
            r = p.pid and inspect(p.pid)
        finally:
            p.stdin.close()
            p.wait()
        seen.add((r["kind"], r["why"]))
        if r["kind"]:
            assert sites(r) == sites(want)
            assert {k: r[k] for k in ("tls", "context")} == {k: want[k] for k in ("tls", "context")}
        elif r["why"]:
            assert r["not_yet"] or r["why"].startswith("no _PyRuntime"), r
    print(seen)


@each([p for p in ALL if p not in KNOWN])
def test_unknown_version(python):
    with Process([python], IDLE) as p:
        r = p.inspect()
        assert r["kind"] == 0 and r["why"] and not r["sites"]
        assert not r["not_yet"] or version_of(python)[1] < 7


FAKE = """
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include <fcntl.h>
#include <sys/mman.h>
const unsigned long Py_Version = VERSION;
unsigned char _PyRuntime[16384] = { 1 };
unsigned char PyContext_Type[1024];
unsigned long wild[4096];
void PyContext_Copy(void) {}
void PyContext_CopyCurrent(void) {}
#ifdef DEBUG_BUILD
void _Py_NegativeRefcount(void) {}
#endif
static void put(unsigned at, unsigned long v) { memcpy(_PyRuntime + at, &v, 8); }
void start(void)
{
    memset(_PyRuntime, 0, sizeof(_PyRuntime));
    STATE
    puts("[]");
    fflush(stdout);
    read(0, _PyRuntime + sizeof(_PyRuntime) - 1, 1);
}
"""

O = python_offsets.committed()
TSS, MAIN, HEAD = O[11]["tss_key"], O[11]["interp_main"], O[11]["threads_head"]
FAKES = [  # version, how its state looks, what is said
    (0x030b02f0, "", "not started yet"),
    (0x030b02f0, f"put({TSS}, 1);", "not started yet"),
    (0x030b02f0, f"put({TSS}, 7);", "_PyRuntime is not laid out"),
    (0x030b02f0, f"put({TSS}, 40ul << 32 | 1);", "out of reach"),
    (0x030b02f0, f"put({TSS}, 1); put({MAIN}, 0xdead0000);", "its threads are not laid out"),
    (0x030b02f0, f"put({TSS}, 1); put({MAIN}, ~0ul);", "its threads are not laid out"),
    # a list that has no end, of threads that are none
    (0x030b02f0, f"put({TSS}, 1); put({MAIN}, (unsigned long)wild); wild[{HEAD // 8}] = (unsigned long)wild;"
                 f"wild[{O[11]['thread_next'] // 8}] = (unsigned long)wild; wild[{O[11]['thread_id'] // 8}] = 8;",
     "its threads are not laid out"),
    (0x030b00a1, f"put({TSS}, 1);", "an alpha or beta version"),
    (0x036300f0, "", "layout of this version is not known"),
    (0x030d00f0, "", "does not begin with its description"),
    (0x030d00f0, 'memcpy(_PyRuntime, "xdebugpy", 8); put(8, Py_Version); put(16, 1);', "a free-threaded build"),
    (0x030d00f0, 'memcpy(_PyRuntime, "xdebugpy", 8); put(8, Py_Version);', "not started yet"),
    (0x030b02f0, "#define D", "a debug build"),
    (0x030b02f0, 'mmap(0, 4096, PROT_READ, MAP_PRIVATE, open(DIR "/ld-musl-x86_64.so.1", O_RDWR | O_CREAT, 0600), 0);',
     "musl"),
]


@pytest.mark.parametrize("version, state, why", FAKES, ids=lambda v: None)
def test_what_only_looks_like_it(tmp_path, version, state, why):
    lib, exe = tmp_path / "libpython3.so.1.0", tmp_path / "fake"
    flags = [f"-DVERSION={version:#x}ul", f'-DDIR="{tmp_path}"']
    if state.startswith("#"):
        state, flags = "", flags + ["-DDEBUG_BUILD"]
    subprocess.run(["gcc", "-w", "-shared", "-fPIC", *flags, "-x", "c", "-", "-o", lib],
                   input=FAKE.replace("STATE", state), text=True, check=True)
    subprocess.run(["gcc", "-w", "-x", "c", "-", "-x", "none", lib, "-o", exe, f"-Wl,-rpath,{tmp_path}"],
                   input="void start(void); int main(void) { start(); return 0; }", text=True, check=True)
    with Process([exe], "") as p:
        r = p.inspect()
        assert r["kind"] == 0 and why in r["why"] and not r["sites"] and r["tls"] == 0
        assert r["not_yet"] == (why == "not started yet")


# ---- the table ---------------------------------------------------------------------------------------

@each(KNOWN)
def test_offsets(python):
    """The committed table is what the headers of this interpreter give."""
    if not python_offsets.has_headers(python):
        pytest.skip(f"{python}: no internal headers installed")
    minor, row = python_offsets.row(python)
    assert row == python_offsets.committed()[minor]


def test_offsets_are_complete():
    names = [n for n, _ in python_offsets.FIELDS] + python_offsets.MEASURED
    assert sorted(python_offsets.committed()) == list(range(8, 15))
    assert all(sorted(r) == sorted(names) for r in python_offsets.committed().values())
