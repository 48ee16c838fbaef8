"""The rows of SHOW CONFIG."""

from __future__ import annotations

import re

from pgferry.config.model import Config
from pgferry.config.settings import GLOBAL, format_value

_SECRET = re.compile(r'(ldapbindpasswd\s*=\s*)(?:"(?:[^"]|"")*"?|[^\s,"]*)')


def show_config_rows(config: Config) -> list[tuple[str, str | None, str | None, str]]:
    """Return (key, value, default, changeable yes/no) of every global setting in alphabetical order.

    None stands for NULL: not set; a password is hidden. The default is the text as it would stand in a file.
    """
    rows = []
    for setting in sorted(GLOBAL, key=lambda setting: setting.name):
        value = format_value(setting, getattr(config.settings, setting.attribute))
        if value is not None and setting.name == "auth_ldap_options":
            value = _SECRET.sub(r"\1<hidden>", value)
        rows.append((setting.name, value, setting.default, "yes" if setting.reload else "no"))
    return rows
