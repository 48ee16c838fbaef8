"""What SHOW tells: the columns and types that tools rely on, and figures that agree with what is going on."""

import shutil
import subprocess
from collections.abc import Callable

import psycopg
import pytest

from pgferry.embedded import Cluster
from pgferry.protocol import backend
from support.clients import begin, one_of_each, pid_of, raw
from support.pooler import Pooler, eventually
from support.wire import Wire, bind, cancel_request, execute, parse, query, sync, types

Make = Callable[..., Pooler]
TEXT, INT4, INT8, NUMERIC = 25, 23, 20, 1700
CONNECTION = (
    "type:t user:t database:t replication:t state:t addr:t port:i local_addr:t local_port:i connect_time:t "
    "request_time:t wait:i wait_us:i close_needed:i ptr:t link:t remote_pid:i tls:t application_name:t "
    "prepared_statements:i id:i"
)
COUNTS = (
    "server_assignment_count xact_count query_count {} {} xact_time query_time wait_time "
    "client_parse_count server_parse_count bind_count client_login_count"
)
STATS = " ".join(
    [f"total_{c}:n" for c in COUNTS.format("received", "sent").split()]
    + [f"avg_{c}:n" for c in COUNTS.format("recv", "sent").split()]
)
COLUMNS = {
    "CLIENTS": CONNECTION,
    "SERVERS": CONNECTION,
    "SOCKETS": (
        f"{CONNECTION} recv_pos:i pkt_pos:i pkt_remain:i send_pos:i send_remain:i pkt_avail:i send_avail:i"
    ),
    "POOLS": (
        "database:t user:t cl_active:i cl_waiting:i cl_active_cancel_req:i cl_waiting_cancel_req:i "
        "sv_active:i sv_active_cancel:i sv_being_canceled:i sv_idle:i sv_used:i sv_tested:i sv_login:i "
        "maxwait:i maxwait_us:i "
        "pool_mode:t load_balance_hosts:t"
    ),
    "DATABASES": (
        "name:t host:t port:i database:t force_user:t pool_size:i min_pool_size:i reserve_pool_size:i "
        "server_lifetime:i pool_mode:t load_balance_hosts:t max_connections:i current_connections:i "
        "max_client_connections:i current_client_connections:i paused:i disabled:i"
    ),
    "USERS": (
        "name:t pool_size:t reserve_pool_size:t pool_mode:t max_user_connections:i current_connections:i "
        "max_user_client_connections:i current_client_connections:i"
    ),
    "LISTS": "list:t items:i",
    "STATS": f"database:t {STATS}",
    "CONFIG": "key:t value:t default:t changeable:t",
    "MEM": "name:t size:i used:i free:i memtotal:i",
    "STATE": "key:t value:t",
    "VERSION": "version:t",
    "TOTALS": "name:t value:n",
    "DNS_HOSTS": "hostname:t ttl:l addrs:t",
    "DNS_ZONES": "zonename:t serial:l count:i",
    "PEERS": "peer_id:i host:t port:i pool_size:i",
}
CODES = {"t": TEXT, "i": INT4, "l": INT8, "n": NUMERIC}


def described(wire: Wire, command: str) -> list[tuple[str, int]]:
    """Names and types of a result, and that every value fits its type."""
    answer = wire.query(command)
    assert types(answer).startswith("T"), [m.text for m in answer if m.type == "E"]
    columns = backend.RowDescription.read(answer[0].body).columns
    found = [(column.name, column.type_oid) for column in columns]
    for got in answer:
        if got.type == "D":
            for (name, kind), value in zip(found, got.row, strict=True):
                if kind != TEXT and value is not None:
                    assert int(value) >= 0, (command, name, value)
    assert answer[-2].text == "SHOW"
    return found


