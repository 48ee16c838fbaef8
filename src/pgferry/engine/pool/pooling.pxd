# Who gets which server: checkout, the way back, waiting, closing.
from pgferry.engine.core.model cimport Client, Database, Engine, Pool, Server, User

cdef bint acquire(Client c) except -1
cdef int link(Client c, Server s) except -1
cdef bint clean(Server s) noexcept
cdef int maybe_release(Server s) except -1
cdef int make_available(Server s) except -1
cdef bint may_start(Pool pool) except -1
cdef int serve_waiting(Pool pool) except -1
cdef int client_gone(Client c) except -1
cdef int client_hung_up(Client c) except -1
cdef int forget_client(Client c) except -1
cdef int finish_closing(Client c) except -1
cdef int server_gone(Server s) except -1
cdef int close_client(Client c, str reason, str error=*, str sqlstate=*) except -1
cdef int close_server(Server s, str reason) except -1
cdef int fail_server(Server s, str reason, str error) except -1
cdef bint may_read_sequences(Client c) noexcept
cdef int own_message(Server s, bytes message, int purpose) except -1
cdef int own_query(Server s, bytes text, int purpose) except -1
cdef int own_query_done(Server s, int purpose, dict failed) except -1
cdef int test(Server s, bytes text, int purpose) except -1
