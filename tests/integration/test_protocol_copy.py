"""COPY in both directions, function calls, notices, large messages, through a pooler in transaction mode."""

import os
from pathlib import Path

import psycopg
import pytest

from support.pooler import Pooler, eventually
from support.sanitizer import fits
from support.wire import (
    Wire,
    bind,
    copy_data,
    copy_done,
    copy_fail,
    execute,
    flush,
    function_call,
    parse,
    query,
    sync,
    types,
)

MB = 1 << 20


@pytest.fixture
def wire(pooler: Pooler, database: str):  # type: ignore[no-untyped-def]
    with Wire.login((pooler.host, pooler.port), database=database, timeout=60) as connection:
        connection.query("CREATE TABLE t (a int, b text)")
        yield connection


def free(pooler: Pooler, database: str) -> bool:
    """Whether the pool has its servers back."""
    return not pooler.show("SERVERS", database=database, state="active")


def test_copy_out(wire: Wire) -> None:
    answer = wire.query("COPY (SELECT g FROM generate_series(1, 1000) g) TO STDOUT")
    assert types(answer) == "H" + "d" * 1000 + "cCZ"
    wire.send(parse("COPY (SELECT 7) TO STDOUT"), bind(), execute(), sync())
    assert types(wire.until()) == "12HdcCZ"


def test_copy_out_error_in_the_middle(wire: Wire) -> None:
    answer = wire.query("COPY (SELECT 1 / (3 - g) FROM generate_series(1, 5) g) TO STDOUT")
    assert types(answer) == "HddEZ"
    assert types(wire.query("SELECT 1")) == "TDCZ"


def test_copy_in_and_the_server_is_free_afterwards(wire: Wire, pooler: Pooler, database: str) -> None:
    wire.send(query("COPY t FROM STDIN"))
    assert wire.recv().type == "G"
    wire.send(*(copy_data(f"{n}\tx\n") for n in range(1000)), copy_done())
    assert types(wire.until()) == "CZ"
    eventually(lambda: free(pooler, database))
    wire.send(query("COPY t FROM STDIN"), copy_data("1\ty\n"), copy_done())  # all at once
    assert types(wire.until()) == "GCZ"
    eventually(lambda: free(pooler, database))
    assert wire.rows("SELECT count(*) FROM t") == [[b"1001"]]


@pytest.mark.parametrize("extended", [False, True])
@pytest.mark.parametrize("early_sync", [False, True])
def test_copy_in_error_while_the_client_goes_on(
    wire: Wire, pooler: Pooler, database: str, extended: bool, early_sync: bool
) -> None:
    """What is still on its way when COPY fails is dropped, and the server serves the next client."""
    if extended:
        wire.send(parse("COPY t FROM STDIN"), bind(), execute(), sync() if early_sync else flush())
        assert types([wire.recv() for _ in range(3)]) == "12G"
    else:
        wire.send(query("COPY t FROM STDIN"))
        assert wire.recv().type == "G"
    wire.send(copy_data("not a number\tx\n"))
    if not extended:
        assert types(wire.until()) == "EZ"
    for _ in range(200):
        wire.send(copy_data("2\t" + "y" * 1000 + "\n"))
    wire.send(copy_done(), sync() if extended else b"")
    if extended:
        assert types(wire.until()) == "EZ"
    with Wire.login((pooler.host, pooler.port), database=database) as other:
        for w in (other, wire):
            assert w.rows("SELECT count(*) FROM t") == [[b"0"]]


def test_copy_fail(wire: Wire) -> None:
    wire.send(query("COPY t FROM STDIN"))
    assert wire.recv().type == "G"
    wire.send(copy_data("1\tx\n"), copy_fail("second thoughts"))
    error, _ = wire.until()
    assert error.text == "COPY from stdin failed: second thoughts"
    wire.send(parse("COPY t FROM STDIN"), bind(), execute(), copy_data("1\tx\n"), copy_fail("again"), sync())
    answer = wire.until()
    assert types(answer) == "12GEZ"
    assert wire.rows("SELECT count(*) FROM t") == [[b"0"]]


def test_copy_in_the_middle_of_a_query(wire: Wire) -> None:
    wire.send(query("SELECT 1; COPY t FROM STDIN; SELECT 2"), copy_data("1\tx\n"), copy_done())
    assert types(wire.until()) == "TDCGCTDCZ"


