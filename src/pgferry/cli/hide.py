"""Passwords in the arguments: other accounts see them in ps for as long as the process lives, unless they are hidden.

The kernel shows a process's own memory in /proc/PID/cmdline, so they are overwritten there. Whoever looks in the first
moments still sees them: DATABASE_URL (or PGPASSWORD) and the password file are never visible to others.
"""

from __future__ import annotations

import os
import re

# From the first colon behind the user to the last @, which is further than a well-formed password goes.
_IN_URL = re.compile(rb"(?<=://)([^:@\0]*:)([^\0]*)(?=@)")
_PARAMETER = re.compile(rb"(\bpassword=)([^&\s\0]*)", re.IGNORECASE)
_ARG_START, _ARG_END = 47, 48  # of /proc/PID/stat, where the second field is put away before counting
_HIDDEN = b"*"


def hide_passwords() -> bool:
    """Overwrite the passwords of URLs in this process's command line; False when one stays to be seen."""
    try:
        shown = _command_line()
        hidden = masked(shown)
        if hidden == shown:
            return True
        start, end = _place()
        if end - start != len(shown):
            return False
        memory = os.open("/proc/self/mem", os.O_WRONLY)
        try:
            os.pwrite(memory, hidden, start)
        finally:
            os.close(memory)
        return _command_line() == hidden
    except (OSError, ValueError, IndexError):
        # Without /proc nobody knows; say so where there is something to hide.
        import sys

        arguments = b"\0".join(map(os.fsencode, sys.orig_argv))
        return masked(arguments) == arguments


def masked(arguments: bytes) -> bytes:
    """The arguments, each ended by a zero byte, with an asterisk for each byte of a password."""
    for pattern in (_IN_URL, _PARAMETER):
        arguments = pattern.sub(lambda match: match[1] + _HIDDEN * len(match[2]), arguments)
    return arguments


def _command_line() -> bytes:
    with open("/proc/self/cmdline", "rb") as file:
        return file.read()


def _place() -> tuple[int, int]:
    """Where in memory the arguments are: [start, end)."""
    with open("/proc/self/stat", "rb") as file:
        fields = [b"pid", b"name", *file.read().rpartition(b")")[2].split()]
    return int(fields[_ARG_START]), int(fields[_ARG_END])
