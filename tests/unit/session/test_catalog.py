"""How suspicion climbs from what a function does to all the words that reach it."""

from typing import Any

import pytest

from pgferry.session.catalog import SCAN_QUERY, SELECT_INTO, VERSION_QUERY, Knowledge, analyze_catalog
from pgferry.session.classify import classify
from pgferry.session.graph import Graph
from pgferry.session.verdict import HARMLESS, NEED_SHIFT, NOTIFIES, Need, Touch
from pgferry.session.words import word_set

Row = tuple[bytes | None, ...]

SETTER = b"BEGIN PERFORM set_config('app.tenant', x, false); END"


def function(oid: int, name: str, source: bytes, language: str = "plpgsql", schema: str = "public") -> Row:
    return (b"function", b"1255:%d" % oid, name.encode(), language.encode(), source, schema.encode())


def relation(oid: int, name: str) -> Row:
    return (b"name", b"1259:%d" % oid, name.encode(), None, None, None)


def edge(user: str, used: str) -> Row:
    return (b"edge", user.encode(), used.encode(), None, None, None)


def test_nothing() -> None:
    assert analyze_catalog([]) == Knowledge()


def test_a_chain_of_mentions_in_any_order() -> None:
    known = analyze_catalog(
        [
            function(1, "outer", b"SELECT Middle()", "sql"),
            function(2, "middle", b'BEGIN PERFORM "Inner"(); END'),
            function(3, "Inner", SETTER),
            function(4, "other", b"SELECT 1", "sql"),
        ]
    )
    assert known.words == dict.fromkeys((b"outer", b"middle", b"inner"), 1)
    assert known.names == dict.fromkeys((b"outer", b"middle", b"inner"), (b"app.tenant",))
    assert known.custom == (b"app.tenant",)


def test_circles_end() -> None:
    known = analyze_catalog(
        [
            function(1, "a", b"SELECT b()", "sql"),
            function(2, "b", b"SELECT a(), c()", "sql"),
            function(3, "c", SETTER),
            edge("1259:1", "1259:1"),
        ]
    )
    assert known.words.keys() == {b"a", b"b", b"c"}


def test_names_that_are_no_words_are_found_by_a_piece_too() -> None:
    known = analyze_catalog([function(1, "set the Tenant-x", SETTER)])
    assert known.words.keys() == {b"set the tenant-x", b"tenant"}


def test_names_of_settings_are_not_told_when_one_is_unknown() -> None:
    known = analyze_catalog(
        [
            function(1, "a", SETTER),
            function(2, "b", b"BEGIN PERFORM a(), set_config(x, y, false); END"),
        ]
    )
    assert known.words[b"b"] == Touch.SETTINGS | Touch.UNNAMED
    assert known.names == {b"a": (b"app.tenant",)}


def test_same_name_in_two_schemas() -> None:
    known = analyze_catalog(
        [function(1, "a", SETTER), function(2, "a", b"BEGIN PERFORM pg_advisory_lock(1); END")]
    )
    assert known.words == {b"a": Touch.SETTINGS | Touch.LOCKS}


def test_operators_and_casts_show_no_word() -> None:
    rows = [function(1, "f", SETTER), edge("2617:5", "1255:1")]
    assert analyze_catalog(rows).everything == Touch.SETTINGS
    rows = [function(1, "f", SETTER), edge("2606:5", "1255:1")]
    assert analyze_catalog(rows).everything == 0


def test_event_triggers_are_met_by_words_of_ddl() -> None:
    known = analyze_catalog(
        [function(1, "f", SETTER), (b"event", b"3466:1", b"1255:1", b"ddl_command_end", None, None)]
    )
    assert known.everything == 0
    assert known.words[b"create"] == known.words[b"drop"] == known.words[SELECT_INTO] == Touch.SETTINGS
    assert b"into" not in known.words and b"select" not in known.words


