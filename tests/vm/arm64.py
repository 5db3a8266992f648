# SPDX-License-Identifier: Apache-2.0
"""The arm64 build in an arm64 machine: cross-built against Debian's packages, traces curl and python3's http.server.

Nothing of arm64 runs on this machine: packages are unpacked and not configured, which is all that these programs need.
"""
import fcntl
import hashlib
import os
import pathlib
import shutil
import subprocess
import tempfile
import time

import apt
import guest
import initramfs
import kernel
import vm
from errors import VmError, progress, reason

OUT = pathlib.Path(os.environ.get("WS_OUT") or guest.ROOT / ".output").absolute()
SUITES = ["bookworm", "bookworm-security"]
KERNEL = "6.12"
BUILDING = ["libc6-dev", "linux-libc-dev", "libbpf-dev", "libelf-dev", "zlib1g-dev", "libcap-dev",
            "libcurl4-openssl-dev", "libprotobuf-c-dev", "libjansson-dev", "libyaml-dev", "libmicrohttpd-dev", "uthash-dev"]
RUNNING = ["dash", "coreutils", "python3-minimal", "libpython3-stdlib", "curl", "busybox-static", "util-linux"]


def run(*argv, **kw):
    r = subprocess.run([str(a) for a in argv], capture_output=True, text=True, **kw)
    if r.returncode:
        raise VmError(f"arm64: {argv[0]}: {((r.stderr or r.stdout).strip().splitlines() or ['failed'])[-1]}")
    return r.stdout


def unpack(debs, tree):
    for d in ("bin", "sbin", "lib"):
        (tree / "usr" / d).mkdir(parents=True)
        (tree / d).symlink_to(f"usr/{d}")
    for d in ("proc", "sys", "dev", "run", "tmp", "etc", "root", "var/tmp"):
        (tree / d).mkdir(parents=True)
    for deb in debs:
        with subprocess.Popen(["dpkg-deb", "--fsys-tarfile", deb], stdout=subprocess.PIPE) as p:
            run("tar", "-x", "--keep-directory-symlink", "-C", tree, stdin=p.stdout)
    # A linker that looks below the tree would follow them out of it.
    for link in (p for p in tree.rglob("*") if p.is_symlink() and os.path.isabs(os.readlink(p))):
        target = os.path.relpath(tree / os.readlink(link).lstrip("/"), link.parent)
        link.unlink()
        link.symlink_to(target)
    (tree / "bin/sh").unlink(missing_ok=True)
    (tree / "bin/sh").symlink_to("dash")
    (tree / "etc/passwd").write_text("root:x:0:0::/root:/bin/sh\n")


def userland():
    """The directory with what these packages have, from the cache."""
    wanted = [*BUILDING, *RUNNING]
    key = hashlib.sha256("\n".join([*SUITES, *wanted, pathlib.Path(__file__).read_text()]).encode()).hexdigest()[:12]
    target = kernel.CACHE / f"arm64-{SUITES[0]}-{key}"
    kernel.CACHE.mkdir(parents=True, exist_ok=True)
    with open(kernel.CACHE / ".arm64.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if target.exists():
            os.utime(target)
            return target
        source = apt.Apt(kernel.CACHE, SUITES, "arm64")
        source.update()
        with tempfile.TemporaryDirectory(dir=kernel.CACHE, prefix=".arm64-") as scratch:
            debs = pathlib.Path(scratch) / "debs"
            (debs / "partial").mkdir(parents=True)
            progress(f"  FETCH    {len(wanted)} arm64 packages and what they need")
            run("apt-get", "-q", "-y", "-d", "--no-install-recommends", "-o", "Debug::NoLocking=1",
                "-o", f"Dir::Cache::archives={debs}", "install", *wanted, env=source.env)
            tree = pathlib.Path(scratch) / "tree"
            tree.mkdir()
            unpack(sorted(debs.glob("*.deb")), tree)
            tree.chmod(0o755)
            for old in kernel.CACHE.glob(f"arm64-{SUITES[0]}-*"):
                if time.time() - old.stat().st_mtime > initramfs.KEEP_FOR:  # else another tree may use it
                    shutil.rmtree(old, ignore_errors=True)
            tree.rename(target)
    return target


def build(tree, results):
    """The arm64 binary, and the tool that asks the verifier, in `results`."""
    libs = f"{tree}/usr/lib/aarch64-linux-gnu/pkgconfig:{tree}/usr/share/pkgconfig"
    env = {k: v for k, v in os.environ.items() if not guest.MAKE_OWN.match(k)}
    out = OUT / "arm64"
    programs = [out / "wirespan", out / "tests/tools/verifier"]
    run("make", "-C", guest.ROOT, f"-j{os.cpu_count()}", f"O={out}", "HOST_ARCH=arm64",
        f"CC=aarch64-linux-gnu-gcc --sysroot={tree}", *programs,
        env={**env, "PKG_CONFIG_LIBDIR": libs, "PKG_CONFIG_SYSROOT_DIR": str(tree)})
    for p in programs:
        shutil.copy(p, results)


def boot(results, plans, options, sinks):
    """Result of arm64_guest.py in a guest, with what it wrote in `results`."""
    try:
        tree = userland()
        build(tree, results)
        (results / "tests").mkdir()
        shutil.copytree(guest.ROOT / "tests/rig", results / "tests/rig", ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy(guest.ROOT / "tests/vm/arm64_guest.py", results / "tests")
    except OSError as e:
        raise VmError(f"kernel {KERNEL} arm64: {reason(e)}") from e
    options.root, options.busybox = str(tree), tree / "bin/busybox"
    environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root", "WS_BINARY": "/run/vm/results/wirespan",
                   "WS_PLANS": ",".join(plans)}
    return vm.run(kernel.get(KERNEL, "arm64"), "tcg", 'exec python3 "$WS_RESULTS/tests/arm64_guest.py"', options, sinks,
                  environment, "/root")
