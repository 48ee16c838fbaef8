"""auth_query: what is asked, and what an answer means."""

from collections.abc import Sequence
from typing import Final, NamedTuple

from pgferry.auth.secrets import Secret, classify
from pgferry.config.table_access import AUTH_QUERY

CONFIG_ERROR: Final = "bouncer config error"
_MAX_NAME: Final = 127

# The same with every name in its schema: no search_path can make it mean anything else.
_SAFE_QUERY: Final = (
    "SELECT rolname, CASE WHEN rolvaliduntil OPERATOR(pg_catalog.<) pg_catalog.now() THEN NULL ELSE rolpassword "
    "END FROM pg_catalog.pg_authid WHERE rolname OPERATOR(pg_catalog.=) $1 AND rolcanlogin"
)


class Found(NamedTuple):
    """A user as the query tells it."""

    name: str
    secret: Secret


class BadAnswer(Exception):
    """The query's answer makes no sense; the text is for the log."""


def text_to_send(query: str) -> bytes:
    """The query as it goes to PostgreSQL."""
    return (_SAFE_QUERY if query == AUTH_QUERY else query).encode("utf-8", "surrogateescape")


def understand(rows: Sequence[Sequence[bytes | None]]) -> Found | None:
    """The user in an answer, None for nobody. Raises BadAnswer.

    The secret of a user whose password is NULL (there is none, or it has expired) fits no password.
    """
    if not rows:
        return None
    if len(rows[0]) != 2:
        raise BadAnswer(f"expected 2 columns from auth_query, not {len(rows[0])}")
    if len(rows) > 1:
        raise BadAnswer("auth_query tells of more than one user")
    name, secret = rows[0]
    if not name:
        return None
    if len(name) > _MAX_NAME:
        raise BadAnswer("auth_query gives a user name that is too long")
    text = None if secret is None else secret.decode("utf-8", "surrogateescape")
    return Found(name.decode("utf-8", "surrogateescape"), classify(text))