def test_columns_of_a_pooler_at_work(pooler: Pooler, workers: int) -> None:
    wires = one_of_each(pooler, workers)
    for wire in wires:
        begin(wire)
    console = Wire.login((pooler.host, pooler.port), "stats", "pgbouncer")
    for what, columns in COLUMNS.items():
        expected = [(c.split(":")[0], CODES[c.split(":")[1]]) for c in columns.split()]
        assert described(console, f"SHOW {what}") == expected, what
        assert described(console, f"select {what.lower()};") == expected
    assert console.parameters == {
        "server_version": "1.25.2/bouncer",
        "client_encoding": "UTF8",
        "server_encoding": "UTF8",
        "DateStyle": "ISO",
        "TimeZone": "GMT",
        "standard_conforming_strings": "on",
        "is_superuser": "on",
    }
    help_text = console.query("SHOW HELP")
    assert types(help_text) == "NCZ"
    assert help_text[0].text == "Console usage"


def test_clients_and_servers(pooler: Pooler, cluster: Cluster) -> None:
    idle, active = raw(pooler), raw(pooler, application_name="ferry")
    backend = begin(active)
    active.send(query("SELECT pg_sleep(5)"))
    eventually(lambda: pooler.show("SERVERS", state="active"))
    rows = pooler.show("CLIENTS", database="postgres", user="postgres")
    assert sorted(r["state"] for r in rows) == ["active", "idle"]
    client = next(r for r in rows if r["state"] == "active")
    server = pooler.show("SERVERS", state="active")[0]
    assert (client["link"], server["link"]) == (server["ptr"], client["ptr"])
    assert (server["remote_pid"], server["port"]) == (backend, cluster.port)
    assert client["application_name"] == server["application_name"] == "ferry"
    assert (client["addr"], client["port"]) == ("127.0.0.1", active.sock.getsockname()[1])
    assert (client["local_addr"], client["local_port"]) == ("127.0.0.1", pooler.port)
    assert (client["type"], server["type"], client["tls"], client["replication"]) == ("C", "S", "", "none")
    ids = [r["id"] for r in pooler.show("CLIENTS") + pooler.show("SERVERS")]
    assert len(set(ids)) >= len(ids) - 1  # the two lists were asked for by different console clients
    active.close()
    idle.close()


def test_pools_sum_over_workers(make_pooler: Make, cluster: Cluster, workers: int) -> None:
    pooler = make_pooler(cluster, settings={"default_pool_size": 2 * workers})
    inside, outside, queued = [], [], []
    for _ in range(2):
        inside += one_of_each(pooler, workers)
        outside += one_of_each(pooler, workers)
        queued += one_of_each(pooler, workers)
    for wire in inside:
        begin(wire)
    for wire in queued:
        wire.send(query("SELECT 1"))
    eventually(lambda: pooler.show("POOLS", database="postgres")[0]["cl_waiting"] == 2 * workers)
    pool = pooler.show("POOLS", database="postgres")
    assert len(pool) == 1
    assert (pool[0]["cl_active"], pool[0]["sv_active"], pool[0]["sv_idle"]) == (4 * workers, 2 * workers, 0)
    entry = pooler.show("DATABASES", name="postgres")[0]
    assert (entry["current_connections"], entry["current_client_connections"]) == (2 * workers, 6 * workers)
    for wire in inside:
        wire.query("COMMIT")
    for wire in queued:
        wire.until()
    eventually(lambda: pooler.show("POOLS", database="postgres")[0]["sv_active"] == 0)
    lists = {r["list"]: r["items"] for r in pooler.show("LISTS")}
    assert lists["used_servers"] == 0
    assert lists["free_servers"] == 2 * workers
    assert lists["used_clients"] >= 6 * workers
    assert lists["pools"] >= 2
    assert (lists["databases"], lists["users"] >= 4) == (2, True)


def stats(pooler: Pooler, db: str = "postgres") -> dict[str, int]:
    rows = pooler.show("STATS", database=db)
    return {k: int(v) for k, v in rows[0].items() if k != "database"} if rows else {}


