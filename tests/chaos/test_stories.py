"""The faults that operators tell of, staged: dashboard, log, doctor and metrics name the cause of each."""

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import psycopg
import pytest

from pgferry.client.target import parse, parse_console
from pgferry.doctor import checks_running, checks_state
from pgferry.doctor.gather import ask_console, ask_server, config_of
from pgferry.doctor.model import Facts, Finding
from pgferry.doctor.run import examine
from pgferry.embedded import Cluster
from support.pooler import Pooler, eventually
from support.ports import take_port
from support.proxy import FaultProxy
from support.web import Browser, Web

pytestmark = [pytest.mark.workers(1), pytest.mark.pg(15)]


class Scene:
    """A pgferry with a pool of three, with a dashboard and metrics, and the doctor's view of it."""

    def __init__(
        self, make_pooler: Callable[..., Pooler], cluster: Cluster, http: int, **databases: str
    ) -> None:
        self.cluster = cluster
        self.pooler = make_pooler(
            cluster,
            settings={
                "default_pool_size": 3,
                "max_client_conn": 40,
                "http_listen": f"127.0.0.1:{http}",
                "dashboard_trust": 1,  # these users have no password
                "transaction_log_threshold": 0.5,
                "server_login_retry": 1,
                "query_wait_timeout": 60,
            },
            **({"databases": databases} if databases else {}),
        )
        self.web = Web(self.pooler, http)
        self.page = Browser(self.web, "admin")

    def client(self, application: str, **more: Any) -> "psycopg.Connection[Any]":
        return self.pooler.connect(application_name=application, **more)

    def doctor(self, check: str) -> list[Finding]:
        """What one check finds now."""
        console = ask_console(parse_console(f"postgresql://admin@127.0.0.1:{self.pooler.port}"))
        return [f for f in examine(Facts(config=config_of(console), console=console))[0] if f.check == check]

    def says(self, check: str, *words: str) -> None:
        """Wait until a check finds something with all these words."""

        found: list[str] = []

        def look() -> bool:
            found[:] = [f"{f.text} {f.change}" for f in self.doctor(check)]
            return any(all(w in text for w in words) for text in found)

        try:
            eventually(look, 20)
        except AssertionError:
            pytest.fail(f"doctor's {check} does not say {words}, but {found}")

    def metric(self, name: str) -> float:
        """The sum of a metric's samples."""
        lines = self.web.get("/metrics")[1].splitlines()
        return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith(name))

    # The dashboard: what the page is made of (tests of its looks are in test_observe_browser)

    def sees(self, check: Callable[[dict[str, Any]], object]) -> None:
        """Wait until the page's figures are so."""
        eventually(lambda: check(self.page.get("/api/now")), 20, "the dashboard does not show it")

    def holds(self, application: str, state: str) -> None:
        """Wait until the page has this client among those who hold a server."""
        self.sees(
            lambda now: any(
                (row["application_name"], row["state"]) == (application, state) for row in now["longest"]
            )
        )

    def waits(self, clients: int) -> None:
        """Wait until so many clients wait on the page."""
        self.sees(lambda now: now["total"]["waiting"] == clients)

    def event(self, text: str) -> None:
        """Wait until the page has an event with this text."""
        self.sees(lambda now: any(text in event["text"] for event in now["events"]))


@pytest.fixture
def scene(make_pooler: Callable[..., Pooler], own_cluster: Cluster) -> Iterator[Scene]:
    with take_port() as http:
        yield Scene(make_pooler, own_cluster, http)


def in_background(stack: ExitStack, work: Callable[[], Any]) -> None:
    """Run it in a thread that has ended when the stack ends."""
    thread = threading.Thread(target=work)
    thread.start()
    stack.callback(thread.join, 60)


def test_a_slow_query_is_released(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks_running, "_LONG_QUERY", 1.0)
    with ExitStack() as stack, psycopg.connect(scene.cluster.conninfo(), autocommit=True) as brake:
        brake.execute("SELECT pg_advisory_lock(1)")
        slow = [stack.enter_context(scene.client("report 2.0")) for _ in range(3)]
        fast = stack.enter_context(scene.client("shop"))
        for connection in slow:
            in_background(stack, lambda c=connection: c.execute("SELECT pg_advisory_xact_lock(1)"))  # type: ignore[misc]
        eventually(lambda: scene.pooler.show("POOLS", database="postgres")[0]["sv_active"] == 3)
        in_background(stack, lambda: fast.execute("SELECT 1"))
        scene.says("clients-wait", "shop (postgres/postgres): 1", "report 2.0 runs a query")
        scene.says("long-query", "report 2.0", "pg_cancel_backend(")
        assert scene.metric("pgbouncer_pools_client_waiting_connections") == 1
        assert scene.metric("pgferry_longest_transaction_seconds") > 0.5
        scene.pooler.wait_log(r"transaction open for .*running.*report 2\.0")
        scene.holds("report 2.0", "running")
        scene.waits(1)
        brake.execute("SELECT pg_advisory_unlock(1)")
    assert scene.doctor("clients-wait") == []


