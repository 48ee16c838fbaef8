"""pgferry's own metrics: durations, pins, session state, ends of connections, workers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import accumulate
from typing import Any

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from pgferry import __version__
from pgferry.observe.exposition import Histograms
from pgferry.observe.process import Usage
from pgferry.supervisor.times import Histogram, Key, Times

Row = Mapping[str, Any]

_POOL = ("database", "user")
_KINDS = {
    "query": ("query_duration_seconds", "Time from a query to the end of its answer"),
    "xact": ("transaction_duration_seconds", "Time from the first query of a transaction to its end"),
    "wait": ("wait_duration_seconds", "Time that a client waited for a server; one for each assignment"),
    "connect": ("server_connect_duration_seconds", "Time until a new server connection was logged in"),
}
# A bound in front of each octave from 64 us to 67 s: bucket 8 * (k - 2) begins at 2**k us.
_BOUNDS = [(8 * (k - 2), f"{2.0**k / 1e6:.6f}".rstrip("0")) for k in range(6, 27)]
_STATE = {
    "probes": "Questions to PostgreSQL what a session holds",
    "restores": "Transactions in front of which session state was restored",
    "replay_failures": "Restores that PostgreSQL refused",
    "replays_elsewhere": "Restores that failed on one server and were done on another",
    "refusals": "Statements refused because of session state",
    "scrubs": "Servers cleaned after a client with session state",
    "losses": "Clients closed because their session state went with its server",
    "holds": "Transactions after which a server was kept until the catalog was known",
    "catalog_failures": "Readings of the catalog that failed",
    "pins_refused": "Clients closed because of max_pinned",
}


def _buckets(histogram: Histogram) -> list[tuple[str, float]]:
    below = list(accumulate(histogram.counts, initial=0))
    low, most = histogram.low, len(histogram.counts)
    found = [(text, float(below[min(max(bucket - low, 0), most)])) for bucket, text in _BOUNDS]
    return [*found, ("+Inf", float(below[-1]))]


def durations(pools: Mapping[Key, Times]) -> Iterable[Metric]:
    """A histogram for each pool and kind; a pool that has not been used yet is left out."""
    for kind, (name, text) in _KINDS.items():
        family = Histograms(f"pgferry_{name}", text, _POOL)
        for key, times in pools.items():
            if times[kind].counts:
                family.add(key, _buckets(times[kind]), times[kind].seconds)
        yield family


def session_state(counters: Sequence[Row], pins: Sequence[Row]) -> Iterable[Metric]:
    """What keeping session state costs, and which servers it holds."""
    made = CounterMetricFamily("pgferry_pins", "Servers that became pinned", labels=(*_POOL, "reason"))
    sums: Counter[tuple[str, str, str]] = Counter()
    for row in counters:
        if row["counter"] == "pins":
            made.add_metric([row["database"], row["user"], row["reason"]], row["count"])
        else:
            sums[row["counter"], row["database"], row["user"]] += row["count"]
    yield made
    for counter, text in _STATE.items():
        family = CounterMetricFamily(f"pgferry_state_{counter}", text, labels=_POOL)
        for (name, database, user), count in sorted(sums.items()):
            if name == counter:
                family.add_metric([database, user], count)
        yield family
    now: Counter[tuple[str, str, str]] = Counter()
    for row in pins:
        for reason in filter(None, str(row["reasons"]).split(", ")):
            now[row["database"], row["user"], reason] += 1
    pinned = GaugeMetricFamily("pgferry_pinned_servers", "Servers pinned now", labels=(*_POOL, "reason"))
    for key, count in sorted(now.items()):
        pinned.add_metric(key, count)
    yield pinned


def holders(rows: Sequence[Row]) -> Iterable[Metric]:
    """Who holds a server: what an alert on leaked transactions needs."""
    oldest: dict[Key, float] = {}
    idle: Counter[Key] = Counter()
    for row in rows:
        key = (str(row["database"]), str(row["user"]))
        oldest[key] = max(oldest.get(key, 0.0), row["xact_us"] / 1e6)
        idle[key] += str(row["state"]).startswith("idle in transaction")
    longest = GaugeMetricFamily(
        "pgferry_longest_transaction_seconds", "Age of the oldest open transaction", labels=_POOL
    )
    sitting = GaugeMetricFamily(
        "pgferry_idle_in_transaction", "Servers held by a client that is idle in a transaction", labels=_POOL
    )
    for key in sorted(oldest):
        longest.add_metric(key, oldest[key])
        sitting.add_metric(key, idle[key])
    yield longest
    yield sitting


def close_reasons(totals: Mapping[tuple[str, str], int]) -> Iterable[Metric]:
    """Why connections ended."""
    family = CounterMetricFamily(
        "pgferry_connections_closed",
        "Ended connections: refused (a client before its login was over), client, server; by reason",
        labels=("kind", "reason"),
    )
    for key, count in totals.items():
        family.add_metric(key, count)
    yield family


def state(paused: bool, shutdown: bool, workers: int, restarts: int) -> Iterable[Metric]:
    """The pooler as a whole."""
    info = GaugeMetricFamily("pgferry_info", "The version of pgferry", labels=("version",))
    info.add_metric([__version__], 1)
    yield info
    yield GaugeMetricFamily("pgferry_paused", "1 while everything is paused", value=int(paused))
    yield GaugeMetricFamily("pgferry_shutting_down", "1 while a shutdown waits", value=int(shutdown))
    yield GaugeMetricFamily("pgferry_workers", "Worker processes that answer", value=workers)
    yield CounterMetricFamily("pgferry_worker_restarts", "Workers started after a death", value=restarts)


def processes(found: Mapping[str, Usage]) -> Iterable[Metric]:
    """Processor time, memory and descriptors of the supervisor and of each worker."""
    cpu = CounterMetricFamily("pgferry_process_cpu_seconds", "Processor time used", labels=("process",))
    memory = GaugeMetricFamily("pgferry_process_resident_memory_bytes", "Memory in use", labels=("process",))
    files = GaugeMetricFamily("pgferry_process_open_fds", "Open file descriptors", labels=("process",))
    for name, usage in sorted(found.items()):
        cpu.add_metric([name], usage.cpu_seconds)
        memory.add_metric([name], usage.resident_bytes)
        files.add_metric([name], usage.descriptors)
    return [cpu, memory, files]


def workers(rows: Sequence[Row]) -> Iterable[Metric]:
    """What each worker tells about itself."""
    lag = Histograms("pgferry_event_loop_lag_seconds", "By how much the event loop was late", ("worker",))
    gauges = {
        "clients": GaugeMetricFamily("pgferry_worker_clients", "Clients of the worker", labels=("worker",)),
        "statements": GaugeMetricFamily(
            "pgferry_prepared_statements", "Different prepared statements known", labels=("worker",)
        ),
        "buffered": GaugeMetricFamily(
            "pgferry_buffered_bytes", "Bytes of buffers of connections", labels=("worker",)
        ),
    }
    turns = CounterMetricFamily("pgferry_event_loop_turns", "Turns of the event loop", labels=("worker",))
    for row in sorted(rows, key=lambda row: int(row["worker"])):
        name = str(row["worker"])
        histogram = Histogram.unpack(row["lag"])
        lag.add([name], _buckets(histogram), float(row["lag_seconds"]))
        turns.add_metric([name], row["turns"])
        for column, family in gauges.items():
            family.add_metric([name], row[column])
    return [lag, turns, *gauges.values()]
