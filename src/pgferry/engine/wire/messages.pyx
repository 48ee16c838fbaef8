"""Backend messages the engine makes itself, and the reading of errors (protocol chapter 55.7 and 55.8)."""

import struct


cdef bytes fields(char kind, list items):
    cdef list parts = []
    for code, value in items:
        parts.append(code + value.encode("utf-8", "surrogateescape") + b"\0")
    body = b"".join(parts) + b"\0"
    return bytes([kind]) + struct.pack("!I", len(body) + 4) + body


cdef bytes error_message(str severity, str sqlstate, str text):
    """ErrorResponse with the fields that libpq and drivers read."""
    return fields(b"E", [(b"S", severity), (b"V", severity), (b"C", sqlstate), (b"M", text)])


cdef bytes plan_changed():
    """PostgreSQL's own error. Drivers (asyncpg, JDBC) know it by its routine, and prepare the statement anew."""
    return fields(b"E", [(b"S", "ERROR"), (b"V", "ERROR"), (b"C", "0A000"),
                         (b"M", "cached plan must not change result type"), (b"R", "RevalidateCachedQuery")])


cdef bytes notice_message(str text):
    """NoticeResponse, SQLSTATE 00000."""
    return fields(b"N", [(b"S", "NOTICE"), (b"V", "NOTICE"), (b"C", "00000"), (b"M", text)])


def notice(str severity, str sqlstate, str text):
    """NoticeResponse of this severity."""
    return fields(b"N", [(b"S", severity), (b"V", severity), (b"C", sqlstate), (b"M", text)])


cdef bytes parameter_status(bytes name, bytes value):
    return b"S" + struct.pack("!I", len(name) + len(value) + 6) + name + b"\0" + value + b"\0"


cdef dict error_fields(const char *body, size_t n):
    """The fields of an ErrorResponse body by code; what is malformed is left out. Missing fields are legal."""
    cdef dict found = {}
    for item in body[:n].split(b"\0"):
        if not item:
            break
        found[chr(item[0])] = item[1:].decode("utf-8", "replace")
    return found


cdef bytes quote_identifier(bytes name):
    """The name as PostgreSQL reads it in SQL whatever it holds."""
    return b'"' + name.replace(b'"', b'""') + b'"'


cdef bytes quote_literal(bytes value):
    """An ASCII value as an SQL string constant, whatever the settings of the session are. ValueError: not ASCII.

    Where other bytes begin and end depends on the client's encoding: 0x5C may be half of a character. See sql_text().
    """
    cdef bytes quoted
    if not value.isascii():
        raise ValueError("an SQL string constant of bytes that are not ASCII")
    quoted = value.replace(b"'", b"''")
    if b"\\" in value:
        return b"E'" + quoted.replace(b"\\", b"\\\\") + b"'"
    return b"'" + quoted + b"'"


cdef bytes sql_text(bytes value):
    """An SQL expression of type text for a value in the database's encoding; it is ASCII itself. None: NULL."""
    if value is None:
        return b"NULL"
    if value.isascii():
        return quote_literal(value)
    return sql_text_in(value, b"pg_catalog.getdatabaseencoding()")


cdef bytes sql_text_in(bytes value, bytes encoding):
    """The same for a value in another encoding, which an SQL expression names."""
    if value.isascii():
        return quote_literal(value)
    return (b"pg_catalog.convert_from(pg_catalog.decode('" + value.hex().encode() + b"','hex')," + encoding + b")")


cdef bytes as_hex(bytes expression):
    """SQL that gives a text as hexadecimal digits of its bytes in the database's encoding, whatever the client's."""
    return (b"pg_catalog.encode(pg_catalog.convert_to(" + expression
            + b",pg_catalog.getdatabaseencoding()),'hex')")


cdef bytes do_execute(bytes expression):
    """A DO statement that executes the command that an SQL expression gives: for commands that are not ASCII."""
    return b"DO $pgferry$BEGIN EXECUTE " + expression + b";END$pgferry$"


cdef bytes simple_query(bytes text):
    return b"Q" + struct.pack("!I", len(text) + 5) + text + b"\0"
