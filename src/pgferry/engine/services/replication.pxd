# Replication connections: a server for each client.
from pgferry.engine.client.login cimport Login
from pgferry.engine.core.model cimport Client, Database, Engine, Pool, Server, User

cdef Pool replication_pool(Engine engine, Database db, User user)
cdef int join(Client c, Pool pool) except -1
cdef int lacking(Pool pool) except -1
cdef int want_own(Pool pool) except -1
cdef int make_own(Server s, Client c) except -1
cdef list own_parameters(Server s)
cdef int take_reported(Server s, bytes untracked) except -1
cdef int own_logged_in(Server s) except -1
cdef int own_login_failed(Server s, str reason) except -1
cdef int lose_owner(Server s) except -1
cdef int abandon_server(Login login) except -1
cdef int part_for_good(Client c, Server s) except -1
cdef int end_replaced(Pool pool) except -1
cdef bint is_streaming(Client c) noexcept
cdef int ask_for_room(Engine engine) except -1
