"""The console as clients see it: psycopg and asyncpg against a pooler with two fake workers."""

import asyncio
import os
import shutil
import signal
import socket
import struct
import tempfile
import threading
import time
from collections.abc import Callable
from decimal import Decimal

import asyncpg
import psycopg
import pytest
from psycopg.pq import DiagnosticField

from unit.supervisor.running import Running

Make = Callable[..., Running]
TYPES = {25: "text", 23: "int4", 20: "int8", 1700: "numeric"}


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> object:
    directory = tempfile.mkdtemp(prefix="pgf-", dir="/tmp")
    pooler = Running(tmp_path_factory.mktemp("console"), directory, workers=2, stats_users="stats")
    yield pooler.start()
    pooler.end()
    shutil.rmtree(directory, ignore_errors=True)


def show(pooler: Running, what: str) -> list[dict[str, object]]:
    with pooler.console() as console:
        cursor = console.execute(f"SHOW {what}")
        assert cursor.statusmessage == "SHOW"
        names = [column.name for column in cursor.description]
        return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]


CONNECTION = (
    "type:text user:text database:text replication:text state:text addr:text port:int4 local_addr:text "
    "local_port:int4 connect_time:text request_time:text wait:int4 wait_us:int4 close_needed:int4 ptr:text "
    "link:text remote_pid:int4 tls:text application_name:text prepared_statements:int4 id:int4"
)
SOCKET = (
    f"{CONNECTION} recv_pos:int4 pkt_pos:int4 pkt_remain:int4 send_pos:int4 send_remain:int4 "
    "pkt_avail:int4 send_avail:int4"
)
COUNTERS = "server_assignment_count xact_count query_count {0} {1} xact_time query_time wait_time"
PARSES = "client_parse_count server_parse_count bind_count client_login_count"


def numeric(prefix: str, names: str) -> str:
    return " ".join(f"{prefix}{name}:numeric" for name in names.split())


RESULTS = {
    "CLIENTS": CONNECTION,
    "SERVERS": CONNECTION,
    "SOCKETS": SOCKET,
    "ACTIVE_SOCKETS": SOCKET,
    "POOLS": "database:text user:text cl_active:int4 cl_waiting:int4 cl_active_cancel_req:int4 "
    "cl_waiting_cancel_req:int4 sv_active:int4 sv_active_cancel:int4 sv_being_canceled:int4 sv_idle:int4 "
    "sv_used:int4 sv_tested:int4 sv_login:int4 maxwait:int4 maxwait_us:int4 pool_mode:text "
    "load_balance_hosts:text",
    "PEER_POOLS": "peer_id:int4 cl_active_cancel_req:int4 cl_waiting_cancel_req:int4 sv_active_cancel:int4 "
    "sv_login:int4",
    "PEERS": "peer_id:int4 host:text port:int4 pool_size:int4",
    "DATABASES": "name:text host:text port:int4 database:text force_user:text pool_size:int4 "
    "min_pool_size:int4 reserve_pool_size:int4 server_lifetime:int4 pool_mode:text load_balance_hosts:text "
    "max_connections:int4 current_connections:int4 max_client_connections:int4 "
    "current_client_connections:int4 paused:int4 disabled:int4",
    "USERS": "name:text pool_size:text reserve_pool_size:text pool_mode:text max_user_connections:int4 "
    "current_connections:int4 max_user_client_connections:int4 current_client_connections:int4",
    "LISTS": "list:text items:int4",
    "STATS": f"database:text {numeric('total_', f'{COUNTERS} {PARSES}'.format('received', 'sent'))} "
    f"{numeric('avg_', f'{COUNTERS} {PARSES}'.format('recv', 'sent'))}",
    "STATS_TOTALS": "database:text "
    + numeric("", f"{COUNTERS} {PARSES}".format("bytes_received", "bytes_sent")),
    "STATS_AVERAGES": "database:text "
    + numeric("", COUNTERS.format("bytes_received", "bytes_sent"))
    + " "
    + numeric("avg_", PARSES),
    "TOTALS": "name:text value:numeric",
    "CONFIG": "key:text value:text default:text changeable:text",
    "MEM": "name:text size:int4 used:int4 free:int4 memtotal:int4",
    "DNS_HOSTS": "hostname:text ttl:int8 addrs:text",
    "DNS_ZONES": "zonename:text serial:int8 count:int4",
    "STATE": "key:text value:text",
    "VERSION": "version:text",
}


