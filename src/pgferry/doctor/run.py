"""Runs the checks that the given facts allow."""

from __future__ import annotations

from dataclasses import replace

from pgferry.doctor import (
    checks_access,
    checks_pools,
    checks_running,
    checks_server,
    checks_state,
    checks_timeouts,
)
from pgferry.doctor.model import CHECKS, Facts, Finding

MODULES = (checks_pools, checks_timeouts, checks_access, checks_state, checks_running, checks_server)


def examine(facts: Facts, skip: frozenset[str] = frozenset()) -> tuple[list[Finding], int]:
    """All findings, and how many checks were made: the worst first, then what a pooler does now."""
    found: list[Finding] = []
    made = 0
    for check in CHECKS.values():
        if check.id in skip or not all(facts.has(need) for need in check.needs):
            continue
        made += 1
        found += [replace(f, check=check.id, why=check.why) for f in check.run(facts)]
    return sorted(found, key=lambda f: (-f.severity, CHECKS[f.check].needs != ("console",))), made
