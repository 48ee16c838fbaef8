"""The text that makes an SQL-level prepared statement again."""

from __future__ import annotations

from pgferry.session.classify import statements


def prepared_statement(text: bytes, name: bytes) -> bytes | None:
    """The PREPARE of `name` in the text that pg_prepared_statements shows for it; None when it is not in there.

    PostgreSQL keeps the whole text that the client sent, which may hold other statements beside the PREPARE.
    """
    for part, prepares in statements(text):
        if name in prepares:
            return part
    return None
