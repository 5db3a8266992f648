# SPDX-License-Identifier: Apache-2.0
"""Debian's kernels: found by version, downloaded, unpacked into a cache (not installed).

    CACHE/kernels/VERSION/         what is in the packages; "modules", "config" point to places in it; "vmlinux" is the
                                   image decompressed: doing it in the guest is half of an emulated boot
    CACHE/kernels/.alias/6.1       which VERSION a short name stood for when it was last looked up
"""
import contextlib
import fcntl
import lzma
import os
import pathlib
import re
import shutil
import struct
import subprocess
import tempfile
import time
import zlib

import apt
from errors import VmError, progress, reason

CACHE = pathlib.Path(os.environ.get("WS_CACHE") or "/var/cache/wirespan")
ALIAS_FOR = 7 * 24 * 3600  # seconds for which a short name keeps its meaning
ASK_AGAIN = 3600  # the same, where not every suite answered

# Short name: suites to look in, and what the version has to look like.
KERNELS = {
    "5.10": (["bullseye-security"], r"5\.10\..*"),
    "6.1": (["bookworm", "bookworm-security"], r"6\.1\..*"),
    "6.12": (["trixie", "trixie-security"], r"6\.12\..*"),
    "6.18": (["trixie-backports"], r"6\.18\..*"),
    "newest": (["trixie-backports", "sid"], r"\d+\.\d+.*"),
}
EVERYWHERE = ["bullseye-security", "bookworm", "bookworm-security", "bookworm-backports", "trixie",
              "trixie-security", "trixie-backports", "sid"]
# Nothing of a virtual machine, half of the bytes.
UNWANTED = ["drivers/gpu", "drivers/media", "drivers/net/wireless", "drivers/infiniband", "drivers/scsi",
            "drivers/staging", "drivers/iio", "drivers/usb", "sound"]
UNPACKED = 600e6  # bytes that the largest needs while it is unpacked


class Kernel:
    def __init__(self, directory):
        self.dir, self.version = directory, directory.name
        self.arch = directory.name.rpartition("-")[2]
        self.vmlinux, self.modules = directory / "vmlinux", directory / "modules"

    def __str__(self):
        return self.version


def _key(version):
    return [int(n) for n in re.findall(r"\d+", version)]


@contextlib.contextmanager
def _locked(name):
    """One at a time prepares kernels, whatever they are called; who comes second finds it done."""
    (CACHE / "kernels").mkdir(parents=True, exist_ok=True)
    with open(CACHE / "kernels" / ".lock", "w") as f:
        try:
            fcntl.flock(f, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            progress(f"  WAIT     kernel {name}: another process prepares one")
            fcntl.flock(f, fcntl.LOCK_EX)
        yield


def _candidates(source, pattern, arch):
    """[(version, package)], newest first. Plain flavour: -cloud- has no 9p, -rt- schedules otherwise."""
    found = []
    for name in source.names("linux-image-"):
        m = re.fullmatch(rf"linux-image-(\d+\.\d+[^-]*(?:-\d+)?)-{arch}", name)
        if m and re.fullmatch(pattern, m[1]):
            found.append((f"{m[1]}-{arch}", name))
    return sorted(found, key=lambda c: _key(c[0]), reverse=True)


def _packages(source, image, version):
    """From 6.19 on an image is empty and depends on the packages that have its parts."""
    depends = re.findall(r"linux-(?:binary|modules|base)-[^ ,|]+", source.record(image).get("Depends", ""))
    # Some are named as one of several choices and do not exist.
    return [image, *(d for d in depends if version.rpartition("-")[0] in d and source.record(d))]


def _run(*argv):
    r = subprocess.run([str(a) for a in argv], capture_output=True, text=True)
    if r.returncode:
        raise VmError(f"{argv[0]}: {(r.stderr.strip().splitlines() or ['failed'])[-1]}")


def _unpack(source, image, version, target):
    for left in target.parent.glob(".new-*"):  # by one that was killed: here is nobody else
        shutil.rmtree(left, ignore_errors=True)
    free = shutil.disk_usage(CACHE).free
    if free < UNPACKED:
        raise VmError(f"{free / 1e6:.0f} MB free in {CACHE}, {UNPACKED / 1e6:.0f} MB needed: disk full")
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".new-") as scratch:
        scratch = pathlib.Path(scratch)
        tree = scratch / "tree"
        tree.mkdir()
        for package in _packages(source, image, version):
            _run("dpkg-deb", "-x", source.download(package, scratch), tree)
        modules = next((d for d in (tree / "lib/modules", tree / "usr/lib/modules") if (d / version).is_dir()), None)
        vmlinuz = [p for p in (tree / f"boot/vmlinuz-{version}", (modules or tree) / version / "vmlinuz") if p.exists()]
        if not modules or not vmlinuz:
            raise VmError(f"no {'kernel' if modules else 'modules'} in the packages of {image}")
        for unwanted in UNWANTED:
            shutil.rmtree(modules / version / "kernel" / unwanted, ignore_errors=True)
        if modules.parent.parent != tree:  # depmod wants DIR/lib/modules
            (tree / "lib").symlink_to("usr/lib")
        _run("depmod", "-b", tree, version)
        unpack = decompressed if version.endswith("amd64") else decompressed_arm64
        (tree / "vmlinux").write_bytes(unpack(vmlinuz[0].read_bytes()))
        (tree / "modules").symlink_to((modules / version).relative_to(tree))
        config = [p for p in (tree / f"boot/config-{version}", modules / version / "config") if p.exists()]
        if config:
            (tree / "config").symlink_to(config[0].relative_to(tree))
        tree.chmod(0o755)
        tree.rename(target)


