"""Rows of several workers made into one: summed, joined or the greatest taken, as each column asks for."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

Row = dict[str, Any]

POOL_COUNTS = (
    "cl_active",
    "cl_waiting",
    "cl_active_cancel_req",
    "cl_waiting_cancel_req",
    "sv_active",
    "sv_active_cancel",
    "sv_being_canceled",
    "sv_idle",
    "sv_used",
    "sv_tested",
    "sv_login",
)
_ENTRY_COUNTS = ("current_connections", "current_client_connections")


def _merge(
    rows: Iterable[Row], key: Sequence[str], add: Sequence[str], greatest: Sequence[str] = ()
) -> list[Row]:
    merged: dict[tuple[Any, ...], Row] = {}
    for row in rows:
        name = tuple(row[part] for part in key)
        seen = merged.get(name)
        if seen is None:
            merged[name] = dict(row)
            continue
        for column in add:
            seen[column] = int(seen.get(column) or 0) + int(row.get(column) or 0)
        for column in greatest:
            seen[column] = max(seen.get(column) or 0, row.get(column) or 0)
    order: Callable[[tuple[Any, ...]], tuple[str, ...]] = lambda parts: tuple(str(p) for p in parts)  # noqa: E731
    return [merged[name] for name in sorted(merged, key=order)]


def pools(rows: Iterable[Row]) -> list[Row]:
    """One row for each (database, user): counts summed, the longest wait of all."""
    return _merge(rows, ("database", "user"), POOL_COUNTS, ("maxwait_us",))


def databases(rows: Iterable[Row]) -> list[Row]:
    """One row for each entry, connection counts summed; paused or disabled when any worker says so."""
    return _merge(rows, ("name",), _ENTRY_COUNTS, ("paused", "disabled"))


def users(rows: Iterable[Row]) -> list[Row]:
    """One row for each user, connection counts summed."""
    return _merge(rows, ("name",), _ENTRY_COUNTS)


def peer_pools(rows: Iterable[Row]) -> list[Row]:
    """One row for each peer: requests of all workers, in the order of their ids."""
    counts = ("cl_active_cancel_req", "cl_waiting_cancel_req", "sv_active_cancel", "sv_login")
    return sorted(_merge(rows, ("peer_id",), counts), key=lambda row: int(row["peer_id"]))


def memory(rows: Iterable[Row]) -> list[Row]:
    """One row for each kind of object in the order of the first worker."""
    merged: dict[str, Row] = {}
    for row in rows:
        seen = merged.setdefault(row["name"], {**row, "used": 0, "free": 0, "memtotal": 0})
        for column in ("used", "free", "memtotal"):
            seen[column] += int(row.get(column) or 0)
    return list(merged.values())


def totals(rows: Iterable[Mapping[str, Any]]) -> dict[str, int]:
    """All numbers of maps of counters summed by name."""
    result: dict[str, int] = {}
    for row in rows:
        for name, value in row.items():
            if isinstance(value, int):
                result[name] = result.get(name, 0) + value
    return result
