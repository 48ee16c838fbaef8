"""What was not understood is never taken for harmless: no client finds what another one's unread statement has left."""

import struct
from collections.abc import Callable
from dataclasses import dataclass

import psycopg
import pytest

from pgferry.embedded import Cluster
from support.clients import raw
from support.pooler import SECRETS, Pooler, eventually
from support.wire import Wire, bind, close, describe, execute, function_call, message, parse, query, sync

Make = Callable[..., Pooler]

LOOK = (
    "SELECT current_user, session_user, current_setting('search_path'), current_setting('work_mem'),"
    " coalesce(current_setting('app.tenant', true), ''), coalesce(current_setting('app.other', true), ''),"
    " (SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid())"
)
CLEAN = [b"postgres", b"postgres", b'"$user", public', b"4MB", b"", b"", b"0"]

SETTER = """CREATE FUNCTION {0}() RETURNS int LANGUAGE plpgsql AS $$
    BEGIN PERFORM set_config('app.tenant', 'evil', false); SET work_mem = '7MB';
    PERFORM pg_advisory_lock(77); RETURN 1; END $$"""
NAMER = """CREATE FUNCTION namer(n text) RETURNS text LANGUAGE plpgsql AS $$
    BEGIN RETURN set_config('app.' || n, 'evil', false); END $$"""


pytestmark = pytest.mark.workers(1)


@dataclass
class Place:
    """A database behind a pooler."""

    pooler: Pooler
    database: str

    def join(self) -> Wire:
        return raw(self.pooler, self.database)

    def pins(self) -> str:
        """The reasons of the pin, "" without one."""
        return "".join(row["reasons"] for row in self.pooler.show("PINS"))

    def finds_nothing(self, owner: Wire) -> None:
        """The next client of that server, now or when its owner has left, finds a session as it was made."""
        witness = self.join()
        witness.send(query(LOOK))
        if witness.silent(1.0):
            owner.close()
        found = [m.row for m in witness.until() if m.type == "D"]
        assert found == [CLEAN], found


@pytest.fixture
def one(make_pooler: Make, cluster: Cluster, database: str) -> Place:
    """A pool of one server, so that whoever comes next finds what is left."""
    return Place(make_pooler(cluster, settings={"default_pool_size": 1}), database)


def look(wire: Wire) -> list[bytes | None]:
    return wire.rows(LOOK)[0]


def rows_of(wire: Wire) -> list[list[bytes | None]]:
    answer = wire.until()
    assert [m.text for m in answer if m.type == "E"] == []
    return [m.row for m in answer if m.type == "D"]


# --- names of settings that come as parameters


@pytest.mark.parametrize("cut", [12, 17, 30])
def test_a_bind_in_pieces(one: Place, cut: int) -> None:
    owner = one.join()
    whole = bind(["app.tenant", "evil" * 10])
    owner.send(parse("SELECT set_config($1, $2, false)"), whole[:cut])
    assert owner.silent(0.1)
    owner.send(whole[cut:], execute(), sync())
    rows_of(owner)
    assert look(owner)[4] == b"evil" * 10
    one.finds_nothing(owner)


def test_a_value_that_is_longer_than_any_buffer(one: Place) -> None:
    owner = one.join()
    owner.send(
        parse("SELECT length(set_config($2, $1, false))"),
        bind(["x" * 3_000_000, "app.tenant"]),
        execute(),
        sync(),
    )
    assert rows_of(owner) == [[b"3000000"]]
    assert owner.rows("SELECT length(current_setting('app.tenant'))") == [[b"3000000"]]
    one.finds_nothing(owner)


@pytest.mark.parametrize(
    ("text", "types", "values"),
    [
        ("SELECT set_config($1::bpchar, 'evil', false)", (), ["search_path   "]),
        ("SELECT set_config($1, 'evil', false)", (1042,), ["search_path   "]),
        ("SELECT set_config($1, $2 || $1, false)", (), ["app.tenant", "evil"]),
        ("SELECT set_config($1, 'evil', false)", (), ["app." + "x" * 2000]),
    ],
)
def test_names_that_do_not_come_as_they_are(
    one: Place, text: str, types: tuple[int, ...], values: list[str]
) -> None:
    owner = one.join()
    owner.send(parse(text, types=types), bind(values), execute(), sync())
    owner.until()
    one.finds_nothing(owner)


