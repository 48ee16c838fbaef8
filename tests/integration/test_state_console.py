"""What an operator sees and sets of session state: SHOW PINS, CLIENT_STATE, counters, limits of pins, policies."""

import time
from collections.abc import Callable
from typing import Any

import psycopg
import pytest

from pgferry.embedded import Cluster
from support.clients import begin, one_of_each, pid_of, raw
from support.pooler import Pooler, eventually
from support.wire import Wire, bind, execute, parse, sync, types

Make = Callable[..., Pooler]


def errors(wire: Wire, sql: str) -> list[str]:
    """The texts of the errors that a query gets."""
    return [m.text for m in wire.query(sql) if m.type == "E"]


def last_words(wire: Wire) -> str:
    """The FATAL error that a client is closed with."""
    got = wire.recv()
    while got.type != "E":
        got = wire.recv()
    assert got.fields["S"] == "FATAL", got.fields
    assert wire.at_end()
    return got.text


def row_of(pooler: Pooler, name: str) -> dict[str, Any]:
    """The row of SHOW CLIENTS with this application_name."""
    return pooler.show("CLIENTS", application_name=name)[0]


def state(pooler: Pooler, name: str) -> set[tuple[str, str, str]]:
    """(kind, name, value) of everything that the client with this application_name keeps."""
    rows = pooler.show(f"CLIENT_STATE {row_of(pooler, name)['id']}")
    return {(r["kind"], r["name"], r["value"]) for r in rows}


def counted(pooler: Pooler, counter: str) -> int:
    return sum(r["count"] for r in pooler.show("STATE_COUNTERS", counter=counter))


# --- looking


def test_pins_come_and_go(pooler: Pooler, workers: int) -> None:
    wires = one_of_each(pooler, workers)
    for wire in wires:
        assert pooler.show("PINS") == []
        wire.query("SET application_name TO pinned")
        wire.query("CREATE TEMP TABLE mine (a int)")
        eventually(lambda: pooler.show("PINS"))
        pin = pooler.show("PINS")[0]
        client = row_of(pooler, "pinned")
        server = pooler.show("SERVERS", link=client["ptr"])[0]
        assert (pin["database"], pin["user"]) == ("postgres", "postgres")
        assert (pin["client"], pin["server"]) == (client["ptr"], server["ptr"])
        assert server["remote_pid"] == pid_of(wire)
        assert "temporary" in pin["reasons"]
        assert pin["age"] * 1_000_000 + pin["age_us"] < 60_000_000
        assert pin["application_name"] == "pinned"
        wire.query("SELECT pg_advisory_lock(1)")
        eventually(lambda: "lock" in pooler.show("PINS")[0]["reasons"])
        wire.query("DROP TABLE mine")
        eventually(lambda: "temporary" not in pooler.show("PINS")[0]["reasons"])
        assert pooler.show("PINS")[0]["transactions"] >= 2
        wire.query("SELECT pg_advisory_unlock(1)")
        eventually(lambda: pooler.show("PINS") == [])
        wire.query("SET application_name TO done")


def test_the_oldest_pin_comes_first(pooler: Pooler, workers: int) -> None:
    wires = one_of_each(pooler, workers) + one_of_each(pooler, workers)
    for number, wire in enumerate(wires, 1):
        wire.query(f"SET application_name TO n{number}")
        wire.query("CREATE TEMP TABLE mine (a int)")
        eventually(lambda number=number: len(pooler.show("PINS")) == number)
    found = [r["application_name"] for r in pooler.show("PINS")]
    assert found == [f"n{number}" for number in range(1, len(wires) + 1)]


