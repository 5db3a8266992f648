# SPDX-License-Identifier: Apache-2.0
"""The regression corpus: recordings in tests/replay give the spans that stand beside them.

proxy.rec: curl, nginx in front of an asyncio service that calls back into nginx, over a Unix socket too; keep-alive,
pipelined requests, a trace context, a refused connection, calls that are given up. contexts.rec: an asyncio service whose
requests overlap, awaited, gathered, in the executor, after the answer; a refused connection, chunks, a large answer, events
until the client has had enough, an upgrade, HEAD. `WS_REPLAY_WRITE=1` writes the
spans anew: look at what has changed before you commit it. A new event format needs a new recording: `wirespan
record`, on a machine whose name and command lines may be shown.
"""
import json
import os
import pathlib
import subprocess

import pytest

from rig import WIRESPAN, spans

CORPUS = sorted((pathlib.Path(__file__).resolve().parents[1] / "replay").glob("*.rec"))


def replayed(file):
    r = subprocess.run([WIRESPAN, "replay", file, "--format", "json"], capture_output=True, text=True, timeout=60)
    assert r.returncode == 0, r.stderr
    version = subprocess.run([WIRESPAN, "--version"], capture_output=True, text=True).stdout.split()[1]
    return r.stdout, [json.loads(line.replace(f'"{version}"', '"VERSION"')) for line in r.stdout.splitlines()]


def test_they_are_there():
    assert {"contexts", "proxy"} <= {f.stem for f in CORPUS}


@pytest.mark.parametrize("file", CORPUS, ids=lambda f: f.stem)
def test_corpus(file):
    text, got = replayed(file)
    expected = file.with_suffix(".json")
    if os.environ.get("WS_REPLAY_WRITE"):
        expected.write_text("".join(json.dumps(x, separators=(",", ":")) + "\n" for x in got))
    assert spans.parse(text)
    assert got == [json.loads(line) for line in expected.read_text().splitlines()]


@pytest.mark.parametrize("sink", [["-e", "http://127.0.0.1:1", "--shutdown-timeout", "200ms"],
                                  ["--format", "json", "-o", "/dev/full"]], ids=["no-collector", "full-disk"])
def test_lost(sink):
    """Spans that did not get out are said, and are a failure."""
    file = next(f for f in CORPUS if f.stem == "proxy")  # which loses nothing itself
    r = subprocess.run([WIRESPAN, "replay", file, *sink], capture_output=True, text=True, timeout=60)
    n = len(spans.parse(replayed(file)[0]))
    assert r.returncode == 1 and f" 0 spans {'sent' if sink[0] == '-e' else 'written'}, {n} dropped." in r.stderr, r.stderr
