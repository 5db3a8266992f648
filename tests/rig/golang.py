# SPDX-License-Identifier: Apache-2.0
"""Programs built by `go build`, of the version that is installed and of those in the module cache."""
import functools
import os
import pathlib
import re
import subprocess

from . import OUT, ROOT

VARIANTS = {
    "": ([], {}),
    "static": (["-ldflags=-s -w"], {"CGO_ENABLED": "0"}),
    "pie": (["-buildmode=pie"], {"CGO_ENABLED": "0"}),
    "cgo": ([], {"CGO_ENABLED": "1"}),
    "cgo-pie": (["-buildmode=pie"], {"CGO_ENABLED": "1"}),
}


def _environment(**more):
    path = os.environ["PATH"] + ":/usr/local/go/bin"
    return {**os.environ, "PATH": path, "GOFLAGS": "-mod=mod -buildvcs=false", "GOTOOLCHAIN": "local", **more}


@functools.cache
def go(*argv):
    """What `go ARGV` prints."""
    return subprocess.run(["go", *argv], env=_environment(), capture_output=True, text=True, check=True).stdout.strip()


def toolchains():
    """Versions in the module cache: `make go-toolchains` puts them there."""
    cache = pathlib.Path(go("env", "GOMODCACHE")) / "golang.org"
    found = [re.fullmatch(r"toolchain@v0.0.1-go(1\.\d+\.\d+)\.linux-.*", p.name) for p in cache.glob("toolchain@*")]
    return sorted((m.group(1) for m in found if m), key=lambda v: [int(x) for x in v.split(".")])


class Build:
    """A program, built when it is first asked for."""

    def __init__(self, source, version="", variant=""):
        self.source, self.variant, self.wanted = pathlib.Path(source), variant, version

    @property
    def version(self):
        return self.wanted or go("env", "GOVERSION").removeprefix("go")

    @property
    def path(self):
        name = self.source.resolve().relative_to(ROOT / "tests").as_posix().replace("/", "_")  # several are called "go"
        return OUT / "tests/go" / "-".join(x for x in (name, self.version, self.variant) if x)

    def program(self):
        out = self.path
        newest = max(p.stat().st_mtime for p in self.source.iterdir())
        if out.exists() and out.stat().st_mtime > newest:
            return out
        out.parent.mkdir(parents=True, exist_ok=True)
        flags, env = VARIANTS[self.variant]
        if self.wanted:
            env = {**env, "GOTOOLCHAIN": f"go{self.wanted}"}
        r = subprocess.run(["go", "build", *flags, "-o", out, *(p.name for p in self.source.glob("*.go"))],
                           cwd=self.source, env=_environment(**env), capture_output=True, text=True)
        if r.returncode:
            raise RuntimeError(f"go build of {self.source.name} with {self.version}: {r.stderr.strip()[-500:]}")
        return out
