"""Fixtures for PgBouncer and pgferry side by side: a PostgreSQL with passwords, and the pair of poolers.

PGFERRY_TEST_PGBOUNCER=trixie,forky (default) names the Debian releases whose PgBouncer is compared with;
PGFERRY_COMPAT_RECORDS=folder keeps what both answered.
"""

import json
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from compat.compare import unexpected_differences
from compat.known import KNOWN
from compat.twins import Twin, original
from compat.witness import Record, Witness
from integration.conftest import chosen
from pgferry.embedded import Cluster
from support import cluster as clusters

SUITES = os.environ.get("PGFERRY_TEST_PGBOUNCER", "trixie,forky").split(",")
PG = 15
HBA = (
    "local all all trust",
    "host all md5_role all md5",
    "host all refused all reject",
    "host all all all scram-sha-256",
)
ROLES = """
CREATE ROLE app LOGIN PASSWORD 'app secret';
CREATE ROLE web LOGIN PASSWORD 'web secret';
CREATE ROLE report LOGIN PASSWORD 'report secret';
CREATE ROLE hash LOGIN PASSWORD 'hash secret';
CREATE ROLE dynamic LOGIN PASSWORD 'dynamic secret';
CREATE ROLE expired LOGIN PASSWORD 'expired secret' VALID UNTIL '2001-01-01';
CREATE ROLE refused LOGIN PASSWORD 'refused secret';
CREATE ROLE verified LOGIN PASSWORD
  'SCRAM-SHA-256$4096:MDEyMzQ1Njc4OWFiY2RlZg==$UQudPjEJ/O9mdhJ7uAJNeIPTVdSSbr7nlYSMlwRcDtc=:I93lthmb3JNKfyvVgedHg3MPRzFAfHR/Kwg02WWGswg=';
CREATE ROLE "quoted""user" LOGIN PASSWORD 'with "quotes';
CREATE ROLE lookup LOGIN PASSWORD 'lookup secret';
CREATE ROLE md5_role LOGIN PASSWORD 'md5e06a6e1a1f2293072326c07f47d39430';
CREATE DATABASE shop;
CREATE DATABASE billing;
CREATE DATABASE analytics;
"""
LOOKUP = """
CREATE SCHEMA pooler AUTHORIZATION lookup;
CREATE FUNCTION pooler.user_lookup(wanted text, OUT name text, OUT secret text) RETURNS SETOF record
  LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog AS $$
    SELECT rolname::text, CASE WHEN rolvaliduntil < now() THEN NULL ELSE rolpassword END
    FROM pg_authid WHERE rolname = wanted AND rolcanlogin $$;
CREATE TABLE public.copied (a int);
GRANT ALL ON public.copied TO PUBLIC;
"""

Scenario = Callable[[Witness], None]
Compare = Callable[..., None]


@pytest.fixture(scope="session")
def guarded() -> Iterator[Cluster]:
    """A PostgreSQL that asks for passwords."""
    server = clusters.new_cluster(PG, hba=HBA)
    for statement in filter(str.strip, ROLES.split(";")):
        server.sql(statement)
    for name in ("postgres", "shop", "billing", "analytics"):
        server.sql(LOOKUP, name)
    yield server
    server.close()


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Every comparison with each release, or with one of them when time is short."""
    if "compare" in metafunc.fixturenames:
        metafunc.parametrize("suite", chosen(SUITES, metafunc.definition.name))


@pytest.fixture
def compare(suite: str, guarded: Cluster) -> Iterator[Compare]:
    """compare(name, files, scenario): runs it on PgBouncer and on pgferry; fails at differences that are not KNOWN.

    `since`: the PgBouncer that has what the files use; with an older one the test is skipped.
    """
    program, version = original(suite)
    short = ".".join(map(str, version[:2]))
    made: list[Twin] = []

    def run(name: str, files: Mapping[str, str], scenario: Scenario, since: tuple[int, ...] = ()) -> None:
        if version < since:
            pytest.skip(f"PgBouncer {short} has not got that")
        theirs = Witness(_started(Twin(guarded, files, program), made))
        scenario(theirs)
        ours = Witness(_started(Twin(guarded, files, ""), made), theirs.record)
        scenario(ours)
        ours.twin.finish()
        _keep(f"{name}-{short}", {"theirs": theirs.record, "ours": ours.record})
        wrong = unexpected_differences(theirs.record, ours.record, KNOWN, name, short)
        assert not wrong, f"PgBouncer {short} and pgferry differ:\n{wrong}"

    yield run
    for twin in made:
        print(f"--- {twin.config_file}\n{twin.log()[-6000:]}")
        twin.close()


def _keep(name: str, records: Mapping[str, Record]) -> None:
    if folder := os.environ.get("PGFERRY_COMPAT_RECORDS"):
        Path(folder, f"{name}.json").write_text(json.dumps(records, indent=1))


def _started(twin: Twin, made: list[Twin]) -> Twin:
    made.append(twin)
    twin.start()
    return twin