OWN_RESULTS = {
    "PINS": "database:text user:text client:text server:text reasons:text age:int4 age_us:int4 "
    "transactions:int8 application_name:text",
    "CLIENT_STATE 100": "kind:text name:text value:text source:text",
    "STATE_COUNTERS": "database:text user:text counter:text reason:text count:int8",
}


@pytest.mark.parametrize("what", [*RESULTS, *OWN_RESULTS])
def test_columns_and_their_types(shared: Running, what: str) -> None:
    with shared.console() as console:
        cursor = console.execute(f"show {what.lower()};")
        found = [f"{column.name}:{TYPES[column.type_code]}" for column in cursor.description]
        sizes = {"text": None, "int4": 4, "int8": 8, "numeric": None}
        assert [c.internal_size for c in cursor.description] == [sizes[f.split(":")[1]] for f in found]
        assert " ".join(found) == {**RESULTS, **OWN_RESULTS}[what]


def test_rows_of_workers_are_merged(shared: Running) -> None:
    clients = show(shared, "CLIENTS")
    assert {row["id"] for row in clients} == {100, 101}
    assert clients[0]["wait"] == 2
    assert clients[0]["wait_us"] == 500_000
    assert clients[0]["state"] == "active"
    assert str(clients[0]["connect_time"]).startswith("2023-11-14 ")
    assert clients[0]["request_time"] == ""
    assert [row["state"] for row in show(shared, "SOCKETS")] == ["cl_active", "sv_active"] * 2
    assert {row["id"] for row in show(shared, "ACTIVE_SOCKETS")} == {101}
    pools = show(shared, "POOLS")
    assert [(row["database"], row["user"]) for row in pools] == [("pgbouncer", "pgbouncer"), ("shop", "u")]
    assert pools[0]["pool_mode"] == "statement"
    assert pools[0]["cl_active"] == 1
    assert pools[1]["sv_idle"] == 2
    assert (pools[1]["maxwait"], pools[1]["maxwait_us"]) == (3, 0)
    databases = {row["name"]: row for row in show(shared, "DATABASES")}
    assert databases["shop"]["current_connections"] == 4
    assert databases["shop"]["pool_mode"] is None
    assert databases["pgbouncer"]["pool_mode"] == "statement"
    assert databases["pgbouncer"]["force_user"] == "pgbouncer"
    users = show(shared, "USERS")
    assert users[0]["pool_size"] == "        5"
    assert users[0]["reserve_pool_size"] == ""
    assert users[0]["current_client_connections"] == 6
    lists = {row["list"]: row["items"] for row in show(shared, "LISTS")}
    assert lists["databases"] == 2
    assert lists["used_clients"] == 4
    assert len(lists) == 14
    assert show(shared, "MEM")[0]["memtotal"] == 3000
    stats = {row["database"]: row for row in show(shared, "STATS")}
    assert stats["shop"]["total_received"] == Decimal(6_000_000_000)
    assert stats["shop"]["total_xact_count"] == 201
    assert stats["pgbouncer"]["total_query_count"] > 0
    assert len(show(shared, "TOTALS")) == 24


def test_pins_oldest_first(shared: Running) -> None:
    pins = show(shared, "PINS")
    assert [(row["client"], row["age"], row["age_us"]) for row in pins] == [
        ("0x65", 61, 500_001),
        ("0x64", 61, 500_000),
    ]
    assert pins[0]["reasons"] == "temporary table,pg_advisory_lock"
    assert pins[0]["transactions"] == 3_000_000_000


@pytest.mark.parametrize("client", ["101", "0x65", '"0X65"'])
def test_state_of_a_client_of_any_worker(shared: Running, client: str) -> None:
    rows = [tuple(row.values()) for row in show(shared, f"CLIENT_STATE {client}")]
    assert rows == [
        ("role", "role", None, "session"),
        ("setting", "app.tenant", None, "session"),
        ("setting", "work_mem", None, "session"),
        ("prepared", "q", None, "session"),
        ("pin", "temporary table", None, "probe"),
        ("start", "search_path", None, "startup"),
        ("unheard-of", "x", None, "session"),
    ]


def test_state_counters_are_summed(shared: Running) -> None:
    for _ in range(2):
        rows = [(row["reason"], row["count"]) for row in show(shared, "STATE_COUNTERS")]
        assert rows == [("temporary table", 6), ("worker 0", 1), ("worker 1", 1)]


