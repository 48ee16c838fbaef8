"""What a startup packet says: names, tracked values, other settings, what is refused.

Applications connect with the same packet over and over, so what was read is remembered by the bytes it was read
from, until the configuration changes (Engine.startups).
"""

import re
import struct

from pgferry.auth.errors import Refused
from pgferry.protocol.errors import ProtocolError
from pgferry.protocol.options import parse_options

from libc.stdint cimport uint32_t

from pgferry.engine.core.enums cimport REPL_LOGICAL, REPL_NONE, REPL_PHYSICAL
from pgferry.engine.core.model cimport Client, Engine

cdef enum:
    NEWEST = 196610              # protocol 3.2
    REMEMBERED = 256             # startup packets
    LARGEST = 1024               # bytes of one that is remembered
    # Startup parameters that are not tracked:
    USER = -1
    DATABASE = -2
    OPTIONS = -3
    REPLICATION = -4
    OTHER = -5

SETTING_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_$]*(\.[A-Za-z_][A-Za-z0-9_$]*)*")
# How PostgreSQL lets a boolean be written, in any case: what is short but clear will do.
cdef dict BOOLEANS = {
    **{word[:n]: value for word, value in ((b"true", True), (b"false", False), (b"yes", True), (b"no", False))
       for n in range(1, len(word) + 1)},
    b"on": True, b"off": False, b"of": False, b"1": True, b"0": False,
}
cdef dict SPECIAL = {"user": USER, "database": DATABASE, "options": OPTIONS, "replication": REPLICATION}
# As PostgreSQL cleans application_name: what is not printable ASCII becomes a question mark.
cdef bytes PRINTABLE = bytes([b if 32 <= b < 127 else 63 for b in range(256)])


cdef class Startup:
    """The contents of a startup packet."""


cdef Startup read_startup(Client c, bytes packet, uint32_t version):
    """What this packet says. Raises Refused."""
    cdef Engine engine = c.engine
    cdef Startup found = engine.greetings.startups.get(packet)
    if found is None:
        found = Startup.__new__(Startup)
        read_parameters(engine, found, packet, version)
        check_values(engine, c, found)
        # With add_host it says something else for each client.
        if len(packet) <= LARGEST and not engine.config.settings.application_name_add_host:
            if len(engine.greetings.startups) >= REMEMBERED:
                engine.greetings.startups.clear()
            engine.greetings.startups[packet] = found
    return found


cdef int read_parameters(Engine engine, Startup found, bytes packet, uint32_t version) except -1:
    """Sort the startup parameters into names, tracked values and what is refused. Raises Refused."""
    cdef list items = packet[8:].split(b"\0")
    cdef list unknown = []
    cdef bytes value, given = None
    cdef int i, code
    ignored = engine.config.settings.ignore_startup_parameters
    found.values = {}
    if len(items) < 2 or items[len(items) - 1] or items[len(items) - 2] or len(items) % 2:
        raise Refused("invalid startup packet layout: expected terminator as last byte")
    for i in range(0, len(items) - 2, 2):
        value = items[i + 1]
        code = startup_code(engine, items[i])
        if code >= 0:
            found.values[code] = value
            found.unsorted = found.unsorted or code >= engine.parameters.always_tracked
        elif code == USER:
            found.username = value.decode("utf-8", "surrogateescape")
        elif code == DATABASE:
            found.database = value.decode("utf-8", "surrogateescape")
        else:
            name = items[i].decode("utf-8", "surrogateescape")
            if not name:
                raise Refused("invalid startup packet layout: expected terminator as last byte")
            if code == OPTIONS:
                given = value
            elif code == REPLICATION and "replication" not in ignored:
                found.replication = replication_kind(value)
            elif name.lower().startswith("_pq_."):
                unknown.append(items[i])
            elif name.lower() not in ignored:
                setting(found, name, value)
    if found.replication:
        found.options = given
    elif given is not None:
        options(engine, found, given.decode("utf-8", "surrogateescape"), ignored)
    if not found.username:
        raise Refused("no username supplied")
    if not found.database:
        found.database = found.username
    if len(found.username.encode("utf-8", "surrogateescape")) >= 128:
        raise Refused("username too long")
    found.long_key = version >= NEWEST
    if version > NEWEST or unknown:
        body = struct.pack("!II", min(version, NEWEST), len(unknown)) + b"".join([name + b"\0" for name in unknown])
        found.negotiate = b"v" + struct.pack("!I", len(body) + 4) + body
    return 0


cdef int replication_kind(bytes value) except -1:
    """The model.Replication that this value of `replication` asks for. Raises Refused."""
    cdef object physical = BOOLEANS.get(value.lower())
    if value == b"database":
        return REPL_LOGICAL
    if physical is None:
        text = value.decode("utf-8", "replace")
        raise Refused(f'invalid value for parameter "replication": "{text}"')
    return REPL_PHYSICAL if physical else REPL_NONE


cdef int startup_code(Engine engine, bytes name) except? -9:
    """The index of a tracked parameter, or one of the codes below 0. Names in any case."""
    cdef str lower = name.decode("utf-8", "surrogateescape").lower()
    cdef object known = engine.parameters.index.get(lower) if lower not in engine.parameters.reported_by_some else None
    return SPECIAL.get(lower, OTHER) if known is None else known


cdef int options(Engine engine, Startup found, str text, ignored) except -1:
    """The startup parameter `options`: -c settings. As in PostgreSQL, a parameter of its own wins. Raises Refused."""
    cdef dict values = dict(found.values)
    cdef dict settings = dict(found.settings or {})
    try:
        pairs = parse_options(text)
    except ProtocolError as error:
        raise Refused(str(error)) from None
    for name, value in pairs:
        index = engine.parameters.index.get(name.lower())
        if index is not None and name.lower() not in engine.parameters.reported_by_some:
            found.values[index] = value.encode("utf-8", "surrogateescape")
            found.unsorted = found.unsorted or index >= engine.parameters.always_tracked
        elif name.lower() not in ignored and "options" not in ignored:
            setting(found, name, value.encode("utf-8", "surrogateescape"), " in options")
    found.values.update(values)
    if settings:
        found.settings.update(settings)
    return 0


cdef int setting(Startup found, str name, bytes value, str where="") except -1:
    """A setting that PostgreSQL does not report: part of the session's state, where that is kept. Raises Refused."""
    if SETTING_NAME.fullmatch(name) is None or not value.isascii():
        raise Refused(f"unsupported startup parameter{where}: {name}")
    if found.settings is None:
        found.settings = {}
        found.refusal = f"unsupported startup parameter{where}: {name}"
    found.settings[name.lower().encode()] = value
    found.unsorted = True
    return 0


cdef int check_values(Engine engine, Client c, Startup found) except -1:
    """Bring application_name to the form PostgreSQL gives it; refuse values that cannot be quoted safely."""
    cdef dict values = found.values
    cdef bytes value
    index = engine.parameters.index["application_name"]
    if engine.config.settings.application_name_add_host:
        value = (values.get(index) or b"app") + b" - " + peer_text(c).encode()
        values[index] = value
    if index in values:
        values[index] = (<bytes>values[index])[:63].translate(PRINTABLE)
    for i in values:
        value = values[i]
        if not value.isascii():
            raise Refused(f"invalid value for parameter {engine.parameters.names[i]}")
    return 0


cdef str peer_text(Client c):
    if c.peer.is_unix:
        return f"unix:{c.peer.listen_port}"
    host, port = c.remote()
    return f"{host}:{port}"