@pytest.mark.parametrize("key", ["id", "ptr"])
def test_the_state_of_one_client(pooler: Pooler, cluster: Cluster, key: str) -> None:
    pooler.set({"statement_text_length": 100})
    cluster.sql("DO $$ BEGIN CREATE ROLE clerk; EXCEPTION WHEN duplicate_object THEN NULL; END $$")
    other, wire = raw(pooler), raw(pooler, options="-c geqo_threshold=7")
    wire.query("SET application_name TO keeper")
    assert state(pooler, "keeper") == {("start", "geqo_threshold", "7")}
    wire.query("SET work_mem TO '7MB'")
    wire.query("SELECT set_config('app.tenant', 'it''s 42', false)")
    wire.query("PREPARE q AS SELECT 42")
    wire.query("LISTEN news")
    wire.query("CREATE TEMP TABLE mine (a int)")
    wire.query("SET ROLE clerk")
    command = f"CLIENT_STATE {row_of(pooler, 'keeper')[key]}"
    eventually(lambda: pooler.show("PINS") and any(r["kind"] == "role" for r in pooler.show(command)))
    rows = pooler.show(command)
    found = {(r["kind"], r["name"]): r["value"] for r in rows}
    assert found["role", "role"] == "clerk"
    assert "7MB" in found["setting", "work_mem"]
    assert found["setting", "app.tenant"] == "it's 42"
    assert "SELECT 42" in found["prepared", "q"]
    assert ("listen", "news") in found
    assert found["start", "geqo_threshold"] == "7"
    assert [kind for kind, _name in found].count("pin") == 1
    assert {r["source"] for r in rows} <= {"session", "startup", "probe"}
    other.query("SET application_name TO other")
    assert state(pooler, "other") == set()
    wire.query("DISCARD ALL")
    wire.query("SET application_name TO keeper")
    # PostgreSQL knows the name of a custom setting for as long as the session lasts.
    left = {("start", "geqo_threshold", "7"), ("setting", "app.tenant", "")}
    eventually(lambda: state(pooler, "keeper") == left)


def test_who_may_look(pooler: Pooler) -> None:
    wire = raw(pooler)
    wire.query("SET application_name TO seen")
    wire.query("SET work_mem TO '7MB'")
    number = row_of(pooler, "seen")["id"]
    assert pooler.admin(f"SHOW CLIENT_STATE {number}", user="stats")
    assert pooler.admin("SHOW PINS", user="stats") == []
    pooler.admin("SHOW STATE_COUNTERS", user="stats")
    for command in ("SHOW CLIENT_STATE 999999", "SHOW CLIENT_STATE 0xfffff"):
        with pytest.raises(psycopg.Error, match="client not found"):
            pooler.admin(command)
    wire.close()


def test_counters(pooler: Pooler, workers: int) -> None:
    for wire in one_of_each(pooler, workers):
        wire.query("CREATE TEMP TABLE mine (a int)")
        wire.query("DROP TABLE mine")
    eventually(lambda: counted(pooler, "pins") == workers)
    eventually(lambda: counted(pooler, "probes") >= 2 * workers)
    rows = pooler.show("STATE_COUNTERS")
    assert {(r["database"], r["user"]) for r in rows} == {("postgres", "postgres")}
    assert len({(r["counter"], r["reason"]) for r in rows}) == len(rows)
    first, second = raw(pooler), raw(pooler)
    before = counted(pooler, "restores")
    first.query("SET work_mem TO '7MB'")
    begin(first)
    second.query("SET work_mem TO '8MB'")
    first.query("COMMIT")
    for _ in range(3):
        assert first.rows("SHOW work_mem") == [[b"7MB"]]
        assert second.rows("SHOW work_mem") == [[b"8MB"]]
    assert counted(pooler, "restores") >= before


# --- limits


def test_max_pinned_holds_for_all_workers(make_pooler: Make, cluster: Cluster, workers: int) -> None:
    pooler = make_pooler(cluster, settings={"max_pinned": 1})
    first, second = [*one_of_each(pooler, workers), raw(pooler)][:2]
    first.query("CREATE TEMP TABLE mine (a int)")
    eventually(lambda: pooler.show("PINS"))
    second.query("CREATE TEMP TABLE mine (a int)")
    assert "max_pinned" in last_words(second)
    assert first.rows("SELECT count(*) FROM mine") == [[b"0"]]
    assert len(pooler.show("PINS")) == 1
    first.query("DROP TABLE mine")
    eventually(lambda: pooler.show("PINS") == [])
    third = raw(pooler)
    third.query("CREATE TEMP TABLE mine (a int)")
    eventually(lambda: pooler.show("PINS"))
    assert third.rows("SELECT count(*) FROM mine") == [[b"0"]]
    pooler.admin("SET max_pinned = 2")
    first.query("CREATE TEMP TABLE mine (a int)")
    eventually(lambda: len(pooler.show("PINS")) == 2)


def test_max_pinned_of_a_database(make_pooler: Make, cluster: Cluster) -> None:
    server = f"host=127.0.0.1 port={cluster.port} dbname=postgres"
    pooler = make_pooler(
        cluster,
        settings={"max_pinned": 1},
        databases={"free": f"{server} max_pinned=0", "one": server},
    )
    wires = []
    for number in (1, 2):
        wires.append(raw(pooler, "free"))
        wires[-1].query("CREATE TEMP TABLE mine (a int)")
        eventually(lambda number=number: len(pooler.show("PINS", database="free")) == number)
    kept, refused = raw(pooler, "one"), raw(pooler, "one")
    kept.query("SELECT pg_advisory_lock(7)")
    eventually(lambda: pooler.show("PINS", database="one"))
    refused.query("SELECT pg_advisory_lock(8)")
    assert "max_pinned" in last_words(refused)
    # What it held is gone with it.
    eventually(lambda: kept.rows("SELECT pg_try_advisory_lock(8)") == [[b"t"]])


