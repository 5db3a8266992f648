# SPDX-License-Identifier: Apache-2.0
"""What may go wrong with a virtual machine, as opposed to with what runs in it."""
import sys


class VmError(Exception):
    """One line that names the kernel; `console` has the guest's last lines if there was one."""

    def __init__(self, text, console=""):
        super().__init__(text)
        self.console = console


def progress(text):
    """What is done meanwhile. Standard output is the command's alone."""
    print(text, file=sys.stderr, flush=True)


def reason(e):
    """What the system says of an OSError, and of which file."""
    text = e.strerror or str(e) or type(e).__name__
    return f"{e.filename}: {text}" if e.filename else text


class NotBooted(VmError):
    """The guest hung before the command began, so that it can be tried again."""
