"""Fixtures with a real PostgreSQL and a real pgferry, over the selected versions and one and two workers.

Each test runs twice: with the first version and one worker, and with the last version and two workers.
PGFERRY_TEST_MATRIX=one (`make test`) runs it once, with one of the two that depends on its name;
PGFERRY_TEST_MATRIX=full runs every combination. A test says `@pytest.mark.workers(1)` or
`@pytest.mark.pg(18)` to be run with these only. What it asks for decides what it is run with:

    cluster       a running server shared with other tests: leave it as it was
    own_cluster   a running server of its own, to be killed and reconfigured
    database      the name of a new, empty database in `cluster`
    workers       the number of workers, to be given to a Pooler
    pooler        a running Pooler in front of `cluster`, transaction mode
    pem_files     a directory for certificates that a pooler can read
    tenants       the roles of support.state_schema, by usefixtures: they go after `database`
    make_web      make_web(settings={...}, ...) -> the HTTP port of a new Pooler in front of `cluster`
    make_pooler   make_pooler(settings={...}, databases={...}, ...) -> running Pooler (see class Pooler)
"""

import itertools
import os
import zlib
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from pgferry.embedded import Cluster, take_port
from pgferry.embedded.pooler import runner
from support import cluster as clusters
from support import state_schema
from support.certificates import PemFiles
from support.pooler import PROGRAM, Pooler
from support.web import Web

WORKERS = (1,) if PROGRAM else (1, 2)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Give a test its combinations of version and workers, whichever of the two it uses."""
    uses_pg, uses_workers = ("pg_version" in metafunc.fixturenames, "workers" in metafunc.fixturenames)
    versions = _wanted(metafunc, "pg", clusters.versions())
    numbers = _wanted(metafunc, "workers", WORKERS)
    name = metafunc.definition.name
    if uses_pg and uses_workers:
        pairs = chosen(_combined(versions, numbers), name)
        ids = [f"pg{v}-w{n}" for v, n in pairs]
        metafunc.parametrize(("pg_version", "workers"), pairs, ids=ids, scope="session")
    elif uses_pg:
        versions = chosen(versions, name)
        metafunc.parametrize("pg_version", versions, ids=[f"pg{v}" for v in versions], scope="session")
    elif uses_workers:
        numbers = chosen(numbers, name)
        metafunc.parametrize("workers", numbers, ids=[f"w{n}" for n in numbers], scope="session")


def _wanted(metafunc: pytest.Metafunc, mark: str, everything: Any) -> list[int]:
    marker = metafunc.definition.get_closest_marker(mark)
    if marker is None:
        return list(everything)
    return [x for x in marker.args if mark == "workers" or x in everything]


def _combined(versions: list[int], numbers: list[int]) -> list[tuple[int, int]]:
    """Every version and every number at least once; all pairs when the matrix is to be full."""
    if os.environ.get("PGFERRY_TEST_MATRIX") == "full" or not (versions and numbers):
        return list(itertools.product(versions, numbers))
    length = max(len(versions), len(numbers))
    return [(versions[i % len(versions)], numbers[i % len(numbers)]) for i in range(length)]


def chosen(choices: list[Any], name: str) -> list[Any]:
    """All of them, or the one that this test is run with when time is short."""
    if os.environ.get("PGFERRY_TEST_MATRIX") != "one" or not choices:
        return choices
    return [choices[zlib.crc32(name.encode()) % len(choices)]]


@pytest.fixture
def cluster(pg_version: int) -> Cluster:
    return clusters.shared_cluster(pg_version)


@pytest.fixture
def own_cluster(pg_version: int) -> Iterator[Cluster]:
    server = clusters.new_cluster(pg_version)
    yield server
    server.close()


_numbers = itertools.count(1)


@pytest.fixture
def database(cluster: Cluster) -> Iterator[str]:
    name = f"test_{os.getpid()}_{next(_numbers)}"
    cluster.sql(f"CREATE DATABASE {name}")
    yield name
    cluster.sql(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def tenants(cluster: Cluster) -> Iterator[None]:
    state_schema.make_roles(cluster)
    yield
    state_schema.drop_roles(cluster)


@pytest.fixture
def pem_files() -> Iterator[PemFiles]:
    """Certificates that a pooler can read."""
    files = PemFiles(runner())
    yield files
    files.close()


@pytest.fixture
def make_pooler(request: pytest.FixtureRequest, workers: int) -> Iterator[Callable[..., Pooler]]:
    """Poolers are judged at the end of the test, in the reverse order of their making (see Pooler.finish)."""
    made: list[tuple[Pooler, str | None]] = []

    def make(cluster: Cluster | None = None, *, ignore: str | None = None, **options: Any) -> Pooler:
        if cluster is None and "cluster" in request.fixturenames:
            cluster = request.getfixturevalue("cluster")
        pooler = Pooler(cluster, **{"workers": workers, **options})
        made.append((pooler, ignore))
        return pooler.start()

    yield make
    problems = []
    for pooler, ignore in reversed(made):
        print(pooler.log()[-8000:])  # shown when the test failed
        try:
            pooler.finish(ignore)
        except AssertionError as e:
            problems.append(str(e))
    assert not problems, "\n".join(problems)


@pytest.fixture
def pooler(cluster: Cluster, make_pooler: Callable[..., Pooler]) -> Pooler:
    return make_pooler(cluster)


@pytest.fixture
def make_web(make_pooler: Callable[..., Pooler], cluster: Cluster) -> Iterator[Callable[..., Web]]:
    ports = []

    def make(settings: dict[str, Any] | None = None, **options: Any) -> Web:
        port = take_port()
        ports.append(port)
        settings = {"http_listen": f"127.0.0.1:{port.port}", **(settings or {})}
        return Web(make_pooler(cluster, settings=settings, **options), port.port)

    yield make
    for port in ports:
        port.release()
