"""scrub: what one login user leaves on a server, however it was made, never meets a client of another one.

With session_state = ignore nothing is understood of any statement: whatever is gone then was scrubbed.
"""

import threading
from collections.abc import Callable
from typing import Any

import pytest

from pgferry.embedded.pooler import PoolerProcess
from support.clients import begin, pid_of, raw
from support.fake_server import READY, Conversation, FakeServer, result
from support.pooler import Pooler, eventually
from support.wire import Wire, bind, execute, message, parse, query, sync, types

Make = Callable[..., Pooler]
pytestmark = [pytest.mark.workers(1), pytest.mark.usefixtures("cluster")]

# What is left behind, how the next client would see it, and what it sees on a session that is as new.
LEAVINGS = {
    "setting": ("SET statement_timeout = 77000", "SHOW statement_timeout", b"0"),
    "search_path": (
        "SELECT set_config('search_' || 'path', 'evil', false)",
        "SHOW search_path",
        b'"$user", public',
    ),
    "DO": ("DO $$BEGIN EXECUTE 'set work' || '_mem = 999'; END$$", "SHOW work_mem", b"4MB"),
    "custom": ("SET app.tenant = 'alice'", "SELECT coalesce(current_setting('app.tenant', true), '')", b""),
    "role": ("SET ROLE pg_monitor", "SELECT current_user", b"postgres"),
    "authorization": ("SET SESSION AUTHORIZATION pg_monitor", "SELECT session_user", b"postgres"),
    "characteristics": (
        "SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL SERIALIZABLE",
        "SHOW transaction_isolation",
        b"read committed",
    ),
    "prepared": ("PREPARE mine AS SELECT 1", "SELECT count(*) FROM pg_prepared_statements", b"0"),
    "temporary": (
        "CREATE TEMP TABLE mine AS SELECT 1",
        "SELECT coalesce(to_regclass('pg_temp.mine')::text, '')",
        b"",
    ),
    "lock": ("SELECT pg_advisory_lock(4711)", "SELECT count(*) FROM pg_locks WHERE objid = 4711", b"0"),
    "cursor": ("DECLARE mine CURSOR WITH HOLD FOR SELECT 1", "SELECT count(*) FROM pg_cursors", b"0"),
    "channel": ("LISTEN mine", "SELECT count(*) FROM pg_listening_channels()", b"0"),
    "tracked": ("SET TimeZone = 'Asia/Tokyo'", "SHOW TimeZone", None),
}


def shared(make: Make, state: str = "ignore", **settings: Any) -> Pooler:
    """A pooler whose users alice and bob share one server as postgres."""
    pooler = make(
        settings={"default_pool_size": 1, "session_state": state, **settings},
        userlist={"alice": "", "bob": "", "admin": "", "postgres": ""},
    )
    pooler.set(databases={"*": None, "shared": pooler.server(dbname="postgres", user="postgres")})
    return pooler


def value(wire: Wire, sql: str) -> bytes | None:
    return wire.rows(sql)[0][0]


def scrubs(pooler: Pooler) -> dict[str, int]:
    return {r["reason"]: r["count"] for r in pooler.show("STATE_COUNTERS", counter="scrubs")}


def test_nothing_of_one_user_is_left_for_another(make_pooler: Make) -> None:
    pooler = shared(make_pooler)
    with raw(pooler, "shared", "alice") as alice, raw(pooler, "shared", "bob") as bob:
        for kind, (leave, look, clean) in LEAVINGS.items():
            before = value(bob, look) if clean is None else clean
            server = pid_of(alice)
            assert [m.text for m in alice.query(leave) if m.type == "E"] == [], kind
            assert value(bob, look) == before, kind
            assert pid_of(bob) == server, kind
    assert scrubs(pooler)["another user"] > len(LEAVINGS)


def test_when_needed_leaves_it_to_what_is_understood(make_pooler: Make) -> None:
    pooler = shared(make_pooler, scrub="when_needed")
    with raw(pooler, "shared", "alice") as alice, raw(pooler, "shared", "bob") as bob:
        alice.query("SET statement_timeout = 77000")
        assert value(bob, "SHOW statement_timeout") == b"77s"
    assert scrubs(pooler) == {}


def test_always_is_between_any_two_clients(make_pooler: Make) -> None:
    pooler = shared(make_pooler)
    pooler.set(databases={"shared": f"{pooler.server(dbname='postgres', user='postgres')} scrub=always"})
    with raw(pooler, "shared", "alice") as first, raw(pooler, "shared", "alice") as second:
        first.query("SET statement_timeout = 77000")
        assert value(first, "SHOW statement_timeout") == b"77s"
        assert value(second, "SHOW statement_timeout") == b"0"
    assert scrubs(pooler) == {"another client": 1}


