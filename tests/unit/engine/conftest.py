"""Rigs of the engine's tests."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from support.rig import Rig


@pytest.fixture
def make_rig() -> Iterator[Callable[..., Rig]]:
    """make_rig(...) -> Rig, judged at the end."""
    made: list[Rig] = []

    def make(**options: Any) -> Rig:
        made.append(Rig(**options))
        return made[-1]

    yield make
    for rig in made:
        rig.check()
        rig.close()