def test_session_state_in_the_extended_protocol(shared: Running) -> None:
    async def run() -> None:
        connection = await asyncpg.connect(
            host="127.0.0.1", port=shared.port, user="stats", database="pgbouncer", ssl=False, timeout=10
        )
        rows = await connection.fetch("SHOW CLIENT_STATE 100")
        assert rows[0]["kind"] == "role"
        with pytest.raises(asyncpg.PostgresError, match="needs the id of a client"):
            await connection.fetch("SHOW CLIENT_STATE")
        await connection.close()

    asyncio.run(run())


def test_config_and_version(shared: Running) -> None:
    rows = {row["key"]: row for row in show(shared, "CONFIG")}
    assert rows["pool_mode"]["value"] == "session"
    assert rows["listen_port"]["changeable"] == "no"
    assert rows["auth_user"]["value"] is None
    assert rows["unix_socket_mode"]["value"] == "511"
    assert str(show(shared, "VERSION")[0]["version"]).startswith("PgBouncer 1.25.2")


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("", "invalid command '', use SHOW HELP;"),
        (";", "invalid command ';', use SHOW HELP;"),
        ("show", "invalid command 'show', use SHOW HELP;"),
        ("show nonsense", "invalid command 'show nonsense', use SHOW HELP;"),
        ("select 1", "invalid command 'select 1', use SHOW HELP;"),
        ("show pools; show stats", "invalid command 'show pools; show stats', use SHOW HELP;"),
        ("reload now", "invalid command 'reload now', use SHOW HELP;"),
        ("a234567890123456", "bad arguments"),
        (f"pause {'x' * 64}", "bad arguments"),
        ("pause nowhere", "no such database: nowhere"),
        ("pause pgbouncer", "cannot pause admin db: pgbouncer"),
        ("kill pgferry", "cannot kill admin db: pgferry"),
        ("wait_close pgbouncer", "cannot wait in admin db: pgbouncer"),
        ("reconnect pgbouncer", "cannot reconnect admin db: pgbouncer"),
        ("disable", "a database is required"),
        ("enable pgbouncer", "cannot enable admin db: pgbouncer"),
        ("resume", "pooler is not paused/suspended"),
        ("resume shop", "database shop is not paused"),
        ("resume nowhere", "no such database: nowhere"),
        ("kill_client 7", "client not found"),
        ("kill_client x", "invalid client pointer supplied"),
        ("show client_state 7", "client not found"),
        ("show client_state x", "invalid client pointer supplied"),
        ("show client_state", "SHOW CLIENT_STATE needs the id of a client"),
        ("set nonsense = 1", "SET failed"),
        ("set max_client_conn = many", "SET failed"),
        ("suspend", "SUSPEND is not supported by pgferry (removed in PgBouncer 1.26)"),
        ("show fds", "SHOW FDS is not supported by pgferry (removed in PgBouncer 1.26)"),
        ("shutdown now", "invalid command 'shutdown now', use SHOW HELP;"),
    ],
)
def test_errors(shared: Running, command: str, message: str) -> None:
    with shared.console() as console:
        # exec_ and not execute(), which keeps empty texts to itself.
        result = console.pgconn.exec_(command.encode())
        fields = (DiagnosticField.SEVERITY, DiagnosticField.SQLSTATE, DiagnosticField.MESSAGE_PRIMARY)
        assert [result.error_field(field) for field in fields] == [b"ERROR", b"08P01", message.encode()]
        assert console.execute("SHOW VERSION").fetchone() is not None


def test_set(shared: Running) -> None:
    with shared.console() as console:
        notices: list[str] = []
        console.add_notice_handler(lambda diag: notices.append(str(diag.message_primary)))
        assert console.execute("SET max_client_conn = 77").statusmessage == "SET max_client_conn=77"
        shared.wait_log("config max_client_conn=77", 2)
        assert console.execute("set server_check_query to 'select ''x'''").statusmessage == (
            "SET server_check_query=select 'x'"
        )
        values = {row[0]: row[1] for row in console.execute("SHOW CONFIG").fetchall()}
        assert values["server_check_query"] == "select 'x'"
        assert console.execute("SET listen_port = 1").statusmessage == "SET listen_port=1"
        assert console.execute("SET client_encoding = 'UTF8'").statusmessage == "SET"
        assert notices == ["listen_port is only used at start; the running value stays", "SET ignored"]
        assert console.execute("RELOAD").statusmessage == "RELOAD"
        values = {row[0]: row[1] for row in console.execute("SHOW CONFIG").fetchall()}
        assert values["max_client_conn"] == "100"
    assert "select ''x''" not in shared.log()


