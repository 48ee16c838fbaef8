"""The pooler's present state as figures: what the dashboard shows, what the history is made of."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from typing import Any

from pgferry import __version__
from pgferry.observe import causes
from pgferry.observe.history import STEP, TOTAL, History
from pgferry.observe.metrics import process_usage
from pgferry.observe.process import Usage
from pgferry.supervisor import overview
from pgferry.supervisor.errors import CommandError
from pgferry.supervisor.pooler import Pooler
from pgferry.supervisor.times import Histogram, Key, Times

_WINDOW = 6
"""Samples over which percentiles are taken: 30 s."""
_REST = 9.0
"""Idle for so many times as long as a sample took: thousands of pools get fewer samples."""
_LONGEST = 20
_SHARES = {"p50": 0.5, "p95": 0.95, "p99": 0.99}
_HARMLESS_ENDS = {
    ("refused", "client unexpected eof"),
    ("refused", "client close request"),
}
_SERVER_TROUBLE = (
    "connect failed",
    "login failed",
    "server login failed",
    "server conn crashed?",
    "connect timeout",
)

Row = dict[str, Any]


class Sampler:
    """Takes a sample every STEP seconds. `fresh` is set, and a new one made, whenever there is a new sample."""

    def __init__(self, pooler: Pooler) -> None:
        self._pooler = pooler
        self._events = pooler.events
        self._started = time.time()
        self.history = History()
        self.fresh = asyncio.Event()
        self.now: Row = {}
        """The newest sample."""
        self._window: deque[tuple[float, dict[Key, Times]]] = deque(maxlen=_WINDOW + 1)
        self._ends: dict[tuple[str, str], int] = {}
        self._logins: causes.Counts | None = None
        self._usage: tuple[float, dict[str, Usage]] = (0.0, {})

    async def run(self) -> None:
        """Sample until cancelled."""
        while True:
            started = time.monotonic()
            try:
                if self._pooler.config.settings.dashboard:
                    await self.sample()
            except CommandError as error:
                self._pooler.log.warning(f"dashboard: {error.message}")
            took = time.monotonic() - started
            await asyncio.sleep(max(STEP - took, _REST * took))

    async def sample(self) -> None:
        """Ask the workers and publish what they say. Raises CommandError."""
        pooler = self._pooler
        pools = [row for row in await overview.pools(pooler) if row["database"] != overview.CONSOLE]
        sizes = {str(row["name"]): row for row in await overview.databases(pooler)}
        await pooler.refresh_times()
        await pooler.refresh_close_reasons()
        longest = await pooler.show("longest")
        workers = await pooler.show("worker")
        used = await asyncio.to_thread(process_usage, pooler)
        await pooler.refresh_stats()
        self._look_at_logins(causes.logins(pooler.stats.databases()))
        if self._look_at_close_reasons():
            self._look_at_client_counts(await pooler.show("client_counts"))

        def compute() -> dict[Key, dict[str, float]]:
            self._window.append((time.monotonic(), pooler.times.pools()))
            return self._figures(pools)

        # With thousands of pools this takes a while, in which the supervisor has other things to do.
        figures = await asyncio.to_thread(compute)
        self.history.add(time.time(), figures)
        self.now = {
            "time": time.time(),
            "started": self._started,
            "version": __version__,
            "state": self._state(),
            "total": dict(figures[TOTAL]),
            "pools": [self._pool(row, sizes.get(row["database"], {}), figures) for row in pools],
            "longest": _longest(longest),
            "workers": self._workers(workers, used),
        }
        self._publish()

    async def after_command(self) -> None:
        """Publish what an operator's command has changed; figures stay those of the newest sample."""
        entries = {str(row["name"]): row for row in await overview.databases(self._pooler)}
        if not self.now:
            return
        self.now["state"] = self._state()
        for row in self.now["pools"]:
            entry = entries.get(row["database"], {})
            row.update({name: entry.get(name, 0) for name in ("paused", "disabled")})
        self._publish()

    def _publish(self) -> None:
        fresh, self.fresh = self.fresh, asyncio.Event()
        fresh.set()

    def _state(self) -> str:
        state = self._pooler.state
        if state.shutdown:
            return "shutting down"
        return "paused" if state.paused else "active"

    def _pool(self, row: Row, entry: Row, figures: dict[Key, dict[str, float]]) -> Row:
        wait = row["maxwait"] * 1_000_000 + row["maxwait_us"]
        others = ("sv_used", "sv_tested", "sv_login", "sv_being_canceled")
        return {
            "database": row["database"],
            "user": row["user"],
            "mode": row["pool_mode"],
            "size": entry.get("pool_size", 0),
            "paused": entry.get("paused", 0),
            "disabled": entry.get("disabled", 0),
            "maxwait": wait,
            "other": sum(row[name] for name in others),
            **figures[row["database"], row["user"]],
        }

    def _figures(self, pools: list[Row]) -> dict[Key, dict[str, float]]:
        """The fields of the history, by pool and of all."""
        result: dict[Key, dict[str, float]] = {}
        total: dict[str, float] = dict.fromkeys(("clients", "waiting", "active", "idle", "tps", "qps"), 0.0)
        everything = {kind: Histogram() for kind in ("query", "wait")}
        newest_at, newest = self._window[-1]
        before_at, before = self._window[-2] if len(self._window) > 1 else (newest_at, newest)
        seconds = newest_at - before_at
        for row in pools:
            key = (str(row["database"]), str(row["user"]))
            counts = {
                kind: newest[key][kind].since(before.get(key, {}).get(kind)).count if key in newest else 0
                for kind in ("xact", "query")
            }
            recent = {kind: self._recent(key, kind) for kind in everything}
            figures = {
                "clients": float(row["cl_active"] + row["cl_waiting"]),
                "waiting": float(row["cl_waiting"]),
                "active": float(row["sv_active"]),
                "idle": float(row["sv_idle"]),
                "tps": counts["xact"] / seconds if seconds else 0.0,
                "qps": counts["query"] / seconds if seconds else 0.0,
            }
            for name, value in figures.items():
                total[name] += value
            for kind, histogram in recent.items():
                everything[kind].add(histogram)
            result[key] = figures | _percentiles(recent)
        result[TOTAL] = total | _percentiles(everything)
        return result

    def _recent(self, key: Key, kind: str) -> Histogram:
        newest = self._window[-1][1].get(key)
        if newest is None:
            return Histogram()
        return newest[kind].since(
            self._window[0][1].get(key, {}).get(kind) if len(self._window) > 1 else None
        )

    def _look_at_close_reasons(self) -> bool:
        """Refusals, and servers that failed, become events. Whether clients were too many for others."""
        crowded = False
        totals = self._pooler.close_reasons.totals()
        before, self._ends = self._ends, totals
        for (kind, reason), count in totals.items():
            new = count - before.get((kind, reason), 0)
            if new <= 0 or (kind, reason) in _HARMLESS_ENDS:
                continue
            if kind == "refused":
                self._events.note(f"login refused: {reason}", "warning", new)
                crowded |= causes.is_client_limit(reason)
            elif kind == "server" and reason in _SERVER_TROUBLE:
                self._events.note(f"server connection failed: {reason}", "error", new)
        return crowded

    def _look_at_client_counts(self, clients: list[Row]) -> None:
        who, count, of = causes.most_clients(clients)
        self._events.note(f"no room for more clients: most are {who}", "warning")
        self._pooler.log.warning(f"no room for more clients: {count} of {of} are {who}")

    def _look_at_logins(self, counts: causes.Counts) -> None:
        before, self._logins = self._logins, counts
        for database, new in causes.storms(counts, counts if before is None else before).items():
            text = f"login storm: clients of {database} log in again and again"
            self._events.note(text, "warning", new)
            self._pooler.log.warning(f"{text}: {new} logins since the last look, for few transactions")

    def _workers(self, rows: list[Row], used: dict[str, Usage]) -> list[Row]:
        before_at, before = self._usage
        self._usage = (time.monotonic(), used)
        seconds = self._usage[0] - before_at
        found = {f"worker-{row['worker']}": row for row in rows}
        result = []
        for name, usage in sorted(used.items()):
            old = before.get(name)
            busy = (usage.cpu_seconds - old.cpu_seconds) / seconds if old is not None and seconds else 0.0
            lag = Histogram.unpack(found[name]["lag"]) if name in found else Histogram()
            result.append(
                {
                    "name": name,
                    "cpu": round(max(0.0, busy), 3),
                    "memory": usage.resident_bytes,
                    "fds": usage.descriptors,
                    "clients": found[name]["clients"] if name in found else None,
                    "lag99": lag.percentile(0.99),
                }
            )
        return result


def _percentiles(recent: dict[str, Histogram]) -> dict[str, float]:
    return {
        **{name: float(recent["query"].percentile(share)) for name, share in _SHARES.items()},
        "wait95": float(recent["wait"].percentile(0.95)),
    }


def _longest(rows: list[Row]) -> list[Row]:
    """Those who hold a server for longest; session mode between transactions and replication are not worth a line."""
    told = [row for row in rows if row["state"] not in ("session", "replication")]
    told.sort(key=lambda row: -max(row["xact_us"], row["held_us"] if row["pins"] else 0))
    return [{**row, "slow": int(0 < row["threshold"] * 1e6 < row["xact_us"])} for row in told[:_LONGEST]]
