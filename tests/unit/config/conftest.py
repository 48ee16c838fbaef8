"""Fixtures of the configuration tests."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import settings

from unit.config.config_files import Loader

# Time limits per example say nothing on a busy machine.
settings.register_profile("pgferry", deadline=None)
settings.load_profile("pgferry")


@pytest.fixture
def ini(tmp_path: Path) -> Loader:
    return Loader(tmp_path)


@pytest.fixture
def in_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], Path]:
    """Make the test's directory the working directory; return a function that writes a file there."""
    monkeypatch.chdir(tmp_path)

    def write(name: str, text: str) -> Path:
        path = tmp_path / name
        path.write_text(text)
        return path

    return write
