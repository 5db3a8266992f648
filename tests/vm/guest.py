# SPDX-License-Identifier: Apache-2.0
"""One guest: qemu with the host's files, a command in it, what it said and how it ended."""
import collections
import os
import pathlib
import re
import selectors
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import termios
import time
import tty

import initramfs
from errors import NotBooted, VmError, reason

ROOT = pathlib.Path(__file__).resolve().parents[2]
MAKE_OWN = re.compile(r"MAKE|MFLAGS|LD_|DEBIAN_FRONTEND|_$|OLDPWD|SHLVL|DISPLAY|XDG_|DBUS_|SSH_|TMUX|SUDO_")
# Fresh in the guest, so that what a caller needs below them has to be brought along.
FRESH = ("/tmp", "/run", "/dev", "/proc", "/sys")
CONSOLE_LINES = 40
SILENCE = 120  # seconds without the sign of life that the guest gives every five
MACHINE = {"amd64": ["qemu-system-x86_64", "-machine", "q35"], "arm64": ["qemu-system-aarch64", "-machine", "virt"]}
# Five-level page tables and the real algorithm of signed pointers only make emulation slower.
TCG_CPU = {"amd64": "max,la57=off", "arm64": "max,pauth-impdef=on"}
PANIC = re.compile(r"Kernel panic - not syncing: (.*)")
# A soft lockup or a stall says that the host had no time for the guest.
TROUBLE = re.compile(r"BUG: (?!soft lockup|workqueue lockup).*|WARNING: .*|general protection fault.*|Oops: .*")


class Options:
    """How to boot. cmdline: kernel parameters; sysctl: {name: value}, set before the command runs. calm: under
    emulation time slices are stretched as the work is, so that as few tasks are preempted as on a machine. parallel: an
    emulated machine's processors run at a time, each in a thread of qemu's. Those have been seen to spin in, and to trip
    over, code that another one had just patched, as attaching does: for figures, not for tests."""

    def __init__(self, cmdline="", sysctl=None, cgroup=2, memory=3072, cpus=2, accel=None, timeout=900,
                 boot_timeout=120, results=None, shell=False, calm=True, parallel=False, root="/", busybox=None):
        self.cmdline, self.sysctl, self.cgroup = cmdline, sysctl or {}, cgroup
        self.memory, self.cpus, self.accel = memory, cpus, accel
        self.timeout, self.boot_timeout = timeout, boot_timeout
        self.results, self.shell, self.calm, self.parallel = results, shell, calm, parallel
        self.root, self.busybox = root, busybox  # another machine's files, and a static busybox for it


class Result:
    def __init__(self):
        self.code, self.boot, self.took, self.left, self.trouble, self.console = None, 0.0, 0.0, [], [], ""


class Console:
    """The guest's console: last lines for an error, and what in them means trouble."""

    def __init__(self):
        self.lines, self.rest = collections.deque(maxlen=CONSOLE_LINES), b""
        self.panic, self.trouble = "", []

    def feed(self, data):
        *lines, self.rest = (self.rest + data).split(b"\n")
        for raw in lines:
            line = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]|[\x00-\x08\x0b-\x1f]", "", raw.decode(errors="replace"))
            self.lines.append(line)
            text = re.sub(r"^\[ *[\d.]+\] ", "", line)
            if m := PANIC.search(text):
                self.panic = self.panic or m[1]
            elif TROUBLE.match(text):
                self.trouble.append(text)

    def tail(self):
        return "\n".join([*self.lines, *([self.rest.decode(errors="replace")] if self.rest.strip() else [])])


