# How a client proves who it is.
from pgferry.engine.client.login_data cimport Login
from pgferry.engine.core.model cimport Client

cdef int authenticate(Client c, Login login) except -1
cdef int password_message(Client c, Login login, bytes body) except -1
