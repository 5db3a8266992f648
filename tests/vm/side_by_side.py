# SPDX-License-Identifier: Apache-2.0
"""Rows of the matrix in processes of their own, some at a time: an emulated guest keeps one processor busy."""
import json
import pathlib
import subprocess
import sys
import tempfile
import time


def run(rows, jobs, argv, load):
    """Yields load(row, what its process has written down, or {}), as they end. `argv(row, file)` runs one. Closed
    before the end, it ends those that run."""
    waiting, running = list(rows), []
    with tempfile.TemporaryDirectory(prefix="wirespan-matrix-") as d:
        try:
            while waiting or running:
                while waiting and len(running) < jobs:
                    running.append(Running(waiting.pop(0), pathlib.Path(d), argv))
                time.sleep(0.2)
                for r in [r for r in running if r.p.poll() is not None]:
                    running.remove(r)
                    yield load(r.row, r.ended())
        finally:
            for r in running:
                r.p.terminate()
            for r in running:
                r.p.wait()
                r.ended()


class Running:
    def __init__(self, row, directory, argv):
        self.row = row
        self.file, self.log = (directory / f"{id(row)}.{what}" for what in ("json", "log"))
        print(f"== {row.name}: begins", flush=True)
        with open(self.log, "wb") as out:
            self.p = subprocess.Popen([sys.executable, "-B", *argv(row, self.file)], stdin=subprocess.DEVNULL, stdout=out,
                                      stderr=subprocess.STDOUT)

    def ended(self):
        """Shows what it has said, in one piece."""
        sys.stdout.write(self.log.read_text(errors="replace"))
        sys.stdout.flush()
        return json.loads(self.file.read_text()) if self.file.exists() else {}
