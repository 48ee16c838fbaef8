# Ends of clients and servers.
from pgferry.engine.core.model cimport Client, Server

cdef int close_client(Client c, str reason, str error=*, str sqlstate=*) except -1
cdef int forget_client(Client c) except -1
cdef int finish_closing(Client c) except -1
cdef int client_gone(Client c) except -1
cdef int client_hung_up(Client c) except -1
cdef int close_server(Server s, str reason) except -1
cdef int fail_server(Server s, str reason, str error) except -1
cdef int server_gone(Server s) except -1
