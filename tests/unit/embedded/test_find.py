"""Where servers come from, and what is said when none does."""

from pathlib import Path

import pytest

from pgferry.embedded import Account, EmbeddedError, fetch, find


def test_a_named_directory_without_a_server_is_an_error(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PGFERRY_PG_BIN", str(tmp_path))
    with pytest.raises(EmbeddedError, match=f"PGFERRY_PG_BIN={tmp_path} has no initdb"):
        find.installation(Account.choose())


def test_a_version_nobody_has_is_an_error_that_helps() -> None:
    with pytest.raises(EmbeddedError, match=r"No PostgreSQL 99 is on this machine.*PGFERRY_PG_BIN"):
        find.installation(Account.choose(), 99)


def test_the_second_source_is_tried_when_the_first_fails(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def broken(_scratch: Path, version: str) -> Path:
        raise EmbeddedError(f"the registry has no {version}")

    def works(scratch: Path, _version: str) -> Path:
        (scratch / "root" / "bin").mkdir(parents=True)
        return scratch / "root"

    def sources(_major: int) -> list[tuple[str, str, fetch.Source, str]]:
        return [("a", "bin", broken, "1"), ("b", "bin", works, "2")]

    monkeypatch.setattr(fetch, "_sources", sources)
    monkeypatch.setattr(Account, "cache_dir", lambda _self: tmp_path)
    bindir = fetch.fetch(Account.choose())
    assert bindir == tmp_path / "postgres" / "b" / "bin"
    assert bindir.is_dir()
    assert [p.name for p in (tmp_path / "postgres").iterdir() if p.name.startswith(".new")] == []


def test_a_probe_of_something_else_finds_nothing(tmp_path: Path) -> None:
    for name in ("initdb", "postgres"):
        (tmp_path / name).write_text("#!/bin/sh\necho hello\n")
        (tmp_path / name).chmod(0o755)
    assert find.probe(Account.choose(), tmp_path) is None
