"""SHOW PINS, CLIENT_STATE and STATE_COUNTERS: what clients keep between transactions, and what it costs."""

from collections.abc import Sequence

from pgferry.admin.context import Context, Show, ShowOne
from pgferry.admin.grammar import client_number
from pgferry.admin.result import Type, Value, columns

_PINS = (
    *columns(Type.TEXT, "database user client server reasons"),
    *columns(Type.INT4, "age age_us"),
    *columns(Type.INT8, "transactions"),
    *columns(Type.TEXT, "application_name"),
)
_CLIENT_STATE = columns(Type.TEXT, "kind name value source")
_COUNTERS = (*columns(Type.TEXT, "database user counter reason"), *columns(Type.INT8, "count"))
# What moves first, then what holds a server, then what RESET goes back to; kinds unknown here come last.
_KINDS = ("role", "setting", "prepared", "listen", "pin", "start")


async def _pins(context: Context) -> list[Sequence[Value]]:
    rows = sorted(await context.pooler.show("pins"), key=lambda row: -int(row["age_us"]))
    result: list[Sequence[Value]] = []
    for row in rows:
        age = int(row["age_us"])
        cells = {**row, "age": age // 1_000_000, "age_us": age % 1_000_000}
        result.append([cells[column.name] for column in _PINS])
    return result


async def _client_state(context: Context, client: str) -> list[Sequence[Value]]:
    """Names for everybody; values and texts for admins, as far as statement_text_length allows texts to be shown."""
    rows = await context.pooler.client_state(client_number(client))
    rows.sort(key=lambda row: (_place(row["kind"]), row["kind"], row["name"]))
    length = context.pooler.config.settings.statement_text_length if context.admin else 0
    for row in rows:
        value = row.get("value")
        # By characters, which is no more than by bytes; hidden is not the same as empty.
        row["value"] = value[:length] if length and value is not None else None
    return [[row.get(column.name) for column in _CLIENT_STATE] for row in rows]


def _place(kind: str) -> int:
    return _KINDS.index(kind) if kind in _KINDS else len(_KINDS)


async def _state_counters(context: Context) -> list[Sequence[Value]]:
    await context.pooler.refresh_state_counters()
    return [[row[column.name] for column in _COUNTERS] for row in context.pooler.state_counters.rows()]


SHOWS: dict[str, Show | ShowOne] = {
    "PINS": Show(_PINS, _pins),
    "CLIENT_STATE": ShowOne(_CLIENT_STATE, _client_state, "id", "the id of a client"),
    "STATE_COUNTERS": Show(_COUNTERS, _state_counters),
}
