# Replication connections: a server for each client.
from pgferry.engine.core.model cimport Client, Engine, Job, Pool
from pgferry.engine.pool.server_pool cimport ServerPool


cdef class ReplicationLogin(Job):
    cdef Client client


cdef class ReplicationPool(ServerPool):
    cdef bint opening                # servers for them are being started


cdef int end_replaced(Pool pool) except -1
cdef int ask_for_room(Engine engine) except -1
