"""SHOW CLIENTS, SERVERS, SOCKETS and ACTIVE_SOCKETS."""

import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from pgferry.admin.context import Context, Show
from pgferry.admin.result import Type, Value, columns

_CONNECTION = (
    *columns(Type.TEXT, "type user database replication state addr"),
    *columns(Type.INT4, "port"),
    *columns(Type.TEXT, "local_addr"),
    *columns(Type.INT4, "local_port"),
    *columns(Type.TEXT, "connect_time request_time"),
    *columns(Type.INT4, "wait wait_us close_needed"),
    *columns(Type.TEXT, "ptr link"),
    *columns(Type.INT4, "remote_pid"),
    *columns(Type.TEXT, "tls application_name"),
    *columns(Type.INT4, "prepared_statements id"),
)
_BUFFERS = columns(Type.INT4, "recv_pos pkt_pos pkt_remain send_pos send_remain pkt_avail send_avail")
_SOCKET = _CONNECTION + _BUFFERS


def time_text(when: float) -> str:
    """Local time as `YYYY-MM-DD HH:MM:SS TZ`; empty for 0 (never)."""
    return time.strftime("%Y-%m-%d %H:%M:%S %Z", time.localtime(when)) if when else ""


def connection_row(row: dict[str, Any], state: str) -> list[Value]:
    """The 21 columns that all four results have; `state` names the key whose word is shown."""
    wait = int(row.get("wait_us") or 0)
    cells: dict[str, Value] = {
        **row,
        "state": row[state],
        "connect_time": time_text(row.get("connect_time") or 0),
        "request_time": time_text(row.get("request_time") or 0),
        "wait": wait // 1_000_000,
        "wait_us": wait % 1_000_000,
    }
    return [_cell(cells.get(column.name), column.type) for column in _CONNECTION]


def _cell(value: Value, kind: Type) -> Value:
    if value is None:
        return "" if kind is Type.TEXT else 0
    return int(value) if kind is Type.INT4 else value


def _connections(what: str) -> Callable[[Context], Awaitable[list[Sequence[Value]]]]:
    async def rows(context: Context) -> list[Sequence[Value]]:
        return [connection_row(row, "state") for row in await context.pooler.show(what)]

    return rows


def _sockets(*, active: bool) -> Callable[[Context], Awaitable[list[Sequence[Value]]]]:
    async def rows(context: Context) -> list[Sequence[Value]]:
        return [
            [*connection_row(row, "sock_state"), *(int(row.get(column.name) or 0) for column in _BUFFERS)]
            for row in await context.pooler.show("sockets")
            if not active or row.get("pkt_avail") or row.get("send_avail")
        ]

    return rows


SHOWS = {
    "CLIENTS": Show(_CONNECTION, _connections("clients")),
    "SERVERS": Show(_CONNECTION, _connections("servers")),
    "SOCKETS": Show(_SOCKET, _sockets(active=False)),
    "ACTIVE_SOCKETS": Show(_SOCKET, _sockets(active=True)),
}
