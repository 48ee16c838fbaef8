"""The scenarios of the comparison: what each one measures, in which cells, and how one figure comes about."""

from __future__ import annotations

import math
import socket
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from pgferry.protocol import frontend

from . import pgbench, state, wire
from .processes import CpuMeter, Memory, memory
from .results import Cell
from .secure import secured
from .server import DATABASE, TENANTS
from .storm import storm
from .system import BenchError
from .targets import SCRAM, TRUST, Login, Pooler, Target

PROTOCOLS = ("simple", "extended", "prepared")
CLIENTS = (1, 16, 64, 200, 1000)
CONNECT_CLIENTS = 16
TLS_CLIENTS = 16
POLICY_CLIENTS = 16
GIGABYTE = 1_000_000_000
LARGE_ROW_BYTES = 1_000_000
SMALL_ROW_TEXT_BYTES = 30
# A DataRow of a number of up to 9 digits and the text: header 7, two lengths of 4.
SMALL_ROW_BYTES = 7 + 4 + 8 + 4 + SMALL_ROW_TEXT_BYTES
IDLE_CLIENTS = 5000
SETTLE_S = 1.0


@dataclass(frozen=True, slots=True)
class Size:
    """How much is measured: seconds of each load, gigabytes of each result, idle clients, rounds."""

    seconds: float
    gigabytes: float
    idle_clients: int
    rounds: int
    clients: Sequence[int]


# Many short rounds rather than few long ones: what differs is where the scheduler puts the processes.
FULL = Size(seconds=2, gigabytes=1.0, idle_clients=IDLE_CLIENTS, rounds=5, clients=CLIENTS)
QUICK = Size(seconds=1, gigabytes=0.25, idle_clients=1000, rounds=2, clients=(1, 16, 64, 1000))


@dataclass(frozen=True, slots=True)
class Scenario:
    """A named kind of measurement: its cells, how its clients log in, and the function that measures once."""

    name: str
    title: str
    login: Login
    cells: Callable[[Size], list[Cell]]
    measure: Callable[[Target, Cell, Size], dict[str, float]]
    needs_pooler: bool = False
    pgferry_only: bool = False  # others would give clients each other's state, or do not know the setting
    rounds: int | None = None
    asked: bool = False  # not part of a run unless it is named


def _query_cells(protocol: str) -> Callable[[Size], list[Cell]]:
    return lambda size: [Cell("query", protocol, clients) for clients in size.clients]


def _query(target: Target, cell: Cell, size: Size) -> dict[str, float]:
    load = pgbench.Load(cell.clients, cell.variant, size.seconds)
    return pgbench.run(load, target.port, TRUST, target.root)


def _connect(target: Target, cell: Cell, size: Size) -> dict[str, float]:
    load = pgbench.Load(cell.clients, "simple", size.seconds, connect_each=True)
    return pgbench.run(load, target.port, SCRAM if cell.variant == "scram" else TRUST, target.root)


def _bulk(target: Target, cell: Cell, size: Size) -> dict[str, float]:
    """Fetch one big result on one connection; figures per 1 GB received."""
    wanted = size.gigabytes * GIGABYTE
    if cell.variant == "copy":
        rows = math.ceil(wanted / LARGE_ROW_BYTES)
        statement = f"COPY (SELECT repeat('x', {LARGE_ROW_BYTES}) FROM generate_series(1, {rows})) TO STDOUT"
    else:
        rows = math.ceil(wanted / SMALL_ROW_BYTES)
        statement = f"SELECT generate_series(1, {rows}), '{'x' * SMALL_ROW_TEXT_BYTES}'"
    with wire.login(target.port, TRUST.user, DATABASE, timeout_s=120) as link:
        begin = time.monotonic()
        with CpuMeter(target.root) as meter:
            received = wire.discard_result(link, statement)
        seconds = time.monotonic() - begin
    if not 0.9 < received / wanted < 1.2:
        raise BenchError(f"{received} bytes came back, {wanted:.0f} were expected")
    gigabytes = received / GIGABYTE
    figures = {"gb_per_s": gigabytes / seconds, "seconds_per_gb": seconds / gigabytes}
    if target.root is not None:
        figures["cpu_s_per_gb"] = meter.total_s / gigabytes
    return figures


