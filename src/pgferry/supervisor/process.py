"""What the process does to itself at start: user, root check, descriptor limit, daemon."""

import contextlib
import os
import pwd
import resource
from collections.abc import Callable

from pgferry.supervisor.errors import StartError


def switch_user(name: str) -> None:
    """Become the Unix account `name`. Raises StartError when it is unknown or the right is missing."""
    try:
        entry = pwd.getpwnam(name)
    except KeyError as error:
        raise StartError(f"could not find user '{name}' to switch to") from error
    if os.geteuid() == entry.pw_uid:
        return
    try:
        os.initgroups(name, entry.pw_gid)
        os.setgid(entry.pw_gid)
        os.setuid(entry.pw_uid)
    except PermissionError as error:
        raise StartError(f"no permission to switch to user '{name}'") from error
    os.environ["HOME"], os.environ["USER"] = entry.pw_dir, name


def refuse_root() -> None:
    """Raise StartError for uid 0, except where the environment says PGFERRY_ALLOW_ROOT=1 (tests and demo)."""
    if os.geteuid() == 0 and os.environ.get("PGFERRY_ALLOW_ROOT") != "1":
        raise StartError("pgferry should not run as root; use -u or the setting 'user'")


def raise_descriptor_limit() -> tuple[int, int]:
    """Lift the soft limit of open files to the hard one, for this process and its workers; returns both."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        # macOS-like kernels refuse an infinite hard limit; then the soft one stays and the log line shows it.
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return resource.getrlimit(resource.RLIMIT_NOFILE)


def daemonize() -> Callable[[], None]:
    """Fork twice into the background. The caller's process waits and exits with 0 or 1.

    Only the daemon returns from here, with a function to call once it is up: that function releases the
    waiting process (exit 0) and leaves the terminal. A daemon that ends without it makes the wait end with 1.
    Raises StartError.
    """
    try:
        null = os.open(os.devnull, os.O_RDWR)
        reader, writer = os.pipe()
        if os.fork() > 0:
            os.close(writer)
            os._exit(0 if os.read(reader, 1) == b"1" else 1)
        os.close(reader)
        os.setsid()
        if os.fork() > 0:
            os._exit(0)
    except OSError as error:
        raise StartError(f"cannot become a daemon: {error.strerror}") from error
    os.dup2(null, 0)
    os.dup2(null, 1)

    def up() -> None:
        os.dup2(null, 2)
        os.close(null)
        with contextlib.suppress(OSError):
            os.write(writer, b"1")
        os.close(writer)

    return up
