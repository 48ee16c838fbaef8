"""The table of statements and the set of a server, against dicts."""

from collections import OrderedDict

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgferry.engine import harness
from pgferry.engine.prepared import ServerStatements, Statement, StatementTable


def test_one_text_is_one_statement_while_somebody_holds_it() -> None:
    table = StatementTable()
    first = harness.intern(table, 0, b"SELECT 1\0\0\0")
    assert harness.intern(table, 0, b"SELECT 1\0\0\0") is first
    assert harness.intern(table, 1, b"SELECT 1\0\0\0") is not first  # another epoch
    assert first.wire_name == b"PGFERRY_%d\0" % first.number
    harness.acquire(table, first)
    harness.acquire(table, first)
    harness.release(table, first)
    assert harness.known(table, first.number) is first
    harness.release(table, first)
    assert harness.known(table, first.number) is None
    again = harness.intern(table, 0, b"SELECT 1\0\0\0")
    assert again is not first and again.number != first.number  # a number never names two texts
    with pytest.raises(TypeError):
        Statement()


operation = st.tuples(st.sampled_from(["add", "touch", "discard", "oldest", "clear"]), st.integers(0, 40))


@given(st.lists(operation, max_size=200))
def test_servers_set(steps: list[tuple[str, int]]) -> None:
    table = StatementTable()
    known = [harness.intern(table, 0, b"%d" % i) for i in range(40)]
    for held in known:
        harness.acquire(table, held)
    statements, model = ServerStatements(table), OrderedDict[int, None]()
    for what, i in steps:
        number = known[i].number if i < len(known) else 9999
        if what == "add" and i < len(known):
            harness.prepared_add(statements, number)
            model[number] = None
            model.move_to_end(number)
        elif what == "touch":
            assert harness.prepared_touch(statements, number) == (number in model)
            if number in model:
                model.move_to_end(number)
        elif what == "discard":
            harness.prepared_discard(statements, number)
            model.pop(number, None)
        elif what == "oldest":
            assert harness.prepared_oldest(statements) == next(iter(model), 0)
        elif what == "clear" and i < 3:
            harness.prepared_clear(statements)
            model.clear()
        assert statements.count == len(model)
    assert harness.prepared(statements) == list(model)
    harness.prepared_clear(statements)
    for held in known:
        harness.release(table, held)
    assert len(table) == 0, "every holder has let go"


def test_a_statement_nobody_knows_is_not_added() -> None:
    statements = ServerStatements(StatementTable())
    harness.prepared_add(statements, 7)
    assert statements.count == 0
