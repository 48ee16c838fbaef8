# How PostgreSQL writes the values that a startup packet asks for.
from pgferry.engine.client.login_data cimport Login
from pgferry.engine.core.model cimport Client

cdef bint ask_canonical(Client c, Login login, dict values) except -1
