"""The metrics pushed to an OpenTelemetry collector (OTLP over HTTP): the same figures that a scrape gets."""

from __future__ import annotations

import asyncio
import logging
import socket
import threading
import time
from collections.abc import Iterable

from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
    Gauge,
    Histogram,
    HistogramDataPoint,
    Metric,
    MetricExportResult,
    MetricsData,
    NumberDataPoint,
    ResourceMetrics,
    ScopeMetrics,
    Sum,
)
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from prometheus_client.core import Metric as Family

from pgferry import __version__
from pgferry.observe.metrics import Metrics
from pgferry.supervisor.log import Log

_SEND_SECONDS = 5.0
_TOTAL = AggregationTemporality.CUMULATIVE


class Pusher:
    """Sends all figures every `interval` seconds. A collector that is away costs a line in the log, not more."""

    def __init__(self, metrics: Metrics, log: Log, endpoint: str, interval: float) -> None:
        self._metrics = metrics
        self._log = log
        self._endpoint = endpoint
        self._interval = interval
        self._started = time.time_ns()
        self._failing = False
        # What that package has to say is said below, in our log.
        logging.getLogger("opentelemetry").addHandler(logging.NullHandler())
        logging.getLogger("opentelemetry").propagate = False
        self._exporter = OTLPMetricExporter(endpoint=endpoint, timeout=_SEND_SECONDS)
        self._resource = Resource.create(
            {"service.name": "pgferry", "service.version": __version__, "host.name": socket.gethostname()}
        )

    async def run(self) -> None:
        """Push until cancelled."""
        self._log.log(f"metrics are sent to {self._endpoint} every {self._interval:g} s")
        while True:
            families = await self._metrics.families()
            worked = await self._send(families)
            if not worked and not self._failing:
                self._log.warning(f"metrics cannot be sent to {self._endpoint}")
            elif worked and self._failing:
                self._log.log(f"metrics are sent to {self._endpoint} again")
            self._failing = not worked
            await asyncio.sleep(self._interval)

    async def _send(self, families: list[Family]) -> bool:
        """In a thread that nobody waits for at the end of the process."""
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[bool] = loop.create_future()

        def done(worked: bool) -> None:
            if not answer.done():
                answer.set_result(worked)

        def send() -> None:
            try:
                worked = self._exporter.export(self._data(families)) is MetricExportResult.SUCCESS
            except (OSError, RuntimeError, ValueError):
                worked = False
            if not loop.is_closed():
                loop.call_soon_threadsafe(done, worked)

        threading.Thread(target=send, name="otlp", daemon=True).start()
        return await answer

    def _data(self, families: Iterable[Family]) -> MetricsData:
        now = time.time_ns()
        made = [metric for family in families if (metric := self._metric(family, now)) is not None]
        scope = ScopeMetrics(InstrumentationScope("pgferry", __version__), made, "")
        return MetricsData([ResourceMetrics(self._resource, [scope], "")])

    def _metric(self, family: Family, now: int) -> Metric | None:
        data: Sum | Gauge | Histogram
        if family.type == "histogram":
            data = Histogram(self._histograms(family, now), _TOTAL)
        else:
            points = [
                NumberDataPoint(dict(sample.labels), self._started, now, float(sample.value))
                for sample in family.samples
            ]
            data = Sum(points, _TOTAL, True) if family.type == "counter" else Gauge(points)
        if not data.data_points:
            return None
        unit = "s" if "seconds" in family.name else "By" if "bytes" in family.name else "1"
        return Metric(family.name, family.documentation, unit, data)

    def _histograms(self, family: Family, now: int) -> list[HistogramDataPoint]:
        """Prometheus counts from the bottom up to each bound, OTLP between the bounds."""
        labels: dict[tuple[tuple[str, str], ...], dict[str, str]] = {}
        totals: dict[tuple[tuple[str, str], ...], list[tuple[float, int]]] = {}
        sums: dict[tuple[tuple[str, str], ...], float] = {}
        for sample in family.samples:
            own = {name: value for name, value in sample.labels.items() if name != "le"}
            key = tuple(sorted(own.items()))
            labels[key] = own
            if sample.name.endswith("_bucket"):
                totals.setdefault(key, []).append((float(sample.labels["le"]), int(sample.value)))
            elif sample.name.endswith("_sum"):
                sums[key] = float(sample.value)
        result = []
        for key, buckets in totals.items():
            buckets.sort()
            counts = [
                n - before for (_, n), before in zip(buckets, [0, *(n for _, n in buckets)], strict=False)
            ]
            bounds = [bound for bound, _ in buckets[:-1]]
            point = HistogramDataPoint(
                labels[key], self._started, now, buckets[-1][1], sums.get(key, 0.0), counts, bounds, 0.0, 0.0
            )
            result.append(point)
        return result
