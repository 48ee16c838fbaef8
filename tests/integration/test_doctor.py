"""Every check of `pgferry doctor` is provoked: by a file, by a running pgferry, by a real PostgreSQL."""

import ast
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import psycopg
import pytest

from pgferry.client.target import parse
from pgferry.config.load import load
from pgferry.doctor import checks_running, checks_server, checks_state
from pgferry.doctor.gather import ask_console, ask_server, config_of
from pgferry.doctor.machine import Machine
from pgferry.doctor.model import CHECKS, Console, Facts, Finding, Row, Severity
from pgferry.doctor.places import Places
from pgferry.doctor.run import examine
from pgferry.embedded import Cluster
from support import cluster as clusters
from support.pooler import Pooler, eventually

# One version for the most part; the queries to a server are asked of the oldest and the newest.
pytestmark = [pytest.mark.workers(1), pytest.mark.pg(18)]
BOTH = pytest.mark.pg(15, 18)
MakePooler = Callable[..., Pooler]


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., str]:
    """write({settings}, {databases}) -> path of a configuration with nothing else to find."""

    def make(settings: Mapping[str, object], databases: Mapping[str, str] | None = None) -> str:
        users = tmp_path / "users.txt"
        users.write_text('"alice" "SCRAM-SHA-256$4096:c2FsdHNhbHQ=$' + f'{"A" * 43}=:{"B" * 43}="\n')
        users.chmod(0o600)
        lines = {
            "listen_addr": "127.0.0.1",
            "auth_type": "scram-sha-256",
            "auth_file": users,
            "admin_users": "alice",
            "pool_mode": "transaction",
            "session_state": "track",
            "default_pool_size": 10,
            "reserve_pool_size": 2,
            "reserve_pool_timeout": 2,
            "query_wait_timeout": 20,
            "idle_transaction_timeout": 60,
            "query_timeout": 30,
            "max_client_conn": 500,
            **settings,
        }
        entries = databases or {"shop": "host=127.0.0.1"}
        text = "[databases]\n" + "".join(f"{k} = {v}\n" for k, v in entries.items())
        text += "[pgbouncer]\n" + "".join(f"{k} = {v}\n" for k, v in lines.items())
        path = tmp_path / "pgferry.ini"
        path.write_text(text)
        return str(path)

    return make


def facts_of(path: str, **more: Any) -> Facts:
    facts = Facts(config=load(path), places=Places.of(path), machine=Machine(8, 20_000, "", 4096, 28_000))
    for name, value in more.items():
        setattr(facts, name, value)
    return facts


def found(facts: Facts, check: str) -> list[Finding]:
    """What one check finds."""
    findings = [f for f in examine(facts)[0] if f.check == check]
    for finding in findings:
        assert finding.text
        assert finding.change
    return findings


def provoked(facts: Facts, check: str) -> list[Finding]:
    """What one check finds: something. The last test looks for these calls."""
    findings = found(facts, check)
    assert findings, f"{check} finds nothing"
    return findings


def provoked_soon(ask: Callable[[], Facts], check: str, timeout: float = 10.0) -> list[Finding]:
    """The same, asked again and again until it does."""
    findings: list[Finding] = []

    def look() -> bool:
        findings[:] = found(ask(), check)
        return bool(findings)

    eventually(look, timeout, f"{check} finds nothing")
    return findings


def console_url(pooler: Pooler) -> str:
    return f"postgresql://admin@127.0.0.1:{pooler.port}/pgbouncer"


def cluster_url(cluster: Cluster, database: str = "postgres") -> str:
    return f"postgresql://postgres@127.0.0.1:{cluster.port}/{database}"


# --- a file


def test_a_good_file_has_no_findings(write: Callable[..., str]) -> None:
    findings, made = examine(facts_of(write({})))
    assert [(f.check, f.text) for f in findings] == []
    assert made > 20