class Guest:
    def __init__(self, kernel, options, accel):
        self.kernel, self.options, self.accel = kernel, options, accel
        self.console, self.result = Console(), Result()
        self.state, self.failure, self.control = "starting", "", b""
        self.qemu, self.sockets, self.dir = None, {}, None

    def error(self, text, kind=VmError):
        return kind(f"kernel {self.kernel}: {text}", self.console.tail())

    # ---- before it starts ---------------------------------------------------------------------

    def _files(self, command, environment, cwd):
        keep = {os.path.realpath(p) for p in (ROOT, cwd, self.kernel.dir, os.environ.get("WS_OUT") or ROOT)}
        if self.options.root != "/":
            keep = set()  # none of it is there
        keep = [p for p in sorted(keep) if p.startswith(tuple(f + "/" for f in FRESH)) and os.path.isdir(p)]
        size = shutil.get_terminal_size()
        # cache=loose: the host's files do not change under a test; msize: the most that virtio takes
        settings = {"cgroup": self.options.cgroup, "msize": 512000, "cache": "loose", "keep": " ".join(keep),
                    "results": int(bool(self.options.results)), "shell": int(self.options.shell),
                    "calm": int(self.options.calm and self.accel == "tcg"),
                    "rows": size.lines, "columns": size.columns, "modules": os.path.realpath(self.kernel.modules),
                    "config": os.path.realpath(self.kernel.dir / "config")}
        sysctl = "".join(f"sysctl -qw {shlex.quote(f'{k}={v}')} || exit 125\n" for k, v in self.options.sysctl.items())
        env = {**environment, "PWD": str(cwd), "WS_VM": self.kernel.version, "PYTHONUNBUFFERED": "1",
               "PYTHONDONTWRITEBYTECODE": "1"}
        if self.options.results:
            env["WS_RESULTS"] = "/run/vm/results"
        return {
            "settings": "".join(f"{k}={shlex.quote(str(v))}\n" for k, v in settings.items()).encode(),
            "environment": (sysctl + "".join(f"export {k}={shlex.quote(v)}\n" for k, v in env.items())).encode(),
            "command": (command + "\n").encode(),
        }

    def _channel(self, name):
        """A chardev: our end is kept under `name`, the other's descriptor goes to qemu."""
        ours, theirs = socket.socketpair()
        self.sockets[name] = ours
        return theirs

    def _argv(self, initrd, fds):
        o = self.options
        # tsc=reliable: the processors of an emulated machine share the host's counter, but start too far apart for
        # the kernel's own check; without it every look at the clock leaves the guest. init_on_alloc=0: 9p has up to a
        # megabyte of buffers per request before 6.1; zeroing them was nine tenths of an open(2) under emulation.
        # cryptomgr.notests: where the hang of BOOTS (vm.py) was seen; they test nothing of ours.
        console = "ttyS0" if self.kernel.arch == "amd64" else "ttyAMA0"
        cmdline = (f"console={console} loglevel=5 panic=-1 oops=panic random.trust_cpu=on tsc=reliable init_on_alloc=0 "
                   "cryptomgr.notests "
                   f"{o.cmdline}")
        argv = ["setpriv", "--pdeathsig", "KILL", *MACHINE[self.kernel.arch], "-nodefaults", "-no-user-config",
                "-display", "none", "-no-reboot", "-nic", "none", "-m", str(o.memory),
                "-smp", str(o.cpus), "-kernel", self.kernel.vmlinux, "-initrd", initrd, "-append", cmdline,
                "-device", "virtio-serial-pci,id=vs"]
        if self.accel == "kvm":
            argv += ["-accel", "kvm", "-cpu", "host"]
        else:
            argv += ["-accel", f"tcg,thread={'multi' if o.parallel else 'single'}", "-cpu", TCG_CPU[self.kernel.arch]]
        for name, s in fds.items():
            argv += ["-chardev", f"socket,id={name},fd={s.fileno()}"]
        argv += ["-serial", "chardev:console"]
        for nr, name in enumerate(("control", "out", "err"), 1):
            argv += ["-device", f"virtserialport,bus=vs.0,nr={nr},chardev={name}"]
        if o.shell:
            argv += ["-device", "virtconsole,bus=vs.0,nr=4,chardev=tty"]
        argv += self._share("host", o.root, "readonly=on")
        if o.results:
            argv += self._share("results", os.path.realpath(o.results), "readonly=off")
        return [str(a) for a in argv]

    @staticmethod
    def _share(tag, path, access):
        path = path.replace(",", ",,")
        return ["-fsdev", f"local,id={tag},path={path},security_model=none,multidevs=remap,{access}",
                "-device", f"virtio-9p-pci,fsdev={tag},mount_tag={tag}"]

    def _start(self, command, environment, cwd):
        self.dir = pathlib.Path(tempfile.mkdtemp(prefix="ws-vm-"))
        initrd = self.dir / "initrd"
        try:
            base = initramfs.build(self.kernel, self.options.busybox)
        except VmError as e:  # knows of modules and of busybox, not for whom
            raise self.error(str(e)) from e
        initramfs.with_files(base, initrd, self._files(command, environment, cwd))
        names = ["console", "control", "out", "err", *(["tty"] if self.options.shell else [])]
        fds = {name: self._channel(name) for name in names}
        try:
            # A session of its own: ^C is ours to handle, not qemu's.
            self.qemu = subprocess.Popen(self._argv(initrd, fds), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                                         stderr=open(self.dir / "qemu.log", "wb"), start_new_session=True,
                                         pass_fds=[s.fileno() for s in fds.values()])
        except FileNotFoundError as e:
            raise self.error(f"{e.filename} is not installed: run `make deps`") from e
        finally:
            for s in fds.values():
                s.close()

    # ---- while it runs ------------------------------------------------------------------------

    def _on_control(self, data):
        self.heard = time.monotonic()
        *lines, self.control = (self.control + data).split(b"\n")
        for line in lines:
            what, _, rest = line.decode(errors="replace").partition(" ")
            if what == "ready":
                self.result.boot = time.monotonic() - self.began
                self.console.trouble.clear()  # what an emulated machine lacks, said while it boots
            if what in ("init", "ready"):
                self.state = what
            elif what == "exit":
                self.result.code = int(rest)
            elif what == "left":
                self.result.left.append(rest)
            elif what == "failed":
                self.failure = rest

    def _deadline(self):
        """(when, what then, as which error) for the state that it is in."""
        if self.result.code is not None or self.failure:
            return self.ended + 15, "did not power off", VmError
        if self.state != "ready":
            return self.began + self.options.boot_timeout, f"did not boot in {self.options.boot_timeout} s", NotBooted
        if not self.options.timeout:
            return float("inf"), "", VmError
        return min((self.began + self.result.boot + self.options.timeout,
                    f"the command did not end in {self.options.timeout} s: killed", VmError),
                   (self.heard + SILENCE, f"hung: no sign of life in {SILENCE} s", VmError), key=lambda d: d[0])

    def _loop(self, sinks):
        sel = selectors.DefaultSelector()
        for name, s in self.sockets.items():
            sel.register(s, selectors.EVENT_READ, name)
        if self.options.shell:
            sel.register(sys.stdin, selectors.EVENT_READ, "stdin")
        open_ = set(self.sockets)
        while open_:
            when, what, kind = self._deadline()
            wait = min(when - time.monotonic(), 1)
            if wait <= 0:
                raise self.error(what, kind)
            for key, _ in sel.select(wait):
                data = os.read(key.fd, 65536)
                if key.data == "stdin":
                    if b"\x1d" in data:  # ^]
                        raise self.error("left by ^]")
                    self.sockets["tty"].sendall(data)
                    continue
                if not data:
                    sel.unregister(key.fileobj)
                    open_.discard(key.data)
                elif key.data == "console":
                    self.console.feed(data)
                elif key.data == "control":
                    self._on_control(data)
                else:
                    sinks[key.data](data)
            if self.result.code is not None or self.failure:
                self.ended = self.ended or time.monotonic()

    def run(self, command, environment, cwd, sinks):
        """Boots, runs, powers off. sinks: {"out", "err"(, "tty")}: functions that take bytes as they come."""
        self.began, self.ended = time.monotonic(), 0
        try:
            self._start(command, environment, cwd)
            try:
                self._loop(sinks)
            except ConnectionResetError:
                pass  # qemu ended with something unread
            self.qemu.wait(10)
            if self.console.panic:
                raise self.error(f"panic: {self.console.panic}")
            if self.failure:
                raise self.error(f"cannot start: {self.failure}")
            if self.result.code is None:
                said = (self.dir / "qemu.log").read_text(errors="replace").strip().splitlines()
                raise self.error(f"qemu ended ({self.qemu.returncode}) {self.state}: {said[-1] if said else 'no message'}")
        except OSError as e:  # a full disk, a share that is gone, an output that takes no more
            raise self.error(reason(e)) from e
        except subprocess.TimeoutExpired as e:
            raise self.error("qemu did not end with its guest") from e
        finally:
            self._stop()
        self.result.took = time.monotonic() - self.began
        self.result.trouble, self.result.console = self.console.trouble, self.console.tail()
        return self.result

    def _stop(self):
        if self.qemu and self.qemu.poll() is None:
            self.qemu.kill()
            try:
                self.qemu.wait(10)
            except subprocess.TimeoutExpired:
                print(f"kernel {self.kernel}: qemu (process {self.qemu.pid}) does not end", file=sys.stderr)
        for s in self.sockets.values():
            s.close()
        if self.dir:
            shutil.rmtree(self.dir, ignore_errors=True)


class RawTerminal:
    """The caller's terminal hands every key to the guest meanwhile."""

    def __enter__(self):
        self.old = termios.tcgetattr(sys.stdin)
        tty.setraw(sys.stdin)

    def __exit__(self, *exc):
        termios.tcsetattr(sys.stdin, termios.TCSADRAIN, self.old)


def environment():
    """What a guest gets of the caller's environment."""
    return {k: v for k, v in os.environ.items() if not MAKE_OWN.match(k) and re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", k)}


def on_signals():
    """SIGTERM and SIGHUP end us as ^C does: by way of every `finally`."""
    def interrupt(*_):
        raise KeyboardInterrupt
    for s in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(s, interrupt)
