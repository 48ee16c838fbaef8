"""The cost of session state: tenants with their own search_path, role and setting; clients that keep nothing."""

from __future__ import annotations

from statistics import median

from . import pgbench
from .results import Cell
from .server import TENANTS
from .system import BenchError
from .targets import TRUST, Pooler, Target

# Each client sets its state once and then only reads, through its search_path and with the rights of its role.
SET_UP = """\
\\if :ready = 0
SET search_path = tenant_:client_id, public;
SET ROLE tenant_:client_id;
SET app.tenant_id = ':client_id';
\\set ready 1
\\endif
"""
TRANSACTION = """\
\\set aid random(1, 100000 * :scale)
SELECT abalance FROM pgbench_accounts WHERE aid = :aid;
"""
ALTERNATIONS = 3


def tenants(target: Target, cell: Cell, seconds: float) -> dict[str, float]:
    """Return `without_tps` and `with_tps`: the same load of `cell.clients` tenants without and with their state."""
    if cell.clients > TENANTS:
        raise BenchError(f"there are {TENANTS} tenants only")
    figures: dict[str, float] = {}
    for name, script in (("without", TRANSACTION), ("with", SET_UP + TRANSACTION)):
        load = pgbench.Load(cell.clients, "simple", seconds, script=script, variables={"ready": 0})
        found = pgbench.run(load, target.port, TRUST, target.root)
        figures |= {f"{name}_{figure}": found[figure] for figure in ("tps", "p50_us", "cpu_us")}
    figures["slowdown"] = figures["without_tps"] / figures["with_tps"]
    return figures


def policies(target: Target, cell: Cell, seconds: float) -> dict[str, float]:
    """Return the processor time of a transaction that keeps nothing, with `track` and with `ignore`."""
    assert isinstance(target, Pooler)
    found: dict[str, list[float]] = {"track": [], "ignore": []}
    try:
        for _ in range(ALTERNATIONS):
            for policy, values in found.items():
                target.settings["session_state"] = policy
                target.start(TRUST)
                load = pgbench.Load(cell.clients, cell.variant, seconds)
                values.append(pgbench.run(load, target.port, TRUST, target.root)["cpu_us"])
    finally:
        target.settings.pop("session_state", None)
    figures = {f"{policy}_cpu_us": median(values) for policy, values in found.items()}
    figures["cost"] = figures["track_cpu_us"] / figures["ignore_cpu_us"]
    return figures
