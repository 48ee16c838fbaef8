"""What a message's SQL may do, as far as its text tells: before the client has a server for it.

Where a message is served may depend on that, and a client whose message is not there yet keeps no server waiting. It
is worked out anew when the client goes on with a message that had to wait: the catalog may have become known.
"""

from libc.string cimport memchr

from pgferry.engine.client.forward cimport broken, wait_for
from pgferry.engine.client.message cimport Message
from pgferry.engine.core.model cimport Client
from pgferry.engine.core.statements cimport Statement
from pgferry.engine.io.turn_share cimport end_turn
from pgferry.engine.session.classify cimport HARMLESS, classify_sql, classify_statement, classify_unnamed
from pgferry.engine.session.verdict_cache cimport awaits_verdict

cdef enum:
    READABLE = 1 << 24     # bytes; longer texts are not read: nobody knows what they do
    NAME_STEP = 4096       # the two names of a Bind are looked for in steps of this many bytes,
    LONGEST_NAMES = 16384  # and no further

INCOMPLETE = object()


cdef object read_text(Client c, Message *m):
    """understand(), unless nobody wants to know."""
    if c.loop.share.classified_enough and c.tracks_state and awaits_verdict(c, m.kind, m.p, m.have, m.total):
        end_turn(c)
        return INCOMPLETE
    if c.tracks_state and c.engine.workers > 1:
        c.db.catalog.look_for_ddl(c.loop.now)
    if m.kind == b"Q":
        return read_query(c, m)
    if m.kind == b"P":
        return read_parse(c, m)
    if m.kind == b"B":
        return read_bind(c, m)
    return HARMLESS


cdef object read_query(Client c, Message *m):
    if m.have < min(m.total, <size_t>READABLE):
        wait_for(c, min(m.total, <size_t>READABLE))
        return INCOMPLETE
    if m.total > READABLE:
        return None
    return classify_sql(c, m.p + 5, m.total - 6 if m.total > 5 else 0)


cdef object read_parse(Client c, Message *m):
    cdef const char *nul
    cdef const char *text
    cdef const char *end = m.p + m.total
    if m.have < m.total:
        wait_for(c, m.total)
        return INCOMPLETE
    nul = <const char *>memchr(m.p + 5, 0, m.total - 5)
    if nul == NULL:
        broken(c, "Parse")
        return INCOMPLETE
    m.name_at = 5
    m.name_end = nul - m.p
    if not c.tracks_state:
        return HARMLESS
    if m.name_end == 5 and c.names.unnamed_verdict is HARMLESS and same_unnamed(c, m.p + 6, m.total - 6):
        return HARMLESS
    text = nul + 1
    nul = <const char *>memchr(text, 0, end - text)
    return classify_sql(c, text, nul - text) if nul != NULL else None


cdef object read_bind(Client c, Message *m):
    cdef const char *nul = <const char *>memchr(m.p + 5, 0, m.have - 5)
    cdef Statement st
    if nul != NULL:
        m.name_at = nul - m.p + 1
        nul = <const char *>memchr(m.p + m.name_at, 0, m.have - m.name_at)
    if nul == NULL:
        return wait_for_names(c, m)
    m.name_end = nul - m.p
    if not c.tracks_state:
        return HARMLESS
    if m.name_at == m.name_end:
        return classify_unnamed(c)
    st = c.names.find(m.p + m.name_at, m.name_end - m.name_at)
    return classify_statement(c, st) if st is not None else None


cdef object wait_for_names(Client c, Message *m):
    """Both names of a Bind are not there yet: wait for more, but not for names without an end."""
    if m.have >= m.total or m.have >= LONGEST_NAMES:
        broken(c, "Bind")
    else:
        wait_for(c, min(m.total, m.have + NAME_STEP))
    return INCOMPLETE
