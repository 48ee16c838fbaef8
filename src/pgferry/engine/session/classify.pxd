# What a client's statement may do to its session.
from pgferry.engine.core.model cimport Client, Engine, Server
from pgferry.engine.core.statements cimport Statement

cdef object HARMLESS         # session.verdict.HARMLESS: the one Verdict that is compared by identity

cdef object classify_sql(Client c, const char *text, size_t n)
cdef object classify_statement(Client c, Statement st)
cdef object classify_unnamed(Client c)
cdef int note(Client c, Server s, object verdict, const char *text, size_t n) except -1
cdef int note_parameters(Client c, Server s, object verdict, bytes body, const char *p, size_t n) except -1
cdef size_t names_end(object verdict, const char *p, size_t n) except -1
cdef size_t text_length(const char *body, size_t n) noexcept
cdef int note_listens(Client c, Server s, object verdict) except -1
cdef int note_unknown(Client c, Server s, str reason) except -1
cdef int note_inner(Client c, Server s, object verdict) except -1
cdef int note_message(Client c, Server s) except -1
cdef bint may_end_transaction(Engine engine, const char *text, size_t n) noexcept
cdef bint is_refused(Client c, object verdict)
cdef int needs_of(Client c, Server s, object verdict) except -1