CONFIG_CASES: list[tuple[str, dict[str, object], dict[str, str] | None, str]] = [
    ("pool-sum", {"default_pool_size": 200}, None, "note"),
    ("pool-sum", {"default_pool_size": 0}, None, "error"),
    ("pools-uncounted", {"auth_user": "alice"}, None, "note"),
    ("pools-uncounted", {}, {"*": "host=127.0.0.1"}, "note"),
    ("reserve-never", {"reserve_pool_timeout": 0}, None, "warning"),
    ("reserve-never", {"reserve_pool_timeout": 18}, None, "warning"),
    ("reserve-none", {"reserve_pool_size": 0}, None, "note"),
    ("session-mode", {"pool_mode": "session"}, None, "warning"),
    ("clients-few", {"max_client_conn": 15}, None, "warning"),
    ("min-pool", {"min_pool_size": 10}, None, "note"),
    ("workers-small-pool", {"workers": 8}, None, "warning"),
    ("prepared-off", {"max_prepared_statements": 0}, None, "warning"),
    ("reset-always", {"server_reset_query_always": 1}, None, "warning"),
    ("lifetime", {"server_lifetime": 0}, None, "warning"),
    ("idle-transaction", {"idle_transaction_timeout": 0}, None, "note"),
    ("statement-timeout", {"query_timeout": 0}, None, "note"),
    ("wait-for-ever", {"query_wait_timeout": 0}, None, "warning"),
    ("wait-for-ever", {}, {"shop": "host=127.0.0.1 query_wait_timeout=300"}, "note"),
    ("keepalive", {"tcp_keepalive": 0}, {"shop": "host=10.1.2.3"}, "warning"),
    ("keepalive", {}, {"shop": "host=10.1.2.3"}, "note"),
    ("dns-ttl", {"dns_max_ttl": 600}, {"shop": "host=db.example"}, "warning"),
    ("pooler-port", {}, {"shop": "host=127.0.0.1 port=6432"}, "note"),
    ("auth-open", {"listen_addr": "*", "auth_type": "trust"}, None, "error"),
    ("auth-weak", {"auth_type": "plain"}, None, "warning"),
    ("auth-weak", {"auth_type": "md5"}, None, "note"),
    ("tls-clients", {"listen_addr": "*"}, None, "warning"),
    ("tls-servers", {}, {"shop": "host=10.1.2.3"}, "warning"),
    ("console-access", {"admin_users": ""}, None, "note"),
    ("http-open", {"http_listen": "*:9127"}, None, "note"),
    ("ignored-parameters", {"ignore_startup_parameters": "options"}, None, "warning"),
    ("open-files", {"max_client_conn": 30_000}, None, "error"),
    ("backlog", {"listen_backlog": 8192}, None, "note"),
    ("backlog", {"max_client_conn": 10_000}, None, "note"),
    ("local-ports", {"default_pool_size": 15_000}, None, "warning"),
    ("state-ignored", {"session_state": "ignore"}, None, "note"),
    ("pinned-limit", {"max_pinned": 10}, None, "warning"),
]


@pytest.mark.parametrize(
    ("check", "settings", "databases", "severity"),
    CONFIG_CASES,
    ids=[f"{c[0]}-{i}" for i, c in enumerate(CONFIG_CASES)],
)
def test_a_file(
    write: Callable[..., str],
    check: str,
    settings: dict[str, object],
    databases: dict[str, str] | None,
    severity: str,
) -> None:
    path = write(settings, databases)
    findings = provoked(facts_of(path), check)
    assert [f.severity.name.lower() for f in findings] == [severity]
    _, _, number = findings[0].where.rpartition(":")
    if number.isdecimal():  # a line: that of a setting of the case, or of one that hangs together with it
        line = Path(path).read_text().splitlines()[int(number) - 1]
        assert line.partition(" = ")[0] in {*settings, "shop", "*", "default_pool_size", "max_client_conn"}
    else:
        assert "is not set there" in findings[0].where


def test_the_secrets_file(write: Callable[..., str], tmp_path: Path) -> None:
    path = write({})
    users = tmp_path / "users.txt"
    users.write_text('"bob" "secret"\n')
    users.chmod(0o644)
    findings = provoked(facts_of(path), "secrets-file")
    assert [f.severity for f in findings] == [Severity.WARNING, Severity.NOTE]
    assert "secret" not in findings[1].text.replace("secrets", "").replace(str(users), "")


# --- a file and a PostgreSQL


