"""Command tags that tell of more than the end of a statement: statements are dropped, objects have changed."""

from libc.stdint cimport uint32_t
from libc.string cimport strncmp

from pgferry.engine.core.model cimport Client, Server
from pgferry.engine.core.plan cimport F_SERVER_OP, K_CLOSE, K_PARSE, Entry
from pgferry.engine.session.catalog cimport begin_defining
from pgferry.engine.session.ensure cimport on_deallocated

# What is made or changed here brings no code that runs by itself, except what a word in the statement shows.
cdef tuple WITHOUT_CODE = (b"CREATE TABLE", b"CREATE INDEX", b"CREATE SEQUENCE", b"CREATE ROLE", b"CREATE DATABASE",
                           b"CREATE STATISTICS", b"CREATE PUBLICATION", b"CREATE SUBSCRIPTION", b"CREATE TABLESPACE",
                           b"ALTER ROLE", b"ALTER DATABASE", b"ALTER SYSTEM", b"ALTER TABLESPACE", b"ALTER STATISTICS",
                           b"ALTER PUBLICATION", b"ALTER SUBSCRIPTION", b"ALTER DEFAULT PRIVILEGES",
                           b"ALTER LARGE OBJECT")


cdef int lose_statements(Server s) except -1:
    """The server has dropped its statements, except those whose Parse was sent after this command."""
    cdef uint32_t i
    cdef Entry *entry
    s.prepared.clear()
    s.unnamed_is(None)
    for i in range(s.plan.size()):
        entry = s.plan.at(i)
        if entry.flags & F_SERVER_OP and entry.kind == K_PARSE:
            s.prepared.add(entry.number)
        elif entry.flags & F_SERVER_OP and entry.kind == K_CLOSE:
            if s.prepared.touch(entry.number):
                s.prepared.discard(entry.number)    # of a Parse that comes before it
            else:
                s.prepared.closed(entry.number)     # it is gone already
                entry.number = 0
    return 0


cdef bint any_of(const char *tag, tuple tags) except -1:
    """Whether the tag begins with one of these."""
    for candidate in tags:
        if strncmp(tag, <const char *><bytes>candidate, len(<bytes>candidate)) == 0:
            return True
    return False


cdef int look_at_tag(Server s, const char *tag, bint own) except -1:
    cdef Client c = s.client
    if (strncmp(tag, b"ALTER", 5) == 0 or strncmp(tag, b"DROP", 4) == 0 or strncmp(tag, b"CREATE VIEW", 11) == 0
            or (strncmp(tag, b"CREATE", 6) == 0 and shadows(c))):
        s.pool.db.ddl_ran()
    elif strncmp(tag, b"DISCARD ALL", 11) == 0 or strncmp(tag, b"DEALLOCATE ALL", 14) == 0:
        lose_statements(s)
        s.sql_is(None)
        if tag[1] == b"I" and not own:
            s.injected.discard()
        else:
            s.injected.undo_discard()
        if c is not None and not own:
            c.tracker.learn_prepared(None)
            if c.names.statements:
                c.names.drop_all(c.engine.table)
    elif strncmp(tag, b"DEALLOCATE", 11) == 0:
        if c is not None and not own:
            on_deallocated(c, s)
    elif strncmp(tag, b"COMMIT", 7) == 0:
        if c is not None:
            c.subscription.commit()
        return 0
    if own:
        return 0
    # DROP takes away, and who knows more than there is is not wrong. What DO does its text has told, if it was read,
    # and what functions define, their words.
    if (strncmp(tag, b"CREATE", 6) == 0 or strncmp(tag, b"ALTER", 5) == 0) and not any_of(tag, WITHOUT_CODE):
        begin_defining(s, True)
    elif strncmp(tag, b"DO", 3) == 0 and (c is None or not c.tracks_state):
        begin_defining(s, True)
    return 0


cdef bint shadows(Client c) noexcept:
    """Whether what was just made may stand in front of something of that name, for others too.

    PostgreSQL does not look again for statements that are prepared already; for new ones of the same text it must.
    """
    return c is not None and c.tracks_state and (c.reason is None or not c.reason.startswith("temporary"))
