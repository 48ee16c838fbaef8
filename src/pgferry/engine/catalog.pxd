# Keeping up with what a database's functions and relations may do to a session.
from pgferry.engine.model cimport Database, Engine, Server

cdef bint wants_scan(Server s) except -1
cdef int scan(Server s) except -1
cdef int scanned(Server s) except -1
cdef int version_known(Server s) except -1
cdef int look_for_ddl(Database db) except -1
cdef int changed(Database db) except -1
cdef int catalog_unknown(Database db, Engine engine) except -1