def test_stats_count_what_was_done(pooler: Pooler, workers: int) -> None:
    wires = one_of_each(pooler, workers)
    before = stats(pooler)
    for wire in wires:
        for _ in range(5):
            wire.query("SELECT pg_sleep(0.002)")
        wire.query("BEGIN")
        wire.query("SELECT 1")
        wire.query("COMMIT")
        wire.send(parse("SELECT $1::int", "mine"), bind(["1"], "mine"), execute(), sync())
        wire.until()
        wire.send(bind(["2"], "mine"), execute(), sync())
        wire.until()
    after = stats(pooler)
    done = {k: after[k] - before.get(k, 0) for k in after if k.startswith("total_")}
    assert done["total_xact_count"] == 8 * workers
    assert done["total_query_count"] == 10 * workers
    assert done["total_client_parse_count"] == workers
    assert done["total_server_parse_count"] == workers
    assert done["total_bind_count"] == 2 * workers
    # A worker that does not know the database's functions yet asks what the first transaction has changed; the
    # client may be back with the next one before the answer, and goes on where it is.
    assert 7 * workers <= done["total_server_assignment_count"] <= 8 * workers
    assert done["total_query_time"] >= 10_000 * workers
    assert done["total_xact_time"] >= done["total_query_time"]
    assert 0 < done["total_received"] < 2000 * workers
    assert 0 < done["total_sent"] < 4000 * workers
    assert after["total_client_login_count"] >= workers
    totals = {r["name"]: int(r["value"]) for r in pooler.show("TOTALS")}
    assert totals["total_xact_count"] >= after["total_xact_count"]


def test_a_cancel_request_is_seen(pooler: Pooler, cluster: Cluster) -> None:
    wire = raw(pooler)
    pid = pid_of(wire)
    wire.send(query("SELECT pg_sleep(20)"))
    asleep = f"SELECT 1 FROM pg_stat_activity WHERE pid = {pid} AND wait_event = 'PgSleep'"
    eventually(lambda: cluster.sql(asleep))  # before that PostgreSQL would drop the request
    assert pooler.show("SERVERS", state="active")
    with Wire((pooler.host, pooler.port)) as requester:
        requester.send(cancel_request(wire.pid, wire.key))
        assert requester.at_end()
    assert [m.sqlstate for m in wire.until() if m.type == "E"] == ["57014"]


# --- tools


EXPORTER = (
    "SHOW STATS",
    "SHOW POOLS",
    "SHOW DATABASES",
    "SHOW LISTS",
    "SHOW CONFIG",
    "SHOW VERSION",
    "SHOW USERS",
)


@pytest.mark.pg(18)
def test_exporters(pooler: Pooler) -> None:
    """lib/pq, as the usual exporter uses it: parameters it asks for, simple queries, one connection kept."""
    with raw(pooler) as wire:
        wire.query("SELECT 1")
    address = (pooler.host, pooler.port)
    with Wire.login(address, "stats", "pgbouncer", client_encoding="UTF8", datestyle="ISO, MDY") as wire:
        for _ in range(3):
            for command in EXPORTER:
                answer = wire.query(command)
                assert types(answer).startswith("TD")
                assert types(answer).endswith("CZ")
    version = pooler.show("VERSION")[0]["version"]
    assert version.startswith("PgBouncer 1.25.2")


@pytest.mark.pg(15)
def test_psql(pooler: Pooler, cluster: Cluster) -> None:
    psql = shutil.which("psql") or str(cluster.server.bin / "psql")
    done = subprocess.run(
        [
            psql,
            "-X",
            "-A",
            pooler.conninfo("pgbouncer", "admin"),
            "-c",
            "SHOW POOLS",
            "-c",
            "RECONNECT",
            "-c",
            "SHOW HELP",
        ],
        capture_output=True,
        text=True,
        timeout=20,
    )
    assert done.returncode == 0, done.stderr
    assert "pgbouncer|pgbouncer|" in done.stdout
    assert "RECONNECT" in done.stdout
    assert "Console usage" in done.stderr


def test_psycopg_with_all_its_habits(pooler: Pooler) -> None:
    with psycopg.connect(pooler.conninfo("pgbouncer", "admin"), autocommit=True) as conn:
        assert conn.execute("SHOW VERSION").fetchone()
        assert [c.name for c in conn.execute("SHOW LISTS").description or ()] == ["list", "items"]
        with pytest.raises(psycopg.Error, match="invalid command"):
            conn.execute("SHOW NOTHING")
        assert conn.execute("SHOW STATE").fetchall()
        conn.execute("SET client_encoding = 'UTF8'")
