"""What clients are answered once they are in: pool modes, timeouts, prepared statements, odd messages."""

import time

import pytest

from compat.conftest import Compare
from compat.test_compat_logins import with_setting
from compat.twins import INI, deployment, without_wildcard
from compat.witness import Witness, port_of, told
from support.wire import (
    Wire,
    bind,
    close,
    copy_data,
    copy_done,
    copy_fail,
    describe,
    execute,
    flush,
    function_call,
    message,
    parse,
    query,
    sync,
)

TEXTS = (
    "SELECT 1 AS one, 'x'::text AS two, NULL AS three",
    "SELECT 1; SELECT 2",
    "",
    ";",
    "SELECT 1/0",
    "SELEC 1",
    "SELECT 1; SELECT 1/0; SELECT 2",
    "CREATE TEMP TABLE t (a int); INSERT INTO t VALUES (1), (2); UPDATE t SET a = 3; DROP TABLE t",
    "SET application_name = 'set by a query'",
    "SHOW application_name",
    "SET client_encoding = 'LATIN1'",
    "SHOW client_encoding",
    "RESET client_encoding",
    "SET datestyle = 'German'; SELECT DATE '2026-11-21'",
    "RESET ALL",
    "DISCARD ALL",
    "DEALLOCATE ALL",
    "DO $$ BEGIN RAISE NOTICE 'noticed'; END $$",
    "DO $$ BEGIN RAISE EXCEPTION 'raised' USING ERRCODE = 'P0042', HINT = 'hint', DETAIL = 'detail'; END $$",
    "COPY (SELECT generate_series(1, 3)) TO STDOUT",
    "SELECT generate_series(1, 3)",
    "VACUUM pg_class",
    "NOTIFY channel, 'payload'",
    "EXPLAIN (COSTS OFF) SELECT 1",
)
BATCHES = {
    "unnamed": [parse("SELECT $1::int + 1"), bind(["41"]), describe(kind="P"), execute(), sync()],
    "named": [parse("SELECT $1::text", "s1"), describe("s1"), bind(["x"], "s1"), execute(), sync()],
    "named again": [bind(["y"], "s1"), execute(), sync()],
    "an error": [parse("SELEC", "s2"), bind([], "s2"), execute(), sync()],
    "after the error": [parse("SELECT 2", "s2"), bind([], "s2"), execute(), sync()],
    "close": [close("s1"), close("nothing"), close("s1"), sync()],
    "portals": [parse("SELECT generate_series(1, 5)"), bind([], portal="p"), execute("p", 2), execute("p", 2), sync()],
    "close of a portal": [close("p", "P"), sync()],
    "flush": [parse("SELECT 3"), bind(), flush(), execute(), sync()],
    "an empty text": [parse(""), bind(), execute(), sync()],
    "an error in execute": [parse("SELECT 1/$1::int"), bind(["0"]), execute(), sync()],
    "Sync alone": [sync()],
    "a function call": [function_call(1598)],
}  # fmt: skip
FATAL_BATCHES = {
    "an unknown statement": [bind([], "unknown"), execute(), sync()],
    "an unknown statement, described": [describe("unknown"), sync()],
    "a name twice": [parse("SELECT 1", "twice"), sync(), parse("SELECT 2", "twice"), sync()],
    "a password": [message(b"p", b"secret\0")],
    "an unknown message": [message(b"~", b"what")],
    "a torn Parse": [message(b"P", b"name without end"), sync()],
    "a torn Bind": [message(b"B", b"\0"), sync()],
    "a Describe of nothing": [message(b"D", b""), sync()],
    "a Close of nothing": [message(b"C", b""), sync()],
    "a message too short": [b"Q\0\0\0\3"],
}


@pytest.mark.parametrize("mode", ["session", "transaction", "statement"])
def test_queries(compare: Compare, mode: str) -> None:
    files = without_wildcard(deployment("console"))
    files[INI] = files[INI].replace("pool_mode = transaction\ndef", f"pool_mode = {mode}\ndef")

    def scenario(witness: Witness) -> None:
        with witness.open("app", "app", "app secret") as wire:
            for text in TEXTS:
                witness.ask(wire, text or "nothing", text)
            copy_in(witness, wire)
            for name, packets in BATCHES.items():
                witness.send(wire, name, *packets)
        with witness.open("app", "app", "app secret") as wire:
            for text in ("BEGIN", "SELECT 1", "SELECT 1/0", "SELECT 2", "ROLLBACK", "SELECT 3"):
                if mode == "statement" and text == "SELECT 1":
                    break
                witness.ask(wire, f"transaction: {text}", text)
        for name, packets in FATAL_BATCHES.items():
            with witness.open("app", "app", "app secret", timeout=1.0) as wire:
                witness.send(wire, name, *packets, answers=packets.count(sync()) or 1)

    compare(f"queries {mode}", files, scenario)


