"""What `pgferry top` shows, read from a console: of pgferry, and as far as it goes of a PgBouncer."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field

from pgferry.client import Connection, QueryError

Row = Mapping[str, str | None]
Key = tuple[str, str]


@dataclass(slots=True)
class Figures:
    """One look at the pooler."""

    state: str = ""
    pools: list[list[str]] = field(default_factory=list)
    holders: list[list[str]] = field(default_factory=list)
    clients: list[list[str]] = field(default_factory=list)
    servers: list[list[str]] = field(default_factory=list)
    transactions: float = 0.0
    """Per second, since the look before."""
    waiting: int = 0
    active: int = 0
    idle: int = 0


POOLS = (
    "database",
    "user",
    "mode",
    "clients",
    "waiting",
    "oldest",
    "in use",
    "idle",
    "trans/s",
    "p50",
    "p95",
    "p99",
    "wait p95",
)
HOLDERS = (
    "client",
    "database",
    "user",
    "application",
    "why",
    "transaction",
    "holding",
    "address",
    "backend",
    "statement",
)
CLIENTS = ("id", "database", "user", "application", "state", "address", "for", "server", "connected")
SERVERS = (
    "server",
    "database",
    "user",
    "state",
    "address",
    "backend",
    "for",
    "client",
    "application",
    "connected",
)


def duration(us: float) -> str:
    """Microseconds for people."""
    if us <= 0:
        return ""
    if us < 1000:
        return f"{us:.0f} us"
    if us < 1e6:
        return f"{us / 1e3:.1f} ms" if us < 1e4 else f"{us / 1e3:.0f} ms"
    if us < 1e8:
        return f"{us / 1e6:.1f} s"
    return f"{us / 6e7:.0f} min"


def number(row: Row, name: str) -> int:
    """A column that may be missing or NULL."""
    return int(row.get(name) or 0)


def text(row: Row, name: str) -> str:
    """The same for a text."""
    return row.get(name) or ""


class Watch:
    """Looks again and again over one connection. `look` blocks; it raises OSError and ClientError."""

    def __init__(self, console: Connection) -> None:
        self._console = console
        self._counts: dict[Key, int] = {}
        self._when = 0.0

    def look(self, what: str) -> Figures:
        """The figures, with the rows of the table that is looked at (pools, holders, clients or servers)."""
        figures = Figures()
        state = {text(row, "key"): text(row, "value") for row in self._rows("STATE")}
        figures.state = "paused" if state.get("paused") == "yes" else "active"
        self._pools(figures)
        if what == "holders":
            figures.holders = [_holder(row) for row in self._rows("LONGEST")]
        elif what == "clients":
            figures.clients = [_client(row) for row in self._rows("CLIENTS")]
        elif what == "servers":
            figures.servers = [_server(row) for row in self._rows("SERVERS")]
        return figures

    def _rows(self, name: str) -> list[dict[str, str | None]]:
        """Rows of a SHOW; none when this pooler does not know it."""
        try:
            return self._console.rows(f"SHOW {name}")
        except QueryError:
            return []

    def _pools(self, figures: Figures) -> None:
        times: dict[tuple[str, str, str], Row] = {
            (text(row, "database"), text(row, "user"), text(row, "time")): row
            for row in self._rows("STATS_PERCENTILES")
        }
        before, self._counts = self._counts, {}
        now = time.monotonic()
        seconds, self._when = now - self._when, now
        for row in self._rows("POOLS"):
            key = (text(row, "database"), text(row, "user"))
            if key[0] == "pgbouncer":
                continue
            query, wait, xact = ({**times.get((*key, kind), {})} for kind in ("query", "wait", "xact"))
            self._counts[key] = number(xact, "total_count")
            rate = max(0, self._counts[key] - before.get(key, self._counts[key])) / seconds
            figures.transactions += rate
            figures.waiting += number(row, "cl_waiting")
            figures.active += number(row, "sv_active")
            figures.idle += number(row, "sv_idle")
            oldest = number(row, "maxwait") * 1e6 + number(row, "maxwait_us")
            figures.pools.append(
                [
                    *key,
                    text(row, "pool_mode"),
                    str(number(row, "cl_active") + number(row, "cl_waiting")),
                    str(number(row, "cl_waiting") or ""),
                    duration(oldest),
                    str(number(row, "sv_active")),
                    str(number(row, "sv_idle")),
                    f"{rate:.0f}" if rate >= 10 else f"{rate:.1f}",
                    *(duration(number(query, share)) for share in ("p50", "p95", "p99")),
                    duration(number(wait, "p95")),
                ]
            )


def _holder(row: Row) -> list[str]:
    pins = text(row, "pins")
    return [
        text(row, "client"),
        text(row, "database"),
        text(row, "user"),
        text(row, "application_name"),
        text(row, "state") + (f" ({pins})" if pins else ""),
        duration(number(row, "xact_us")),
        duration(number(row, "held") * 1e6 + number(row, "held_us")),
        f"{text(row, 'addr')}:{text(row, 'port')}",
        text(row, "remote_pid"),
        text(row, "statement"),
    ]


def _since(row: Row) -> str:
    return duration(number(row, "wait") * 1e6 + number(row, "wait_us"))


def _client(row: Row) -> list[str]:
    return [
        text(row, "id") or text(row, "ptr"),
        *(text(row, name) for name in ("database", "user", "application_name", "state")),
        f"{text(row, 'addr')}:{text(row, 'port')}",
        _since(row),
        text(row, "link"),
        text(row, "connect_time"),
    ]


def _server(row: Row) -> list[str]:
    return [
        *(text(row, name) for name in ("ptr", "database", "user", "state")),
        f"{text(row, 'addr')}:{text(row, 'port')}",
        text(row, "remote_pid"),
        _since(row),
        *(text(row, name) for name in ("link", "application_name", "connect_time")),
    ]
