"""The console's commands on a pooler at work: PAUSE, KILL, RECONNECT, rights, RELOAD, SHUTDOWN."""

import asyncio
import threading
import time
from collections.abc import Callable

import asyncpg
import psycopg
import pytest

from pgferry.embedded import Cluster
from support.clients import begin, fatal, one_of_each, pid_of, raw, refusal
from support.pooler import Pooler, eventually
from support.wire import Wire, cancel_request, query, startup, types

Make = Callable[..., Pooler]


class Later(threading.Thread):
    """A console command in a thread: its result or error, later."""

    def __init__(self, pooler: Pooler, command: str) -> None:
        super().__init__(daemon=True)
        self.console = pooler.console()
        self.command = command
        self.error: str | None = None
        self.tag: str | None = None
        self.start()

    def run(self) -> None:
        try:
            self.tag = self.console.execute(self.command.encode()).statusmessage
        except psycopg.Error as error:
            self.error = str(error)

    def done(self, seconds: float = 10.0) -> "Later":
        self.join(seconds)
        assert not self.is_alive(), f"{self.command} is not answered"
        self.console.close()
        return self


def test_pause_waits_for_transactions_and_resume_lets_go_on(pooler: Pooler, workers: int) -> None:
    inside = one_of_each(pooler, workers)
    outside = one_of_each(pooler, workers)
    for wire in inside:
        begin(wire)
    pid_of(outside[0])
    pause = Later(pooler, "PAUSE")
    eventually(lambda: pooler.show("STATE", key="paused")[0]["value"] == "yes")
    for wire in outside:
        wire.send(query("SELECT 1"))
    assert all(wire.silent(0.1) for wire in outside)
    assert pause.is_alive()
    for wire in inside:
        assert types(wire.query("SELECT 1")) == "TDCZ"
        wire.query("COMMIT")
    assert pause.done().tag == "PAUSE"
    assert not pooler.show("SERVERS")
    assert all(wire.silent(0.05) for wire in outside)
    with pytest.raises(psycopg.Error, match="already suspended/paused"):
        pooler.admin("PAUSE")
    pooler.admin("RESUME")
    for wire in outside:
        assert types(wire.until()) == "TDCZ"
    with pytest.raises(psycopg.Error, match="pooler is not paused/suspended"):
        pooler.admin("RESUME")
    pooler.wait_log("PAUSE command issued")


def test_pending_pause_is_answered(pooler: Pooler, workers: int) -> None:
    wires = one_of_each(pooler, workers)
    for wire in wires:
        begin(wire)
    pause = Later(pooler, "PAUSE")
    eventually(lambda: pooler.show("STATE", key="paused")[0]["value"] == "yes")
    pooler.admin("RESUME")
    assert "RESUME" in (pause.done().error or "")
    pause = Later(pooler, "PAUSE postgres")
    eventually(lambda: pooler.show("DATABASES", name="postgres")[0]["paused"] == 1)
    pooler.admin("RESUME postgres")
    assert "RESUME" in (pause.done().error or "")
    # ^C at a terminal is a cancel request.
    pause = Later(pooler, "PAUSE")
    eventually(lambda: pooler.show("STATE", key="paused")[0]["value"] == "yes")
    pause.console.cancel_safe()
    pause.done()
    assert pooler.show("STATE", key="paused")[0]["value"] == "no"
    for wire in wires:
        assert types(wire.query("COMMIT")) == "CZ"
        assert types(wire.query("SELECT 1")) == "TDCZ"


def test_pause_of_one_database(pooler: Pooler, cluster: Cluster, database: str) -> None:
    one, other = raw(pooler, database), raw(pooler)
    begin(one)
    pause = Later(pooler, f"PAUSE {database}")
    assert types(other.query("SELECT 1")) == "TDCZ"
    assert pause.is_alive()
    one.query("COMMIT")
    assert pause.done().tag == "PAUSE"
    one.send(query("SELECT 1"))
    assert one.silent(0.1)
    # Nothing of pgferry is in the database's way now.
    cluster.sql(f"ALTER DATABASE {database} RENAME TO {database}_x")
    cluster.sql(f"ALTER DATABASE {database}_x RENAME TO {database}")
    pooler.admin(f"RESUME {database}")
    assert types(one.until()) == "TDCZ"
    with pytest.raises(psycopg.Error, match=f"database {database} is not paused"):
        pooler.admin(f"RESUME {database}")
    with pytest.raises(psycopg.Error, match="cannot pause admin db: pgbouncer"):
        pooler.admin("PAUSE pgbouncer")