def test_driver_settings(shared: Running) -> None:
    with shared.console("stats") as console:
        cursor = console.execute("SHOW client_encoding")
        assert cursor.description[0].name == "client_encoding"
        assert cursor.fetchone() == ("UTF-8",)
        assert console.execute("SHOW TimeZone").fetchone() == ("GMT",)


def test_help(shared: Running) -> None:
    with shared.console() as console:
        seen: list[str] = []
        console.add_notice_handler(lambda d: seen.extend([str(d.message_primary), str(d.message_detail)]))
        assert console.execute("SHOW HELP").statusmessage == "SHOW"
        assert seen[0] == "Console usage"
        assert "WAIT_CLOSE [<db>]" in seen[1]


ADMIN_COMMANDS = (
    "PAUSE;RESUME;KILL;KILL_CLIENT 100;RELOAD;SHUTDOWN;SUSPEND;DISABLE shop;ENABLE shop;RECONNECT;WAIT_CLOSE;"
    "SET max_client_conn = 1;SHOW FDS;SHUTDOWN WAIT_FOR_SERVERS"
)


@pytest.mark.parametrize("command", ADMIN_COMMANDS.split(";"))
def test_stats_users_may_only_look(shared: Running, command: str) -> None:
    with shared.console("stats") as console:
        with pytest.raises(psycopg.Error, match="admin access needed"):
            console.execute(command)
        assert console.execute("SHOW POOLS").fetchall()
        assert console.execute("SHOW PINS").fetchall()
        assert console.execute("SHOW CLIENT_STATE 100").fetchall()


def test_commands_reach_all_workers(make: Make) -> None:
    pooler = make(workers=2).start()
    with pooler.console() as console:
        for command in (
            "DISABLE shop",
            "ENABLE shop",
            "RECONNECT",
            "WAIT_CLOSE shop",
            "KILL_CLIENT 101",
            "KILL_CLIENT 0x64",
            "KILL shop",
            "RESUME shop",
            "PAUSE auto",
            "RESUME auto",
            "PAUSE",
            "RESUME",
        ):
            verb = command.split()[0]
            before = pooler.log().count(f"op {verb.lower()} ")
            assert console.execute(command).statusmessage == verb
            pooler.wait_log(f"op {verb.lower()} ", before + 2)
        assert "RECONNECT command issued" in pooler.log()
        assert "KILL 'shop' command issued" in pooler.log()


def test_wildcard_database_is_registered(make: Make) -> None:
    pooler = make()
    pooler.databases += "* = user=u\n"
    pooler.start()
    with pooler.console() as console:
        assert console.execute("PAUSE auto7").statusmessage == "PAUSE"
        pooler.wait_log("op find_db db=auto7")
        with pytest.raises(psycopg.Error, match="no such database: other"):
            console.execute("PAUSE other")


def test_plain_resume_undoes_kill_of_all(make: Make) -> None:
    pooler = make().start()
    with pooler.console() as console:
        console.execute("KILL")
        assert {row[0]: row[15] for row in console.execute("SHOW DATABASES").fetchall()}["shop"] == 1
        assert console.execute("RESUME").statusmessage == "RESUME"
        assert {row[0]: row[15] for row in console.execute("SHOW DATABASES").fetchall()}["shop"] == 0


class InThread(threading.Thread):
    """Runs a command on a console of its own and keeps the outcome."""

    def __init__(self, pooler: Running, command: str) -> None:
        super().__init__(daemon=True)
        self.connection = pooler.console()
        self.command = command
        self.outcome = ""
        self.start()

    def run(self) -> None:
        try:
            self.outcome = str(self.connection.execute(self.command).statusmessage)
        except psycopg.Error as error:
            self.outcome = str(error)

    def result(self) -> str:
        self.join(10)
        assert not self.is_alive()
        return self.outcome


