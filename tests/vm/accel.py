# SPDX-License-Identifier: Apache-2.0
"""KVM or emulation. /dev/kvm that can be opened says nothing: some hang, some run firmware and no kernel."""
import os
import pathlib

import guest
from errors import NotBooted, VmError, progress

PROBE_TIME = 20  # seconds in which KVM boots a kernel and runs `true`, by far
TCG_SLOW = 8  # how much longer things take under emulation; tests multiply their time limits by WS_SLOW


def _boot_id():
    return pathlib.Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def choose(kernel):
    """"kvm" if it runs this kernel to a command, within a time limit. Asked once per boot of the host, unless what
    came of it says nothing about KVM: no disk space, no qemu."""
    if not os.access("/dev/kvm", os.R_OK | os.W_OK):
        return "tcg"
    known = kernel.dir.parent / ".accel"
    if known.exists():
        boot_id, _, answer = known.read_text().strip().partition(" ")
        if boot_id == _boot_id():
            return answer
    options = guest.Options(timeout=PROBE_TIME, boot_timeout=PROBE_TIME, memory=1024)
    try:
        r = guest.Guest(kernel, options, "kvm").run("true", {"PATH": "/bin:/usr/bin"}, "/", dict.fromkeys(("out", "err"), len))
        answer = "kvm" if r.code == 0 else "tcg"
    except VmError as e:
        progress(f"  NO KVM   {e}; emulation instead")
        if not isinstance(e, NotBooted):
            return "tcg"
        answer = "tcg"
    known.write_text(f"{_boot_id()} {answer}\n")
    return answer