# --- texts that are long


@pytest.mark.parametrize("size", [20_000, 300_000])
def test_a_long_text(one: Place, size: int) -> None:
    owner = one.join()
    owner.query(f"SET app.tenant = 'evil'; SELECT '{'x' * size}'")
    assert look(owner)[4] == b"evil"
    one.finds_nothing(owner)


def test_a_text_that_is_too_long_to_be_read(one: Place) -> None:
    owner = one.join()
    owner.query(f"SELECT '{'x' * (17 << 20)}'; SET app.tenant = 'evil'")
    assert look(owner)[4] == b"evil"
    one.finds_nothing(owner)


def test_execute_in_a_long_text(one: Place) -> None:
    owner = one.join()
    owner.send(parse("SELECT $1::int + 1", "plus"), sync())
    owner.until()
    assert owner.rows(f"EXECUTE plus(1); SELECT '{'x' * 300_000}'")[0] == [b"2"]


@pytest.mark.parametrize("size", [300_000, 17 << 20])
def test_refuse_refuses_a_long_text_as_any_other(make_pooler: Make, cluster: Cluster, size: int) -> None:
    pooler = make_pooler(cluster, settings={"session_state": "refuse"})
    wire = raw(pooler)
    answer = wire.query(f"SET work_mem = '7MB'; SELECT '{'x' * size}'")
    assert [m.sqlstate for m in answer if m.type == "E"] == ["0A000"]
    assert wire.rows("SHOW work_mem") == [[b"4MB"]]


# --- what SQL's PREPARE has made


def test_execute_right_behind_its_prepare(one: Place) -> None:
    owner = one.join()
    owner.send(query("PREPARE p AS SELECT set_config('app.tenant', 'evil', false)"), query("EXECUTE p"))
    owner.until(count=2)
    assert look(owner)[4] == b"evil"
    assert one.pins() == ""
    one.finds_nothing(owner)


def test_a_bind_to_a_statement_of_prepare(one: Place) -> None:
    owner = one.join()
    owner.send(query("PREPARE p AS SELECT set_config('app.tenant', 'evil', false)"))
    owner.send(describe("p"), bind([], "p"), execute(), close("p"), sync())
    owner.until(count=2)
    assert look(owner)[4] == b"evil"
    one.finds_nothing(owner)


# --- functions that are new


@pytest.mark.parametrize(
    "texts",
    [
        [SETTER.format("f") + "; SELECT f()"],
        [SETTER.format("f"), "SELECT f()"],
        [SETTER.format("f") + "; CREATE VIEW v AS SELECT f() AS a; SELECT * FROM v"],
        ["BEGIN", SETTER.format("f"), "SELECT f()", "DROP FUNCTION f()", "COMMIT"],
        [
            "CREATE TABLE t (a text DEFAULT set_config('app.tenant', 'evil', false))",
            "INSERT INTO t DEFAULT VALUES",
        ],
        [
            SETTER.format("f").replace("RETURNS int", "RETURNS trigger").replace("RETURN 1", "RETURN NEW")
            + "; CREATE TABLE t (a int); CREATE TRIGGER tr BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION f();"
            " INSERT INTO t VALUES (1)"
        ],
    ],
    ids=["query", "two", "view", "dropped", "default", "trigger"],
)
@pytest.mark.parametrize("how", ["one by one", "pipelined"])
def test_a_function_called_where_it_is_made(one: Place, texts: list[str], how: str) -> None:
    owner = one.join()
    if how == "pipelined":
        owner.send(*map(query, texts))
        answers = owner.until(count=len(texts))
    else:
        answers = [m for text in texts for m in owner.query(text)]
    assert [m.text for m in answers if m.type == "E"] == []
    one.finds_nothing(owner)


