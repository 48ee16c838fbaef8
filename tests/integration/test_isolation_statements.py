"""What a prepared statement means: to each client what it meant when that client prepared it.

Each script runs twice, with connections of its own to PostgreSQL and through pgferry, and is answered the same.
"""

import contextlib
from collections.abc import Callable, Iterator

import pytest

from pgferry.client import Address
from pgferry.embedded import Cluster
from support.pooler import Pooler
from support.wire import Message, Wire, bind, close, describe, execute, parse, query, sync, types

MakePooler = Callable[..., Pooler]
Connect = Callable[..., Wire]
Script = Callable[[Connect], list[object]]

TWO = {"default_pool_size": 2, "server_round_robin": 1}

# Setting, two values of it, and a text whose answer depends on them.
LITERALS = [
    (
        "TimeZone",
        "UTC",
        "Asia/Tokyo",
        "SELECT '2024-01-01'::timestamptz = '2024-01-01 00:00+00'::timestamptz",
    ),
    ("DateStyle", "ISO, MDY", "ISO, DMY", "SELECT extract(month FROM '01/02/2024'::date)::int"),
    ("IntervalStyle", "postgres", "sql_standard", "SELECT extract(hour FROM '-1 2:00:00'::interval)::int"),
    ("standard_conforming_strings", "on", "off", r"SELECT length('a\nb')"),
    ("transform_null_equals", "off", "on", "SELECT count(*) FROM (VALUES (NULL::int)) v(n) WHERE n = NULL"),
    ("array_nulls", "on", "off", "SELECT ('{NULL}'::text[])[1]"),
    ("client_encoding", "UTF8", "LATIN1", "SELECT octet_length('\u00e9')"),
    ("bytea_output", "hex", "escape", r"SELECT E'\\x41'::bytea::text"),
    ("extra_float_digits", "1", "0", "SELECT (0.1::float8 + 0.2::float8)::text"),
    ("quote_all_identifiers", "off", "on", "SELECT quote_ident('a')"),
]
NAMES = [name for name, *_ in LITERALS]


@pytest.fixture
def direct(cluster: Cluster) -> Iterator[Connect]:
    with connections(cluster.socket) as connect:
        yield connect


@contextlib.contextmanager
def connections(address: Address) -> Iterator[Connect]:
    """A function that connects there; what it has made is closed in the end."""
    with contextlib.ExitStack() as stack:

        def connect(user: str = "postgres", **parameters: str) -> Wire:
            return stack.enter_context(Wire.login(address, user=user, **parameters))

        yield connect


def through(pooler: Pooler, script: Script) -> list[object]:
    with connections((pooler.host, pooler.port)) as connect:
        return script(connect)


def seen(answer: list[Message]) -> list[object]:
    """Rows and errors of an answer."""
    return [m.row if m.type == "D" else (m.sqlstate, m.text) for m in answer if m.type in "DE"]


def ask(wire: Wire, *messages: bytes) -> list[object]:
    wire.send(*messages, sync())
    return seen(wire.until())


def run(wire: Wire, name: str = "s") -> list[object]:
    return ask(wire, bind(statement=name), execute())


def set_by_protocol(wire: Wire, name: str, value: str) -> None:
    """SET that leaves the unnamed statement alone, as a Query would not."""
    assert not ask(
        wire, parse(f"SET {name} TO '{value}'", "set"), bind(statement="set"), execute(), close("set")
    )


# --- clients with different settings -----------------------------------------------------------------------------