def _memory(target: Target, cell: Cell, _: Size) -> dict[str, float]:
    """Log in many clients that then do nothing; what each costs, before and after its first query."""
    assert isinstance(target, Pooler)
    target.start(TRUST)
    wire.login(target.port, TRUST.user, DATABASE).close()  # the first login fetches what all welcomes need
    rest = _settled(target)
    worker = memory([target.serving_process()])
    links: list[socket.socket] = []
    try:
        while len(links) < cell.clients:
            links.append(wire.login(target.port, TRUST.user, DATABASE))
        logged_in = _settled(target)
        for link in links:
            link.sendall(frontend.Query("SELECT 1").build())
            wire.read_until_ready(link)
        served = _settled(target)
    finally:
        for link in links:
            link.close()
    return {
        "login_bytes": (logged_in.private - rest.private) / cell.clients,
        "idle_bytes": (served.private - rest.private) / cell.clients,
        "rest_mb": worker.rss / 1e6,
        "total_rest_mb": rest.pss / 1e6,
    }


def _tls(target: Target, cell: Cell, size: Size) -> dict[str, float]:
    """The same over TLS: transactions, and a large result."""
    assert isinstance(target, Pooler)
    return secured(target, cell, size.seconds)


def _storm(target: Target, cell: Cell, _: Size) -> dict[str, float]:
    """Let many clients log in at once; how long that takes, and what others notice of it."""
    assert isinstance(target, Pooler)
    return storm(target, cell.clients)


def _settled(target: Pooler) -> Memory:
    """Return the pooler's memory once it has had time to finish what it was doing."""
    time.sleep(SETTLE_S)
    return memory(target.members())


SCENARIOS = (
    *(
        Scenario(
            protocol, f"select-only transactions, {protocol} protocol", TRUST, _query_cells(protocol), _query
        )
        for protocol in PROTOCOLS
    ),
    Scenario(
        "connect-trust",
        "a new connection for each transaction, trust",
        TRUST,
        lambda _: [Cell("connect", "trust", CONNECT_CLIENTS)],
        _connect,
    ),
    Scenario(
        "connect-scram",
        "a new connection for each transaction, SCRAM with plain secrets",
        SCRAM,
        lambda _: [Cell("connect", "scram", CONNECT_CLIENTS)],
        _connect,
    ),
    Scenario("copy", "1 GB of COPY out in rows of 1 MB", TRUST, lambda _: [Cell("bulk", "copy", 1)], _bulk),
    Scenario("rows", "1 GB of small rows", TRUST, lambda _: [Cell("bulk", "rows", 1)], _bulk),
    Scenario(
        "tenants",
        "200 tenants, each with its own search_path, role and custom setting",
        TRUST,
        lambda _: [Cell("state", script, TENANTS) for script in state.SCRIPTS],
        lambda target, cell, size: state.tenants(target, cell, size.seconds),
        pgferry_only=True,
        rounds=3,
    ),
    Scenario(
        "policies",
        "transactions without session state, session_state = track and ignore",
        TRUST,
        lambda _: [Cell("policies", protocol, POLICY_CLIENTS) for protocol in PROTOCOLS],
        lambda target, cell, size: state.policies(target, cell, size.seconds),
        pgferry_only=True,
        rounds=1,
    ),
    Scenario(
        "scrub",
        "two login users who share servers, by the value of scrub",
        TRUST,
        lambda size: [
            Cell("scrub", protocol, clients)
            for protocol in ("simple", "prepared")
            for clients in size.clients
            if clients > 1
        ],
        lambda target, cell, size: state.scrubs(target, cell, size.seconds),
        pgferry_only=True,
        rounds=1,
    ),
    Scenario(
        "memory",
        "memory of idle clients",
        TRUST,
        lambda size: [Cell("memory", "idle", size.idle_clients)],
        _memory,
        needs_pooler=True,
        rounds=1,
    ),
    Scenario(
        "tls",
        "clients with TLS: select-only transactions, a result of 100 MB",
        TRUST,
        lambda _: [Cell("tls", "simple", TLS_CLIENTS), Cell("tls", "result", 1)],
        _tls,
        needs_pooler=True,
    ),
    Scenario(
        "storm",
        "clients that log in at once after a restart, SCRAM over TLS",
        SCRAM,
        lambda size: [Cell("storm", "scram over TLS", size.idle_clients)],
        _storm,
        needs_pooler=True,
        rounds=2,
        asked=True,
    ),
)


def select(names: Sequence[str]) -> list[Scenario]:
    """Return the scenarios with these names or of these families (query, connect, bulk), the usual ones when empty.

    Raises BenchError for a name that fits none.
    """
    if not names:
        return [scenario for scenario in SCENARIOS if not scenario.asked]
    for name in names:
        if not any(_fits(scenario, name) for scenario in SCENARIOS):
            known = ", ".join(scenario.name for scenario in SCENARIOS)
            raise BenchError(f"no scenario is named {name}; there are {known} (and query, bulk, connect)")
    return [scenario for scenario in SCENARIOS if any(_fits(scenario, name) for name in names)]


def _fits(scenario: Scenario, name: str) -> bool:
    family_name = scenario.cells(QUICK)[0].scenario
    return name in (scenario.name, family_name)
