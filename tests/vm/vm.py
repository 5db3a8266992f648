#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Runs a command in a virtual machine with one of Debian's kernels and this machine's files.

    vm.py 6.1 'uname -a'             as root, in the directory that it is called from; its exit code is ours
    vm.py --shell newest             an interactive shell (^] ends the machine)
    vm.py --fetch 5.10 6.12          only download and unpack

The files are this machine's, read-only; what the command writes is gone when it ends, except below --results
($WS_RESULTS in the guest). /tmp, /run, /dev, /proc and /sys are the guest's own. Exit code 125: no guest,
or it did not come to an end (message and console on standard error).
"""
import argparse
import os
import sys

sys.dont_write_bytecode = True

import accel  # noqa: E402
import guest  # noqa: E402
import kernel  # noqa: E402
from errors import NotBooted, VmError, reason  # noqa: E402

FAILED = 125
# Seen with qemu 7.2 and --parallel on a loaded host, one boot of ten: a processor spins in a static branch that the other
# one has just patched, as if it still ran the old code. No command had begun, so another try hides nothing.
BOOTS = 2


def boot(name, command, options, sinks, env=None, cwd=None):
    """Result of `command` under the kernel `name`. Errors name the kernel."""
    k = kernel.get(name)
    return run(k, options.accel or accel.choose(k), command, options, sinks, {**guest.environment(), **(env or {})}, cwd)


def run(k, how, command, options, sinks, environment, cwd=None):
    if how == "tcg":
        environment.setdefault("WS_SLOW", str(accel.TCG_SLOW))
    for left in reversed(range(BOOTS)):
        try:
            return guest.Guest(k, options, how).run(command, environment, cwd or os.getcwd(), sinks)
        except NotBooted as e:
            if not left:
                raise
            print(f"vm: {e}; once more", file=sys.stderr, flush=True)
    raise AssertionError("unreachable")


def to_fd(fd):
    def write(data):
        while data:
            data = data[os.write(fd, data):]
    return write


def complain(error):
    """An error of ours on standard error, the guest's console before it."""
    if error.console:
        print(f"--- console, last lines\n{error.console}\n---", file=sys.stderr)
    print(f"vm: {error}", file=sys.stderr, flush=True)


def aftermath(name, result):
    """What a command has left behind that came to an end: what runs on, what the kernel said of it."""
    bad = [*(f"left running: {line}" for line in result.left), *(f"kernel says: {line}" for line in result.trouble)]
    if bad:
        complain(VmError(f"kernel {name}: {'; '.join(bad)}", result.console))
    return bad


def pair(text):
    name, equals, value = text.partition("=")
    if not name or not equals:
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=VALUE")
    return name, value


def arguments():
    p = argparse.ArgumentParser(prog="vm.py", formatter_class=argparse.RawDescriptionHelpFormatter, description=__doc__)
    p.add_argument("kernel", nargs="*", help=f"{', '.join(kernel.KERNELS)}, a series (6.17) or a version; then the command")
    p.add_argument("--shell", action="store_true")
    p.add_argument("--fetch", action="store_true", help="every argument is a kernel")
    p.add_argument("--append", default="", metavar="PARAMETERS", help="kernel command line, e.g. lockdown=integrity")
    p.add_argument("--sysctl", action="append", default=[], type=pair, metavar="NAME=VALUE")
    p.add_argument("--env", action="append", default=[], type=pair, metavar="NAME=VALUE")
    p.add_argument("--cgroup", type=int, choices=(1, 2), default=2)
    p.add_argument("--memory", type=int, default=3072, metavar="MIB")
    p.add_argument("--cpus", type=int, default=2)
    p.add_argument("--accel", choices=("kvm", "tcg"), help="default: kvm if it really runs a guest")
    p.add_argument("--parallel", action="store_true",
                   help="emulated processors run at a time: faster, and qemu then trips over code that is being patched")
    p.add_argument("--timeout", type=float, default=900, metavar="SECONDS", help="for the command; 0: none")
    p.add_argument("--results", metavar="DIRECTORY", help="writable from the guest as $WS_RESULTS")
    p.add_argument("--quiet", action="store_true", help="do not say how it was booted")
    a = p.parse_args()
    if not a.kernel:
        p.error("which kernel?")
    if not a.shell and not a.fetch and len(a.kernel) != 2:
        p.error("give a kernel and one command (quoted)")
    return a


def main():
    a = arguments()
    guest.on_signals()
    try:
        if a.fetch:
            for name in a.kernel:
                print(kernel.get(name))
            return 0
        if a.shell and not sys.stdin.isatty():
            raise VmError(f"kernel {a.kernel[0]}: a shell wants a terminal")
        if a.results:
            os.makedirs(a.results, exist_ok=True)
        options = guest.Options(cmdline=a.append, sysctl=dict(a.sysctl), cgroup=a.cgroup,
                                memory=a.memory, cpus=a.cpus, accel=a.accel, timeout=0 if a.shell else a.timeout,
                                results=a.results, shell=a.shell, parallel=a.parallel)
        env = dict(a.env)
        sinks = {"out": to_fd(1), "err": to_fd(2), "tty": to_fd(1)}
        if a.shell:
            kernel.get(a.kernel[0])  # its progress before the terminal is raw
            with guest.RawTerminal():
                r = boot(a.kernel[0], " ".join(a.kernel[1:]) or "exec bash -i", options, sinks, env)
        else:
            r = boot(*a.kernel, options, sinks, env)
    except VmError as e:
        complain(e)
        return FAILED
    except OSError as e:
        complain(VmError(f"kernel {a.kernel[0]}: {reason(e)}"))
        return FAILED
    except KeyboardInterrupt:
        print("vm: interrupted", file=sys.stderr)
        return 130
    aftermath(a.kernel[0], r)
    if not a.quiet:
        print(f"vm: booted in {r.boot:.1f} s, {r.took:.1f} s in all, exit code {r.code}", file=sys.stderr)
    return r.code


if __name__ == "__main__":
    sys.exit(main())