def test_dynamic_names_reach_whatever_is_suspect() -> None:
    mover = function(1, "mover", b"BEGIN EXECUTE format('DELETE FROM %I', x); END")
    assert analyze_catalog([mover]).words == {}
    known = analyze_catalog([mover, function(2, "f", SETTER), edge("1259:3", "1255:2"), relation(3, "t")])
    assert known.words == dict.fromkeys((b"mover", b"f", b"t"), 1)


def test_needs_and_notifications_climb_as_well() -> None:
    known = analyze_catalog(
        [
            function(1, "last_id", b"SELECT lastval()", "sql"),
            function(2, "tell", b"BEGIN NOTIFY a; RETURN NULL; END"),
            edge("1259:3", "1255:2"),
            relation(3, "t"),
        ]
    )
    assert known.words == {b"last_id": Need.SEQUENCES << NEED_SHIFT, b"tell": NOTIFIES, b"t": NOTIFIES}
    assert known.reads_sequences
    assert known.notifying == {b"tell", b"t"}


def test_the_classifier_makes_use_of_it() -> None:
    known = analyze_catalog(
        [
            function(1, "set_tenant", SETTER),
            function(2, "any_setting", b"BEGIN PERFORM set_config(x, y, false); END"),
            function(3, "tell", b"BEGIN NOTIFY a; END"),
            function(4, "last_id", b"SELECT lastval()", "sql"),
            (b"event", b"3466:1", b"1255:2", b"ddl_command_end", None, None),
        ]
    )
    verdict = classify(b'SELECT app."Set_Tenant"(1)', known.words, known.names)
    assert verdict and (verdict.touch, verdict.names) == (Touch.SETTINGS, (b"app.tenant",))
    verdict = classify(b"SELECT any_setting(a, b)", known.words, known.names)
    assert verdict and (verdict.touch, verdict.names) == (Touch.SETTINGS | Touch.UNNAMED, None)
    verdict = classify(b"SELECT set_tenant(1), any_setting(a, b)", known.words, known.names)
    assert verdict and (verdict.names, verdict.hints) == (None, (b"app.tenant",))
    verdict = classify(b"SELECT tell()", known.words)
    assert verdict and (verdict.touch, verdict.needs, verdict.notifies) == (0, 0, True)
    verdict = classify(b"SELECT last_id()", known.words)
    assert verdict and (verdict.touch, verdict.needs, verdict.notifies) == (0, Need.SEQUENCES, False)
    verdict = classify(b"SELECT a INTO b FROM c", known.words)
    assert verdict and verdict.touch == Touch.SETTINGS | Touch.UNNAMED | Touch.TEMP
    assert classify(b"INSERT INTO b SELECT a FROM c", known.words) is HARMLESS


def test_it_takes_breath() -> None:
    breaths: list[None] = []
    analyze_catalog([function(n, f"f{n}", SETTER) for n in range(100)], lambda: breaths.append(None))
    assert len(breaths) >= 10


def test_values_are_plain_numbers() -> None:
    known = analyze_catalog([function(1, "f", SETTER), edge("2617:5", "1255:1")])
    assert type(known.everything) is int and {type(v) for v in known.words.values()} == {int}


def test_queries_name_no_operator_without_its_schema() -> None:
    for query in (VERSION_QUERY, SCAN_QUERY):
        for operator in (b" = ", b" <> ", b" >= ", b" ~ ", b" & ", b" || ", b" IN ", b" BETWEEN ", b" LIKE "):
            assert operator not in query, operator
        assert b"\\" not in query and b";" not in query


def test_a_chain_through_a_thousand_functions() -> None:
    line = b"  UPDATE t_%d SET a = a + 1 WHERE b = 'x' AND c IN (SELECT id FROM u);\n"
    rows = [
        function(n, f"f_{n}", b"BEGIN\n" + line % n * 25 + b"  PERFORM f_%d();\nEND" % (n + 1))
        for n in range(1, 1500)
    ]
    rows += [function(1500, "f_1500", SETTER), *(relation(n, f"t_{n}") for n in range(1500))]
    assert len(analyze_catalog(rows).words) == 1500