@BOTH
def test_pools_beside_the_server(cluster: Cluster, write: Callable[..., str]) -> None:
    server = ask_server(parse(cluster_url(cluster)), cores=2)
    there = {"shop": f"host=127.0.0.1 port={cluster.port}"}
    (finding,) = provoked(facts_of(write({"default_pool_size": 300}, there), server=server), "pool-sum")
    assert finding.severity is Severity.ERROR
    assert "197" in finding.text
    assert "default_pool_size = 177" in finding.change
    assert found(facts_of(write({"default_pool_size": 50}, there), server=server), "pool-sum") == []
    (finding,) = provoked(facts_of(write({"default_pool_size": 50}, there), server=server), "pool-cores")
    assert "2 cores" in finding.text
    # What leads elsewhere does not count.
    both = {**there, "far": "host=10.1.1.1 pool_size=900"}
    assert found(facts_of(write({"default_pool_size": 50}, both), server=server), "pool-sum") == []


def test_timeouts_of_both_sides(cluster: Cluster, write: Callable[..., str]) -> None:
    server = ask_server(parse(cluster_url(cluster)), cores=0)
    off = write({"query_timeout": 0, "idle_transaction_timeout": 0})
    assert provoked(facts_of(off, server=server), "statement-timeout")[0].severity is Severity.WARNING
    assert provoked(facts_of(off, server=server), "idle-transaction")[0].severity is Severity.WARNING
    provoked(facts_of(write({"query_timeout": 30}), server=server), "query-timeout-order")


@BOTH
def test_settings_of_the_server(pg_version: int, write: Callable[..., str]) -> None:
    bad = {
        "idle_session_timeout": "60s",
        "statement_timeout": "10s",
        "idle_in_transaction_session_timeout": "10s",
        "superuser_reserved_connections": 0,
        "max_connections": 600,
        "password_encryption": "md5",
    }
    hba = ("local all all trust", "host all all 0.0.0.0/0 trust")
    with ExitStack() as stack:
        cluster = clusters.new_cluster(pg_version, settings={**bad, "listen_addresses": "0.0.0.0"}, hba=hba)
        stack.callback(cluster.close)
        server = ask_server(parse(cluster_url(cluster)), cores=0)
        facts = facts_of(write({"query_timeout": 0, "idle_transaction_timeout": 0}), server=server)
        provoked(facts, "idle-session-timeout")
        provoked(facts, "max-connections-high")
        provoked(facts, "password-encryption")
        provoked(facts, "hba-trust")
        provoked(facts, "reserved-slots")
        provoked(facts, "no-statements")
        for check in ("statement-timeout", "idle-transaction", "is-pooler", "old-version"):
            assert found(facts, check) == [], check


def test_timeouts_of_a_role_count(cluster: Cluster, write: Callable[..., str]) -> None:
    cluster.sql("CREATE ROLE slowly; ALTER ROLE slowly SET statement_timeout = '30s'")
    try:
        server = ask_server(parse(cluster_url(cluster)), cores=0)
        assert found(facts_of(write({"query_timeout": 0}), server=server), "statement-timeout") == []
        provoked(Facts(server=server), "abandoned-queries")
    finally:
        cluster.sql("DROP ROLE slowly")


def test_an_old_server(cluster: Cluster) -> None:
    server = ask_server(parse(cluster_url(cluster)), cores=0)
    server.settings["server_version_num"] = "120022"  # none is started for this
    provoked(Facts(server=server), "old-version")


def test_no_tls_over_the_network(cluster: Cluster) -> None:
    server = ask_server(parse(cluster_url(cluster)), cores=0)
    assert found(Facts(server=server), "server-tls") == []
    server.target = parse("postgresql://postgres@db.example/postgres")
    provoked(Facts(server=server), "server-tls")


# --- who holds up a PostgreSQL


@pytest.fixture
def sessions(own_cluster: Cluster) -> Iterator[Callable[..., "psycopg.Connection[Any]"]]:
    made: list[psycopg.Connection[Any]] = []

    def make(**options: Any) -> "psycopg.Connection[Any]":
        made.append(psycopg.connect(own_cluster.conninfo(), **options))
        return made[-1]

    yield make
    for connection in made:
        connection.close()


