"""The metrics of a scrape: asks the workers once, makes the families, writes them in the format asked for."""

from __future__ import annotations

import asyncio
import os
import time

from prometheus_client.core import GaugeMetricFamily, Metric

from pgferry.observe import exporter, exposition, own
from pgferry.observe.process import Usage, usage
from pgferry.supervisor import overview
from pgferry.supervisor.errors import CommandError
from pgferry.supervisor.pooler import Pooler

_FRESH_SECONDS = 1.0
"""Scrapes that come so soon after each other get the same figures."""


def process_usage(pooler: Pooler) -> dict[str, Usage]:
    """Usage of the supervisor and of each worker, by name."""
    pids = {"supervisor": os.getpid()}
    for worker in pooler.fleet.workers:
        if worker is not None and worker.process.poll() is None:
            pids[f"worker-{worker.index}"] = worker.process.pid
    found = {name: usage(pid) for name, pid in pids.items()}
    return {name: used for name, used in found.items() if used is not None}


class Metrics:
    """Makes expositions; several scrapes at the same time share one round of questions and one text."""

    def __init__(self, pooler: Pooler) -> None:
        self._pooler = pooler
        self._lock = asyncio.Lock()
        self._writing = asyncio.Lock()
        self._written: list[Metric] = []
        self._texts: dict[str, bytes] = {}
        self._families: list[Metric] = []
        self._made = -_FRESH_SECONDS

    async def families(self) -> list[Metric]:
        """All figures, at most a second old."""
        async with self._lock:
            if time.monotonic() - self._made >= _FRESH_SECONDS:
                self._families = await self._collect()
                self._made = time.monotonic()
            return self._families

    async def exposition(self, accept: str) -> tuple[bytes, str]:
        """(text, content type) for the Accept header of a scraper."""
        families = await self.families()
        write, content_type = exposition.writer(accept)
        async with self._writing:
            if self._written is not families:
                self._written, self._texts = families, {}
            if content_type not in self._texts:
                # With thousands of pools this takes a while, in which the supervisor has other things to do.
                self._texts[content_type] = await asyncio.to_thread(write, families)
            return self._texts[content_type], content_type

    async def _collect(self) -> list[Metric]:
        try:
            return await self._ask()
        except CommandError as error:
            self._pooler.log.warning(f"metrics: {error.message}")
            return [GaugeMetricFamily("pgbouncer_up", "Whether the figures could be had", value=0)]

    async def _ask(self) -> list[Metric]:
        pooler = self._pooler
        databases = await overview.databases(pooler)
        pools = await overview.pools(pooler)
        lists = await overview.lists(pooler)
        pins = await pooler.show("pins")
        await pooler.refresh_stats()
        await pooler.refresh_times()
        await pooler.refresh_close_reasons()
        await pooler.refresh_state_counters()
        workers = await pooler.show("worker")
        longest = await pooler.show("longest")
        used = await asyncio.to_thread(process_usage, pooler)

        def families() -> list[Metric]:
            state = pooler.state
            return [
                *exporter.databases(databases),
                *exporter.pools(pools),
                *exporter.stats(pooler.stats.databases()),
                *exporter.lists(lists),
                *exporter.config(pooler.config.settings),
                *own.durations(pooler.times.pools()),
                *own.session_state(pooler.state_counters.rows(), pins),
                *own.holders(longest),
                *own.close_reasons(pooler.close_reasons.totals()),
                *own.state(state.paused, state.shutdown is not None, len(workers), pooler.fleet.restarts),
                *own.processes(used),
                *own.workers(workers),
            ]

        return await asyncio.to_thread(families)