@pytest.mark.workers(1)
@pytest.mark.parametrize("size", [1, 2])
@pytest.mark.parametrize("how", ["startup", "set", "protocol", "prepare"])
def test_literals_are_each_clients_own(
    cluster: Cluster, make_pooler: MakePooler, direct: Connect, size: int, how: str
) -> None:
    """The same text of clients with different settings, in turn on the same servers."""

    def script(connect: Connect) -> list[object]:
        got: list[object] = []
        for name, *values, text in LITERALS:
            wires = [connect(**({name: value} if how == "startup" else {})) for value in (*values, values[0])]
            for wire, value in zip(wires, (*values, values[0]), strict=True):
                if how in ("set", "prepare"):
                    wire.query(f"SET {name} TO '{value}'")
                elif how == "protocol":
                    set_by_protocol(wire, name, value)
            for wire in wires:
                if how == "prepare":
                    wire.query(f"PREPARE s AS {text}")
                else:
                    got.append(ask(wire, parse(text, "s"), describe("s"), bind(statement="s"), execute()))
            for wire in wires * 3:
                got.append((name, seen(wire.query("EXECUTE s")) if how == "prepare" else run(wire)))
        return got

    pooler = make_pooler(cluster, settings={**TWO, "default_pool_size": size})
    assert through(pooler, script) == script(direct)


@pytest.mark.workers(1)
def test_roles_with_tables_of_different_columns(
    cluster: Cluster, make_pooler: MakePooler, database: str
) -> None:
    """ "$user" in search_path is the role: a statement just prepared has that role's table's columns."""
    cluster.sql(
        "CREATE ROLE stmt_a SUPERUSER LOGIN; CREATE ROLE stmt_b SUPERUSER LOGIN;"
        "CREATE SCHEMA stmt_a; CREATE SCHEMA stmt_b;"
        "CREATE TABLE stmt_a.t AS SELECT 1 AS one; CREATE TABLE stmt_b.t AS SELECT 'x' AS x, 'y' AS y",
        database,
    )

    def script(connect: Connect) -> list[object]:
        got: list[object] = []
        for word in ("ROLE", "SESSION AUTHORIZATION"):
            wires = [connect(database=database), connect(database=database)]
            for wire, role in zip(wires, ("stmt_a", "stmt_b"), strict=True):
                wire.query(f"SET {word} {role}")
                wire.send(
                    parse("SELECT * FROM t", "s"), describe("s"), bind(statement="s"), execute(), sync()
                )
                got.append([(m.type, m.body) for m in wire.until() if m.type != "T"])
            for wire in wires * 2:
                got.append(run(wire))
        return got

    try:
        pooler = make_pooler(cluster, settings={"default_pool_size": 1})
        with connections(cluster.socket) as connect:
            expected = script(connect)
        assert through(pooler, script) == expected
        pooler.stop()
    finally:
        cluster.sql("DROP OWNED BY stmt_a, stmt_b CASCADE", database)
        cluster.sql("DROP SCHEMA IF EXISTS stmt_a, stmt_b CASCADE", database)
        cluster.sql("DROP ROLE stmt_a, stmt_b")


@pytest.mark.workers(1)
def test_databases_with_tables_of_different_columns(
    cluster: Cluster, make_pooler: MakePooler, database: str
) -> None:
    """What one database's table looks like is not what another one's was."""
    cluster.sql("CREATE TABLE stmt_here AS SELECT 1 AS a, 2 AS b", database)
    cluster.sql("CREATE TABLE stmt_here AS SELECT 'other' AS c")
    pooler = make_pooler(cluster)
    try:
        with connections((pooler.host, pooler.port)) as connect:
            for name, row in (("postgres", [b"other"]), (database, [b"1", b"2"])):
                wire = connect(database=name)
                assert ask(wire, parse("SELECT * FROM stmt_here", "s"), describe("s")) == []
                assert run(wire) == [row]
    finally:
        cluster.sql("DROP TABLE stmt_here")


# --- one client whose settings change ----------------------------------------------------------------------------