@BOTH
def test_sessions_of_the_server(
    own_cluster: Cluster, sessions: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checks_server, "_IDLE_IN_TRANSACTION", 0.0)
    monkeypatch.setattr(checks_server, "_LONG_TRANSACTION", 0.0)
    own_cluster.sql("CREATE TABLE t AS SELECT 1 AS a")
    holder, waiter = sessions(application_name="leaky"), sessions()
    holder.execute("UPDATE t SET a = 2")
    thread = threading.Thread(target=_until_cancelled, args=(waiter, "UPDATE t SET a = 3"))
    thread.start()
    url = parse(cluster_url(own_cluster))
    provoked_soon(lambda: Facts(server=ask_server(url, 0)), "blocked")
    facts = Facts(server=ask_server(url, 0))
    (leak,) = provoked(facts, "server-idle-in-transaction")
    assert "leaky" in leak.text
    assert "UPDATE t SET a = 3" in provoked(facts, "long-transaction")[0].text
    holder.rollback()
    thread.join(20)


def _until_cancelled(connection: Any, sql: str) -> None:
    connection.execute(sql)
    connection.rollback()


def test_connections_used(pg_version: int) -> None:
    cluster = clusters.new_cluster(pg_version, settings={"max_connections": 10})
    with ExitStack() as stack:
        stack.callback(cluster.close)
        for _ in range(6):
            stack.enter_context(psycopg.connect(cluster.conninfo(), application_name="direct"))
        (finding,) = provoked(Facts(server=ask_server(parse(cluster_url(cluster)), 0)), "connections-used")
        assert "direct (6)" in finding.text
        assert finding.severity is Severity.ERROR


def test_a_superuser_with_pools(cluster: Cluster, write: Callable[..., str]) -> None:
    server = ask_server(parse(cluster_url(cluster)), 0)
    path = write({}, {"shop": f"host=127.0.0.1 port={cluster.port} user=postgres"})
    provoked(facts_of(path, server=server), "superuser")


# --- a running pgferry


def test_the_same_checks_from_the_console(cluster: Cluster, make_pooler: MakePooler) -> None:
    pooler = make_pooler(
        settings={"default_pool_size": 300, "query_wait_timeout": 0},
        databases={"shop": pooler_entry(cluster), "own": pooler_entry(cluster, pool_size=7)},
    )
    console = ask_console(parse(console_url(pooler)))
    facts = Facts(config=config_of(console), console=console)
    assert facts.config is not None
    assert facts.config.databases["own"].pool_size == 7
    facts.server = ask_server(parse(cluster_url(cluster)), 0)
    assert provoked(facts, "pool-sum")[0].severity is Severity.ERROR
    assert provoked(facts, "wait-for-ever")[0].where == "SHOW CONFIG: query_wait_timeout"


def pooler_entry(cluster: Cluster, **more: object) -> str:
    pairs = {"host": "127.0.0.1", "port": cluster.port, "dbname": "postgres", **more}
    return " ".join(f"{k}={v}" for k, v in pairs.items())


def test_it_notices_a_pooler_behind_the_url(cluster: Cluster, pooler: Pooler) -> None:
    url = f"postgresql://postgres@127.0.0.1:{pooler.port}/postgres"
    provoked(Facts(server=ask_server(parse(url), 0)), "is-pooler")
    assert found(Facts(server=ask_server(parse(cluster_url(cluster)), 0)), "is-pooler") == []


def test_who_holds_the_servers(
    cluster: Cluster, make_pooler: MakePooler, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checks_running, "_LONG_IDLE", 0.0)
    monkeypatch.setattr(checks_running, "_LONG_QUERY", 0.2)
    pooler = make_pooler(
        settings={"statement_text_length": 100}, databases={"db": pooler_entry(cluster, pool_size=2)}
    )
    console = parse(console_url(pooler))
    with ExitStack() as stack:
        leaky = stack.enter_context(pooler.connect("db", autocommit=False, application_name="leaky"))
        leaky.execute("SELECT 1")
        slow = stack.enter_context(pooler.connect("db"))
        threads = [threading.Thread(target=slow.execute, args=("SELECT pg_sleep(3)",))]
        third = stack.enter_context(pooler.connect("db"))
        threads.append(threading.Thread(target=third.execute, args=("SELECT 1",)))
        threads[0].start()
        eventually(lambda: pooler.show("POOLS", database="db")[0]["sv_active"] == 2)
        threads[1].start()
        provoked_soon(lambda: Facts(console=ask_console(console)), "clients-wait")
        facts = Facts(console=ask_console(console))
        (waits,) = provoked(facts, "clients-wait")
        assert "leaky sits in a transaction" in waits.change
        assert "runs a query" in waits.change
        assert any("leaky" in f.text for f in provoked(facts, "idle-in-transaction"))
        assert ": SELECT pg_sleep(3)" in provoked(facts, "long-query")[0].text
        provoked(facts, "pool-full")
        for thread in threads:
            thread.join(20)
        leaky.rollback()
    assert found(Facts(console=ask_console(console)), "clients-wait") == []


