"""The table of statements and the set of a server, against dicts."""

from collections import OrderedDict

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgferry.engine.core.statements import PARSE_SETTINGS, ServerStatements, Statement, StatementTable
from pgferry.engine.ops import harness


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


UTC = {b"timezone": b"UTC"}


def test_settings_are_part_of_what_a_statement_is() -> None:
    table = StatementTable()
    plain = harness.intern(table, 0, b"SELECT 1")
    utc = harness.intern(table, 0, b"SELECT 1", UTC)
    named = harness.intern(table, 0, b"SELECT 1", UTC, b"name")
    alone = harness.intern_alone(table, b"SELECT 1")
    assert len({each.number for each in (plain, utc, named, alone)}) == 4
    assert harness.intern(table, 0, b"SELECT 1", dict(UTC)) is utc
    assert harness.intern(table, 0, b"SELECT 1", {b"timezone": b"Asia/Tokyo"}) is not utc
    assert utc.settings.values[PARSE_SETTINGS.index(b"timezone")] == b"UTC"
    for each in (plain, utc, named, alone):
        harness.acquire(table, each)
        harness.release(table, each)
    assert harness.intern(table, 0, b"SELECT 1", UTC) is not utc, "nobody holds it any more"


@pytest.mark.parametrize("values", [{}, UTC, {b"role": b"r\xe9", b"search_path": b'"$user", public'}])
@pytest.mark.parametrize("name", [b"", b"name"])
def test_a_statement_is_the_same_in_another_process(values: dict[bytes, bytes], name: bytes) -> None:
    one, two = StatementTable(), StatementTable()
    st = harness.intern(one, 3, b"SELECT \xff\0\0\0", values, name)
    about = msgspec.msgpack.decode(msgspec.msgpack.encode(harness.describe(one, st)))
    there = harness.take_over(two, about)
    assert (there.number, there.wire_name, there.epoch) == (st.number, st.wire_name, 3)
    assert harness.intern(two, 3, b"SELECT \xff\0\0\0", values, name) is there
    assert harness.take_over(two, about) is there
    assert harness.intern(two, 3, b"another").number > there.number
    harness.number_from(one, 1000)
    about = harness.describe(one, harness.intern_alone(one, b"SELECT 1"))
    moved = harness.take_over(two, msgspec.msgpack.decode(msgspec.msgpack.encode(about)))
    assert moved.alone and harness.intern(two, 0, b"SELECT 1") is not moved


def test_numbers_do_not_wrap() -> None:
    table = StatementTable()
    first = harness.intern(table, 0, b"old")
    harness.number_from(table, 2**32 - 1)
    statements = ServerStatements(table)
    later = [harness.intern(table, 0, b"%d" % i) for i in range(3)]
    assert [each.number for each in later] == [2**32, 2**32 + 1, 2**32 + 2]
    for each in (first, *later):
        harness.prepared_add(statements, each.number)
    harness.prepared_discard(statements, 2**32 + 1)
    assert sorted(harness.prepared(statements)) == [first.number, 2**32, 2**32 + 2]


def test_a_strained_statement_fits_only_who_strained_it() -> None:
    """A client with other settings than a statement was parsed under may have had it read again."""
    table = StatementTable()
    st = harness.intern(table, 0, b"SELECT 1")
    statements = ServerStatements(table)

    def fits(client: int, strains: bool = False) -> bool:
        return harness.prepared_fits(statements, st.number, client, strains)

    harness.prepared_add(statements, st.number)
    assert fits(1) and fits(2)
    assert fits(1, True) and fits(1)
    assert not fits(2)
    harness.prepared_renew(statements, st.number, 2, False)
    assert harness.prepared_touch(statements, st.number) is False
    harness.prepared_add(statements, st.number)
    assert fits(2), "in the same batch"
    harness.prepared_closed(statements, st.number)
    assert fits(1) and fits(3)
    assert fits(1, True) and not fits(3, True)
    harness.prepared_renew(statements, st.number, 3, True)
    harness.prepared_add(statements, st.number)
    harness.prepared_closed(statements, st.number)
    assert fits(3) and not fits(1)
    harness.prepared_renew(statements, st.number, 1, False)
    harness.prepared_stays(statements, st.number)  # it was not closed: nobody knows what it means
    assert not fits(1) and not fits(3)
    harness.prepared_clear(statements)
    harness.prepared_add(statements, st.number)
    assert fits(1) and fits(3)
