# SPDX-License-Identifier: Apache-2.0
"""A busybox initramfs with the modules that a guest needs before it sees the host's files."""
import contextlib
import gzip
import hashlib
import lzma
import os
import pathlib
import shutil
import stat
import subprocess
import time

from errors import VmError

HERE = pathlib.Path(__file__).resolve().parent
# What a guest cannot do without; those that a kernel has built in are left out.
MODULES = ["virtio_pci", "virtio_console", "9pnet_virtio", "9p", "overlay"]
KEEP_FOR = 24 * 3600  # seconds that an initramfs of another version of these files stays


class Cpio:
    """An archive in the format "newc", written as it grows."""

    def __init__(self, f):
        self.f, self.inode = f, 0

    def _pad(self):
        self.f.write(b"\0" * (-self.f.tell() % 4))

    def add(self, name, mode, data=b"", device=(0, 0)):
        self.inode += 1
        name = name.encode() + b"\0"
        fields = [self.inode, mode, 0, 0, 1, 0, len(data), 0, 0, *device, len(name), 0]
        self.f.write(b"070701" + b"".join(b"%08X" % n for n in fields) + name)
        self._pad()
        self.f.write(data)
        self._pad()

    def directory(self, name):
        self.add(name, stat.S_IFDIR | 0o755)

    def file(self, name, data, mode=0o644):
        self.add(name, stat.S_IFREG | mode, data)

    def close(self):
        self.add("TRAILER!!!", 0)
        self.f.write(b"\0" * (-self.f.tell() % 512))


def _name(path):
    return pathlib.PurePath(path).name.split(".ko")[0].replace("-", "_")


def modules_of(kernel, wanted):
    """Paths of `wanted` and of what they depend on, in the order in which they have to be loaded."""
    depends = {}
    for line in (kernel.modules / "modules.dep").read_text().splitlines():
        path, _, needs = line.partition(":")
        depends[_name(path)] = (path, needs.split())
    builtin = {_name(line) for line in (kernel.modules / "modules.builtin").read_text().splitlines()}
    order = []

    def add(name):
        if name in builtin:
            return
        if name not in depends:
            raise VmError(f"the kernel has no module {name}")
        path, needs = depends[name]
        for need in needs:
            add(_name(need))
        if path not in order:
            order.append(path)

    for name in wanted:
        add(name.replace("-", "_"))
    return order


def _plain(path):
    """A module without compression: busybox's insmod takes nothing else."""
    data = path.read_bytes()
    if path.suffix == ".xz":
        return lzma.decompress(data)
    if path.suffix == ".gz":
        return gzip.decompress(data)
    if path.suffix == ".zst":
        r = subprocess.run(["zstd", "-dcq"], input=data, capture_output=True)
        if r.returncode:
            raise VmError(f"zstd: {path.name}: {r.stderr.decode(errors='replace').strip()}")
        return r.stdout
    return data


def busybox():
    path = shutil.which("busybox", path=os.environ.get("PATH", "") + ":/bin:/usr/bin")
    if not path:
        raise VmError("busybox (package busybox-static) is not installed: run `make deps`")
    return pathlib.Path(path)


def build(kernel, shell=None):
    """The initramfs of a kernel, from the cache if what goes into it is the same. shell: a busybox of its architecture."""
    binary, init, layout = (shell or busybox()).read_bytes(), (HERE / "init.sh").read_bytes(), pathlib.Path(__file__).read_bytes()
    paths = modules_of(kernel, MODULES)
    key = hashlib.sha256(b"\0".join([binary, init, layout, *(p.encode() for p in paths)])).hexdigest()[:16]
    target = kernel.dir / f"initramfs-{key}"
    if target.exists():
        os.utime(target)
        return target
    for old in kernel.dir.glob("initramfs-*"):
        with contextlib.suppress(FileNotFoundError):  # a younger one may be in use by another tree
            if time.time() - old.stat().st_mtime > KEEP_FOR:
                old.unlink()
    new = kernel.dir / f".initramfs-{os.getpid()}"
    try:
        with open(new, "wb") as f:
            cpio = Cpio(f)
            for d in ("bin", "sbin", "usr", "usr/bin", "usr/sbin", "dev", "proc", "sys", "lower", "upper", "new", "modules"):
                cpio.directory(d)
            cpio.add("dev/console", stat.S_IFCHR | 0o600, device=(5, 1))
            cpio.file("bin/busybox", binary, 0o755)
            cpio.add("bin/sh", stat.S_IFLNK | 0o777, b"busybox")
            cpio.file("init", init, 0o755)
            for i, path in enumerate(paths):
                cpio.file(f"modules/{i:02}-{_name(path)}.ko", _plain(kernel.modules / path))
            cpio.close()
        new.rename(target)
    finally:
        new.unlink(missing_ok=True)
    return target


def with_files(base, target, files):
    """`target`: a copy of `base` with more files; the kernel unpacks one archive after the other."""
    with open(base, "rb") as b, open(target, "wb") as f:
        shutil.copyfileobj(b, f)
        cpio = Cpio(f)
        cpio.directory("run")
        for name, data in files.items():
            cpio.file(f"run/{name}", data)
        cpio.close()
