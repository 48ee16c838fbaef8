"""Startup packets, protocol versions, tracked parameters, listeners, ways to the server; drivers."""

import asyncio
import random
import subprocess
from collections.abc import Callable

import asyncpg
import psycopg
import pytest

from pgferry.embedded import Cluster
from pgferry.protocol.backend import NegotiateProtocolVersion
from support.pooler import Pooler, eventually
from support.programs import program
from support.wire import (
    PROTOCOL_3_0,
    PROTOCOL_3_2,
    Wire,
    bind,
    cancel_request,
    execute,
    parse,
    query,
    startup,
    sync,
    types,
)


def greeting(
    pooler: Pooler, version: int, **parameters: str
) -> tuple[Wire, str, list[NegotiateProtocolVersion]]:
    """A raw login: the connection, the types of the answer, and what NegotiateProtocolVersion said."""
    wire = Wire((pooler.host, pooler.port))
    wire.send(startup("postgres", "postgres", version, **parameters))
    seen = wire.authenticate("postgres", "")
    said = [NegotiateProtocolVersion.read(got.body) for got in seen if got.type == "v"]
    return wire, types(seen), said


@pytest.mark.parametrize(("version", "key_length"), [(PROTOCOL_3_0, 4), (3 << 16 | 1, 4), (PROTOCOL_3_2, 32)])
def test_versions_and_cancel_keys(cluster: Cluster, pooler: Pooler, version: int, key_length: int) -> None:
    """As PostgreSQL 18 does it: nothing to negotiate, and 3.2 brings long cancel keys, which work."""
    wire, _, said = greeting(pooler, version)
    with wire:
        assert said == []
        assert len(wire.key) == key_length
        wire.send(query("SELECT pg_sleep(30)"))
        eventually(lambda: cluster.sql("SELECT 1 FROM pg_stat_activity WHERE wait_event = 'PgSleep'"))
        with Wire((pooler.host, pooler.port)) as other:
            other.send(cancel_request(wire.pid, wire.key))
            assert other.at_end()
        assert [m.sqlstate for m in wire.until() if m.type == "E"] == ["57014"]


@pytest.mark.parametrize("version", [PROTOCOL_3_0, 3 << 16 | 9999])
def test_options_and_versions_of_the_future(pooler: Pooler, version: int) -> None:
    wire, answer, said = greeting(pooler, version, **{"_pq_.command_tag_format": "x"})
    with wire:
        assert answer.count("v") == 1
        newest = PROTOCOL_3_2 if version > PROTOCOL_3_2 else version
        assert said == [NegotiateProtocolVersion(newest, ("_pq_.command_tag_format",))]
        assert types(wire.query("SELECT 1")) == "TDCZ"


@pytest.mark.usefixtures("cluster")
def test_parameters_belong_to_the_client(make_pooler: Callable[..., Pooler], workers: int) -> None:
    """Many clients with different parameters, one server for each worker."""
    pooler = make_pooler(settings={"default_pool_size": workers, "track_extra_parameters": "IntervalStyle"})
    wanted = [
        {
            "TimeZone": zone,
            "DateStyle": style,
            "application_name": f"app {zone} {style}",
            "IntervalStyle": interval,
        }
        for zone in ("UTC", "Asia/Tokyo")
        for style in ("ISO, MDY", "German, DMY")
        for interval in ("postgres", "iso_8601")
    ]
    clients = [Wire.login((pooler.host, pooler.port), **w) for w in wanted]  # type: ignore[arg-type]
    for _ in range(3):
        for client, want in zip(clients, wanted, strict=True):
            for name, value in want.items():
                assert client.rows(f"SHOW {name}") == [[value.encode()]]
                assert client.parameters[name] == value
    clients[0].query("SET TimeZone = 'America/Caracas'")
    assert clients[0].parameters["TimeZone"] == "America/Caracas"
    assert clients[1].rows("SHOW TimeZone") == [[b"UTC"]]
    assert clients[0].rows("SHOW TimeZone") == [[b"America/Caracas"]]
    clients[0].query("BEGIN; SET TimeZone = 'UTC'")
    clients[0].query("ROLLBACK")
    assert clients[1].rows("SHOW TimeZone") == [[b"UTC"]]
    assert clients[0].rows("SHOW TimeZone") == [[b"America/Caracas"]]
    for client in clients:
        client.close()


