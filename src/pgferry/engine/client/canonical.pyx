"""How PostgreSQL writes the values that a startup packet asks for.

As on a direct connection, a client is greeted with its tracked parameters as PostgreSQL reports them (UTF8 for utf8),
and refused when PostgreSQL does not take them. It is asked once for each value that a pool has not seen yet, on the
connection of pgferry's own that reads the catalog. Where that cannot be had, or must not be used (PAUSE), the client is
told what it has written itself, and the values are checked in front of its first transaction.
"""

from pgferry.engine.client.login_data cimport Login
from pgferry.engine.core.enums cimport STATE_IGNORE
from pgferry.engine.core.model cimport Client, Pool
from pgferry.engine.wire.messages cimport as_hex, quote_literal

from binascii import unhexlify

# SQLSTATE classes that say that the value is wrong, and not that it cannot be told.
WRONG = ("22", "42704")


cdef bint ask_canonical(Client c, Login login, dict values) except -1:
    """Whether the greeting has to wait for PostgreSQL; the login is finished when it has answered.

    values: index of the tracked parameter -> value.
    """
    cdef Pool pool = c.pool
    cdef list unknown
    if not login.begin_asking():
        return login.asking > 0
    if (pool.settings.session_state == STATE_IGNORE or pool.engine.phase.paused or c.db.paused
            or pool.engine.phase.shutdown):
        return False
    unknown = [(index, value) for index, value in values.items()
               if (value != pool.endpoint.base_vars[index] and (index, value) not in pool.endpoint.canonical_values
                   and value.isascii())
               and pool.endpoint.base_vars[index] is not None
               and pool.engine.parameters.names[index] != "application_name"]
    for index, value in unknown:
        ask_one(c, login, index, value)
    return login.asking > 0


cdef int ask_one(Client c, Login login, index, bytes value) except -1:
    cdef Pool pool = c.pool
    cdef bytes name = quote_literal(pool.engine.parameters.names[index].encode())

    def answered(rows, error):
        cdef bint last = login.take_answer()
        if error is None:
            pool.endpoint.learn_canonical(index, value, unhexlify(rows[-1][0]))
        elif error.get("C", "").startswith(WRONG):
            login.value_is_wrong(error)
        if last and c.login is login and not login.over:
            answered_all(c, login)

    login.expect_answer()
    # Half of a DateStyle comes from the value before: that is to be the server's own.
    c.engine.reader_of(c.db).ask(
        b"SELECT pg_catalog.set_config(%b,%b,true);SELECT %b" % (
            name, quote_literal(pool.endpoint.reset_vars[index]),
            as_hex(b"pg_catalog.set_config(%b,%b,true)" % (name, quote_literal(value)))),
        answered)
    return 0


cdef int answered_all(Client c, Login login) except -1:
    """PostgreSQL has said how it writes the values, or that one is wrong."""
    if login.wrong is None:
        return login.finish(c)
    return c.close("invalid server parameter", login.wrong.get("M", "invalid server parameter"),
                   login.wrong.get("C", "08P01"))
