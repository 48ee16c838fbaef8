# What a statement of a client's needs on the server before it runs.
from pgferry.engine.core.model cimport Client, Server
from pgferry.engine.core.plan cimport Note

cdef bytes rewrite_sql(Client c, Server s, object verdict, bytes text, bint extended)
cdef dict clear_sql(Client c, Server s)
cdef bint lacks_sql(Client c, Server s) except -1
cdef int ensure_prepared(Client c, Server s, bint extended) except -1
cdef int forget_sequences(Client c, Server s, bint extended) except -1
cdef bint sequences_ready(Client c, Server s, bint extended, bint unread) except -1
cdef bint note_deallocated(Client c, Server s) except -1
cdef bint is_deallocating(Server s) except -1
cdef list bound_deallocates(Client c, object verdict)
cdef int on_deallocated(Client c, Server s) except -1
cdef int ensure_named(Client c, Server s, object verdict) except -1
cdef bint may_be_over(Server s) noexcept
cdef int made_by_sql(Client c, Server s, bytes name) except -1
cdef int forget_sql(Client c, Server s, bytes name) except -1
cdef bint is_ensuring(Server s) except -1
cdef int ensured(Server s, Note note, bint succeeded) except -1
