"""Fetches the sources of the suites, pinned, into the cache, and makes an environment for each."""

import hashlib
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from pgferry.embedded import Account
from pgferry.embedded.fetch import locked

from .errors import ForeignError

KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
MIRROR = "http://deb.debian.org/debian"
TIMEOUT = 600.0


def cache() -> Path:
    """The folder of this package in pgferry's cache; everybody may read it."""
    base = Account.choose().cache_dir() / "foreign"
    base.mkdir(exist_ok=True)
    return base


def sdist(name: str, version: str, sha256: str) -> Path:
    """The unpacked source package `name` of the Python package index, of exactly this content."""

    def download(scratch: Path) -> Path:
        wanted = scratch / "requirements.txt"
        wanted.write_text(f"{name}=={version} --hash=sha256:{sha256}\n")
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-binary", name]
        call([*pip, "--require-hashes", "--requirement", str(wanted)], scratch)
        return _only(scratch, "*.tar.*")

    return _unpacked(f"{name}-{version}", download)


def debian_source(package: str, suite: str, inside: str) -> tuple[Path, str]:
    """The folder `inside` of the upstream archive of a Debian source package; also its name and sha256.

    Debian removes a version when a security update replaces it, so this takes the suite's present one (apt
    checks its signature) and tells which it was.
    """
    folder = cache() / f"{package}-{suite}"
    told = folder.with_suffix(".sha256")

    def download(scratch: Path) -> Path:
        options = _apt_options(scratch, suite)
        call(["apt-get", *options, "update"], scratch)
        call(["apt-get", *options, "source", "--download-only", "--tar-only", package], scratch)
        archive = _only(scratch, "*.orig.tar.*")
        told.write_text(f"{archive.name} {hashlib.sha256(archive.read_bytes()).hexdigest()}\n")
        return archive

    return _unpacked(folder.name, download, inside), told.read_text().strip()


def environment(name: str, requirements: Sequence[str]) -> Path:
    """The python of a virtual environment with these packages, made again when the list changes."""
    folder = cache() / f"venv-{name}"
    python, stamp = folder / "bin" / "python", folder / "requirements.txt"
    text = "\n".join([sys.version, *requirements])
    with locked(cache() / f".venv-{name}.lock"):
        if not stamp.exists() or stamp.read_text() != text:
            shutil.rmtree(folder, ignore_errors=True)
            call([sys.executable, "-m", "venv", str(folder)], cache())
            pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
            call([*pip, *requirements], folder)
            stamp.write_text(text)
    return python


def call(command: Sequence[str], folder: Path) -> str:
    """Run a command in a folder to its end and return its output; raises ForeignError with its words."""
    try:
        done = subprocess.run(
            command, cwd=folder, capture_output=True, text=True, timeout=TIMEOUT, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as e:
        raise ForeignError(f"{command[0]} failed: {e}") from e
    if done.returncode:
        raise ForeignError(f"{' '.join(command)} failed:\n{done.stderr.strip() or done.stdout.strip()}")
    return done.stdout


def _unpacked(name: str, download: Callable[[Path], Path], inside: str = "") -> Path:
    """The tree of an archive, downloaded and unpacked (only `inside` of it) unless the cache has it."""
    target = cache() / name
    with locked(cache() / f".{name}.lock"):
        if not target.exists():
            print(f"fetching {name}", flush=True)
            scratch = Path(tempfile.mkdtemp(prefix=".new-", dir=cache()))
            try:
                _extract(download(scratch), scratch / "tree", inside).rename(target)
            finally:
                shutil.rmtree(scratch, ignore_errors=True)
    return target


def _extract(archive: Path, into: Path, inside: str) -> Path:
    with tarfile.open(archive) as tar:
        members = tar.getmembers()
        top = members[0].name.split("/")[0]
        wanted = [m for m in members if m.name.startswith(f"{top}/{inside}")]
        if hasattr(tarfile, "tar_filter"):  # 3.11.4 and later
            tar.extraction_filter = staticmethod(tarfile.tar_filter)
        tar.extractall(into, members=wanted)
    for path in into.rglob("*"):
        if not path.is_symlink():
            path.chmod(path.stat().st_mode | (0o555 if path.is_dir() else 0o444))
    return into / top / inside


def _apt_options(scratch: Path, suite: str) -> list[str]:
    """Options that keep apt's own files out of it: lists and archives in the scratch folder."""
    if shutil.which("apt-get") is None or not KEYRING.exists():
        raise ForeignError("the source of PostgreSQL comes by apt-get, which this machine does not have")
    for part in ("lists/partial", "archives/partial"):
        (scratch / part).mkdir(parents=True)
    sources = scratch / "sources.list"
    sources.write_text(f"deb-src [signed-by={KEYRING}] {MIRROR} {suite} main\n")
    options = {
        "Dir::Etc::sourcelist": str(sources),
        "Dir::Etc::sourceparts": "/dev/null",
        "Dir::State::lists": str(scratch / "lists"),
        "Dir::Cache": str(scratch),
        "APT::Sandbox::User": "root",
        "Acquire::Languages": "none",
    }
    return [word for name, value in options.items() for word in ("-o", f"{name}={value}")]


def _only(folder: Path, pattern: str) -> Path:
    found = [p for p in folder.glob(pattern) if not re.search(r"\.asc$", p.name)]
    if len(found) != 1:
        raise ForeignError(f"{len(found)} files of {pattern} where one was expected")
    return found[0]