@pytest.mark.workers(1)
def test_pin_timeout_closes_idle_clients_only(make_pooler: Make, cluster: Cluster) -> None:
    pooler = make_pooler(cluster, settings={"pin_timeout": 1})
    idle, busy, free = raw(pooler), raw(pooler), raw(pooler)
    for wire in (idle, busy):
        wire.query("CREATE TEMP TABLE mine (a int)")
    begin(busy)
    eventually(lambda: len(pooler.show("PINS")) == 2)
    started = time.monotonic()
    assert "pin_timeout" in last_words(idle)
    assert time.monotonic() - started < 5
    time.sleep(1)
    assert busy.rows("SELECT count(*) FROM mine") == [[b"0"]]
    busy.query("COMMIT")
    assert "pin_timeout" in last_words(busy)
    assert free.rows("SELECT 1") == [[b"1"]]
    eventually(lambda: pooler.show("PINS") == [])


@pytest.mark.workers(1)
def test_an_old_pin_is_logged_once(make_pooler: Make, cluster: Cluster) -> None:
    pooler = make_pooler(cluster, settings={"pin_log_threshold": 1})
    wire = raw(pooler)
    wire.query("CREATE TEMP TABLE mine (a int)")
    eventually(lambda: pooler.show("PINS"))
    found = pooler.wait_log(r"^.*pinned.*temporary.*$")
    time.sleep(1.5)
    assert pooler.log().count(found[0].partition(" WARNING ")[2]) == 1
    pooler.admin("SET pin_log_threshold = 0")
    other = raw(pooler)
    other.query("SELECT pg_advisory_lock(1)")
    time.sleep(1.5)
    assert "advisory lock" not in "".join(x for x in pooler.log().splitlines() if "pinned" in x)


# --- policies


REFUSED = (
    "SET work_mem TO '7MB'",
    "SELECT set_config('work_mem', '7MB', false)",
    "SET ROLE postgres",
    "PREPARE q AS SELECT 1",
    "LISTEN news",
    "CREATE TEMP TABLE mine (a int)",
    "SELECT pg_advisory_lock(1)",
    "DECLARE c CURSOR WITH HOLD FOR SELECT 1",
)
ALLOWED = (
    "SELECT 1",
    "NOTIFY news",
    "SELECT pg_advisory_xact_lock(1)",
    "BEGIN; SET LOCAL work_mem TO '7MB'; COMMIT",
    "SET application_name TO allowed",
)


def test_refuse_names_what_it_refuses(make_pooler: Make, cluster: Cluster) -> None:
    pooler = make_pooler(cluster, settings={"session_state": "refuse"})
    wire = raw(pooler)
    for sql in REFUSED:
        found = errors(wire, sql)
        assert len(found) == 1, sql
        assert "session_state" in found[0], found
        assert wire.rows("SELECT 42") == [[b"42"]], sql
    for sql in ALLOWED:
        assert errors(wire, sql) == [], sql
    assert wire.rows("SHOW work_mem") != [[b"7MB"]]
    eventually(lambda: counted(pooler, "refusals") == len(REFUSED))
    assert pooler.show("PINS") == []


def test_refuse_in_a_transaction_fails_it(make_pooler: Make, cluster: Cluster) -> None:
    pooler = make_pooler(cluster, settings={"session_state": "refuse"})
    wire = raw(pooler)
    begin(wire)
    assert types(wire.query("SET work_mem TO '7MB'")) == "EZ"
    assert "aborted" in errors(wire, "SELECT 1")[0]
    assert wire.query("COMMIT")[0].text == "ROLLBACK"
    assert wire.rows("SELECT 1") == [[b"1"]]


@pytest.mark.workers(1)
def test_ignore_is_pgbouncers_behaviour(make_pooler: Make, cluster: Cluster) -> None:
    pooler = make_pooler(cluster, settings={"session_state": "ignore", "default_pool_size": 1})
    first, second = raw(pooler), raw(pooler)
    first.query("SET work_mem TO '7MB'")
    assert second.rows("SHOW work_mem") == [[b"7MB"]]
    first.query("CREATE TEMP TABLE mine (a int)")
    assert second.rows("SELECT count(*) FROM mine") == [[b"0"]]
    assert pooler.show("PINS") == []
    assert counted(pooler, "probes") == 0


