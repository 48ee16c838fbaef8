# The listening connection of a database in this worker, and what comes on it.
from pgferry.engine.core.database cimport Database
from pgferry.engine.core.model cimport Client, Engine
from pgferry.engine.services.internal_session cimport InternalSession
from pgferry.engine.session.notifications cimport Listener, Notification


cdef class ConvertedNotification(Notification):
    cdef NotificationListener listener
    cdef bint plain                  # the same in all encodings
    cdef dict converted              # encoding -> message, None while PostgreSQL is asked for it
    cdef list waiting                # clients that wait for one of these


cdef class ListeningSession(InternalSession):
    cdef NotificationListener listener


cdef class NotificationListener(Listener):
    cdef Engine engine
    cdef Database db
    cdef InternalSession session
    cdef set asking                  # channels whose LISTEN is under way
    cdef dict names                  # (client_encoding, name in a text) -> channel; None: it is the name of none
    cdef list barriers                 # clients whose ReadyForQuery is held back, oldest first
    cdef bint lost                   # clients were told that notifications may be missing
    cdef dict senders                # process id of a server -> the one its client knows as its own, 4 bytes
    cdef double looked_at            # monotonic: when was it last asked which of them still exist

    cdef int query(self, bytes text, object on_answer) except -1
    cdef int wake(self) except -1
    cdef int tell(self, str text) except -1
    cdef int announced(self, unsigned int pid, bytes payload) except -1
    cdef int tick(self) except -1
    cdef int on_up(self) except -1
    cdef int on_lost(self, str reason) except -1
    cdef int on_failed(self, str reason) except -1
    cdef int on_notified(self, const char *p, size_t n) except -1

cdef bytes encoding_of(Client c)
cdef int listener_tick(Database db) except -1