@pytest.mark.usefixtures("cluster")
def test_changing_differences(make_pooler: Callable[..., Pooler], workers: int) -> None:
    """What a server needs for a client is remembered: it must not be used once other values differ."""
    pooler = make_pooler(settings={"default_pool_size": 2 * workers, "server_round_robin": 1})
    values = {
        "application_name": ["one", "two", "three"],
        "TimeZone": ["UTC", "Asia/Tokyo", "America/Caracas"],
        "DateStyle": ["ISO, MDY", "German, DMY", "SQL, DMY"],
        "search_path": ["public", "pg_catalog, public", '"Odd", public'],
        "work_mem": ["5MB", "6MB", "7MB"],
    }
    chance = random.Random(7)
    clients = [Wire.login((pooler.host, pooler.port)) for _ in range(3)]
    held = [{name: options[0] for name, options in values.items()} for _ in clients]
    for wire, present in zip(clients, held, strict=True):
        for name, value in present.items():
            wire.query(f"SET {name} = {value if name == 'search_path' else repr(value)}")
    for _ in range(40):
        wire, present = chance.choice(list(zip(clients, held, strict=True)))
        name = chance.choice(list(values))
        present[name] = chance.choice(values[name])
        wire.query(f"SET {name} = {present[name] if name == 'search_path' else repr(present[name])}")
        for wire, present in zip(clients, held, strict=True):
            shown = ", ".join(f"current_setting('{name}')" for name in present)
            assert wire.rows(f"SELECT {shown}") == [[value.encode() for value in present.values()]]
    assert [r for r in pooler.show("STATE_COUNTERS") if r["counter"] == "restores" and r["count"] > 0]
    for wire in clients:
        wire.close()


@pytest.mark.usefixtures("cluster")
def test_very_many_tracked_parameters(make_pooler: Callable[..., Pooler], workers: int) -> None:
    names = ", ".join(f"nobody.reports_{number}" for number in range(70))
    settings = {"default_pool_size": workers, "track_extra_parameters": f"{names}, IntervalStyle"}
    pooler = make_pooler(settings=settings)
    styles = ("postgres", "iso_8601", "sql_standard")
    clients = [
        Wire.login((pooler.host, pooler.port), IntervalStyle=style, TimeZone="UTC") for style in styles
    ]
    for _ in range(3):
        for wire, style in zip(clients, styles, strict=True):
            assert wire.rows("SHOW IntervalStyle") == [[style.encode()]]
            assert wire.rows("SHOW TimeZone") == [[b"UTC"]]
    clients[0].query("SET IntervalStyle = sql_standard; SET TimeZone = 'Asia/Tokyo'")
    assert clients[1].rows("SHOW IntervalStyle") == [[b"iso_8601"]]
    assert clients[0].rows("SHOW IntervalStyle") == [[b"sql_standard"]]
    assert clients[0].rows("SHOW TimeZone") == [[b"Asia/Tokyo"]]
    for wire in clients:
        wire.close()


def test_client_encoding_is_the_clients(pooler: Pooler) -> None:
    with (
        Wire.login((pooler.host, pooler.port), client_encoding="LATIN1") as latin,
        Wire.login((pooler.host, pooler.port), client_encoding="UTF8") as utf,
    ):
        for _ in range(3):
            assert latin.rows("SELECT chr(233)") == [[b"\xe9"]]
            assert utf.rows("SELECT chr(233)") == [[b"\xc3\xa9"]]


def test_options(pooler: Pooler) -> None:
    with Wire.login((pooler.host, pooler.port), options="-c TimeZone=Asia/Tokyo --DateStyle=German") as wire:
        assert wire.rows("SHOW TimeZone") == [[b"Asia/Tokyo"]]
        assert wire.rows("SHOW DateStyle") == [[b"German, DMY"]]


@pytest.mark.parametrize(
    ("parameters", "text"),
    [
        ({"work_mem": "1MB"}, "unsupported startup parameter: work_mem"),
        ({"options": "-c work_mem=1MB"}, "unsupported startup parameter in options: work_mem"),
        ({"options": "-d 5"}, "unsupported options startup parameter"),
    ],
)
def test_unsupported_parameters(
    make_pooler: Callable[..., Pooler], parameters: dict[str, str], text: str
) -> None:
    pooler = make_pooler(settings={"session_state": "ignore"})
    with pytest.raises(ConnectionError, match=text):
        Wire.login((pooler.host, pooler.port), **parameters)  # type: ignore[arg-type]


