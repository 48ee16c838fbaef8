"""Finds PgBouncer: a path given, the one on PATH, or Debian's package unpacked into a cache folder."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from pgferry.embedded import Account

from .system import BenchError

# The first version that keeps track of prepared statements in transaction mode.
PREPARED_SINCE = (1, 21)
DEFAULT_SUITE = "trixie"
KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
MIRROR = "http://deb.debian.org/debian"
# PgBouncer and the libraries that a system of another release lacks; the C library comes along because it
# must be at least as new as the one the package was built with.
PACKAGES = ("pgbouncer", "libc6", "libevent-2.1-7t64", "libssl3t64", "libcares2", "libpam0g", "libsystemd0")
LAUNCHER = """\
#!/bin/sh
exec {lib}/{loader} --library-path {lib}:/lib/{triplet}:/usr/lib/{triplet} {program} "$@"
"""


def version_of(program: Path) -> tuple[int, ...]:
    """Return PgBouncer's version, (1, 24, 1) for example; raises BenchError when it does not tell."""
    outcome = subprocess.run([str(program), "-V"], capture_output=True, text=True, check=False)
    match = re.search(r"(\d+)\.(\d+)(?:\.(\d+))?", outcome.stdout)
    if match is None:
        raise BenchError(f"{program} -V tells no version: {outcome.stderr.strip() or outcome.stdout.strip()}")
    return tuple(int(part) for part in match.groups() if part is not None)


def find_pgbouncer(account: Account) -> Path:
    """Return the program to compare with.

    PGBOUNCER=/path wins. Then one on PATH, if it can prepare statements in transaction mode (1.21). Else
    Debian's package of the suite in PGBOUNCER_SUITE (default: the current stable) is unpacked, together with
    its libraries, into a cache folder that `account` can read; nothing is installed. Raises BenchError when
    there is none to be had.
    """
    given = os.environ.get("PGBOUNCER")
    if given:
        if not os.access(given, os.X_OK):
            raise BenchError(f"PGBOUNCER={given} is not a program")
        return Path(given).resolve()
    installed = shutil.which("pgbouncer") or shutil.which("pgbouncer", path="/usr/sbin:/usr/local/sbin")
    suite = os.environ.get("PGBOUNCER_SUITE")
    if installed and not suite and version_of(Path(installed)) >= PREPARED_SINCE:
        return Path(installed)
    try:
        return _unpack(suite or DEFAULT_SUITE, account.cache_dir() / "bench")
    except BenchError:
        if installed:
            return Path(installed)
        raise


def _unpack(suite: str, cache: Path) -> Path:
    """Download and unpack the package of `suite` once; returns a script that runs it with its libraries."""
    folder = cache / f"pgbouncer-{suite}"
    launcher = folder / "pgbouncer"
    if launcher.exists():
        return launcher
    for name in ("apt-get", "dpkg-deb"):
        if shutil.which(name) is None:
            raise BenchError(
                f"no pgbouncer on PATH and no {name} to fetch it: set PGBOUNCER=/path/to/pgbouncer"
            )
    if not KEYRING.exists():
        raise BenchError(
            f"no pgbouncer on PATH and no {KEYRING} to fetch it: set PGBOUNCER=/path/to/pgbouncer"
        )
    print(f"fetching Debian's pgbouncer of {suite} into {folder} (set PGBOUNCER=/path for another)")
    for part in ("lists/partial", "archives/partial", "packages", "root"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    sources = folder / "sources.list"
    sources.write_text(f"deb [signed-by={KEYRING}] {MIRROR} {suite} main\n")
    options = {
        "Dir::Etc::sourcelist": str(sources),
        "Dir::Etc::sourceparts": "/dev/null",
        "Dir::State::lists": str(folder / "lists"),
        "Dir::State::status": "/dev/null",
        "Dir::Cache": str(folder),
        "APT::Sandbox::User": "root",
        "Acquire::Languages": "none",
    }
    apt = ["apt-get", "-q", *(word for name, value in options.items() for word in ("-o", f"{name}={value}"))]
    _run([*apt, "update"], folder)
    _run([*apt, "download", *PACKAGES], folder / "packages")
    for package in sorted((folder / "packages").glob("*.deb")):
        _run(["dpkg-deb", "-x", str(package), str(folder / "root")], folder)
    return _write_launcher(folder, launcher)


def _write_launcher(folder: Path, launcher: Path) -> Path:
    """Write the script that starts the unpacked program with the unpacked loader and libraries."""
    program = folder / "root/usr/sbin/pgbouncer"
    loaders = sorted((folder / "root/usr/lib").glob("*/ld-linux*"))
    if not program.exists() or not loaders:
        raise BenchError(f"Debian's package in {folder / 'packages'} holds no pgbouncer or no loader")
    lib = loaders[0].parent
    text = LAUNCHER.format(lib=lib, loader=loaders[0].name, triplet=lib.name, program=program)
    fresh = launcher.with_suffix(".new")
    fresh.write_text(text)
    fresh.chmod(0o755)
    version_of(fresh)
    return fresh.rename(launcher)


def _run(command: Sequence[str], folder: Path) -> None:
    outcome = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300, check=False)
    if outcome.returncode:
        raise BenchError(f"{' '.join(command[:2])} failed: {outcome.stderr.strip()}")
