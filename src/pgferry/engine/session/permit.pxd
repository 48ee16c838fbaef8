# Whether a statement that was classified may be sent now; what is staged around it, or said in its place.
from pgferry.engine.core.model cimport Client, Server

cdef int replay_start_values(Client c, Server s, bint extended) except -1
cdef int replay_start_values_later(Client c, Server s) except -1
cdef int reset_in_session(Client c, Server s) except -1
cdef bint may_go(Client c, Server s, const char *text, size_t n) noexcept
cdef bint ready_for(Client c, Server s, verdict, bint extended) except -1
cdef int ready_for_anything(Client c, Server s, bint extended) except -1
cdef bint is_unknown(Client c) noexcept
cdef bint may_do_anything(Client c, object verdict) except -1
cdef bint must_wait(Client c, Server s, object verdict) except -1
cdef bint is_lacking(Client c, Server s, object verdict) except -1
cdef bint lacks_settings(Client c, Server s, object verdict) except -1
cdef bint is_set(const char *text, size_t n) noexcept
cdef int refused(Client c, Server s, bint parse, verdict) except -1
cdef int refused_sequence(Client c, Server s, bint parse) except -1
cdef int note_default(Client c, const char *text, size_t n) noexcept
cdef bint may_drop(const char *text, size_t n) noexcept
cdef bint drops_all(bytes body)