def copy_in(witness: Witness, wire: Wire) -> None:
    """COPY from the client, to its end, broken off, and with nonsense."""
    witness.ask(wire, "an empty table", "TRUNCATE copied")
    for name, packets in {
        "COPY": [copy_data("1\n2\n"), copy_done()],
        "COPY that fails": [copy_data("1\n"), copy_fail("enough")],
        "COPY of nonsense": [copy_data("x\n"), copy_done()],
    }.items():
        witness.send(wire, name, query("COPY copied FROM STDIN"), *packets)
    witness.ask(wire, "what was copied", "SELECT a FROM copied")


TIMEOUTS = {
    "query_timeout": ["SELECT pg_sleep(5)"],
    "transaction_timeout": ["BEGIN", "SELECT pg_sleep(5)"],
    "transaction_timeout, idle": ["BEGIN"],
    "idle_transaction_timeout": ["BEGIN"],
    "client_idle_timeout": ["SELECT 1"],
}


@pytest.mark.parametrize("step", TIMEOUTS)
def test_timeouts(compare: Compare, step: str) -> None:
    setting = step.split(",")[0]
    files = with_setting(without_wildcard(deployment("console")), **{setting: 1})

    def scenario(witness: Witness) -> None:
        wire = witness.open("app", "app", "app secret")
        for text in TIMEOUTS[step]:
            wire.send(query(text))
            witness.note(f"{step}: {text}", told(wire))
        witness.note(f"{step}: in the end", told(wire))
        witness.note_client(f"{step}: log", port_of(wire))

    compare(f"timeout {setting}", files, scenario, since=(1, 25) if setting == "transaction_timeout" else ())


def test_waiting(compare: Compare) -> None:
    """Clients that wait for a server: notice, timeout, PAUSE."""
    settings = {"query_wait_timeout": 4, "query_wait_notify": 1, "default_pool_size": 1}
    files = with_setting(without_wildcard(deployment("console")), **settings)
    files[INI] = files[INI].replace("default_pool_size = 20\n", "")

    def scenario(witness: Witness) -> None:
        holder = witness.open("app", "app", "app secret", timeout=10)
        witness.ask(holder, "the holder", "BEGIN")
        with witness.open("app", "app", "app secret", timeout=10) as wire:
            wire.send(query("SELECT 1"))
            witness.note("waits too long", told(wire))
            witness.note_client("waits too long: log", port_of(wire))
        with witness.open("app", "app", "app secret", timeout=10) as wire:
            wire.send(query("SELECT 1"))
            while wire.recv().type != "N":
                pass
            witness.ask(holder, "the holder lets go", "COMMIT")
            witness.note("served at last", told(wire))
        with witness.open("admin", "pgbouncer", "admin secret") as console:
            witness.console(console, "PAUSE")
            holder.send(query("SELECT 1"))
            witness.note("paused too long", told(holder))
            witness.login("login while paused", "app", "app", "app secret")
            witness.console(console, "RESUME")

    compare("waiting", files, scenario, since=(1, 25))


def test_lost_servers(compare: Compare) -> None:
    """PostgreSQL ends connections: of an idle client, in a query, in a transaction."""
    kill = "SELECT pg_terminate_backend({})"

    def scenario(witness: Witness) -> None:
        cluster = witness.twin.cluster
        assert cluster is not None

        def end(pid: int) -> None:
            cluster.sql(kill.format(pid))
            while cluster.sql(f"SELECT 1 FROM pg_stat_activity WHERE pid = {pid}"):
                time.sleep(0.01)

        def backend(wire: Wire) -> int:
            return int(wire.rows("SELECT pg_backend_pid()")[0][0] or 0)

        wire = witness.open("app", "app", "app secret")
        pid = backend(wire)
        with witness.open("admin", "pgbouncer", "admin secret") as console:
            while any(b"active" in row for row in console.rows("SHOW SERVERS")):
                time.sleep(0.01)
            end(pid)
            while any(b"idle" in row for row in console.rows("SHOW SERVERS")):
                time.sleep(0.01)
        witness.ask(wire, "idle server killed", "SELECT 1")
        pid = backend(wire)
        wire.send(query("SELECT pg_sleep(5)"))
        while not cluster.sql(f"SELECT 1 FROM pg_stat_activity WHERE pid = {pid} AND wait_event = 'PgSleep'"):
            time.sleep(0.01)
        end(pid)
        witness.note("killed in a query", told(wire))
        witness.note_client("killed in a query: log", port_of(wire))
        wire = witness.open("app", "app", "app secret")
        wire.query("BEGIN")
        pid = backend(wire)
        end(pid)
        witness.note("killed in a transaction", told(wire))
        witness.note_client("killed in a transaction: log", port_of(wire))

    compare("lost servers", without_wildcard(deployment("console")), scenario)