def _plain(payload):
    if payload.startswith(b"\xfd7zXZ\0"):
        return lzma.LZMADecompressor().decompress(payload)
    if payload.startswith(b"\x1f\x8b"):
        return zlib.decompressobj(31).decompress(payload)
    if payload.startswith(b"\x28\xb5\x2f\xfd"):
        return subprocess.run(["zstd", "-dcq"], input=payload, capture_output=True).stdout
    return b""


def decompressed_arm64(image):
    """The Image (Documentation/arch/arm64/booting.rst) in a compressed file, or in one that unpacks itself for EFI."""
    if image[:2] == b"MZ" and image[4:8] == b"zimg":
        offset, length = struct.unpack_from("<II", image, 8)
        image = image[offset:offset + length]
    plain = image if image[56:60] == b"ARM\x64" else _plain(image)
    if plain[56:60] != b"ARM\x64":
        raise VmError(f"its image is compressed in an unknown way ({image[:6].hex()})")
    return plain


def decompressed(bzimage):
    """The ELF file in a bzImage (Documentation/arch/x86/boot.rst): qemu starts it directly, by its PVH note."""
    setup = bzimage[0x1f1] or 4
    offset, length = struct.unpack_from("<II", bzimage, 0x248)
    start = (setup + 1) * 512 + offset
    payload = bzimage[start:start + length]
    if payload.startswith(b"\x28\xb5\x2f\xfd"):
        payload = payload[:-4]  # the size
    elf = _plain(payload)
    if not elf.startswith(b"\x7fELF"):
        raise VmError(f"its image is compressed in an unknown way ({payload[:6].hex()})")
    return elf


def _cached_alias(name):
    """(kernel, whether its name is still fresh), or (None, False)."""
    alias = CACHE / "kernels" / ".alias" / name
    if not alias.exists():
        return None, False
    directory = CACHE / "kernels" / alias.read_text().strip()
    if not (directory / "vmlinux").exists():
        return None, False
    return Kernel(directory), time.time() - alias.stat().st_mtime < ALIAS_FOR


def _fetch(name, source, pattern, old, arch):
    found = _candidates(source, pattern, arch)
    if old and (not found or source.complaint and _key(old.version) >= _key(found[0][0])):
        progress(f"kernel {name}: not looked up ({source.complaint or 'not listed any more'}): {old} of before")
        return old
    if not found:
        raise VmError(f"no such Debian kernel in {', '.join(source.suites)}"
                      + (f": {source.complaint}" if source.complaint else ""))
    if source.complaint:
        progress(f"kernel {name}: {found[0][0]} is the newest of the suites that could be looked up ({source.complaint})")
    for i, (version, image) in enumerate(found[:3]):
        target = CACHE / "kernels" / version
        try:
            if not (target / "vmlinux").exists():
                _unpack(source, image, version, target)
            return Kernel(target)
        except VmError as e:  # mirrors list packages that they no longer have
            if i + 1 == min(3, len(found)) or "downloaded" not in str(e):
                raise
            progress(f"kernel {version}: {e}; trying the one before it")
    raise AssertionError("unreachable")


def get(name, arch="amd64"):
    """The kernel of a short name (KERNELS), of a series like 6.17, or of a whole version."""
    try:
        if not re.fullmatch(r"newest|\d+\.\d+[A-Za-z0-9.+~-]*", name):
            raise VmError(f"give {', '.join(KERNELS)} or a version")
        exact = name if name.endswith(f"-{arch}") else f"{name}-{arch}"
        if (CACHE / "kernels" / exact / "vmlinux").exists():
            return Kernel(CACHE / "kernels" / exact)
        with _locked(name):
            known = name if arch == "amd64" else f"{name}-{arch}"
            old, fresh = _cached_alias(known)
            if fresh:
                return old
            series = re.fullmatch(r"\d+\.\d+", name)
            pattern = re.escape(name) + (r"\..*" if series else "")
            suites, pattern = KERNELS.get(name, (EVERYWHERE, pattern))
            source = apt.Apt(CACHE, suites, arch)
            source.update()
            kernel = _fetch(name, source, pattern, old, arch)
            alias = CACHE / "kernels" / ".alias" / known
            alias.parent.mkdir(exist_ok=True)
            alias.write_text(kernel.version + "\n")
            if source.complaint:  # a suite that could not be asked may have another
                soon = time.time() - ALIAS_FOR + ASK_AGAIN
                os.utime(alias, (soon, soon))
            return kernel
    except (VmError, OSError) as e:
        raise VmError(f"kernel {name}: {reason(e) if isinstance(e, OSError) else e}") from e
