"""Which PostgreSQL versions the tests use, and one running server for each per test process."""

import os
from collections.abc import Mapping, Sequence

from pgferry.embedded import TRUST, Account, Cluster, Installation, installation

VARIABLE = "PGFERRY_TEST_PG"
DEFAULT = "15,18"
SETTINGS: Mapping[str, str | int] = {
    "max_connections": 200,
    "max_prepared_transactions": 10,
    "wal_retrieve_retry_interval": "200ms",  # of standbys and subscribers, instead of 5 s
    "password_encryption": "scram-sha-256",  # PostgreSQL 13's default is another one
}

_servers: dict[int, Installation] = {}
_shared: dict[int, Cluster] = {}


def versions() -> list[int]:
    """The major versions to test with: PGFERRY_TEST_PG=15,18 (default)."""
    return [int(v) for v in os.environ.get(VARIABLE, DEFAULT).split(",") if v.strip()]


def server(version: int) -> Installation:
    """The installation of a version, looked for (or fetched) once."""
    if version not in _servers:
        _servers[version] = installation(Account.choose(), version)
    return _servers[version]


def new_cluster(
    version: int, *, settings: Mapping[str, str | int] | None = None, hba: Sequence[str] = TRUST
) -> Cluster:
    """A running server of the test's own, to be killed, stopped, reconfigured. The caller closes it."""
    cluster = Cluster(settings={**SETTINGS, **(settings or {})}, hba=hba, server=server(version))
    try:
        return cluster.start()
    except BaseException:
        cluster.close()
        raise


def shared_cluster(version: int) -> Cluster:
    """The server that this test process keeps for all tests that do it no harm; it runs."""
    if version not in _shared:
        _shared[version] = new_cluster(version)
    cluster = _shared[version]
    if cluster.pid is None:
        cluster.start()
    return cluster


def close_shared() -> None:
    """End them (end of the test session)."""
    while _shared:
        _shared.popitem()[1].close()
