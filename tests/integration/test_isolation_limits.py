"""No client, and no server, fills or holds up a worker: turns end by time, what is kept is bounded by bytes."""

import struct
import threading
from collections.abc import Callable
from functools import partial

import pytest

from pgferry.embedded import Cluster
from support.clients import begin, pid_of, raw, refusal
from support.fake_server import AUTH_OK, READY, Conversation, FakeServer
from support.pooler import Pooler, eventually
from support.wire import Wire, bind, execute, message, parse, query, sync, terminate, types

Make = Callable[..., Pooler]
pytestmark = pytest.mark.workers(1)
MEGABYTE = 1 << 20


def memory(pooler: Pooler, name: str) -> tuple[int, int]:
    """(used, memtotal) of a row of SHOW MEM."""
    (row,) = pooler.show("MEM", name=name)
    return row["used"], row["memtotal"]


def set_large(wire: Wire, size: int, name: str = "app.large") -> None:
    got = wire.query(f"SELECT length(set_config('{name}', repeat('x', {size}), false))")
    assert "E" not in types(got)


def served_meanwhile(pooler: Pooler, flood: Wire, data: bytes, answers: int, kind: str = "1") -> int:
    """How many queries of a client of another pool are answered between the first and the last of the answers."""
    first, over = threading.Event(), threading.Event()
    served = 0

    def read() -> None:
        for _ in range(answers):
            flood.until(kind)
            first.set()
        over.set()

    with raw(pooler, "template1", timeout=60) as other:
        other.query("SELECT 1")
        reader = threading.Thread(target=read)
        reader.start()
        sender = threading.Thread(target=flood.send, args=(data,))
        sender.start()
        first.wait(60)
        while not over.is_set():
            other.query("SELECT 1")
            served += not over.is_set()
        reader.join()
        sender.join()
    return served


# --- turns


def test_others_are_served_while_one_client_floods(pooler: Pooler) -> None:
    """Tens of thousands of Parse without a Sync in between are many turns of the loop, not one."""
    with raw(pooler, timeout=60) as flood:
        flood.query("SELECT 1")
        number = 30_000
        data = b"".join(parse("SELECT 1", f"s{i}") for i in range(number)) + sync()
        assert served_meanwhile(pooler, flood, data, number) >= 3
        assert types(flood.until()) == "Z"


def test_others_are_served_while_texts_are_judged(pooler: Pooler) -> None:
    """Texts that take long to read wait for each other; others are served in between."""
    with raw(pooler, timeout=60) as flood:
        flood.query("SELECT 1")
        texts = [f"SET app.a{number} = 1; " + "SET a.b = 1; " * 600 for number in range(60)]
        data = b"".join(parse(text) + sync() for text in texts)
        assert served_meanwhile(pooler, flood, data, len(texts), "Z") >= 3


def test_a_long_pipeline_of_closes_needs_no_sync(pooler: Pooler) -> None:
    """What pgferry answers itself waits behind an answer that PostgreSQL keeps until it is asked to send it."""
    with raw(pooler) as wire:
        number = 5000
        wire.send(parse("SELECT 1"), *(message(b"C", b"Snone\0") for _ in range(number)), sync())
        assert types(wire.until()) == "1" + "3" * number + "Z"


def test_long_pipelines_are_answered_in_order(pooler: Pooler) -> None:
    number = 6000
    with raw(pooler, timeout=60) as wire:
        wire.send(parse("SELECT $1::int", "mine", [23]), sync())
        wire.until()
        data = b"".join(bind([str(i)], "mine") + execute() for i in range(number)) + sync()
        sender = threading.Thread(target=wire.send, args=(data,))
        sender.start()
        rows = [m.row for m in wire.until() if m.type == "D"]
        sender.join()
        assert rows == [[b"%d" % i] for i in range(number)]


# --- session state


def test_large_states_are_not_kept(pooler: Pooler) -> None:
    """Session state above 1 MB stays on its server, which stays with its client; nothing is left when that leaves."""
    with raw(pooler, timeout=60) as wire, raw(pooler) as other:
        set_large(wire, 8 * MEGABYTE)
        eventually(lambda: pooler.show("PINS"))
        (pin,) = pooler.show("PINS")
        assert "1 MB" in pin["reasons"]
        assert wire.rows("SELECT length(current_setting('app.large'))") == [[b"8388608"]]
        set_large(wire, 10)
        assert wire.rows("SELECT length(current_setting('app.large'))") == [[b"10"]]
        assert memory(pooler, "session_state_cache")[1] < MEGABYTE
        assert other.rows("SELECT coalesce(current_setting('app.large', true), '')") == [[b""]]
        server = pid_of(wire)
    eventually(lambda: pooler.show("PINS") == [])
    with begin_on(pooler, server) as late:
        assert late.rows("SELECT coalesce(current_setting('app.large', true), '')") == [[b""]]


def begin_on(pooler: Pooler, server: int) -> Wire:
    """A client in a transaction on this server."""
    wires = []
    try:
        for _ in range(20):
            wires.append(raw(pooler))
            if begin(wires[-1]) == server:
                return wires.pop()
    finally:
        for wire in wires:
            wire.close()
    raise AssertionError("nobody gets that server")


def test_states_below_the_limit_move_and_are_forgotten(pooler: Pooler) -> None:
    used, total = memory(pooler, "session_state_cache")
    for number in range(5):
        with raw(pooler) as wire:
            set_large(wire, 100_000 + number)
            assert wire.rows("SELECT length(current_setting('app.large'))") == [[b"%d" % (100_000 + number)]]
            assert pooler.show("PINS") == []
    # The servers may still have the last one's.
    eventually(lambda: memory(pooler, "session_state_cache") <= (used + 2, total + 300_000))


