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
    """value as an SQL string constant, whatever standard_conforming_strings says on the server."""
    cdef bytes quoted = value.replace(b"'", b"''")
    if b"\\" in value:
        return b"E'" + quoted.replace(b"\\", b"\\\\") + b"'"
    return b"'" + quoted + b"'"


cdef bytes simple_query(bytes text):
    return b"Q" + struct.pack("!I", len(text) + 5) + text + b"\0"
