"""Fixtures of the supervisor tests."""

import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from unit.supervisor.running import Running


@pytest.fixture
def socket_dir() -> Iterator[str]:
    """A directory with a path short enough for a unix socket."""
    path = tempfile.mkdtemp(prefix="pgf-", dir="/tmp")
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture
def make(tmp_path: Path, socket_dir: str) -> Iterator[Callable[..., Running]]:
    """Make a pooler that is not started yet; it is ended with the test."""
    made: list[Running] = []

    def build(**settings: object) -> Running:
        made.append(Running(tmp_path, socket_dir, **settings))
        return made[-1]

    yield build
    for pooler in made:
        pooler.end()


@pytest.fixture
def pooler(make: Callable[..., Running]) -> Running:
    """A running pooler with two workers."""
    return make(workers=2).start()