@pytest.mark.workers(1)
@pytest.mark.parametrize("statement", ["s", ""])
@pytest.mark.parametrize("described", [False, True])
def test_parse_then_set_then_the_next_server(
    cluster: Cluster, make_pooler: MakePooler, direct: Connect, statement: str, described: bool
) -> None:
    """PostgreSQL keeps a statement as it was parsed; so do servers that get it later."""

    def script(connect: Connect) -> list[object]:
        got: list[object] = []
        for name, first, second, text in LITERALS:
            if name in ("bytea_output", "extra_float_digits", "quote_all_identifiers"):
                continue  # what constants are written with is settled at the first execution, not at Parse
            wire, other = connect(), connect()
            set_by_protocol(wire, name, first)
            ask(wire, parse(text, statement), *([describe(statement)] if described else []))
            set_by_protocol(wire, name, second)
            for _ in range(4):
                for _ in range(2):
                    assert ask(other, parse("SELECT 1"), bind(), execute()) == [[b"1"]]
                got.append(
                    (name, run(wire, statement), seen(wire.query(f"SHOW {name}")) if statement else None)
                )
        return got

    pooler = make_pooler(cluster, settings={**TWO, "default_pool_size": 3})
    assert through(pooler, script) == script(direct)


@pytest.mark.workers(1)
def test_settings_of_a_transaction(cluster: Cluster, make_pooler: MakePooler, direct: Connect) -> None:
    """What was parsed in a transaction that has changed settings means what it meant there, and only to its client."""
    text = LITERALS[0][-1]
    tokyo = "SET TimeZone TO 'Asia/Tokyo'"
    local = tokyo.replace("SET", "SET LOCAL")
    call = "SELECT set_config('time'||'zone', 'Asia/Tokyo', {})"

    def script(connect: Connect) -> list[object]:
        got: list[object] = []
        other, third = connect(TimeZone="UTC"), connect(TimeZone="Asia/Tokyo")
        for change in (tokyo, call.format("false"), local, call.format("true")):
            for end in ("COMMIT", "ROLLBACK"):
                for pipelined in (False, True):
                    wire = connect(TimeZone="UTC")
                    messages = [query("BEGIN"), query(change), parse(text, "s") + sync(), query(end)]
                    if pipelined:
                        wire.send(*messages)
                        got.append(seen(wire.until(count=4)))
                    else:
                        for message in messages:
                            wire.send(message)
                            got.append(seen(wire.until()))
                    for _ in range(2):
                        for each in (other, third):
                            ask(each, close("s"), parse(text, "s"))
                            got.append((change, end, run(each)))
                        got.append((change, end, run(wire), seen(wire.query("SHOW TimeZone"))))
                    wire.close()  # its server may be pinned
        return got

    pooler = make_pooler(cluster, settings=TWO)
    assert through(pooler, script) == script(direct)


@pytest.mark.workers(1)
@pytest.mark.parametrize("own", ["true", "false"])
def test_settings_bound_in_a_transaction(
    cluster: Cluster, make_pooler: MakePooler, direct: Connect, own: str
) -> None:
    """The same where the setting's name is a parameter."""
    text = LITERALS[0][-1]

    def script(connect: Connect) -> list[object]:
        got: list[object] = []
        wire, other = connect(TimeZone="UTC"), connect(TimeZone="UTC")
        wire.query("BEGIN")
        got.append(
            ask(
                wire,
                parse(f"SELECT set_config($1, $2, {own})", "set"),
                bind([b"TimeZone", b"Asia/Tokyo"], statement="set"),
                execute(),
            )
        )
        got.append(ask(wire, parse(text, "s")))
        wire.query("ROLLBACK")
        for _ in range(2):
            got.append(ask(other, close("s"), parse(text, "s"), bind(statement="s"), execute()))
            got.append((run(wire), seen(wire.query("SHOW TimeZone"))))
        return got

    pooler = make_pooler(cluster, settings=TWO)
    assert through(pooler, script) == script(direct)


# --- SQL's PREPARE -------------------------------------------------------------------------------------------------


