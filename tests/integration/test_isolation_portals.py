"""Portals that are executed later than they were bound, or in another order: RESET, DISCARD and DEALLOCATE in them."""

from collections.abc import Callable

import pytest

from pgferry.embedded import Cluster
from support.clients import raw
from support.pooler import Pooler
from support.wire import Wire, bind, execute, parse, sync

Make = Callable[..., Pooler]

pytestmark = pytest.mark.workers(1)

OPTIONS = "-c work_mem=7MB"


def said(wire: Wire, *messages: bytes) -> list[tuple[str, object]]:
    """What is answered: rows, command tags, errors."""
    wire.send(*messages, sync())
    return [
        (m.type, {"D": lambda m: m.row, "E": lambda m: m.sqlstate, "C": lambda m: m.text}[m.type](m))
        for m in wire.until()
        if m.type in "DCE"
    ]


def later(wire: Wire, sql: str) -> list[object]:
    """Bound in one batch, executed in another, with others between."""
    return [
        said(wire, parse(sql, "p"), bind(statement="p", portal="late")),
        said(wire, parse("SELECT 1", "q"), bind(statement="q", portal="other"), execute("other")),
        wire.rows("SELECT 2"),
        said(wire, execute("late")),
    ]


def crossed(wire: Wire, sql: str) -> list[object]:
    """Bound before another one, executed behind it."""
    return said(
        wire,
        parse(sql, "p"),
        parse("SELECT current_setting('work_mem')", "q"),
        bind(statement="p", portal="late"),
        bind(statement="q", portal="other"),
        execute("other"),
        execute("late"),
        bind(statement="q", portal="again"),
        execute("again"),
    )


def never(wire: Wire, sql: str) -> list[object]:
    """Bound and not executed, and then bound to something else."""
    return [
        said(wire, parse(sql, "p"), bind(statement="p", portal="late")),
        said(wire, parse("SELECT 1", "q"), bind(statement="q", portal="other"), execute("other")),
        said(wire, bind(statement="q"), execute()),
    ]


@pytest.mark.parametrize(
    "sql", ["RESET work_mem", "SET work_mem TO DEFAULT", "RESET ALL", "DEALLOCATE r", "DEALLOCATE ALL"]
)
def test_as_directly(cluster: Cluster, make_pooler: Make, sql: str) -> None:
    pooler = make_pooler(cluster, settings={"default_pool_size": 1})

    def program(wire: Wire, how: Callable[[Wire, str], list[object]]) -> list[object]:
        told: list[object] = [wire.query("SET work_mem = '9MB'")[0].text]
        told.append(said(wire, parse("SELECT 'r'", "r")))
        wire.query("BEGIN")
        told += how(wire, sql)
        told.append(said(wire, parse("SHOW work_mem"), bind(), execute()))
        wire.query("COMMIT")
        told.append(said(wire, parse("SHOW work_mem"), bind(), execute()))
        told.append(said(wire, bind(statement="r"), execute()))
        return told

    address = ("127.0.0.1", cluster.port)
    for how in (later, crossed, never):
        with (
            Wire.login(address, "postgres", "postgres", options=OPTIONS) as direct,
            raw(pooler, options=OPTIONS) as wire,
            raw(pooler) as witness,
        ):
            assert program(wire, how) == program(direct, how), how.__name__
            assert witness.rows("SHOW work_mem") == [[b"4MB"]]
