"""The cost of session state: tenants with their own search_path, role and setting; clients that keep nothing."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from statistics import median

from . import pgbench, profile
from .results import Cell
from .server import ACCOUNTS_OF_A_TENANT, SCRAM_USER, TENANTS, TRUST_USER
from .system import BenchError, clock_mhz
from .targets import TRUST, Login, Pooler, Target

# Each client sets its state once; where it keeps none it skips that with the same `\if`.
SET_UP = """\
\\if :ready = 0
SET search_path = tenant_:client_id, public;
SET ROLE tenant_:client_id;
SET app.tenant_id = ':client_id';
\\set ready 1
\\endif
"""
AID = f"\\set aid random(1, {ACCOUNTS_OF_A_TENANT})\n"
# Another tenant's row would end the run with a division by zero.
SELECT = "SELECT abalance / (tenant = :client_id)::int FROM {schema}accounts WHERE aid = :aid;\n"
OTHER = AID.replace("aid", "other") + "\\set delta random(-5000, 5000)\n"
# What tenants do, with {schema} for those who keep no search_path.
SCRIPTS = {
    "own tables, one select": AID + SELECT,
    "own tables, a transaction": AID
    + OTHER
    + "BEGIN;\n"
    + SELECT
    + "UPDATE {schema}accounts SET abalance = abalance + :delta WHERE aid = :aid;\n"
    + SELECT.replace(":aid", ":other")
    + "COMMIT;\n",
    "one table for all, one select": "\\set aid random(1, 100000 * :scale)\n"
    + "SELECT abalance FROM pgbench_accounts WHERE aid = :aid;\n",
}
# The least that a query can be is no load that anybody has, but shows what restoring costs.
WITHOUT_GOAL = ("one table for all, one select",)
ALTERNATIONS = 2
INSTRUCTIONS_OVER = 4000  # transactions
SCRUBS = ("when_needed", "on_user_change", "always")


def tenants(target: Target, cell: Cell, seconds: float) -> dict[str, float]:
    """Return figures of the same load of `cell.clients` tenants without and with their state, and their ratio.

    The ratio of the throughputs is `slowdown`, where there is a goal for it, or `extreme_slowdown`.
    """
    if cell.clients > TENANTS:
        raise BenchError(f"there are {TENANTS} tenants only")
    found: dict[str, list[float]] = {}
    _load(target, cell, seconds, keeps=True)  # every server has to see every tenant once
    for _ in range(ALTERNATIONS):
        pair = {name: _load(target, cell, seconds, keeps=name == "with") for name in ("without", "with")}
        for name, figures in pair.items():
            for figure in ("tps", "p50_us", "cpu_us"):
                found.setdefault(f"{name}_{figure}", []).append(figures[figure])
        ratio = pair["without"]["tps"] / pair["with"]["tps"]
        name = "extreme_slowdown" if cell.variant in WITHOUT_GOAL else "slowdown"
        found.setdefault(name, []).append(ratio)
    return {figure: median(values) for figure, values in found.items()}


def _load(target: Target, cell: Cell, seconds: float, *, keeps: bool) -> dict[str, float]:
    script = SET_UP + SCRIPTS[cell.variant].format(schema="" if keeps else "tenant_:client_id.")
    load = pgbench.Load(
        cell.clients, "simple", seconds, script=script, variables={"ready": 0 if keeps else 1}
    )
    return pgbench.run(load, target.port, TRUST, target.root)


def policies(target: Target, cell: Cell, seconds: float) -> dict[str, float]:
    """Return what a transaction that keeps nothing costs with `track` and with `ignore`.

    Processor time varies by a tenth from load to load, which hides a hundredth: so instructions are counted. `cost`
    is the ratio of processor times if each of those that `track` has more took a whole cycle; 1 for no difference.
    """
    assert isinstance(target, Pooler)
    figures: dict[str, float] = {}
    try:
        for policy in ("track", "ignore"):
            target.settings["session_state"] = policy
            figures[f"{policy}_instructions"] = profile.instructions(
                target, cell.variant, cell.clients, INSTRUCTIONS_OVER
            )
        target.start(TRUST)
        load = pgbench.Load(cell.clients, cell.variant, seconds)
        figures["ignore_cpu_us"] = pgbench.run(load, target.port, TRUST, target.root)["cpu_us"]
    finally:
        target.settings.pop("session_state", None)
    more_us = (figures["track_instructions"] - figures["ignore_instructions"]) / clock_mhz()
    figures["cost"] = 1 + more_us / figures["ignore_cpu_us"]
    return figures


def scrubs(target: Target, cell: Cell, seconds: float) -> dict[str, float]:
    """Return tps, p50_us and cpu_us of two login users who share the servers of a third, by the value of `scrub`.

    Half of `cell.clients` are one's, half the other's.
    """
    assert isinstance(target, Pooler)
    figures: dict[str, float] = {}
    try:
        target.server_user = TRUST_USER
        for value in SCRUBS:
            target.settings["scrub"] = value
            target.start(TRUST)
            for name, figure in _two_users(target, cell, seconds).items():
                figures[f"{value}_{name}"] = figure
    finally:
        target.server_user = ""
        target.settings.pop("scrub", None)
    return figures


def _two_users(target: Pooler, cell: Cell, seconds: float) -> dict[str, float]:
    load = pgbench.Load(cell.clients // 2, cell.variant, seconds)
    logins = [Login("trust", user, "") for user in (TRUST_USER, SCRAM_USER)]
    with ThreadPoolExecutor(len(logins)) as threads:
        runs = [threads.submit(pgbench.run, load, target.port, login, target.root) for login in logins]
    halves = [run.result() for run in runs]
    tps = sum(half["tps"] for half in halves)
    # Each has measured the processor time of both, and divided it by its own transactions.
    cpu_us = sum(half["cpu_us"] * half["tps"] for half in halves) / len(halves) / tps
    return {"tps": tps, "p50_us": median(half["p50_us"] for half in halves), "cpu_us": cpu_us}