def test_a_batch_that_makes_a_function_and_calls_it(one: Place) -> None:
    owner = one.join()
    owner.send(parse(SETTER.format("f")), bind(), execute())
    owner.send(parse("SELECT f()"), bind(), execute(), sync())
    answers = owner.until()
    assert [m.text for m in answers if m.type == "E"] == []
    one.finds_nothing(owner)


def test_a_new_function_that_computes_names(one: Place) -> None:
    owner = one.join()
    owner.query(NAMER)
    owner.query("SELECT namer('tenant')")
    assert look(owner)[4] == b"evil"
    eventually(lambda: "unknown name" in one.pins())
    one.finds_nothing(owner)


def test_whoever_calls_a_function_before_it_has_been_read(
    make_pooler: Make, cluster: Cluster, database: str
) -> None:
    """One client makes it, another one calls it at once: both keep what they have set, nobody else finds it."""
    place = Place(make_pooler(cluster, settings={"default_pool_size": 2}), database)
    maker, caller = place.join(), place.join()
    caller.query("BEGIN")
    for number in range(5):
        maker.query(SETTER.format(f"f{number}"))
        caller.query(f"SELECT f{number}()")
    caller.query("COMMIT")
    assert look(caller)[3:5] == [b"7MB", b"evil"]
    caller.query("SELECT pg_advisory_unlock_all()")
    maker.close()
    witnesses = [place.join(), place.join()]
    for witness in witnesses:
        witness.query("BEGIN")
        if witness is witnesses[0]:
            assert look(witness) == CLEAN
    witnesses[1].close()


@pytest.mark.workers(2)
def test_functions_made_by_the_client_of_another_worker(
    make_pooler: Make, cluster: Cluster, database: str
) -> None:
    place = Place(make_pooler(cluster, settings={"default_pool_size": 4}), database)
    wires = [place.join() for _ in range(8)]
    for wire in wires[1:]:
        wire.query("BEGIN")
        wire.query("SELECT 1") if wires.index(wire) < 3 else wire.query("COMMIT")
    wires[0].query(SETTER.format("f"))
    for wire in wires[1:3]:
        wire.query("SELECT f()")
        wire.query("COMMIT")
        assert look(wire)[4] == b"evil"
        wire.query("SELECT pg_advisory_unlock_all()")
    for _ in range(6):
        for wire in wires[3:]:
            assert look(wire) == CLEAN


def test_a_definition_that_is_rolled_back_changes_nothing(one: Place) -> None:
    owner = one.join()
    owner.query("BEGIN")
    owner.query(SETTER.format("f"))
    owner.query("ROLLBACK")
    eventually(lambda: one.pins() == "")
    assert look(owner) == CLEAN
    one.finds_nothing(owner)


def test_the_first_client_finds_the_catalog_read(make_pooler: Make, cluster: Cluster, database: str) -> None:
    cluster.sql(SETTER.format("f"), database)
    with psycopg.connect(cluster.conninfo(dbname=database), autocommit=True) as direct:
        for number in range(300):
            direct.execute(
                f"CREATE FUNCTION g{number}(a int) RETURNS int LANGUAGE plpgsql AS"
                f" 'BEGIN RETURN (SELECT {number} + a); END'"
            )
    place = Place(make_pooler(cluster, settings={"default_pool_size": 1}), database)
    owner = place.join()
    owner.query("SELECT f()")
    assert look(owner)[3:5] == [b"7MB", b"evil"]
    place.finds_nothing(owner)


@pytest.mark.pg(18)  # it takes its time
def test_nobody_waits_for_ever_for_the_first_reading(
    make_pooler: Make, cluster: Cluster, database: str
) -> None:
    """The only server there may be is idle: nobody gives it back, and no other one is made."""
    place = Place(make_pooler(cluster, settings={"default_pool_size": 1}), database)
    with psycopg.connect(cluster.conninfo(database)) as locking:
        locking.execute("LOCK TABLE pg_catalog.pg_policy IN ACCESS EXCLUSIVE MODE")
        with raw(place.pooler, database, timeout=20) as first:
            assert first.rows("SELECT 1") == [[b"1"]]
        locking.rollback()


