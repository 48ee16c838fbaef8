"""The pid file: a live one refuses the start, a stale one is removed, ours goes away at exit."""

import os
import secrets
from pathlib import Path

from pgferry.supervisor.errors import StartError


def check(path: str) -> str | None:
    """Remove a stale pid file and return a line for the log, or None. Raises StartError for a live one."""
    file = Path(path)
    try:
        text = file.read_text(encoding="ascii", errors="replace").strip()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise StartError(f"could not read pidfile '{path}': {error.strerror}") from error
    if not text.isdecimal():
        raise StartError(f"pidfile '{path}' does not hold a process id; remove it if no pooler is running")
    if _alive(int(text)):
        raise StartError(f"pidfile '{path}' exists, another instance running? (pid {text})")
    try:
        file.unlink()
    except OSError as error:
        raise StartError(f"could not remove stale pidfile '{path}': {error.strerror}") from error
    return f"stale pidfile removed (pid {text} is gone)"


def write(path: str) -> None:
    """Create the file with our pid. Raises StartError when it exists or cannot be made."""
    try:
        _create(path)
    except OSError as error:
        raise StartError(f"could not write pidfile '{path}': {error.strerror}") from error


def replace(path: str, pid: int | None = None) -> None:
    """Put our pid in the place of the process we have taken over from, or give it back its `pid`.

    Raises StartError.
    """
    # In a directory that others may write to, too, nobody can have put a link there before.
    fresh = f"{path}.{secrets.token_hex(8)}"
    try:
        _create(fresh, pid)
        Path(fresh).replace(path)
    except OSError as error:
        raise StartError(f"could not write pidfile '{path}': {error.strerror}") from error


def remove(path: str) -> None:
    """Remove the file at exit, when it is still ours."""
    file = Path(path)
    try:
        if file.read_text(encoding="ascii", errors="replace").strip() == str(os.getpid()):
            file.unlink()
    except OSError:
        return


def _create(path: str, pid: int | None = None) -> None:
    """Raises OSError when there is anything of that name, a link too."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
    try:
        os.write(fd, f"{pid or os.getpid()}\n".encode())
    finally:
        os.close(fd)


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        return True
    return True