@pytest.mark.workers(1)
@pytest.mark.parametrize("by", ["query", "protocol"])
def test_prepare_then_set_then_the_next_server(
    cluster: Cluster, make_pooler: MakePooler, direct: Connect, by: str
) -> None:
    """EXECUTE means what PREPARE meant, whatever has been set since, on whichever server."""

    def script(connect: Connect) -> list[object]:
        got: list[object] = []
        for name, first, second, text in LITERALS:
            if name in ("bytea_output", "extra_float_digits", "quote_all_identifiers"):
                continue  # settled at the first execution
            wire, other = connect(), connect()
            set_by_protocol(wire, name, first)
            wire.query(f"PREPARE s AS {text}")
            set_by_protocol(wire, name, second)
            for _ in range(4):
                for _ in range(2):
                    assert ask(other, parse("SELECT 1"), bind(), execute()) == [[b"1"]]
                if by == "query":
                    got.append((name, seen(wire.query("EXECUTE s"))))
                else:
                    got.append((name, ask(wire, parse("EXECUTE s"), bind(), execute())))
                got.append((name, run(wire), seen(wire.query(f"SHOW {name}"))))
                wire.query("BEGIN")
                got.append((name, seen(wire.query("EXECUTE s")), seen(wire.query(f"SHOW {name}"))))
                wire.query("COMMIT")
        return got

    pooler = make_pooler(cluster, settings={**TWO, "default_pool_size": 3})
    assert through(pooler, script) == script(direct)


CHANGES = [
    ["BEGIN", "SET TimeZone TO 'Asia/Tokyo'", "{prepare}", "COMMIT"],
    ["BEGIN", "SET TimeZone TO 'Asia/Tokyo'", "{prepare}", "ROLLBACK"],
    ["BEGIN", "SET LOCAL TimeZone TO 'Asia/Tokyo'", "{prepare}", "COMMIT"],
    ["BEGIN", "SELECT set_config('TimeZone', 'Asia/Tokyo', true)", "SELECT stmt_prepare()", "COMMIT"],
    ["SET TimeZone TO 'Asia/Tokyo'; {prepare}; SET TimeZone TO 'UTC'"],
    ["BEGIN; SET LOCAL TimeZone TO 'Asia/Tokyo'; {prepare}; COMMIT"],
    ["BEGIN", "SET TimeZone TO 'Asia/Tokyo'", "ROLLBACK; {prepare}"],
    ["{prepare}", "BEGIN", "SET TimeZone TO 'Asia/Tokyo'", "DEALLOCATE s", "{prepare}", "COMMIT"],
    ["{prepare}", "SET TimeZone TO 'Asia/Tokyo'; DEALLOCATE s; {prepare}; RESET TimeZone"],
]


@pytest.mark.workers(1)
@pytest.mark.parametrize("pipelined", [False, True])
def test_prepare_where_settings_change(
    cluster: Cluster, make_pooler: MakePooler, database: str, pipelined: bool
) -> None:
    """Settings of a transaction, and of a text of several statements, in the midst of which PREPARE stands."""
    text = LITERALS[0][-1]
    prepare = f"PREPARE s AS {text}"
    quoted = prepare.replace("'", "''")
    cluster.sql(
        "CREATE FUNCTION stmt_prepare() RETURNS void LANGUAGE plpgsql"
        f" AS $$ BEGIN EXECUTE '{quoted}'; END $$",
        database,
    )

    def script(connect: Connect) -> list[object]:
        got: list[object] = []
        for change in CHANGES:
            wire, other = (
                connect(TimeZone="UTC", database=database),
                connect(TimeZone="UTC", database=database),
            )
            queries = [query(each.format(prepare=prepare)) for each in change]
            if pipelined:
                wire.send(*queries)
                got.append(seen(wire.until(count=len(queries))))
            else:
                for each in queries:
                    wire.send(each)
                    got.append(seen(wire.until()))
            got.append(seen(other.query(prepare)))
            for _ in range(3):
                assert seen(other.query("SELECT 1")) == [[b"1"]]
                got.append((change, seen(wire.query("EXECUTE s")), seen(wire.query("SHOW TimeZone"))))
                got.append((change, seen(other.query("EXECUTE s"))))
            wire.close()  # its server may be pinned
            other.close()
        return got

    with connections(cluster.socket) as connect:
        expected = script(connect)
    pooler = make_pooler(cluster, settings=TWO)
    assert through(pooler, script) == expected
    pooler.stop()