def test_the_catalog_is_read_whatever_clients_set(one: Place) -> None:
    """A statement_timeout or an encoding of a client is not that of what pgferry asks for itself."""
    spoiler = one.join()
    spoiler.query("SET client_encoding = latin1; SET statement_timeout = '3ms'")
    spoiler.query("DO $$BEGIN NULL; END$$")
    spoiler.query("CREATE VIEW w AS SELECT 1")
    spoiler.query("COMMENT ON VIEW w IS 'x'")
    spoiler.query(SETTER.format("f"))
    spoiler.close()
    owner = one.join()
    owner.query("SELECT f()")
    one.finds_nothing(owner)
    assert "cannot be read" not in one.pooler.log()


# --- lone statements that are not alone


@pytest.mark.parametrize("undo", ["CALL undo()", "DO 'BEGIN ROLLBACK; END'"])
def test_a_reset_that_is_undone_in_its_batch(one: Place, undo: str) -> None:
    owner = one.join()
    owner.query("CREATE PROCEDURE undo() LANGUAGE plpgsql AS 'BEGIN ROLLBACK; END'")
    owner.query("SET work_mem = '7MB'")
    assert look(owner)[3] == b"7MB"
    eventually(lambda: one.pins() == "")
    for text in ("RESET work_mem", undo):
        owner.send(parse(text), bind(), execute())
    owner.send(sync())
    owner.until()
    assert look(owner)[3] == b"7MB"
    one.finds_nothing(owner)


def test_reset_all_and_another_reset(one: Place) -> None:
    owner = one.join()
    owner.query("SET work_mem = '7MB'")
    assert [m.type for m in owner.query("RESET ALL; RESET work_mem")] == ["C", "C", "Z"]
    assert look(owner) == CLEAN


# --- others


def test_a_function_call_message(one: Place) -> None:
    owner = one.join()
    oid = int(owner.rows("SELECT 'pg_catalog.set_config'::regproc::oid")[0][0] or 0)
    owner.send(function_call(oid, b"app.tenant", b"evil", b"\0"))
    owner.until()
    assert look(owner)[4] == b"evil"
    one.finds_nothing(owner)


def test_large_objects_by_function_call_pin_nothing(one: Place) -> None:
    owner = one.join()
    owner.send(function_call(957, struct.pack("!i", -1)))
    assert [m.type for m in owner.until()] == ["V", "Z"]
    assert one.pins() == ""


def test_an_operator_that_takes_locks(one: Place) -> None:
    """Any statement may use it; the probe then asks for locks, and settings stay what they were."""
    owner = one.join()
    owner.query(
        "CREATE FUNCTION lock_it(int, int) RETURNS int LANGUAGE sql AS 'SELECT pg_advisory_lock(77); SELECT 1'"
    )
    owner.query("CREATE OPERATOR @@@ (LEFTARG = int, RIGHTARG = int, FUNCTION = lock_it)")
    eventually(lambda: one.pins() == "")
    owner.query("SET work_mem = '7MB'")
    owner.query("SELECT set_config('app.tenant', 'mine', false)")
    owner.query("SELECT 1 @@@ 2")
    eventually(lambda: "locks" in one.pins())
    owner.query("SELECT pg_advisory_unlock_all()")
    eventually(lambda: one.pins() == "")
    one.join().query("SELECT 1")
    assert look(owner)[3:5] == [b"7MB", b"mine"]
    one.finds_nothing(owner)


def test_a_policy_that_is_changed(make_pooler: Make, cluster: Cluster) -> None:
    """What servers hold that nobody has looked at does not reach clients whose state is tracked."""
    pooler = make_pooler(cluster, settings={"default_pool_size": 1, "session_state": "ignore"})
    owner = raw(pooler)
    owner.query("SELECT set_config('app.tenant', 'evil', false); SET work_mem = '7MB'")
    pooler.set({"session_state": "track"})
    assert look(raw(pooler)) == CLEAN
    pooler.wait_log("pool_mode or session_state changed")


def test_a_message_that_nobody_reads_is_unknown(one: Place) -> None:
    """A Bind whose parameters make no sense has its answer from PostgreSQL, and is taken for the worst."""
    owner = one.join()
    owner.send(parse("SELECT set_config($1, $2, false)"), message(b"B", b"\0\0\0\0\0\1"), sync())
    assert "E" in [m.type for m in owner.until()]
    one.finds_nothing(owner)