def test_a_transaction_leaks(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks_running, "_LONG_IDLE", 0.5)
    with ExitStack() as stack:
        for _ in range(3):
            leak = stack.enter_context(scene.client("leaky", autocommit=False))
            leak.execute("SELECT 1")
        waiting = stack.enter_context(scene.client("shop"))
        in_background(stack, lambda: waiting.execute("SELECT 1"))
        scene.says("idle-in-transaction", "leaky", "KILL_CLIENT")
        scene.says("clients-wait", "leaky sits in a transaction")
        assert scene.metric("pgferry_idle_in_transaction") == 3
        scene.pooler.wait_log(r"transaction open for .*idle in transaction.*leaky")
        scene.holds("leaky", "idle in transaction")
        scene.waits(1)
        leak.rollback()


def test_the_database_restarts(scene: Scene) -> None:
    with scene.client("shop") as connection:
        connection.execute("SELECT 1")
    scene.cluster.stop("immediate")
    with ExitStack() as stack:
        client = stack.enter_context(scene.client("shop", connect_timeout=60))
        in_background(stack, lambda: client.execute("SELECT 1"))
        scene.says("server-logins", "no server connection", "so far: connect failed")
        scene.pooler.wait_log("connect failed: Connection refused")
        scene.waits(1)
        scene.event("server connection failed: connect failed")
        scene.cluster.start()
    eventually(lambda: scene.doctor("server-logins") == [])


def test_a_storm_of_connections(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks_state, "_LOGINS", 50)

    over = threading.Event()

    def storm() -> None:
        while not over.is_set():
            scene.client("php").close()

    with ExitStack() as stack:
        for _ in range(4):
            in_background(stack, storm)
        stack.callback(over.set)
        scene.event("login storm: clients of postgres log in again and again")
    scene.says("login-storm", "logins for")
    scene.pooler.wait_log(r"login storm: clients of postgres log in again and again: \d+ logins")
    assert scene.pooler.log().count("login attempt") >= 100


def test_a_tenant_floods(scene: Scene) -> None:
    with ExitStack() as stack:
        for _ in range(40):
            stack.enter_context(scene.client("greedy tenant"))
        with pytest.raises(psycopg.OperationalError, match="max_client_conn"):
            scene.client("shop")
        scene.says("clients-full", "of 40 client connections", "greedy tenant (postgres/postgres): 40")
        scene.pooler.wait_log(r"no more connections allowed \(max_client_conn\)")
        assert scene.metric('pgferry_connections_closed_total{kind="refused"') >= 1
        scene.event("login refused: no more connections allowed (max_client_conn)")
        scene.event("no room for more clients: most are greedy tenant (postgres/postgres)")
        scene.pooler.wait_log(r"no room for more clients: 40 of 40 are greedy tenant \(postgres/postgres\)")


def test_a_host_of_a_list_fails(make_pooler: Callable[..., Pooler], own_cluster: Cluster) -> None:
    target = ("127.0.0.1", own_cluster.port)
    with (
        FaultProxy(target, "127.9.1.1") as first,
        FaultProxy(target, "127.9.1.2", first.port) as second,
        take_port() as http,
    ):
        line = f"host=127.9.1.1,127.9.1.2 port={first.port} dbname=postgres load_balance_hosts=disable"
        scene = Scene(make_pooler, own_cluster, http, shop=line)
        with scene.pooler.connect("shop") as client:
            client.execute("SELECT 1")
            eventually(lambda: scene.pooler.show("POOLS", database="shop")[0]["sv_idle"] == 1)
            first.refuse()
            first.cut()
            eventually(lambda: not scene.pooler.show("SERVERS"))
            client.execute("SELECT 1")
        assert second.accepted
        scene.event(f"shop: the other hosts of its list are tried instead of 127.9.1.1:{first.port}: ")
        scene.pooler.wait_log(rf"@127\.9\.1\.1:{first.port} .*; trying the next address")


def test_a_server_full_of_direct_connections(scene: Scene) -> None:
    """The pooler cannot get what it is configured for, because others have taken it."""
    limit = int(scene.cluster.sql("SHOW max_connections")[0][0] or 0)
    with ExitStack() as stack:
        for _ in range(int(limit * 0.85)):
            stack.enter_context(psycopg.connect(scene.cluster.conninfo(application_name="direct")))
        server = ask_server(parse(f"postgresql://postgres@127.0.0.1:{scene.cluster.port}/postgres"), 0)
        texts = [f.text for f in examine(Facts(server=server))[0] if f.check == "connections-used"]
        assert texts
        assert "direct (" in texts[0]
