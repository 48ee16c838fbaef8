"""The values of a client's startup packet, as SQL that gives them back to it behind a RESET."""

from pgferry.engine.core.model cimport Client, Engine
from pgferry.engine.core.session_state cimport call
from pgferry.engine.wire.messages cimport quote_literal, sql_text, sql_text_in

ROLE = b"role"
AUTHORIZATION = b"session_authorization"


cdef bytes base_script(Client c, object names, list tracked):
    """The query that gives the settings `names` (True: all) the values of the client's startup packet; b"" for none.

    The indexes of tracked parameters among them go to `tracked`.
    """
    cdef list parts = []
    cdef Engine engine = c.engine
    if "base" in engine.omit:
        return b""
    for name, value in c.tracker.start.settings.items():
        if (names is True or name in names) and name != ROLE and name != AUTHORIZATION:
            parts.append(call(name, value))
    if c.tracker.start_vars is not c.pool.endpoint.reset_vars:
        for i, value in enumerate(c.tracker.start_vars):
            name = engine.parameters.names[i].lower().encode()
            if value is not None and value != c.pool.endpoint.reset_vars[i] and (names is True or name in names):
                parts.append(b"pg_catalog.set_config(%b,%b,false) IS NULL" % (
                    quote_literal(name), reported_text(engine, c.tracker.start_vars, i, 0)))
                tracked.append(i)
    return b"SELECT " + b",".join(parts) if parts else b""


cdef bytes base_again(Client c):
    """The query that gives start values back to those settings that a RESET in session mode has taken them from.

    Start values are set like the client's own: PostgreSQL tells by the source of a setting whether it was reset since,
    and of a custom setting by its being empty. b"" for a client that has none.
    """
    cdef list pairs = [(name, sql_text(value)) for name, value in c.tracker.start.settings.items()
                       if name not in (ROLE, AUTHORIZATION)]
    if c.tracker.start_vars is not c.pool.endpoint.reset_vars:
        for i, value in enumerate(c.tracker.start_vars):
            if value is not None and value != c.pool.endpoint.reset_vars[i]:
                pairs.append((c.engine.parameters.names[i].lower().encode(),
                              reported_text(c.engine, c.tracker.start_vars, i, 0)))
    if not pairs or "base" in c.engine.omit:
        return b""
    return (b"SELECT pg_catalog.set_config(v.n,v.x,false) IS NULL FROM (VALUES "
            + b",".join([b"(" + sql_text(name) + b"," + text + b")" for name, text in pairs])
            + b") v(n,x) LEFT JOIN pg_catalog.pg_show_all_settings() s ON pg_catalog.lower(s.name) "
              b"OPERATOR(pg_catalog.=) v.n WHERE CASE WHEN s.name IS NULL THEN "
              b"pg_catalog.concat(pg_catalog.current_setting(v.n,true)) OPERATOR(pg_catalog.=) '' "
              b"ELSE s.source OPERATOR(pg_catalog.<>) 'session' END")


cdef bytes reported_text(Engine engine, tuple vars, Py_ssize_t index, int version):
    """An SQL expression for one of a client's tracked parameters, which are in the client's encoding.

    PostgreSQL itself makes ASCII of application_name, from version 16 on with escapes.
    """
    cdef bytes value = vars[index]
    if value.isascii():
        return quote_literal(value)
    if engine.parameters.names[index].lower() == "application_name":
        return quote_literal(as_ascii(value, version))
    encoding = vars[engine.parameters.index["client_encoding"]]
    if encoding is None or not encoding.isascii():      # such a server says anything
        return sql_text_in(value, b"pg_catalog.getdatabaseencoding()")
    return sql_text_in(value, quote_literal(encoding))


cdef bytes as_ascii(bytes value, int version):
    """What PostgreSQL makes of bytes that are not ASCII (pg_clean_ascii)."""
    cdef list parts = []
    cdef int code
    for code in value:
        if code < 128:
            parts.append(bytes([code]))
        else:
            parts.append(b"\\x%02x" % code if version >= 16 else b"?")
    return b"".join(parts)
