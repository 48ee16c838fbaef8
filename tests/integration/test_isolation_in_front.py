"""What pgferry puts in front of a client's message: nobody can tell that it was there, whatever becomes of either.

Scripts run twice, with connections of their own to PostgreSQL and through pgferry, and are answered the same.
"""

import contextlib
from collections.abc import Callable, Iterator

import pytest

from pgferry.client import Address
from pgferry.embedded import Cluster
from support.clients import begin, pid_of
from support.pooler import Pooler
from support.wire import (
    Message,
    Wire,
    bind,
    copy_data,
    copy_done,
    execute,
    function_call,
    parse,
    query,
    sync,
    types,
)

MakePooler = Callable[..., Pooler]
Connect = Callable[..., Wire]
Script = Callable[[Connect], list[object]]
pytestmark = pytest.mark.workers(1)

TWO = {"default_pool_size": 2, "server_round_robin": 1}
INT4PL = 177  # oid of the function


@contextlib.contextmanager
def connections(address: Address, database: str) -> Iterator[Connect]:
    """A function that connects there; what it has made is closed in the end."""
    with contextlib.ExitStack() as stack:

        def connect(**parameters: str) -> Wire:
            return stack.enter_context(Wire.login(address, database=database, **parameters))

        yield connect


@pytest.fixture
def compare(cluster: Cluster, make_pooler: MakePooler, database: str) -> Callable[..., None]:
    """A function that runs a script directly and through a pooler with these settings."""

    def run(script: Script, **settings: object) -> None:
        pooler = make_pooler(cluster, settings={**TWO, **settings})
        with connections(cluster.socket, database) as connect:
            right = script(connect)
        with connections((pooler.host, pooler.port), database) as connect:
            assert script(connect) == right

    return run


def gist(answer: list[Message]) -> list[tuple[str, str]]:
    """Types of messages, with SQLSTATE, tag, row or parameter."""
    return [(m.type, m.sqlstate if m.type in "EN" else m.text if m.type in "CSD" else "") for m in answer]


def batch(text: str) -> bytes:
    return parse(text) + bind() + execute() + sync()


@contextlib.contextmanager
def elsewhere(connect: Connect, wire: Wire) -> Iterator[None]:
    """The client's next statements go to another server than the last ones (through pgferry)."""
    with connect() as other:
        last = pid_of(wire)
        if begin(other) != last:
            other.query("ROLLBACK")
            begin(other)
        yield


def test_a_block_that_commits_behind_an_announcement(compare: Callable[..., None]) -> None:
    """A statement that may notify has an announcement in front of it, and is not in a transaction block for that."""

    def script(connect: Connect) -> list[object]:
        connect().query("LISTEN news")
        got: list[object] = []
        for wire in (connect(), connect(), connect()):
            for _ in range(2):
                wire.send(batch("DO $$BEGIN PERFORM pg_notify('other', 'x'); COMMIT; END$$"))
                got.append(gist(wire.until()))
        return got

    compare(script)


def test_a_query_behind_a_parse_that_fails(compare: Callable[..., None]) -> None:
    """What was to be brought for that Query is skipped with it, and nothing waits for its answer for ever."""

    def script(connect: Connect) -> list[object]:
        wire = connect()
        wire.query("PREPARE p AS SELECT 'mine'")
        got: list[object] = []
        for _ in range(2):
            with elsewhere(connect, wire):
                wire.send(parse("SELEC"), query("EXECUTE p"), sync())
                got.append(gist(wire.until()))
            wire.send(parse("TABLE nowhere", "x"), query("EXECUTE p"), sync(), query("SELECT 1"))
            got.append(gist(wire.until(count=2)))
        wire.query("CREATE TABLE IF NOT EXISTS in_front(x text)")
        wire.send(parse("COPY in_front FROM STDIN", "copy"), bind(statement="copy"), execute(), sync())
        got.append(gist(wire.until("G")))
        wire.send(copy_data("a\n"), copy_done(), sync())
        got.append(gist(wire.until()))
        got.append(gist(wire.query("EXECUTE p")))
        return got

    compare(script)


