"""The test support itself, against a server without a pooler: the raw client, the fault proxy, ports."""

import struct
import threading
import time

import psycopg
import pytest

from pgferry.embedded import Cluster
from support import wire
from support.ports import is_free, take_port
from support.proxy import TO_CLIENT, FaultProxy
from support.wire import Wire, types


def address(server: Cluster) -> tuple[str, int]:
    return ("127.0.0.1", server.port)


@pytest.mark.parametrize("method", ["password", "md5", "scram-sha-256"])
def test_raw_client_logs_in(server: Cluster, method: str) -> None:
    encryption = "md5" if method == "md5" else "scram-sha-256"
    role = f"login_{encryption[:3]}_{method[:3]}"
    server.sql(f"DROP ROLE IF EXISTS {role}")
    server.sql(f"SET password_encryption = '{encryption}'; CREATE ROLE {role} LOGIN PASSWORD 'a secret'")
    try:
        server.set_hba([f"host all {role} all {method}"])
        with Wire.login(address(server), role, secret="a secret") as client:
            assert client.rows("SELECT current_user") == [[role.encode()]]
            assert client.pid
            assert client.parameters["client_encoding"] == "UTF8"
        with pytest.raises(ConnectionError, match="28P01"):
            Wire.login(address(server), role, secret="another")
    finally:
        server.set_hba()


def test_raw_extended_query_and_copy(server: Cluster) -> None:
    with Wire.login(address(server)) as client:
        client.send(
            wire.parse("SELECT $1::int + 1", "s"),
            wire.describe("s"),
            wire.bind(["41"], "s"),
            wire.execute(),
            wire.sync(),
        )
        answer = client.until()
        assert types(answer) == "1tT2DCZ"
        assert answer[4].row == [b"42"]
        client.send(wire.close("s"), wire.flush())
        assert client.recv().type == "3"
        client.send(wire.sync())
        assert types(client.until()) == "Z"
        client.query("CREATE TEMP TABLE t (a int)")
        client.send(wire.query("COPY t FROM STDIN"))
        assert client.recv().type == "G"
        client.send(wire.copy_data("1\n2\n"), wire.copy_done())
        assert [m.text for m in client.until() if m.type == "C"] == ["COPY 2"]
        client.send(wire.function_call(1397, struct.pack("!i", -5)))  # int4abs
        assert client.recv().body == struct.pack("!ii", 4, 5)


def test_raw_errors_and_cancel(server: Cluster) -> None:
    with Wire.login(address(server)) as client:
        assert client.query("SELECT wrong")[0].sqlstate == "42703"
        client.send(wire.query("SELECT pg_sleep(30)"))
        assert client.silent(0.1)
        with Wire(address(server)) as canceller:
            canceller.send(wire.cancel_request(client.pid, client.key))
            assert canceller.at_end()
        assert [m.sqlstate for m in client.until() if m.type == "E"] == ["57014"]


def test_proxy_splits_and_delays(server: Cluster) -> None:
    with FaultProxy(address(server)) as proxy:
        proxy.split(1)
        with Wire.login(("127.0.0.1", proxy.port)) as client:
            assert client.rows("SELECT 'byte by byte'") == [[b"byte by byte"]]
            proxy.resume()
            proxy.delay(0.1)
            began = time.monotonic()
            client.rows("SELECT 1")
            assert time.monotonic() - began >= 0.2
        assert proxy.seen[TO_CLIENT] > 300


def test_proxy_stalls_and_resumes(server: Cluster) -> None:
    with FaultProxy(address(server)) as proxy, Wire.login(("127.0.0.1", proxy.port)) as client:
        proxy.stall()
        client.send(wire.query("SELECT 1"))
        assert client.silent(0.2)
        proxy.resume()
        assert types(client.until()) == "TDCZ"


def test_proxy_cuts_and_refuses(server: Cluster) -> None:
    with FaultProxy(address(server)) as proxy:
        one, two = (Wire.login(("127.0.0.1", proxy.port)) for _ in range(2))
        assert (proxy.accepted, proxy.open) == (2, 2)
        proxy.cut_after(10)
        one.send(wire.query("SELECT 1"))
        assert one.recv_bytes(10)
        assert one.at_end()
        assert two.at_end()
        proxy.refuse()
        with pytest.raises((ConnectionError, EOFError)):
            Wire.login(("127.0.0.1", proxy.port))
    with pytest.raises(ConnectionRefusedError):
        Wire(("127.0.0.1", proxy.port))


def test_ports_are_given_once() -> None:
    taken = []
    threads = [threading.Thread(target=lambda: taken.append(take_port())) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({t.port for t in taken}) == 20
    assert all(is_free(t.port) for t in taken)
    for lock in taken:
        lock.release()


def test_a_used_port_is_not_free(server: Cluster) -> None:
    assert not is_free(server.port)
    with psycopg.connect(server.conninfo()):
        assert not is_free(server.port)
