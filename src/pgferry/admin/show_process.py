"""SHOW CONFIG, VERSION, MEM, STATE, DNS_HOSTS and DNS_ZONES."""

from collections.abc import Sequence

from pgferry import VERSION
from pgferry.admin.context import Context, Show
from pgferry.admin.result import Column, Type, Value, columns
from pgferry.config.show import show_config_rows
from pgferry.supervisor import merge


async def _config(context: Context) -> list[Sequence[Value]]:
    return list(show_config_rows(context.pooler.config))


async def _version(_context: Context) -> list[Sequence[Value]]:
    return [(VERSION,)]


async def _mem(context: Context) -> list[Sequence[Value]]:
    rows = merge.memory(await context.pooler.show("mem"))
    return [(row["name"], row["size"], row["used"], row["free"], row["memtotal"]) for row in rows]


async def _state(context: Context) -> list[Sequence[Value]]:
    paused = context.pooler.state.paused
    return [("active", "no" if paused else "yes"), ("paused", "yes" if paused else "no"), ("suspended", "no")]


async def _dns_hosts(context: Context) -> list[Sequence[Value]]:
    return list(context.pooler.resolver.rows())


async def _dns_zones(context: Context) -> list[Sequence[Value]]:
    return list(context.pooler.resolver.zones())


SHOWS = {
    "CONFIG": Show(columns(Type.TEXT, "key value default changeable"), _config),
    "VERSION": Show(columns(Type.TEXT, "version"), _version),
    "MEM": Show((Column("name", Type.TEXT), *columns(Type.INT4, "size used free memtotal")), _mem),
    "STATE": Show(columns(Type.TEXT, "key value"), _state),
    "DNS_HOSTS": Show(
        (Column("hostname", Type.TEXT), Column("ttl", Type.INT8), Column("addrs", Type.TEXT)), _dns_hosts
    ),
    "DNS_ZONES": Show(
        (Column("zonename", Type.TEXT), Column("serial", Type.INT8), Column("count", Type.INT4)), _dns_zones
    ),
}
