# The listening connection of a database in this worker, and what comes on it.
from libc.stdint cimport int64_t

from pgferry.engine.services.internal_session cimport InternalSession, SessionOwner
from pgferry.engine.core.model cimport Client, Database, Engine


cdef class Notification:
    # Shared by all clients that get it.
    cdef Hub hub
    cdef readonly bytes channel      # in the database's encoding; None: a notice of pgferry's own
    cdef bytes message               # as PostgreSQL has sent it, with the pid that clients are to see
    cdef bint plain                  # the same in all encodings
    cdef dict converted              # encoding -> message, None while PostgreSQL is asked for it
    cdef list waiting                # clients that wait for one of these

    cdef bytes bytes_for(self, Client c)
    cdef int wait(self, Client c) except -1


cdef class Hub(SessionOwner):
    cdef Engine engine
    cdef Database db
    cdef InternalSession session
    cdef dict listeners              # channel -> set of clients that listen, or soon may
    cdef set live                    # channels PostgreSQL has confirmed
    cdef set asking                  # channels whose LISTEN is under way
    cdef set refused                 # channels whose LISTEN has just failed
    cdef dict names                  # (client_encoding, name in a text) -> channel; None: it is the name of none
    cdef int64_t sent                # queries so far, and how many of them are answered
    cdef int64_t answered
    cdef dict due                    # client that is held -> the query that has to be answered first
    cdef set blocked                 # clients that wait for an answer on this connection
    cdef list fences                 # clients whose ReadyForQuery is held back, oldest first
    cdef bint lost                   # clients were told that notifications may be missing
    cdef dict senders                # process id of a server -> the one its client knows as its own, 4 bytes
    cdef double looked_at            # monotonic: when was it last asked which of them still exist

    cdef int query(self, bytes text, object on_answer) except -1
    cdef int barrier(self) except -1
    cdef int fence(self, Client c) except -1
    cdef int listen(self, channels) except -1
    cdef int wait(self, Client c) except -1
    cdef int wake(self) except -1
    cdef list channels_of(self, Client c, tuple names)
    cdef int tell(self, str text) except -1
    cdef int announced(self, unsigned int pid, bytes payload) except -1
    cdef int tick(self) except -1

cdef Hub hub_of(Client c)
cdef bytes encoding_of(Client c)
cdef int hub_tick(Database db) except -1
