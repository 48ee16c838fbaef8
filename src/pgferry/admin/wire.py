"""The console's values as protocol messages: greeting, columns, rows, errors and notices."""

from collections.abc import Sequence

from pgferry import PGBOUNCER_VERSION
from pgferry.admin.context import Notice
from pgferry.admin.result import Column, Value, encode_row
from pgferry.protocol import backend, codec
from pgferry.protocol.errors import PROTOCOL_VIOLATION, SUCCESSFUL_COMPLETION, ProtocolError
from pgferry.supervisor.errors import CommandError

# libpq and the drivers read these; server_version has to begin like PgBouncer's.
_WELCOME = {
    "server_version": f"{PGBOUNCER_VERSION}/bouncer",
    "client_encoding": "UTF8",
    "server_encoding": "UTF8",
    "DateStyle": "ISO",
    "TimeZone": "GMT",
    "standard_conforming_strings": "on",
    "is_superuser": "on",
}

READY = backend.ReadyForQuery("I").build()


def greeting(process_id: int, key: bytes) -> bytes:
    """What a server says after a login that needs no password."""
    return backend.build_all(
        [
            backend.AuthenticationOk(),
            *(backend.ParameterStatus(name, value) for name, value in _WELCOME.items()),
            backend.BackendKeyData(process_id, key),
            backend.ReadyForQuery("I"),
        ]
    )


def row_description(columns: Sequence[Column], formats: Sequence[int] | None = None) -> bytes:
    """The columns of a result; `formats` holds 0 (text) or 1 (binary) for each, None = all text."""
    return backend.RowDescription(
        tuple(
            codec.Column(column.name, column.type.oid, column.type.length, format=code)
            for column, code in zip(columns, formats or [0] * len(columns), strict=True)
        )
    ).build()


def data_rows(
    rows: Sequence[Sequence[Value]], columns: Sequence[Column], formats: Sequence[int] | None = None
) -> bytes:
    """All rows of a result."""
    return b"".join(backend.DataRow(tuple(encode_row(row, columns, formats))).build() for row in rows)


def error(reason: CommandError | ProtocolError) -> bytes:
    """An error that leaves the session alive."""
    if isinstance(reason, ProtocolError):
        return _report(backend.ErrorResponse, "ERROR", PROTOCOL_VIOLATION, str(reason), None)
    return _report(backend.ErrorResponse, "ERROR", reason.code, reason.message, reason.detail)


def notice(what: Notice) -> bytes:
    """A notice."""
    return _report(backend.NoticeResponse, "NOTICE", SUCCESSFUL_COMPLETION, what.message, what.detail)


def _report(
    kind: type[backend.ErrorResponse] | type[backend.NoticeResponse],
    severity: str,
    code: str,
    message: str,
    detail: str | None,
) -> bytes:
    fields = [("S", severity), ("C", code), ("M", message.replace("\0", "?"))]
    if detail:
        fields.append(("D", detail.replace("\0", "?")))
    return kind(tuple(fields)).build()
