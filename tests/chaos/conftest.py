"""The fixtures of the integration tests, and `health`: what every test here asks of the pooler at its end."""

from collections.abc import Callable

import pytest

from chaos.health import Health
from integration.conftest import (
    cluster,
    database,
    make_pooler,
    own_cluster,
    pooler,
    pytest_generate_tests,
)
from support.pooler import Pooler

__all__ = ["cluster", "database", "make_pooler", "own_cluster", "pooler", "pytest_generate_tests"]


@pytest.fixture
def health() -> Callable[[Pooler], Health]:
    """health(pooler) notes how it is at rest; .recovered() on the result says that it is so again."""
    return Health