def test_invalid_value(pooler: Pooler) -> None:
    """It is PostgreSQL that says so, at the latest with the first query; the next client is not hurt."""
    try:
        with Wire.login((pooler.host, pooler.port), TimeZone="No/Where") as wire:
            wire.send(query("SELECT 1"))
            got = wire.recv()
            assert got.type == "E" and got.fields["S"] == "FATAL" and "No/Where" in got.text
            assert wire.at_end()
    except ConnectionError as e:
        assert "No/Where" in str(e)
    with Wire.login((pooler.host, pooler.port)) as wire:
        assert types(wire.query("SELECT 1")) == "TDCZ"


def test_ways_to_the_server(cluster: Cluster, make_pooler: Callable[..., Pooler]) -> None:
    """TCP over IPv4 and IPv6, and a socket in the file system."""
    ways = {
        "v4": f"host=127.0.0.1 port={cluster.port} dbname=postgres",
        "v6": f"host=::1 port={cluster.port} dbname=postgres",
        "unix": f"host={cluster.socket_dir} port={cluster.port} dbname=postgres",
    }
    first = make_pooler(databases=ways)
    with Wire.login((first.host, first.port), database="unix") as wire:
        assert wire.rows("SELECT inet_server_addr()") == [[None]]
    for way, address in (("v4", b"127.0.0.1"), ("v6", b"::1")):
        with Wire.login((first.host, first.port), database=way) as wire:
            assert wire.rows("SELECT inet_server_addr()") == [[address]]


def test_abstract_sockets(cluster: Cluster, make_pooler: Callable[..., Pooler]) -> None:
    """As a listener, and towards a server (which is another pooler here)."""
    inner = make_pooler(cluster)
    name = f"@pgferry-test-{inner.port}"
    inner.set({"unix_socket_dir": name}, reload=False)
    inner.restart()
    outer = make_pooler(cluster, databases={"postgres": f"host={name} port={inner.port}"})
    with Wire.login((outer.host, outer.port)) as wire:
        assert types(wire.query("SELECT 1")) == "TDCZ"
    with Wire.login(f"\0{name[1:]}/.s.PGSQL.{inner.port}") as wire:
        assert types(wire.query("SELECT 1")) == "TDCZ"


# --- drivers


def test_asyncpg_with_its_statement_cache(pooler: Pooler) -> None:
    async def one(n: int) -> None:
        connection = await asyncpg.connect(
            host=pooler.host, port=pooler.port, user="postgres", database="postgres", ssl=False
        )
        try:
            for i in range(10):
                assert await connection.fetchval("SELECT $1::int + $2::int", n, i) == n + i
                assert await connection.fetch("SELECT $1::text AS a, g FROM generate_series(1, 3) g", str(n))
                async with connection.transaction():
                    assert await connection.fetchval("SELECT $1::timestamptz IS NULL", None) is True
                with pytest.raises(asyncpg.DivisionByZeroError):
                    await connection.execute("SELECT 1 / 0")
        finally:
            await connection.close()

    async def all_of_them() -> None:
        await asyncio.gather(*(one(n) for n in range(12)))

    pooler.set({"default_pool_size": 2, "server_round_robin": 1})
    asyncio.run(all_of_them())


def test_psycopg_defaults(pooler: Pooler) -> None:
    with pooler.connect(autocommit=False) as conn:
        for n in range(10):  # prepares after five
            assert conn.execute("SELECT %s::int * 2", [n]).fetchone() == (n * 2,)
            conn.commit()
        with pytest.raises(psycopg.errors.UndefinedTable):
            conn.execute("SELECT * FROM no_such_table")
        conn.rollback()
        with conn.cursor(name="named") as cursor:
            cursor.itersize = 3
            assert len(list(cursor.execute("SELECT generate_series(1, 10)"))) == 10


def test_psql(pooler: Pooler) -> None:
    command = [program("psql"), "-X", "-At", pooler.conninfo(), "-c", "SELECT 1", "-c", "\\conninfo"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True)
    assert done.stdout.startswith("1\n")


@pytest.mark.parametrize("protocol", ["simple", "extended", "prepared"])
def test_pgbench(pooler: Pooler, database: str, protocol: str) -> None:
    pgbench = program("pgbench")
    where = ["-h", pooler.host, "-p", str(pooler.port), "-U", "postgres", database]
    subprocess.run([pgbench, "-i", "-q", *where], capture_output=True, timeout=60, check=True)
    done = subprocess.run(
        [pgbench, "-n", "-c", "8", "-t", "50", "-M", protocol, *where],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert "400/400" in done.stdout


def test_two_statements_in_one_parse_are_refused(pooler: Pooler) -> None:
    with Wire.login((pooler.host, pooler.port)) as wire:
        wire.send(parse("SELECT 1; SELECT 2"), bind(), execute(), sync())
        assert wire.until()[0].sqlstate == "42601"