def test_kill_and_resume(pooler: Pooler, workers: int, database: str) -> None:
    wires = one_of_each(pooler, workers, database)
    busy = raw(pooler, database)
    bystander = raw(pooler)
    busy.send(query("SELECT pg_sleep(30)"))
    eventually(lambda: pooler.show("SERVERS", database=database, state="active"))
    pooler.admin(f"KILL {database}")
    for wire in (*wires, busy):
        assert fatal(wire) == "database removed"
    assert types(bystander.query("SELECT 1")) == "TDCZ"
    assert not pooler.show("SERVERS", database=database)
    late = Wire((pooler.host, pooler.port))
    late.send(startup("postgres", database))
    late.recv()
    pooler.admin(f"RESUME {database}")
    with raw(pooler, database) as wire:
        assert types(wire.query("SELECT 1")) == "TDCZ"
    pooler.admin("KILL")
    assert fatal(bystander) == "database removed"
    pooler.admin("RESUME")
    with raw(pooler) as wire:
        assert types(wire.query("SELECT 1")) == "TDCZ"


def test_kill_client(pooler: Pooler, workers: int) -> None:
    wires = one_of_each(pooler, workers)
    for wire in wires:
        pid_of(wire)
    victim = begin(wires[-1])
    shown = pooler.show("CLIENTS", database="postgres", port=wires[-1].sock.getsockname()[1])
    assert len(shown) == 1
    with pytest.raises(psycopg.Error, match="admin access needed"), pooler.console("stats") as console:
        console.execute(f"KILL_CLIENT {shown[0]['id']}".encode())
    pooler.admin(f"KILL_CLIENT {shown[0]['id']}")
    assert fatal(wires[-1]) == "admin forced disconnect"
    for wire in wires[:-1]:
        assert types(wire.query("SELECT 1")) == "TDCZ"
    eventually(lambda: victim not in {s["remote_pid"] for s in pooler.show("SERVERS")})
    with pytest.raises(psycopg.Error, match="client not found"):
        pooler.admin(f"KILL_CLIENT {shown[0]['id']}")
    with pytest.raises(psycopg.Error, match="invalid client pointer supplied"):
        pooler.admin("KILL_CLIENT me")


def test_reconnect_and_wait_close(pooler: Pooler, workers: int) -> None:
    wires = one_of_each(pooler, workers)
    before = {begin(wire) for wire in wires}
    idle = raw(pooler)
    before.add(pid_of(idle))
    pooler.admin("RECONNECT postgres")
    wait = Later(pooler, "WAIT_CLOSE")
    assert pid_of(idle) not in before
    assert {s["close_needed"] for s in pooler.show("SERVERS", state="active")} == {1}
    assert wait.is_alive()
    for wire in wires:
        assert types(wire.query("SELECT 1")) == "TDCZ"
        wire.query("COMMIT")
    assert wait.done().tag == "WAIT_CLOSE"
    assert not {pid_of(wire) for wire in wires} & before
    # WAIT_CLOSE leaves nothing behind: a PAUSE still waits for its transactions.
    begin(wires[0])
    pause = Later(pooler, "PAUSE")
    time.sleep(0.5)
    assert pause.is_alive()
    wires[0].query("COMMIT")
    assert pause.done().tag == "PAUSE"
    pooler.admin("RESUME")


def test_disable_and_enable(pooler: Pooler, workers: int, database: str) -> None:
    wires = one_of_each(pooler, workers, database)
    pooler.admin(f"DISABLE {database}")
    for _ in range(4):
        assert refusal(pooler, database) == f'FATAL 08P01 database "{database}" is disabled'
    for wire in wires:
        assert types(wire.query("SELECT 1")) == "TDCZ"
    assert pooler.show("DATABASES", name=database)[0]["disabled"] == 1
    pooler.admin(f"ENABLE {database}")
    assert refusal(pooler, database) == "logged in"


# --- who may


def test_rights(pooler: Pooler) -> None:
    assert refusal(pooler, "pgbouncer", "app") == "FATAL 08P01 not allowed"
    assert refusal(pooler, "pgferry", "app") == "FATAL 08P01 not allowed"
    with pooler.console("stats") as console:
        assert console.execute("SHOW POOLS").fetchall()
        for command in ("PAUSE", "RELOAD", "SHUTDOWN", "SET verbose = 1", "KILL", "DISABLE x", "WAIT_CLOSE"):
            with pytest.raises(psycopg.Error, match="admin access needed"):
                console.execute(command.encode())
    # Our own account on the unix socket needs no entry anywhere; others are users like any.
    assert refusal(pooler, "pgbouncer", "pgbouncer") == 'FATAL 08P01 "trust" authentication failed'
    import os

    unix = f"{pooler.socket_dir}/.s.PGSQL.{pooler.port}"
    owner = (pooler.directory / "pgferry.ini").stat().st_uid
    if os.geteuid() == 0 and owner != 0:
        with pytest.raises(ConnectionError, match="authentication failed"):
            Wire.login(unix, "pgbouncer", "pgbouncer")
        os.seteuid(owner)
    try:
        with Wire.login(unix, "pgbouncer", "pgbouncer") as wire:
            assert types(wire.query("RECONNECT")) == "CZ"
    finally:
        if os.getuid() == 0:
            os.seteuid(0)
    pooler.wait_log("pgbouncer access from unix socket")


# --- RELOAD, SET


