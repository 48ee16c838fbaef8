"""Whether a message needs a verdict that is not remembered (see turns)."""

from libc.string cimport memchr

from pgferry.engine.core.database cimport Database
from pgferry.engine.core.model cimport Client
from pgferry.engine.core.statements cimport Statement


cdef bint awaits_verdict(Client c, char kind, const char *p, size_t n, size_t total) except -1:
    """Whether serving this message takes a new verdict. One that is not complete yet takes none."""
    cdef const char *end = p + total
    cdef const char *text
    cdef Statement st
    cdef bytes body
    if n < total:
        return False
    if kind == b"Q":
        return total > 5 and not is_known(c.db, p + 5, total - 6)
    text = <const char *>memchr(p + 5, 0, total - 5)
    if text == NULL:
        return False
    if kind == b"P":
        return not is_known(c.db, text + 1, length(text + 1, end - text - 1))
    if kind != b"B":
        return False
    p = text + 1                # the statement's name follows the portal's
    text = <const char *>memchr(p, 0, end - p)
    if text == NULL:
        return False
    if text == p:
        body = c.names.unnamed
        return body is not None and c.names.unnamed_version != c.db.catalog.words_version and not is_known(
            c.db, body, length(body, len(body)))
    st = c.names.find(p, text - p)
    return st is not None and st.classified != c.db.catalog.words_version and not is_known(
        c.db, st.body, length(st.body, len(st.body)))


cdef bint is_known(Database db, const char *text, size_t n) except -1:
    return db.catalog.words.scan(text, n) == 0 or text[:n] in db.catalog.verdicts


cdef inline size_t length(const char *body, size_t n) noexcept:
    """The length of the text in front of its NUL."""
    cdef const char *nul = <const char *>memchr(body, 0, n)
    return n if nul == NULL else nul - body
