"""SHOW POOLS, DATABASES, USERS, LISTS, PEERS and PEER_POOLS."""

from collections.abc import Mapping, Sequence
from typing import Any

from pgferry.admin.context import Context, Show
from pgferry.admin.result import Column, Type, Value, columns
from pgferry.config import effective
from pgferry.supervisor import merge, overview

_POOLS = (
    *columns(Type.TEXT, "database user"),
    *columns(Type.INT4, "cl_active cl_waiting cl_active_cancel_req cl_waiting_cancel_req"),
    *columns(Type.INT4, "sv_active sv_active_cancel sv_being_canceled sv_idle sv_used sv_tested sv_login"),
    *columns(Type.INT4, "maxwait maxwait_us"),
    *columns(Type.TEXT, "pool_mode load_balance_hosts"),
)
_DATABASES = (
    *columns(Type.TEXT, "name host"),
    *columns(Type.INT4, "port"),
    *columns(Type.TEXT, "database force_user"),
    *columns(Type.INT4, "pool_size min_pool_size reserve_pool_size server_lifetime"),
    *columns(Type.TEXT, "pool_mode load_balance_hosts"),
    *columns(Type.INT4, "max_connections current_connections max_client_connections"),
    *columns(Type.INT4, "current_client_connections paused disabled"),
)
_USERS = (
    *columns(Type.TEXT, "name pool_size reserve_pool_size pool_mode"),
    *columns(Type.INT4, "max_user_connections current_connections"),
    *columns(Type.INT4, "max_user_client_connections current_client_connections"),
)
_LISTS = (Column("list", Type.TEXT), Column("items", Type.INT4))
_PEERS = (
    *columns(Type.INT4, "peer_id"),
    *columns(Type.TEXT, "host"),
    *columns(Type.INT4, "port pool_size"),
)
_PEER_POOLS = columns(
    Type.INT4, "peer_id cl_active_cancel_req cl_waiting_cancel_req sv_active_cancel sv_login"
)


def _cells(row: Mapping[str, Any], described: Sequence[Column]) -> list[Value]:
    cells: list[Value] = []
    for column in described:
        value = row.get(column.name)
        cells.append(int(value or 0) if column.type is Type.INT4 else value)
    return cells


async def _pools(context: Context) -> list[Sequence[Value]]:
    return [_cells(row, _POOLS) for row in await overview.pools(context.pooler)]


async def _databases(context: Context) -> list[Sequence[Value]]:
    return [_cells(row, _DATABASES) for row in await overview.databases(context.pooler)]


async def _users(context: Context) -> list[Sequence[Value]]:
    result: list[Sequence[Value]] = []
    for row in await overview.users(context.pooler):
        sizes = {name: _size_text(row.get(name)) for name in ("pool_size", "reserve_pool_size")}
        result.append(_cells({**row, **sizes}, _USERS))
    return result


def _size_text(value: int | None) -> str:
    return "" if value is None else f"{value:9d}"


async def _lists(context: Context) -> list[Sequence[Value]]:
    return list((await overview.lists(context.pooler)).items())


async def _peers(context: Context) -> list[Sequence[Value]]:
    config = context.pooler.config
    return [
        (peer.id, peer.host, peer.port, effective.peer_pool_size(config, peer))
        for _id, peer in sorted(config.peers.items())
    ]


async def _peer_pools(context: Context) -> list[Sequence[Value]]:
    rows = merge.peer_pools(await context.pooler.show("peer_pools"))
    return [_cells(row, _PEER_POOLS) for row in rows]


SHOWS = {
    "POOLS": Show(_POOLS, _pools),
    "DATABASES": Show(_DATABASES, _databases),
    "USERS": Show(_USERS, _users),
    "LISTS": Show(_LISTS, _lists),
    "PEERS": Show(_PEERS, _peers),
    "PEER_POOLS": Show(_PEER_POOLS, _peer_pools),
}
