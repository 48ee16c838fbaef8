"""The rows of SHOW CONFIG."""

from __future__ import annotations

from pgferry.config.model import Config
from pgferry.config.settings import GLOBAL, format_value


def show_config_rows(config: Config) -> list[tuple[str, str | None, str | None, str]]:
    """Return (key, value, default, changeable yes/no) of every global setting in alphabetical order.

    None stands for NULL: not set. The default is the text as it would stand in a file.
    """
    rows = []
    for setting in sorted(GLOBAL, key=lambda setting: setting.name):
        value = format_value(setting, getattr(config.settings, setting.attribute))
        rows.append((setting.name, value, setting.default, "yes" if setting.reload else "no"))
    return rows
