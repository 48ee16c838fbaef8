"""The table of all settings: the one source for parsing, checking, SHOW CONFIG, SET and docs/settings.md."""

from __future__ import annotations

from pgferry.config.kinds import Value
from pgferry.config.setting import Setting
from pgferry.config.table_access import DNS, LOGIN, TLS
from pgferry.config.table_entries import DATABASE, PEER, USER
from pgferry.config.table_observe import OBSERVE
from pgferry.config.table_pooling import POOL, PROTOCOL, TIMEOUTS, UPKEEP
from pgferry.config.table_process import LISTEN, PROCESS
from pgferry.config.table_state import STATE

GLOBAL: tuple[Setting, ...] = (
    PROCESS + LISTEN + OBSERVE + POOL + UPKEEP + TIMEOUTS + STATE + PROTOCOL + LOGIN + DNS + TLS
)

settings_by_name: dict[str, Setting] = {setting.name: setting for setting in GLOBAL}


def by_key(table: tuple[Setting, ...]) -> dict[str, Setting]:
    """Return the settings of a table by every key that a file may use for them, aliases included."""
    keys = {setting.name: setting for setting in table}
    for setting in table:
        keys.update(dict.fromkeys(setting.aliases, setting))
    return keys


def format_value(setting: Setting, value: Value) -> str | None:
    """Return `value` as SHOW CONFIG prints it: times with %g, on/off as 1/0, None for unset."""
    return None if value is None else setting.kind.show(value)


__all__ = [
    "DATABASE",
    "GLOBAL",
    "PEER",
    "USER",
    "Setting",
    "by_key",
    "format_value",
    "settings_by_name",
]
