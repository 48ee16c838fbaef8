"""A configuration from environment variables, as the common container images offer it, for `pgferry run --env`."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import quote

from pgferry.config.settings import GLOBAL

# Every environment has a USER; the others make no sense without a file.
_NOT_TAKEN = ("user", "conffile", "job_name")
_PARTS = ("DB_HOST", "DB_PORT", "DB_USER", "DB_PASSWORD", "DB_NAME")


def variables() -> dict[str, str]:
    """Setting by variable: POOL_MODE is pool_mode, and so on for every global setting that counts here."""
    return {s.name.upper(): s.name for s in GLOBAL if s.effective and s.name not in _NOT_TAKEN}


def overrides(environ: Mapping[str, str]) -> dict[str, str]:
    """The settings that the environment gives; an empty variable is one that is not set."""
    return {name: environ[variable] for variable, name in variables().items() if environ.get(variable)}


def url(environ: Mapping[str, str]) -> str:
    """DATABASE_URL, else a URL made of DB_HOST, DB_PORT, DB_USER, DB_PASSWORD and DB_NAME; "" with neither."""
    if environ.get("DATABASE_URL"):
        return environ["DATABASE_URL"]
    host, port, user, password, name = (environ.get(part, "") for part in _PARTS)
    if not host:
        return ""
    shown = f"[{host}]" if ":" in host else quote(host, safe=".-_")
    login = quote(user, safe="") + (f":{quote(password, safe='')}" if password else "")
    return f"postgresql://{login}{'@' if login else ''}{shown}{f':{port}' if port else ''}/{quote(name, safe='')}"