def test_copy_with_psycopg(pooler: Pooler, database: str) -> None:
    with pooler.connect(database) as conn:
        conn.execute("CREATE TABLE p (a int, b text)")
        with conn.cursor().copy("COPY p FROM STDIN") as copy:
            for n in range(5000):
                copy.write_row((n, "x" * 100))
        with conn.cursor().copy("COPY p TO STDOUT") as copy:
            assert len(list(copy.rows())) == 5000
        with (
            pytest.raises(psycopg.errors.InvalidTextRepresentation),
            conn.cursor().copy("COPY p FROM STDIN") as copy,
        ):
            copy.write("x\ty\n" * 10000)
        assert conn.execute("SELECT count(*) FROM p").fetchone() == (5000,)


def test_function_call(wire: Wire) -> None:
    wire.send(function_call(1258, b"one ", b"two"))  # textcat
    answer = wire.until()
    assert types(answer) == "VZ" and answer[0].body[4:] == b"one two"
    wire.send(function_call(154, b"\0\0\0\1", b"\0\0\0\0"))  # int4div
    assert types(wire.until()) == "EZ"
    wire.send(function_call(4294967295), query("SELECT 1"))
    assert types(wire.until(count=2)) == "EZTDCZ"


def test_notices(wire: Wire) -> None:
    answer = wire.query("DO $$BEGIN FOR i IN 1..3 LOOP RAISE NOTICE 'notice %', i; END LOOP; END$$")
    assert [m.text for m in answer if m.type == "N"] == ["notice 1", "notice 2", "notice 3"]
    assert types(wire.query("COMMIT")) == "NCZ"


# --- large messages


def rss(pooler: Pooler) -> int:
    """Resident bytes of all workers at their highest."""
    total = 0
    for pid in pooler.worker_pids:
        text = Path(f"/proc/{pid}/status").read_text()
        total += int(text.split("VmHWM:")[1].split()[0]) * 1024
    return total


def big_result(wire: Wire, size: int) -> None:
    """One value of so many bytes."""
    wire.send(query(f"SELECT repeat('x', {size})"))
    assert wire.recv().type == "T"
    head = wire.recv_bytes(5)
    length = int.from_bytes(head[1:], "big")
    assert (head[:1], length) == (b"D", size + 10)
    wire.skip(length - 4)
    assert types(wire.until()) == "CZ"


def big_parameter(wire: Wire, size: int) -> None:
    """A Bind with one value of so many bytes, sent piece by piece."""
    wire.send(parse("SELECT length($1)", types=[25], name="big"))
    body = b"\0big\0" + b"\0\0" + b"\0\1" + size.to_bytes(4, "big")
    wire.send(b"B" + (len(body) + size + 2 + 4).to_bytes(4, "big") + body)
    piece = b"y" * MB
    for _ in range(size // MB):
        wire.sock.sendall(piece)
    wire.send(b"\0\0", execute(), sync())
    answer = wire.until()
    assert types(answer) == "12DCZ" and answer[2].row == [b"%d" % size]


def test_large_messages_in_constant_memory(wire: Wire, pooler: Pooler) -> None:
    before = rss(pooler)
    big_result(wire, 200 * MB)
    big_parameter(wire, 64 * MB)
    assert fits(rss(pooler) - before, 8 * MB)


@pytest.mark.soak
@pytest.mark.skipif("PGFERRY_SOAK_SECONDS" not in os.environ, reason="make soak")
def test_largest_messages_in_constant_memory(wire: Wire, pooler: Pooler) -> None:
    before = rss(pooler)
    for _ in range(4):
        big_result(wire, 256 * MB)
    wire.send(query(f"SELECT repeat('x', {MB - 20}) FROM generate_series(1, 1024)"))
    assert wire.recv().type == "T"
    wire.skip(1024 * (MB - 20 + 11))  # a DataRow's head, count and length
    assert types(wire.until()) == "CZ"
    big_parameter(wire, 256 * MB)
    assert rss(pooler) - before < 8 * MB


def test_slow_reader_of_a_large_result(wire: Wire, pooler: Pooler, database: str) -> None:
    """Its server waits with it; nobody else does, and nothing piles up in the worker."""
    before = rss(pooler)
    wire.send(query(f"SELECT repeat('x', {100 * MB})"))
    assert wire.recv().type == "T"
    with Wire.login((pooler.host, pooler.port), database=database) as other:
        for n in range(50):
            assert other.rows(f"SELECT {n}") == [[b"%d" % n]]
    wire.skip(100 * MB + 11)
    assert types(wire.until()) == "CZ"
    assert fits(rss(pooler) - before, 8 * MB)