# --- while the catalog is being read


def test_whoever_runs_anything_keeps_its_server(one: Place, cluster: Cluster) -> None:
    """The reading hangs behind a lock: the owner goes on where it is, and leaves nothing when it goes."""
    owner = one.join()
    owner.query("SELECT 1")
    with psycopg.connect(cluster.conninfo(one.database)) as locking:
        locking.execute("LOCK TABLE pg_catalog.pg_policy IN ACCESS EXCLUSIVE MODE")
        owner.query(SETTER.format("f"))
        owner.query("SELECT f()")
        assert one.pins() == "catalog being read"
        assert look(owner)[3:5] == [b"7MB", b"evil"]
        owner.query("SELECT pg_advisory_unlock_all()")
        owner.close()
        assert look(one.join()) == CLEAN
        assert [row["count"] for row in one.pooler.show("STATE_COUNTERS", counter="holds")] != []
        locking.rollback()
    eventually(lambda: one.pins() == "")


def test_after_the_reading_the_owner_moves_on_with_its_settings(one: Place, cluster: Cluster) -> None:
    owner = one.join()
    owner.query("SELECT 1")
    with psycopg.connect(cluster.conninfo(one.database)) as locking:
        locking.execute("LOCK TABLE pg_catalog.pg_policy IN ACCESS EXCLUSIVE MODE")
        owner.query(SETTER.format("f").replace("PERFORM pg_advisory_lock(77);", ""))
        owner.query("SELECT f()")
        locking.rollback()
    eventually(lambda: one.pins() == "")
    assert look(one.join()) == CLEAN
    assert look(owner)[3:5] == [b"7MB", b"evil"]


def test_a_catalog_that_cannot_be_read_is_tried_again(
    make_pooler: Make, cluster: Cluster, database: str
) -> None:
    role = f"reader_of_{database}"
    cluster.sql(f"CREATE ROLE {role} LOGIN SUPERUSER")
    place = Place(
        make_pooler(cluster, settings={"default_pool_size": 1}, userlist={role: "", **SECRETS}), database
    )
    owner = raw(place.pooler, database, role)
    owner.query("SELECT 1")
    cluster.sql(f"ALTER ROLE {role} NOLOGIN")
    cluster.sql(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE 'pgferry%'"
        f" AND datname = '{database}' AND usename = '{role}'"
    )
    owner.query(SETTER.format("f"))
    place.pooler.wait_log("the catalog cannot be read")
    owner.query("SELECT f()")
    assert place.pins() == "catalog being read"
    assert place.pooler.show("STATE_COUNTERS", counter="catalog_failures") != []
    cluster.sql(f"ALTER ROLE {role} LOGIN")
    place.pooler.wait_log("the catalog can be read again")
    eventually(lambda: place.pins() == "advisory locks")
    owner.close()
    place.pooler.close()
    cluster.sql(f"DROP OWNED BY {role}; DROP ROLE {role}", database)


# --- types of parameters


@pytest.mark.parametrize("of", ["domain", "array", "row"])
def test_a_domain_whose_check_sets_something(one: Place, of: str) -> None:
    """No word in `SELECT $1` says so: its type, which the Parse declares, does."""
    owner = one.join()
    owner.query("CREATE DOMAIN checked AS text CHECK (set_config('app.tenant', VALUE, false) = VALUE)")
    owner.query("CREATE TYPE pair AS (a checked)")
    name, value = {"domain": ("checked", "evil"), "array": ("_checked", "{evil}"), "row": ("pair", "(evil)")}[
        of
    ]
    oid = int(owner.rows(f"SELECT oid FROM pg_type WHERE typname = '{name}'")[0][0] or 0)
    eventually(lambda: one.pins() == "")
    owner.send(parse("SELECT $1", types=(oid,)), bind([value]), execute(), sync())
    rows_of(owner)
    assert look(owner)[4] == b"evil"
    one.finds_nothing(owner)