def test_one_reset_behind_another(compare: Callable[..., None]) -> None:
    """The start values behind the second one are set as well."""

    def script(connect: Connect) -> list[object]:
        wire = connect(TimeZone="Asia/Tokyo", options="-c work_mem=7MB")
        got: list[object] = []
        for texts in (("RESET ALL", "RESET TIME ZONE"), ("RESET work_mem", "RESET TIME ZONE", "RESET ALL")):
            wire.query("SET TIME ZONE 'UTC'; SET work_mem = '9MB'")
            wire.send(
                *map(query, texts), query("SELECT current_setting('TimeZone'), current_setting('work_mem')")
            )
            got.append(gist(wire.until(count=len(texts) + 1)))
            got.append(gist(wire.query("SELECT current_setting('TimeZone'), current_setting('work_mem')")))
        return got

    compare(script)


@pytest.mark.parametrize("mode", ["session", "transaction"])
def test_an_error_behind_discard_all_and_a_late_sync(compare: Callable[..., None], mode: str) -> None:
    """DISCARD ALL stands whatever fails behind it, and so do the start values, however late the batch ends."""

    def script(connect: Connect) -> list[object]:
        wire = connect(TimeZone="Asia/Tokyo", search_path="pg_catalog")
        got: list[object] = []
        for _ in range(2):
            wire.send(b"".join(parse(text) + bind() + execute() for text in ("DISCARD ALL", "SELECT 1/0")))
            got.append(gist(wire.until("E"))[-1])
            wire.send(sync())
            wire.until()
            got.append(wire.rows("SELECT current_setting('TimeZone'), current_setting('search_path')"))
        return got

    compare(script, pool_mode=mode)


def test_function_calls_in_statement_mode(compare: Callable[..., None]) -> None:
    """A function that nobody knows may have changed the session: others never see it, and nobody is cut off."""

    def script(connect: Connect) -> list[object]:
        wire = connect()
        got: list[object] = []
        for _ in range(3):
            wire.send(function_call(INT4PL, b"40", b"2"))
            got.append(gist(wire.until()))
        return got

    compare(script, pool_mode="statement")


def test_statements_in_a_transaction_that_has_failed(compare: Callable[..., None]) -> None:
    """What the server lacks cannot be brought there: the error is that of the transaction, not of the statement."""

    def script(connect: Connect) -> list[object]:
        wire = connect()
        wire.query("PREPARE q AS SELECT 'by SQL'")
        wire.send(parse("SELECT 'by protocol', timestamptz '2024-01-01'", "s"), sync())
        wire.until()
        got: list[object] = []
        for extra in ("SET LOCAL TimeZone = 'Asia/Tokyo'", "SELECT 1"):
            for use in (bind(statement="s"), bind(statement="q")):
                with elsewhere(connect, wire):
                    wire.query("BEGIN")
                    wire.query(extra)
                    wire.send(query("SELECT 1/0"), use + execute() + sync(), use + execute() + sync())
                    got.append(states(wire.until(count=3)))
                    wire.send(use + execute() + sync())
                    got.append(states(wire.until()))
                    wire.query("ROLLBACK")
        return got

    compare(script)


def test_what_ends_a_failed_transaction_is_on_its_way(compare: Callable[..., None]) -> None:
    """The statement behind it finds everything that it needs."""

    def script(connect: Connect) -> list[object]:
        wire = connect()
        wire.query("PREPARE q AS SELECT 'by SQL'")
        wire.send(parse("SELECT 'by protocol'", "s"), sync())
        wire.until()
        got: list[object] = []
        for use in (
            query("EXECUTE q"),
            query("EXECUTE s"),
            batch("EXECUTE q"),
            bind(statement="q") + execute() + sync(),
        ):
            with elsewhere(connect, wire):
                wire.query("BEGIN")
                wire.query("SELECT 1/0")
                wire.send(query("ROLLBACK"), use)
                got.append(states(wire.until(count=2)))
        return got

    compare(script)


def states(answer: list[Message]) -> list[str]:
    """Errors, and what is left of the transaction."""
    return [m.sqlstate or types([m]) if m.type == "E" else m.body.decode() for m in answer if m.type in "EZ"]
