# SPDX-License-Identifier: Apache-2.0
"""Which kernel a name stands for, and what comes of a mirror that lacks it. apt is two scripts that say what they are told."""
import os
import pathlib
import sys
import time

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
import apt  # noqa: E402
import kernel  # noqa: E402
from errors import VmError  # noqa: E402

NEWER, OLDER = "7.3.4+deb13-amd64", "6.18.15+deb13-amd64"
SCRIPT = {
    "apt-get": '#!/bin/sh\ncase "$*" in *update*) cat "$LISTED/update" >&2;; *) cat "$LISTED/download" >&2; exit 100;; esac\n',
    "apt-cache": '#!/bin/sh\n[ "$1" != pkgnames ] || cat "$LISTED/names"\n',
}


@pytest.fixture
def listed(tmp_path, monkeypatch):
    """listed(versions, update="", download=""): what the suites have, and what apt-get complains of."""
    (tmp_path / "bin").mkdir()
    for name, text in SCRIPT.items():
        (tmp_path / "bin" / name).write_text(text)
        (tmp_path / "bin" / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:{os.environ['PATH']}")
    monkeypatch.setenv("LISTED", str(tmp_path))
    monkeypatch.setenv("WS_DEBIAN_MIRROR", "http://127.0.0.1:9/debian")
    monkeypatch.setattr(kernel, "CACHE", tmp_path / "cache")

    def write(versions, update="", download=""):
        (tmp_path / "names").write_text("".join(f"linux-image-{v}\n" for v in versions))
        (tmp_path / "update").write_text(update)
        (tmp_path / "download").write_text(download)
    return write


def cached(*versions):
    for v in versions:
        (kernel.CACHE / "kernels" / v).mkdir(parents=True)
        (kernel.CACHE / "kernels" / v / "vmlinux").write_text("")


def age(name):
    return time.time() - (kernel.CACHE / "kernels/.alias" / name).stat().st_mtime


UNREACHABLE = "E: Failed to fetch http://127.0.0.1:9/debian/dists/sid/InRelease  Could not connect\n"
NOT_THERE = "E: Failed to fetch http://127.0.0.1:9/linux-image.deb  404  Not Found\n"


def test_newest(listed):
    listed([OLDER, NEWER, "7.4.1+deb14-cloud-amd64", "7.4.1+deb14-rt-amd64", "7.4.1+deb14-arm64"])
    cached(OLDER, NEWER)
    assert str(kernel.get("newest")) == NEWER
    listed([])
    assert str(kernel.get("newest")) == NEWER and age("newest") < 60  # not looked up again


def test_newest_when_a_suite_cannot_be_asked(listed, capfd):
    """It may have a newer one: said, and asked again soon."""
    listed([OLDER], update=UNREACHABLE)
    cached(OLDER)
    assert str(kernel.get("newest")) == OLDER
    out, err = capfd.readouterr()
    assert f"kernel newest: {OLDER} is the newest of the suites that could be looked up (E: Failed to fetch" in err
    assert out == "", "a command's output is its own"
    assert kernel.ALIAS_FOR - kernel.ASK_AGAIN - 60 < age("newest") < kernel.ALIAS_FOR


def test_newest_of_before_is_newer(listed, capfd):
    listed([NEWER])
    cached(OLDER, NEWER)
    kernel.get("newest")
    os.utime(kernel.CACHE / "kernels/.alias/newest", (0, 0))
    for stamp in kernel.CACHE.glob("apt/*/updated"):
        stamp.unlink()
    listed([OLDER], update=UNREACHABLE)
    assert str(kernel.get("newest")) == NEWER
    assert f"kernel newest: not looked up ({UNREACHABLE.strip()}): {NEWER} of before\n" in capfd.readouterr().err


def test_no_suite_has_it(listed):
    listed([NEWER])
    with pytest.raises(VmError, match="^kernel 6.1: no such Debian kernel in bookworm, bookworm-security$"):
        kernel.get("6.1")
    listed([], update=UNREACHABLE)
    with pytest.raises(VmError, match="^kernel 6.18: no such Debian kernel in trixie-backports: E: Failed to fetch"):
        kernel.get("6.18")


def test_listed_and_not_there(listed, capfd):
    """The one before it, with a word; without one an error. Either way the lists are old, whatever their date."""
    listed([OLDER, NEWER], download=NOT_THERE)
    cached(OLDER)
    assert str(kernel.get("newest")) == OLDER
    assert f"kernel {NEWER}: linux-image-{NEWER} cannot be downloaded: Failed to fetch" in capfd.readouterr().err
    assert not list(kernel.CACHE.glob("apt/*/updated"))
    assert sorted(p.name for p in (kernel.CACHE / "kernels").iterdir()) == [".alias", ".lock", OLDER]
    listed(["6.1.0-1-amd64"], download=NOT_THERE)
    with pytest.raises(VmError, match="^kernel 6.1: linux-image-6.1.0-1-amd64 cannot be downloaded: .*404"):
        kernel.get("6.1")


def test_what_a_killed_one_left_behind(listed):
    listed([NEWER], download=NOT_THERE)
    (kernel.CACHE / "kernels/.new-x/tree").mkdir(parents=True)
    with pytest.raises(VmError):
        kernel.get("newest")
    assert not (kernel.CACHE / "kernels/.new-x").exists()


@pytest.mark.parametrize("free,said", [
    (kernel.UNPACKED - 1, r"600 MB free in .*, 600 MB needed: disk full$"),
    (kernel.UNPACKED + 1, r"linux-image-.* has 700 MB, .* 600 MB free: disk full$")], ids=["unpacking", "package"])
def test_no_room(listed, monkeypatch, free, said):
    listed([NEWER])
    monkeypatch.setattr(kernel.shutil, "disk_usage", lambda _: type("Usage", (), {"free": free}))
    monkeypatch.setattr(apt.Apt, "record", lambda *_: {"Size": "700000000"})
    with pytest.raises(VmError, match=f"^kernel newest: {said}"):
        kernel.get("newest")