def test_waiting_on_average(cluster: Cluster, make_pooler: MakePooler) -> None:
    pooler = make_pooler(databases={"db": pooler_entry(cluster, pool_size=1)})

    def work() -> None:
        with pooler.connect("db") as connection:
            connection.execute("SELECT pg_sleep(0.1)")

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    provoked(Facts(console=ask_console(parse(console_url(pooler)))), "waits-long")


def test_limits_and_switches(cluster: Cluster, make_pooler: MakePooler) -> None:
    pooler = make_pooler(
        settings={"max_client_conn": 3}, databases={"db": pooler_entry(cluster), "x": "host=127.0.0.1 port=1"}
    )
    console = parse(console_url(pooler))
    with pooler.connect("db"), pooler.connect("db"), pooler.connect("db"):
        assert provoked(Facts(console=ask_console(console)), "clients-full")[0].severity is Severity.ERROR
    pooler.admin("DISABLE x")
    pooler.admin("PAUSE db")
    texts = [f.text for f in provoked(Facts(console=ask_console(console)), "paused")]
    assert texts == ["Database db is paused", "Database x is disabled"]
    pooler.admin("RESUME db")
    pooler.admin("PAUSE")
    assert "Everything is paused" in [f.text for f in provoked(Facts(console=ask_console(console)), "paused")]


def test_a_server_that_is_down(make_pooler: MakePooler, own_cluster: Cluster) -> None:
    pooler = make_pooler(own_cluster, settings={"server_login_retry": 1, "query_wait_timeout": 30})
    with pooler.connect() as connection:
        connection.execute("SELECT 1")
    own_cluster.kill()
    other = threading.Thread(target=_connect_and_ask, args=(pooler,))
    other.start()
    console = parse(console_url(pooler))
    provoked_soon(lambda: Facts(console=ask_console(console)), "server-logins", 20)
    own_cluster.start()
    other.join(30)


def _connect_and_ask(pooler: Pooler) -> None:
    with pooler.connect(connect_timeout=30) as connection:
        connection.execute("SELECT 1")


@pytest.mark.usefixtures("cluster")
def test_a_file_that_was_not_reloaded(make_pooler: MakePooler) -> None:
    pooler = make_pooler()
    facts = Facts(console=ask_console(parse(console_url(pooler))))
    facts.config, facts.places = load(str(pooler.config_file)), Places.of(str(pooler.config_file))
    assert found(facts, "not-reloaded") == []
    pooler.set({"default_pool_size": 33, "listen_backlog": 99}, reload=False)
    facts.config, facts.places = load(str(pooler.config_file)), Places.of(str(pooler.config_file))
    assert {(f.text.split(" ")[0], f.change) for f in provoked(facts, "not-reloaded")} == {
        ("default_pool_size", "RELOAD on the console"),
        ("listen_backlog", "a restart"),
    }


# --- session state


def test_session_state_that_is_used(own_cluster: Cluster, write: Callable[..., str]) -> None:
    own_cluster.sql("ALTER SYSTEM SET shared_preload_libraries = 'pg_stat_statements'")
    own_cluster.restart()
    own_cluster.sql("CREATE EXTENSION pg_stat_statements")
    with psycopg.connect(own_cluster.conninfo(), autocommit=True) as connection:
        for sql in ("SET search_path = tenant_7", "LISTEN jobs", "SELECT pg_advisory_lock(1)"):
            connection.execute(sql)
    server = ask_server(parse(cluster_url(own_cluster)), 0)
    path = write({"session_state": "ignore"}, {"shop": f"host=127.0.0.1 port={own_cluster.port}"})
    (finding,) = provoked(facts_of(path, server=server), "state-ignored")
    assert finding.severity is Severity.WARNING
    assert "LISTEN" in finding.text
    assert "session advisory locks" in finding.text
    assert found(facts_of(write({}), server=server), "state-ignored") == []