def test_many_settings_one_by_one(pooler: Pooler) -> None:
    """The sum counts, not each."""
    with raw(pooler) as wire:
        for number in range(14):
            assert "E" not in types(wire.query(f"SET app.n{number} = '{'x' * 100_000}'"))
        eventually(lambda: pooler.show("PINS"))
        assert wire.rows("SELECT length(current_setting('app.n3'))") == [[b"100000"]]
        assert memory(pooler, "session_state_cache")[1] < 3 * MEGABYTE


def test_large_statements_of_prepare(pooler: Pooler) -> None:
    with raw(pooler) as wire:
        wire.query(
            f"DO $$BEGIN EXECUTE 'PREPARE mine AS SELECT ' || quote_literal(repeat('x', {5 * MEGABYTE})); END$$"
        )
        eventually(lambda: pooler.show("PINS"))
        assert wire.rows("SELECT length(t.statement) > 5000000 FROM pg_prepared_statements t")[0] == [b"t"]
        assert memory(pooler, "sql_prepared_statement_cache")[1] < MEGABYTE


def test_verdicts_are_bounded(pooler: Pooler) -> None:
    with raw(pooler) as wire:
        for number in range(700):
            wire.send(query(f"SELECT set_config('app.a', '{number}{'x' * 8000}', false)"))
            wire.until()
        used, total = memory(pooler, "statement_verdict_cache")
        assert 0 < used < 700
        assert total <= 4 * MEGABYTE


def test_a_large_catalog_is_understood(cluster: Cluster, database: str, make_pooler: Make) -> None:
    """By a process of its own; what its functions do is known as that of a small one is."""
    for number in range(20):
        body = f"BEGIN PERFORM set_config('app.s{number}', 'x', false);\n-- {'x' * 4000}\nEND"
        cluster.sql(f"CREATE FUNCTION f{number}() RETURNS void LANGUAGE plpgsql AS $${body}$$", database)
    pooler = make_pooler(settings={"default_pool_size": 1})
    with raw(pooler, database) as wire, raw(pooler, database) as other:

        def is_kept_apart() -> bool:
            wire.query("SELECT f7()")
            return other.rows("SELECT coalesce(current_setting('app.s7', true), '')") == [[b""]]

        eventually(is_kept_apart, 60)
        assert wire.rows("SELECT current_setting('app.s7', true)") == [[b"x"]]


# --- servers that say too much


def parameter(name: str, value: str = "") -> bytes:
    return message(b"S", f"{name}\0{value}\0".encode())


FLOODS: dict[str, Callable[[int], bytes]] = {
    "parameters": lambda i: parameter(f"p{i}", "x" * 1000),
    "notices": lambda _: message(b"N", b"SNOTICE\0C00000\0Mhello\0\0"),
}


@pytest.mark.parametrize("kind", FLOODS)
def test_a_login_that_says_too_much_fails(make_pooler: Make, kind: str) -> None:
    def script(c: Conversation) -> None:
        c.startup()
        c.send(AUTH_OK)
        for i in range(100_000):
            c.send(FLOODS[kind](i))

    with FakeServer(script) as server:
        pooler = make_pooler(databases={"db": server.line})
        assert "server login failed: server says too much" in refusal(pooler, "db", timeout=60)


def large_answer(c: Conversation) -> None:
    """A server that answers what it is asked with rows without end, as far as somebody takes them."""
    c.login()
    while True:
        kind, body = c.recv()
        if b"set_config" in body and b"SELECT 's'" not in body and b"SELECT 'a'" not in body:
            c.send(message(b"C", b"SELECT 1\0"), READY)
        elif kind == b"Q" and b"SELECT 's'" in body:
            row = (
                struct.pack("!hi", 3, 1) + b"s" + struct.pack("!i", 5) + b"app.x" + struct.pack("!i", 100_000)
            )
            for _ in range(200):
                c.send(message(b"D", row + b"x" * 100_000))
            c.send(message(b"C", b"SELECT 200\0"), READY)
        elif kind == b"Q":
            c.send(message(b"C", b"SELECT 0\0"), READY)


def test_the_answer_to_a_probe_is_bounded(make_pooler: Make) -> None:
    """Beyond that nothing is known of the session, which is not the same as that it holds nothing."""
    with FakeServer(large_answer) as server:
        pooler = make_pooler(databases={"db": server.line})
        with raw(pooler, "db", timeout=60) as wire:
            wire.query("SELECT set_config('app.x', '1', false)")
            eventually(lambda: pooler.show("PINS"), 30)
            assert "1 MB" in pooler.show("PINS")[0]["reasons"]


def test_a_client_that_leaves_without_reading_costs_no_server(make_pooler: Make, database: str) -> None:
    """Its server is not read while the client has not taken its last bytes, and is to be asked what it holds."""
    pooler = make_pooler(settings={"default_pool_size": 1})
    path = f"{pooler.socket_dir}/.s.PGSQL.{pooler.port}"
    with Wire.login(path, database=database) as lazy, raw(pooler, database) as other:

        def unread() -> int:
            return sum(row["send_remain"] for row in pooler.show("SOCKETS", database=database, type="C"))

        def probes(count: int) -> bool:
            return sum(row["count"] for row in pooler.show("STATE_COUNTERS", counter="probes")) == count

        for number in range(1, 1000):
            lazy.send(query("SELECT set_config('app.x', '1', false), repeat('x', 6000)"))
            eventually(partial(probes, number))
            if unread():
                break
        lazy.send(terminate())
        other.sock.settimeout(5)
        assert other.rows("SELECT coalesce(current_setting('app.x', true), '')") == [[b""]]
