"""The parameter types and columns of prepared statements as clients were told them, and whether they still hold."""

from pgferry.engine.core.model cimport Server
from pgferry.engine.core.plan cimport F_SWALLOW, Entry
from pgferry.engine.core.statements cimport Statement


cdef int compare_shape(Server s, Entry *front, const char *p, size_t n, size_t total) except -1:
    """Remember what a client is told of a statement; or see whether that still holds (client.using.verify)."""
    cdef Statement st = s.pool.engine.table.get(front.number)
    cdef bytes shape = None
    cdef bytes described = s.injected.take_described()
    if described is not None and n == total:
        shape = described + columns(p[5:n] if p[0] == b"T" else b"")
    if not front.flags & F_SWALLOW:
        if st is not None:
            st.shown(shape)
        return 0
    s.injected.end_verifying()
    if st is not None and not st.still_is(shape):
        s.pool.db.ddl_ran()         # who prepares the text anew gets another statement
    return 0


cdef bytes columns(bytes body):
    """The fields of a RowDescription without the tables they are of, as PostgreSQL compares them."""
    cdef list parts = []
    cdef Py_ssize_t at = 2, end
    while at < len(body):
        end = body.find(b"\0", at) + 1
        if end == 0:
            return body                 # no RowDescription at all
        parts.append(body[at:end])
        parts.append(body[end + 6:end + 18])
        at = end + 18
    return b"".join(parts)
