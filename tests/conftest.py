"""What holds for all tests: the marks, and an end of session that leaves no server behind."""

import resource
from collections.abc import Iterator

import pytest

from support.cluster import close_shared

MARKS = (
    "workers(*numbers): with so many workers only (default: 1 and 2)",
    "pg(*versions): with these PostgreSQL versions only, as far as they are selected",
    "soak: runs for PGFERRY_SOAK_SECONDS (make soak), short in make test",
    "fuzz: runs for PGFERRY_FUZZ_SECONDS (make fuzz), short in make test",
)


def pytest_configure(config: pytest.Config) -> None:
    _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))  # an ordinary account has 1024 at first
    for mark in MARKS:
        config.addinivalue_line("markers", mark)


@pytest.fixture(scope="session", autouse=True)
def _no_server_left() -> Iterator[None]:
    yield
    close_shared()