def test_resume_answers_a_pending_pause(make: Make) -> None:
    pooler = make(workers=2).start(FAKE_BUSY="1")
    with pooler.console() as console:
        pending = InThread(pooler, "PAUSE")
        pooler.wait_log("op pause db=None", 2)
        assert pending.is_alive()
        with pytest.raises(psycopg.Error, match="already suspended/paused"):
            console.execute("PAUSE")
        console.execute("RESUME")
        assert "PAUSE was ended by RESUME" in pending.result()
        pending = InThread(pooler, "PAUSE busy")
        pooler.wait_log("op pause db=busy", 2)
        console.execute("RESUME busy")
        assert "PAUSE was ended by RESUME" in pending.result()


@pytest.mark.parametrize(
    ("command", "outcome"),
    [
        ("PAUSE", "PAUSE was ended by RESUME"),
        ("PAUSE busy", "PAUSE was ended by RESUME"),
        ("WAIT_CLOSE busy", "canceling command due to user request"),
    ],
)
def test_cancel_request(make: Make, command: str, outcome: str) -> None:
    pooler = make(workers=2).start(FAKE_BUSY="1")
    pending = InThread(pooler, command)
    pooler.wait_log("op " + command.split()[0].lower(), 2)
    pending.connection.cancel_safe(timeout=5)
    assert outcome in pending.result()
    with pooler.console() as console:
        assert ("paused", "no") in console.execute("SHOW STATE").fetchall()


def test_client_that_leaves_during_pause(make: Make) -> None:
    pooler = make().start(FAKE_BUSY="1")
    pending = InThread(pooler, "PAUSE")
    pooler.wait_log("op pause")
    with socket.socket(fileno=os.dup(pending.connection.fileno())) as sock:
        sock.shutdown(socket.SHUT_RDWR)
    with pooler.console() as console:
        end = time.monotonic() + 10
        while console.execute("SHOW POOLS").fetchone()[2] != 1:
            assert time.monotonic() < end
        assert ("paused", "yes") in console.execute("SHOW STATE").fetchall()


def test_death_of_a_worker_ends_its_part_of_a_pause(make: Make) -> None:
    pooler = make().start(FAKE_BUSY="1")
    pending = InThread(pooler, "PAUSE")
    pooler.wait_log("op pause")
    os.kill(pooler.worker_pids()[0], signal.SIGKILL)
    # The console connection itself goes through the supervisor here and outlives the worker.
    assert pending.result() == "PAUSE"
    pooler.wait_log("paused=True")


def test_cancel_is_forwarded_to_the_right_worker(make: Make) -> None:
    pooler = make(workers=2).start()
    with socket.create_connection(("127.0.0.1", pooler.port)) as sock:
        sock.sendall(struct.pack("!IIII", 16, 80877102, 0xFFFF0001, 42))
    pooler.wait_log("worker 1: cancel key=")
    pooler.wait_log("answer {'re': 1, 'ok': True}")


def test_asyncpg_with_binary_results(shared: Running) -> None:
    async def run() -> None:
        console = await asyncpg.connect(
            host="127.0.0.1", port=shared.port, user="boss", database="pgbouncer", ssl=False, timeout=10
        )
        rows = await console.fetch("SHOW STATS")
        assert next(row for row in rows if row["database"] == "shop")["total_received"] == 6_000_000_000
        pools = await console.fetch("SHOW POOLS")
        assert pools[1]["sv_idle"] == 2
        assert pools[1]["load_balance_hosts"] is None
        assert await console.execute("SET max_client_conn = 100") == "SET max_client_conn=100"
        with pytest.raises(asyncpg.PostgresError, match="no such database"):
            await console.fetch("PAUSE nowhere")
        with pytest.raises(asyncpg.PostgresError, match="invalid command"):
            await console.fetch("SHOW $1", "x")
        assert await console.fetchval("SHOW VERSION")
        await console.close()

    asyncio.run(run())


def test_psycopg_extended_protocol(shared: Running) -> None:
    with shared.console() as console:
        cursor = console.cursor(binary=True)
        cursor.execute("SHOW TOTALS")
        assert dict(cursor.fetchall())["total_client_bytes"] >= 6_000_000_000
        assert console.execute("SHOW STATE", prepare=True).fetchall()[0] == ("active", "yes")
        assert console.execute("SHOW STATE", prepare=True).fetchall()[0] == ("active", "yes")
        with pytest.raises(psycopg.Error, match="take no parameters"):
            console.execute("SHOW %s", ("x",))
        with console.pipeline():
            first = console.execute("SHOW LISTS")
            second = console.execute("SHOW VERSION")
        assert len(first.fetchall()) == 14
        assert second.fetchone() is not None