def test_functions_that_cannot_be_read_are_told_by_name_and_language() -> None:
    rows = [function(1, "F", b"return 1", "plpython3u"), function(2, "g", b"SELECT f()", "sql")]
    known = analyze_catalog(rows)
    assert known.words[b"f"] & Touch.UNREADABLE and known.words[b"g"] & Touch.UNREADABLE
    assert known.unreadable == {b"f": "F (plpython3u)"}
    assert known.names == {}


@pytest.mark.parametrize("harmless", [b"f", b"app.f"])
def test_functions_that_somebody_vouches_for_do_no_harm(harmless: bytes) -> None:
    rows = [function(1, "F", b"return 1", "plpython3u", "App"), function(2, "g", SETTER)]
    assert analyze_catalog(rows, harmless=[harmless]).words.keys() == {b"g"}
    assert analyze_catalog(rows, harmless=[b"other.f"]).words.keys() == {b"f", b"g"}


@pytest.mark.parametrize("name", ["!", "9$9", "$", "1"])
def test_names_that_no_scan_finds_count_for_any_statement(name: str) -> None:
    assert analyze_catalog([function(1, name, SETTER)]).everything == Touch.SETTINGS


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("1$abc", 'select "1$abc"()'),
        ("set_x", "select set_x()"),
        ("a-set", 'select "a-set"()'),
        ("into", 'a insert "into"()'),
    ],
)
def test_the_scan_finds_the_names_of_the_catalog(name: str, text: str) -> None:
    known = analyze_catalog([function(1, name, SETTER)])
    assert known.everything == 0
    assert word_set(known.words).bits(text.encode()) & Touch.SETTINGS
    assert classify(text.encode(), known.words, known.names).touch & Touch.SETTINGS


def test_names_with_other_characters_than_ascii() -> None:
    known = analyze_catalog([function(1, "\u00e9t\u00e9", SETTER), (b"encoding", b"UTF8", *[None] * 4)])
    assert (known.non_ascii, known.encoding) == (Touch.SETTINGS, "UTF8")


def test_types_of_parameters() -> None:
    known = analyze_catalog([function(1, "f", SETTER), edge("1247:9", "1255:1"), edge("1247:10", "1247:9")])
    assert known.types == {9: Touch.SETTINGS, 10: Touch.SETTINGS}


def test_maintenance_runs_functions_of_tables() -> None:
    lock = b"BEGIN PERFORM pg_advisory_lock(1); PERFORM set_config('a.b', x, false); END"
    known = analyze_catalog([function(1, "f", lock), relation(2, "t"), edge("1259:2", "1255:1")])
    assert known.words[b"analyze"] == known.words[b"vacuum"] == Touch.LOCKS
    assert classify(b"VACUUM", known.words, known.names).reason == "functions that run with VACUUM"


def test_the_cost_grows_with_the_number_of_calls() -> None:
    """Functions that call each other in long chains and in circles, each with a setting of its own."""

    def catalog(size: int) -> list[Row]:
        source = "BEGIN PERFORM f%d(), f%d(); SET app.s%d TO 1; END"
        return [
            function(n, f"f{n}", (source % ((n + 1) % size, (n * 7) % size, n)).encode()) for n in range(size)
        ]

    steps = []
    for size in (500, 5000):
        graph_steps: list[int] = []
        settle = Graph.settle

        def counted(
            self: Graph, everything: bytes, settle: Any = settle, found: list[int] = graph_steps
        ) -> None:
            settle(self, everything)
            found.append(self.steps)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Graph, "settle", counted)
            known = analyze_catalog(catalog(size))
        steps.append(graph_steps[0])
        assert len(known.words) == size
        assert len(known.custom) == min(size, 1000)
        assert known.names == {}  # each may set them all: too many to be carried
    assert steps[1] < 11 * steps[0]
    assert known.words[b"f1"] == Touch.SETTINGS | Touch.UNNAMED