def test_bad_reload_changes_nothing(pooler: Pooler) -> None:
    wire = raw(pooler)
    before = {r["key"]: r["value"] for r in pooler.show("CONFIG")}
    good = pooler.config_file.read_text()
    pooler.account.write(
        pooler.config_file,
        good.replace("pool_mode = transaction", "max_client_conn = 20\npool_mode = transactoin"),
    )
    with pooler.console() as console, pytest.raises(psycopg.Error) as raised:
        console.execute("RELOAD")
    assert raised.value.sqlstate == "F0000"
    assert "RELOAD failed, see logs for additional details" in str(raised.value)
    assert "pool_mode" in str(raised.value)
    pooler.wait_log("pool_mode.*transactoin")
    assert {r["key"]: r["value"] for r in pooler.show("CONFIG")} == before
    assert types(wire.query("SELECT 1")) == "TDCZ"
    pooler.account.write(pooler.config_file, good)
    pooler.reload()


def test_set_lasts_until_reload(pooler: Pooler) -> None:
    with pooler.console() as console:
        assert console.execute("SET query_wait_timeout = 1").statusmessage == "SET query_wait_timeout=1"
        assert console.execute("SET server_reset_query TO 'DISCARD PLANS'").statusmessage
        with pytest.raises(psycopg.Error, match="SET failed"):
            console.execute("SET query_wait_timeout = soon")
        with pytest.raises(psycopg.Error, match="SET failed"):
            console.execute("SET no_such_thing = 1")
        assert console.execute("SET default_pool_size = 1").statusmessage
        holder, waiting = raw(pooler), raw(pooler)
        begin(holder)
        waiting.send(query("SELECT 1"))
        if waiting.silent(0.5):
            assert fatal(waiting) == "query_wait_timeout"
        console.execute("RELOAD")
    shown = {r["key"]: r["value"] for r in pooler.show("CONFIG")}
    assert (shown["query_wait_timeout"], shown["default_pool_size"]) == ("120", "20")
    assert shown["server_reset_query"] == "DISCARD ALL"


# --- SHUTDOWN


@pytest.mark.usefixtures("cluster")
def test_shutdown_waits_for_servers(make_pooler: Make, workers: int) -> None:
    pooler = make_pooler(settings={"default_pool_size": 2 * workers})
    inside = one_of_each(pooler, workers)
    for wire in inside:
        begin(wire)
    idle = raw(pooler)
    with pooler.console() as console:
        assert console.execute("SHUTDOWN WAIT_FOR_SERVERS").statusmessage == "SHUTDOWN"
        idle.send(query("SELECT 1"))
        assert fatal(idle) == "server shutting down"
        with pytest.raises(OSError):
            Wire((pooler.host, pooler.port))
        unix = f"{pooler.socket_dir}/.s.PGSQL.{pooler.port}"
        with pytest.raises(ConnectionError, match="pooler is shutting down"):
            Wire.login(unix)
        with Wire.login(unix, "admin", "pgbouncer") as wire:
            assert wire.rows("SHOW STATE")
        with pytest.raises(psycopg.Error, match="shutting down"):
            console.execute("RESUME")
        for wire in inside:
            assert types(wire.query("SELECT 1")) == "TDCZ"
            assert types(wire.query("COMMIT")) == "CZ"
    assert pooler.wait() == 0


@pytest.mark.usefixtures("cluster")
def test_shutdown_waits_for_clients(make_pooler: Make, workers: int) -> None:
    pooler = make_pooler()
    wires = one_of_each(pooler, workers)
    pooler.admin("SHUTDOWN WAIT_FOR_CLIENTS")
    for wire in wires:
        assert types(wire.query("SELECT 1")) == "TDCZ"
        wire.close()
    assert pooler.wait() == 0


@pytest.mark.usefixtures("cluster")
def test_shutdown_at_once(make_pooler: Make) -> None:
    pooler = make_pooler()
    wire = raw(pooler)
    begin(wire)
    with pooler.console() as console, pytest.raises(psycopg.OperationalError):
        console.execute("SHUTDOWN")
    assert pooler.wait() == 0
    assert wire.at_end()


# --- drivers


def test_asyncpg_on_the_console(pooler: Pooler) -> None:
    async def ask() -> list[object]:
        conn = await asyncpg.connect(host=pooler.host, port=pooler.port, user="admin", database="pgbouncer")
        try:
            rows = await conn.fetch("SHOW POOLS")
            return [dict(row) for row in rows]
        finally:
            await conn.close()

    rows = asyncio.run(ask())
    assert {"database": "pgbouncer"}.items() <= rows[0].items()  # type: ignore[attr-defined]


def test_cancel_key_of_nobody(pooler: Pooler) -> None:
    """Cancel requests with made-up keys are passed over in silence."""
    for key in (b"\0\0\0\0", b"\xff" * 4, b"\0" * 32):
        with Wire((pooler.host, pooler.port)) as wire:
            wire.send(cancel_request(1, key))
            assert wire.at_end()
    with pooler.connect() as conn:
        assert conn.execute("SELECT 1").fetchone() == (1,)