def test_the_policy_of_the_user_comes_first(make_pooler: Make, cluster: Cluster) -> None:
    cluster.sql("DO $$ BEGIN CREATE ROLE app LOGIN; EXCEPTION WHEN duplicate_object THEN NULL; END $$")
    server = f"host=127.0.0.1 port={cluster.port} dbname=postgres"
    pooler = make_pooler(
        cluster,
        databases={"strict": f"{server} session_state=refuse", "plain": server},
        users={"app": "session_state=track"},
    )
    sql = "SET work_mem TO '7MB'"
    assert errors(raw(pooler, "plain"), sql) == []
    assert len(errors(raw(pooler, "strict"), sql)) == 1
    assert errors(raw(pooler, "strict", "app"), sql) == []


def test_a_policy_changes_while_clients_are_there(pooler: Pooler, workers: int) -> None:
    wires = one_of_each(pooler, workers)
    for wire in wires:
        wire.query("SET work_mem TO '7MB'")
    pooler.admin("SET session_state = refuse")
    for wire in wires:
        assert len(errors(wire, "SET work_mem TO '8MB'")) == 1
        assert wire.rows("SHOW work_mem") == [[b"7MB"]]
    pooler.admin("SET session_state = track")
    for wire in wires:
        assert errors(wire, "SET work_mem TO '8MB'") == []
        assert wire.rows("SHOW work_mem") == [[b"8MB"]]


def test_session_mode_knows_no_pins(make_pooler: Make, cluster: Cluster) -> None:
    pooler = make_pooler(
        cluster, settings={"pool_mode": "session", "session_state": "refuse", "max_pinned": 1}
    )
    for _ in range(2):
        wire = raw(pooler)
        assert errors(wire, "CREATE TEMP TABLE mine (a int)") == []
        assert errors(wire, "SET work_mem TO '7MB'") == []
        assert wire.rows("SHOW work_mem") == [[b"7MB"]]
    assert pooler.show("PINS") == []


def test_statement_mode_refuses_what_would_pin(make_pooler: Make, cluster: Cluster) -> None:
    pooler = make_pooler(cluster, settings={"pool_mode": "statement"})
    wire = raw(pooler)
    found = errors(wire, "CREATE TEMP TABLE mine (a int)")
    assert len(found) == 1
    assert "statement" in found[0]
    assert wire.rows("SELECT 1") == [[b"1"]]
    assert pooler.show("PINS") == []


# --- nothing stays behind


@pytest.mark.workers(1)
def test_a_reset_query_of_ones_own(make_pooler: Make, cluster: Cluster) -> None:
    """It may leave some of what a client has set, which nobody else may find; the client itself keeps all."""
    pooler = make_pooler(
        cluster,
        settings={
            "server_reset_query": "RESET work_mem",
            "server_reset_query_always": 1,
            "default_pool_size": 1,
        },
    )
    first, second = raw(pooler), raw(pooler)
    first.query("SET work_mem TO '7MB'")
    first.query("SET app.tenant TO '42'")
    for _ in range(2):
        assert second.rows("SELECT current_setting('app.tenant', true)")[0][0] in (None, b"")
        assert first.rows("SELECT current_setting('work_mem'), current_setting('app.tenant')") == [
            [b"7MB", b"42"]
        ]


@pytest.mark.workers(1)
def test_undone_in_the_same_batch(make_pooler: Make, cluster: Cluster) -> None:
    """A SET or RESET is not in effect when its own batch rolls it back."""
    pooler = make_pooler(cluster, settings={"default_pool_size": 1})
    first, second = raw(pooler), raw(pooler)

    def batch(*texts: str) -> bytes:
        return b"".join(parse(text) + bind() + execute() for text in texts) + sync()

    show = "SELECT current_setting('app.tenant', true)"
    first.query("SET app.tenant TO '42'")
    for texts in (("RESET ALL", "ROLLBACK"), ("SET app.tenant TO 'other'", "ROLLBACK")):
        first.send(batch(*texts))
        first.until()
        assert second.rows(show)[0][0] in (None, b"")
        assert first.rows(show) == [[b"42"]]
    first.send(batch("BEGIN", "SET app.tenant TO 'other'", "ROLLBACK"))
    first.until()
    assert second.rows(show)[0][0] in (None, b"")
    assert first.rows(show) == [[b"42"]]