def test_clients_of_one_user_pay_nothing(make_pooler: Make) -> None:
    pooler = shared(make_pooler)
    with raw(pooler, "shared", "alice") as first, raw(pooler, "shared", "alice") as second:
        for _ in range(3):
            assert pid_of(first) == pid_of(second)
    assert scrubs(pooler) == {}


def test_reload_changes_it(make_pooler: Make) -> None:
    pooler = shared(make_pooler, scrub="when_needed")
    with raw(pooler, "shared", "alice") as alice, raw(pooler, "shared", "bob") as bob:
        alice.query("SET statement_timeout = 77000")
        pooler.set({"scrub": "on_user_change"})
        assert value(bob, "SHOW statement_timeout") == b"0"


def test_servers_of_the_same_user_come_first(make_pooler: Make) -> None:
    pooler = shared(make_pooler, default_pool_size=2)
    with raw(pooler, "shared", "alice") as alice, raw(pooler, "shared", "bob") as bob:
        servers = begin(alice), begin(bob)
        for wire in (alice, bob):
            wire.query("COMMIT")
        for _ in range(5):
            assert (pid_of(alice), pid_of(bob)) == servers
    assert scrubs(pooler) == {}


def test_a_waiting_client_gets_a_scrubbed_server(make_pooler: Make) -> None:
    pooler = shared(make_pooler)
    with raw(pooler, "shared", "alice") as alice, raw(pooler, "shared", "bob") as bob:
        begin(alice)
        alice.query("SET statement_timeout = 77000")
        bob.send(query("SHOW statement_timeout"))
        eventually(lambda: pooler.show("POOLS", database="shared", cl_waiting=1))
        alice.query("COMMIT")
        assert [m.row for m in bob.until() if m.type == "D"] == [[b"0"]]


def test_both_keep_what_is_their_own(make_pooler: Make) -> None:
    """Settings, tracked parameters, statements of both protocols: all is brought to the scrubbed server."""
    pooler = shared(make_pooler, "track")
    with (
        raw(pooler, "shared", "alice", application_name="a", DateStyle="German") as alice,
        raw(pooler, "shared", "bob", application_name="b", options="-c work_mem=3MB") as bob,
    ):
        for number, wire in enumerate((alice, bob), 1):
            name = wire.sock.getsockname()[1]
            wire.query(f"SET app.name = 'n{number}'")
            wire.query(f"PREPARE mine AS SELECT 'sql {number}'")
            wire.send(parse("SELECT current_setting('app.name') || $1", f"s{name}", [25]), sync())
            wire.until()
        for _ in range(3):
            for number, (wire, style, memory) in enumerate(
                ((alice, b"German, DMY", b"4MB"), (bob, b"ISO, MDY", b"3MB")), 1
            ):
                name = wire.sock.getsockname()[1]
                wire.send(bind(["!"], f"s{name}"), execute(), sync())
                got = wire.until()
                assert types(got) == "2DCZ", got
                assert got[1].row == [b"n%d!" % number]
                assert value(wire, "EXECUTE mine") == b"sql %d" % number
                assert (value(wire, "SHOW DateStyle"), value(wire, "SHOW work_mem")) == (style, memory)
                assert value(wire, "SHOW application_name") == b"ab"[number - 1 : number]


@pytest.mark.parametrize("state", ["track", "ignore"])
def test_what_connect_query_sets_is_set_again(make_pooler: Make, state: str) -> None:
    pooler = shared(make_pooler, state)
    line = pooler.server(dbname="postgres", user="postgres")
    setting = "SET ROLE pg_monitor; SET work_mem = ''3MB''"
    pooler.set(databases={"shared": f"{line} connect_query='{setting}'"})
    with raw(pooler, "shared", "alice") as alice, raw(pooler, "shared", "bob") as bob:
        for wire in (alice, bob, alice):
            assert value(wire, "SELECT current_user || current_setting('work_mem')") == b"pg_monitor3MB"
    assert scrubs(pooler)["another user"] == 2


def test_session_mode_without_a_reset_query(make_pooler: Make) -> None:
    pooler = shared(make_pooler, pool_mode="session", server_reset_query="")
    with raw(pooler, "shared", "alice") as alice:
        server = pid_of(alice)
        alice.query("SET statement_timeout = 77000")
    with raw(pooler, "shared", "bob") as bob:
        assert (pid_of(bob), value(bob, "SHOW statement_timeout")) == (server, b"0")


def test_a_reset_query_that_does_it_is_enough(make_pooler: Make) -> None:
    pooler = shared(make_pooler, server_reset_query_always=1)
    with raw(pooler, "shared", "alice") as alice, raw(pooler, "shared", "bob") as bob:
        alice.query("SET statement_timeout = 77000")
        assert value(bob, "SHOW statement_timeout") == b"0"
    assert scrubs(pooler) == {}


