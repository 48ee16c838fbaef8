# What a message's SQL may do, as far as its text tells: before the client has a server for it.
from libc.string cimport memcmp

from pgferry.engine.client.message cimport Message
from pgferry.engine.core.model cimport Client
from pgferry.engine.session.classify cimport HARMLESS

cdef object INCOMPLETE          # more of the message must come first, or the client is being closed


cdef inline bint same_unnamed(Client c, const char *body, size_t n) noexcept:
    """Whether this Parse says what the client's unnamed statement is already."""
    return (c.names.unnamed is not None and <size_t>len(<bytes>c.names.unnamed) == n
            and memcmp(<const char *><bytes>c.names.unnamed, body, n) == 0)


cdef inline object understand(Client c, Message *m):
    """The Verdict of what a Query, Parse or Bind runs, HARMLESS for all others; None: nobody can tell.

    Outside session mode a Parse is there as a whole then, the two names of a Bind are, and they are found. INCOMPLETE:
    wait.
    """
    if c.session or (not c.tracks_state and m.kind != b"P" and m.kind != b"B"):
        return HARMLESS
    return read_text(c, m)


cdef object read_text(Client c, Message *m)
