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
LAUNCHER = """\
#!/bin/sh
exec {loader} --library-path {root}/usr/lib/{triplet}:{root}/lib/{triplet} {root}/usr/sbin/pgbouncer "$@"
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
    words = [word for name, value in options.items() for word in ("-o", f"{name}={value}")]
    _run(["apt-get", *words, "update"], folder)
    _run(["apt-get", *words, "download", *_with_libraries(words, folder)], folder / "packages")
    for package in sorted((folder / "packages").glob("*.deb")):
        _run(["dpkg-deb", "-x", str(package), str(folder / "root")], folder)
    return _write_launcher(folder, launcher)


def _with_libraries(options: Sequence[str], folder: Path) -> list[str]:
    """Return pgbouncer and every library package it needs, the C library too: those of here may be older."""
    found: list[str] = []
    fresh = ["pgbouncer"]
    while fresh:
        found += fresh
        text = _run(["apt-cache", *options, "depends", "--important", *fresh], folder)
        names = re.findall(r"^\s+(?:Pre)?Depends: (z?lib[^<\s]+)$", text, re.MULTILINE)
        fresh = sorted(set(names) - set(found))
    return found


def _write_launcher(folder: Path, launcher: Path) -> Path:
    """Write the script that starts the unpacked program with the unpacked loader and libraries."""
    root = folder / "root"
    loaders = sorted(root.glob("usr/lib/*-linux-gnu*/ld-linux*")) or sorted(
        root.glob("lib/*-linux-gnu*/ld-linux*")
    )
    if not (root / "usr/sbin/pgbouncer").exists() or not loaders:
        raise BenchError(f"Debian's package in {folder / 'packages'} holds no pgbouncer or no loader")
    fresh = launcher.with_suffix(".new")
    fresh.write_text(LAUNCHER.format(loader=loaders[0], root=root, triplet=loaders[0].parent.name))
    fresh.chmod(0o755)
    version_of(fresh)
    return fresh.rename(launcher)


def _run(command: Sequence[str], folder: Path) -> str:
    """Run `command` in `folder` and return its output; raises BenchError with its words."""
    outcome = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300, check=False)
    if outcome.returncode:
        raise BenchError(f"{command[0]} failed: {outcome.stderr.strip()}")
    return outcome.stdout