@pytest.mark.workers(1)
def test_prepared_under_a_role_that_is_gone(cluster: Cluster, make_pooler: MakePooler, database: str) -> None:
    """What cannot be prepared as it was is an error that says why, and what comes behind it is as it was."""
    cluster.sql("CREATE ROLE stmt_gone SUPERUSER", database)
    pooler = make_pooler(cluster, settings=TWO)
    with connections((pooler.host, pooler.port)) as connect:
        wire, other = connect(database=database), connect(database=database)
        wire.query("SET ROLE stmt_gone")
        wire.query("PREPARE s AS SELECT 1")
        wire.query("RESET ROLE")
        other.query("DEALLOCATE ALL")
        cluster.sql("DROP ROLE stmt_gone", database)
        answers = []
        for _ in range(4):
            other.query("SELECT 1")
            answers.append(seen(wire.query("EXECUTE s")))
            assert seen(wire.query("SELECT current_user")) == [[b"postgres"]]
        gone = [("22023", 'role "stmt_gone" does not exist')]
        assert gone in answers
        assert [each for each in answers if each not in (gone, [[b"1"]])] == []


@pytest.mark.workers(1)
def test_settings_of_a_batch(cluster: Cluster, make_pooler: MakePooler, direct: Connect) -> None:
    """SET and Parse before the same Sync; and a statement of before, behind the SET, on a server that lacks it."""
    text = LITERALS[0][-1]

    def script(connect: Connect) -> list[object]:
        got: list[object] = []
        wire, other = connect(TimeZone="UTC"), connect(TimeZone="UTC")
        ask(wire, parse(text, "before"))
        for _ in range(3):
            ask(other, parse("SELECT 1"), bind(), execute())
            zone = [parse("SET TimeZone TO 'Asia/Tokyo'"), bind(), execute()]
            uses = [
                bind(statement="before"),
                execute(),
                close("s"),
                parse(text, "s"),
                bind(statement="s"),
                execute(),
            ]
            got.append(ask(wire, *zone, *uses))
            got.append((run(wire), run(wire, "before"), seen(wire.query("SHOW TimeZone"))))
            got.append(ask(other, close("s"), parse(text, "s"), bind(statement="s"), execute()))
            wire.query("SET TimeZone TO 'UTC'")
        return got

    pooler = make_pooler(cluster, settings={**TWO, "default_pool_size": 3})
    assert through(pooler, script) == script(direct)


@pytest.mark.workers(1)
def test_parsed_again_under_another_clients_settings(
    cluster: Cluster, make_pooler: MakePooler, direct: Connect
) -> None:
    """After DDL PostgreSQL reads a statement again, under the settings of who uses it then: only for that one."""
    text = LITERALS[0][-1].replace("SELECT ", "SELECT count(*) > 0 AND ") + " FROM stmt_again"
    cluster.sql("CREATE TABLE stmt_again AS SELECT 1 AS n")

    def script(connect: Connect) -> list[object]:
        got: list[object] = []
        one, two = connect(TimeZone="UTC"), connect(TimeZone="UTC")
        for wire in (one, two):
            ask(wire, parse(text, "s"))
            got.append(run(wire))
        one.query("SET TimeZone TO 'Asia/Tokyo'")
        for _ in range(2):
            cluster.sql("ALTER TABLE stmt_again SET (fillfactor = 90)")
            run(one)  # on a connection of its own it would go on with what was read now
            got.extend((run(two), run(two)))
        return got

    try:
        pooler = make_pooler(cluster, settings={"default_pool_size": 1})
        assert through(pooler, script) == script(direct)
    finally:
        cluster.sql("DROP TABLE stmt_again")