def test_an_online_upgrade_knows_whom_a_server_served(make_pooler: Make) -> None:
    pooler = shared(make_pooler, pidfile="pid")
    pooler.write()
    with raw(pooler, "shared", "alice") as alice, raw(pooler, "shared", "bob") as bob:
        server = pid_of(alice)
        alice.query("SET statement_timeout = 77000")
        process = PoolerProcess(pooler.config_file, pooler.directory / "log-next")
        process._argv.insert(-1, "-R")
        pooler.expect_end()
        process.start(lambda: "process up" in process.log(), 30)
        try:
            eventually(lambda: pooler.pid is None, 30)
            assert value(alice, "SHOW statement_timeout") == b"77s"
            assert (value(bob, "SHOW statement_timeout"), pid_of(bob)) == (b"0", server)
        finally:
            process.stop()


class Failing:
    """A server that does not carry out the first DISCARD ALL: it answers it with `answer`, b"" ends the connection."""

    def __init__(self, answer: bytes) -> None:
        self.answer = answer
        self.asked = threading.Event()
        self.may_answer = threading.Event()
        self.connections = 0

    def __call__(self, c: Conversation) -> None:
        self.connections += 1
        number = self.connections
        c.login()
        while True:
            kind, body = c.recv()
            if body == b"DISCARD ALL\0":
                self.asked.set()
                self.may_answer.wait(10)
                if not self.answer:
                    return
                c.send(self.answer, READY)
            elif kind == b"Q":
                c.send(result(f"connection {number}"))


@pytest.mark.parametrize("answer", [b"", message(b"E", b"SERROR\0C57014\0Mno\0\0")], ids=["ends", "refuses"])
def test_a_server_that_is_not_scrubbed_serves_nobody(make_pooler: Make, answer: bytes) -> None:
    """Its next client, who is not to blame, gets another one."""
    script = Failing(answer)
    script.may_answer.set()
    with FakeServer(script) as server:
        pooler = make_pooler(
            settings={"default_pool_size": 1, "session_state": "ignore"},
            userlist={"alice": "", "bob": ""},
            databases={"shared": f"{server.line} user=bob"},
        )
        with raw(pooler, "shared", "alice") as alice, raw(pooler, "shared", "bob") as bob:
            assert value(alice, "SELECT 1") == b"connection 1"
            assert value(bob, "SELECT 1") == b"connection 2"


def test_one_that_is_not_scrubbed_has_an_idle_one_take_its_place(make_pooler: Make) -> None:
    """Also while nobody can log in to make a new one."""
    connections: list[Conversation] = []
    refused = threading.Event()

    def script(c: Conversation) -> None:
        connections.append(c)
        if len(connections) > 2:
            c.wait_for_end()
            return
        number = len(connections)
        c.login()
        while True:
            kind, body = c.recv()
            if body == b"DISCARD ALL\0":
                again = refused.is_set()
                refused.set()
                c.send(message(b"C", body) if again else message(b"E", b"SERROR\0C57014\0Mno\0\0"), READY)
            elif kind == b"Q":
                c.send(result(str(number)))

    with FakeServer(script) as server:
        pooler = make_pooler(
            settings={
                "default_pool_size": 2,
                "min_pool_size": 2,
                "session_state": "ignore",
                "server_round_robin": 1,
            },
            userlist={"alice": "", "bob": "", "admin": ""},
            databases={"shared": f"{server.line} user=bob"},
        )
        with raw(pooler, "shared", "alice") as alice, raw(pooler, "shared", "bob") as bob:
            eventually(lambda: pooler.show("POOLS", database="shared", sv_idle=2))
            assert {value(alice, "SELECT 1"), value(alice, "SELECT 1")} == {b"1", b"2"}
            assert value(bob, "SELECT 1") in (b"1", b"2")


def test_a_client_that_leaves_meanwhile_costs_no_server(make_pooler: Make) -> None:
    script = Failing(message(b"C", b"DISCARD ALL\0"))
    with FakeServer(script) as server:
        pooler = make_pooler(
            settings={"default_pool_size": 1, "session_state": "ignore"},
            userlist={"alice": "", "bob": ""},
            databases={"shared": f"{server.line} user=bob"},
        )
        with raw(pooler, "shared", "alice") as alice:
            assert value(alice, "SELECT 1") == b"connection 1"
            with raw(pooler, "shared", "bob") as bob:
                bob.send(query("SELECT 1"))
                assert script.asked.wait(10)
            script.may_answer.set()
            assert value(alice, "SELECT 1") == b"connection 1"