def test_a_pgbouncer_leaves_session_state_to_the_next_client() -> None:
    shows: dict[str, list[Row]] = {
        "VERSION": [{"version": "PgBouncer 1.25.2"}],
        "CONFIG": [{"key": "pool_mode", "value": "transaction"}],
        "DATABASES": [{"name": "shop", "database": "shop", "host": "127.0.0.1", "port": "5432"}],
    }
    console = Console(parse("postgresql://stats@127.0.0.1:6432/pgbouncer"), shows)
    (finding,) = provoked(Facts(config=config_of(console), console=console), "state-ignored")
    assert "pgferry with session_state = track" in finding.change


def test_pins(cluster: Cluster, make_pooler: MakePooler, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks_state, "_OLD_PIN", 0.0)
    pooler = make_pooler(
        settings={"session_state": "track"}, databases={"db": pooler_entry(cluster, pool_size=2)}
    )
    console = parse(console_url(pooler))
    with pooler.connect("db", application_name="pinner") as connection:
        connection.execute("SELECT pg_advisory_lock(42)")
        eventually(lambda: pooler.show("PINS"))
        texts = [f.text for f in provoked(Facts(console=ask_console(console)), "pins")]
        assert any("pinner" in text for text in texts)
        assert any("1 of 2 servers" in text for text in texts)


@pytest.mark.usefixtures("cluster")
def test_refused_state_is_counted(make_pooler: MakePooler) -> None:
    pooler = make_pooler(settings={"session_state": "refuse"})
    with pooler.connect() as connection, pytest.raises(psycopg.Error):
        connection.execute("LISTEN jobs")
    provoked(Facts(console=ask_console(parse(console_url(pooler)))), "state-errors")


@pytest.mark.usefixtures("cluster")
def test_caches_and_logins(make_pooler: MakePooler, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks_state, "_PARSES", 20)
    monkeypatch.setattr(checks_state, "_LOGINS", 20)
    pooler = make_pooler()
    console = parse(console_url(pooler))
    for _ in range(5):
        with pooler.connect() as connection:
            connection.prepare_threshold = 0
            for i in range(6):
                connection.execute(f"SELECT {i}")
    for _ in range(20):
        pooler.connect().close()
    facts = Facts(console=ask_console(console))
    provoked(facts, "statement-cache")
    provoked(facts, "login-storm")


# --- the command


def doctor(*arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "pgferry", "doctor", *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "PGPASSWORD": "x"},
    )


def test_the_command(cluster: Cluster, pooler: Pooler, write: Callable[..., str]) -> None:
    bad = write({"session_state": "ignore", "reserve_pool_timeout": 0})
    text = doctor(bad)
    assert text.returncode == 1, text.stderr
    assert "reserve-never  " in text.stdout
    assert "why:" in text.stdout
    assert "reserve_pool_timeout = 3" in text.stdout
    assert doctor(bad, "--fail-on", "error").returncode == 0
    assert doctor(bad, "--fail-on", "note", "--skip", "reserve-never,state-ignored").returncode == 0
    everything = doctor(bad, "--console", console_url(pooler), "--url", cluster_url(cluster), "--json")
    answer = json.loads(everything.stdout)
    assert answer["checks"] == len(CHECKS)
    assert {"check", "severity", "text", "why", "change", "where"} == set(answer["findings"][0])


def test_what_cannot_be_examined(tmp_path: Path) -> None:
    assert doctor(str(tmp_path / "missing.ini")).returncode == 2
    nobody = doctor("--url", "postgresql://me:geheim@127.0.0.1:1/x")
    assert nobody.returncode == 2
    assert "refused" in nobody.stderr
    assert "geheim" not in nobody.stderr
    assert doctor().returncode == 2
    assert doctor("--list").stdout.count("(CONFIG") > 20


def test_every_check_is_provoked() -> None:
    """By a call of provoked() in a test here, which fails when the check finds nothing; or as a case of test_a_file."""
    calls = [node for node in ast.walk(ast.parse(Path(__file__).read_text())) if isinstance(node, ast.Call)]
    named = {
        call.args[1].value
        for call in calls
        if isinstance(call.func, ast.Name)
        and call.func.id in ("provoked", "provoked_soon")
        and isinstance(call.args[1], ast.Constant)
    }
    assert named | {case[0] for case in CONFIG_CASES} == set(CHECKS)