# --- names ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["PREPARE x AS SELECT 1", "EXECUTE s", "DEALLOCATE s", "DEALLOCATE ALL"])
def test_parse_of_a_name_in_use(pooler: Pooler, direct: Connect, text: str) -> None:
    """42P05, whatever the text, and the statement is what it was."""

    def script(connect: Connect) -> list[object]:
        wire = connect()
        wire.query("PREPARE by_sql AS SELECT 7")
        got = [ask(wire, parse("SELECT 5", "s"))]
        for name in ("s", "by_sql"):
            got.append(ask(wire, parse(text, name)))
            got.append(run(wire, name))
        return got

    assert through(pooler, script) == script(direct)


def test_parse_of_a_name_just_prepared(pooler: Pooler, direct: Connect) -> None:
    """The same before PostgreSQL has been asked what the PREPARE has made."""

    def script(connect: Connect) -> list[object]:
        wire = connect()
        wire.query("BEGIN")
        wire.query("PREPARE by_sql AS SELECT 7")
        return [ask(wire, parse("SELECT 5", "by_sql")), wire.query("ROLLBACK")[0].text, run(wire, "by_sql")]

    assert through(pooler, script) == script(direct)


@pytest.mark.workers(1)
def test_none_kept_is_nobody_elses(cluster: Cluster, make_pooler: MakePooler, direct: Connect) -> None:
    """max_prepared_statements = 0: a name is never another client's statement."""

    def script(connect: Connect) -> list[object]:
        got: list[object] = []
        wires = [connect() for _ in range(3)]
        for number, wire in enumerate(wires):
            got.append(ask(wire, parse(f"SELECT 'first of {number}'", "s"), parse(f"SELECT {number}", "t")))
        for wire in wires * 2:
            got.extend((run(wire), run(wire, "t"), run(wire, "gone")))
        return got

    expected = script(direct)
    for state in ("track", "refuse"):
        settings = {**TWO, "max_prepared_statements": 0, "session_state": state}
        assert through(make_pooler(cluster, settings=settings), script) == expected


@pytest.mark.workers(1)
def test_none_kept_and_state_ignored(cluster: Cluster, make_pooler: MakePooler) -> None:
    """With session_state = ignore names go to servers as they are, as PgBouncer has it."""
    pooler = make_pooler(
        cluster, settings={"default_pool_size": 1, "max_prepared_statements": 0, "session_state": "ignore"}
    )
    with connections((pooler.host, pooler.port)) as connect:
        one, two = connect(), connect()
        assert ask(one, parse("SELECT 'one'", "s")) == []
        assert run(two) == [[b"one"]]
        two.send(parse("SELECT 1", "s"), sync())
        assert types(two.until()) == "EZ"


def test_unnamed_statement_behind_one_that_failed(pooler: Pooler, direct: Connect) -> None:
    """A batch fails behind which the next one's unnamed statement has been sent already."""

    def script(connect: Connect) -> list[object]:
        wire = connect()
        wire.send(parse("SELECT 1"), bind(), execute(), parse("SELECT 1/0"), bind(), execute(), sync())
        wire.send(parse("SELECT 2"), sync(), bind(), execute(), sync())
        return [seen(wire.until(count=3)), run(wire, ""), seen(wire.query("SELECT 3"))]

    assert through(pooler, script) == script(direct)


def test_asking_leaves_the_batch_alone(pooler: Pooler, direct: Connect) -> None:
    """What PostgreSQL is asked for in front of a batch is not part of it: SET LOCAL warns as the first of its batch."""

    def script(connect: Connect) -> list[object]:
        wire = connect()
        wire.send(query("BEGIN"), query("SET TimeZone TO 'Asia/Tokyo'"), query("ROLLBACK"))
        for name in ("", "s"):
            wire.send(parse("SET LOCAL array_nulls TO off", name), bind(statement=name), execute(), sync())
        return [m.type + m.text for m in wire.until(count=5) if m.type in "NEC"]

    assert through(pooler, script) == script(direct)
