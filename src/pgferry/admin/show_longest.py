"""SHOW LONGEST and CLOSES: who holds a server and why, the longest first; why connections ended."""

from collections.abc import Sequence

from pgferry.admin.context import Context, Show
from pgferry.admin.result import Type, Value, columns

_LONGEST = (
    *columns(Type.TEXT, "database user client server state pins"),
    *columns(Type.INT4, "held held_us"),
    *columns(Type.INT8, "xact_us query_us"),
    *columns(Type.INT4, "slow"),
    *columns(Type.TEXT, "addr"),
    *columns(Type.INT4, "port remote_pid"),
    *columns(Type.TEXT, "application_name statement"),
)
_CLOSES = (*columns(Type.TEXT, "kind reason"), *columns(Type.INT8, "count"))


async def _longest(context: Context) -> list[Sequence[Value]]:
    rows = sorted(await context.pooler.show("longest"), key=lambda row: -int(row["held_us"]))
    result: list[Sequence[Value]] = []
    for row in rows:
        held = int(row["held_us"])
        limit = float(row["threshold"]) * 1e6
        cells = {
            **row,
            "held": held // 1_000_000,
            "held_us": held % 1_000_000,
            "slow": int(0 < limit < int(row["xact_us"])),
        }
        result.append([cells[column.name] for column in _LONGEST])
    return result


async def _closes(context: Context) -> list[Sequence[Value]]:
    await context.pooler.refresh_close_reasons()
    return [(kind, reason, count) for (kind, reason), count in context.pooler.close_reasons.totals().items()]


SHOWS = {"LONGEST": Show(_LONGEST, _longest), "CLOSES": Show(_CLOSES, _closes)}
