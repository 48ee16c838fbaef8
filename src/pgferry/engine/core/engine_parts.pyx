"""Parts of the engine that its rooms share."""

import os
from types import GetSetDescriptorType

from libc.stdint cimport uint32_t
from libc.string cimport memcpy

from pgferry.engine.core.words cimport WordSet
from pgferry.engine.io.stream cimport StreamList
from pgferry.engine.wire.messages cimport notice_message

from pgferry.session.words import word_set

cdef enum:
    RANDOM = 1024       # random bytes fetched at a time

ENDERS = (b"commit", b"end", b"rollback", b"abort", b"prepare")
WORKED_OUT = ("harmless_functions", "reset_query", "check_query")     # fields of EngineSettings, see worker.configure
ALWAYS_TRACKED = ("client_encoding", "DateStyle", "TimeZone", "standard_conforming_strings", "application_name")


cdef WordSet some_words(words, uint32_t bits, uint32_t begins):
    """A set of these words; `bits`: where they stand anywhere, `begins`: where they begin a statement."""
    cdef WordSet found = WordSet()
    for word in words:
        found.add(word, bits, begins)
    return found


cdef class EngineSettings:
    """Settings that the hot path reads."""

    def __cinit__(self):
        self.harmless_functions = frozenset()
        self.max_packet_size = 2147483647

    def take_over(self, settings):
        """Copy every field that is a setting as it stands. Raises AttributeError for one that is none."""
        for name in COPIED:
            setattr(self, name, getattr(settings, name))


COPIED = [name for name, what in vars(EngineSettings).items()
          if isinstance(what, GetSetDescriptorType) and name not in WORKED_OUT]


cdef class TrackedParameters:
    """The parameters that each client has its own values of, wherever its server is."""

    def __cinit__(self):
        self.seen_vars = {}
        self.names = list(ALWAYS_TRACKED)
        self.index = {name.lower(): i for i, name in enumerate(self.names)}
        self.spelled = {}
        self.always_tracked = len(ALWAYS_TRACKED)
        self.reported_by_some = set()


cdef class CancelKeys:
    """Cancel keys of clients, and requests with them."""

    def __cinit__(self):
        self.by_key = {}
        self.cancels = set()
        self.peers = {}

    cdef int put_random(self, char *at, int size) except -1:
        """Bytes for a cancel key that nobody can guess."""
        if self.random is None or self.random_used + size > RANDOM:
            self.random = os.urandom(RANDOM)
            self.random_used = 0
        memcpy(at, <const char *>self.random + self.random_used, size)
        self.random_used += size
        return 0


cdef class SqlWords:
    """Words that texts are scanned for."""

    def __cinit__(self):
        self.base = word_set({})
        self.end_transaction = some_words(ENDERS, 0, 1)
        self.default = some_words((b"default",), 1, 0)


cdef class Phase:
    """What of the work is going on."""

    def __cinit__(self):
        self.accepting = True


cdef class ConnectingClients:
    """Clients that belong to no pool."""

    def __cinit__(self):
        self.logins = StreamList()
        self.closing = StreamList()
        self.consoles = StreamList()


cdef class Greetings:
    """What is the same for all who log in, as long as the configuration is."""

    def __cinit__(self):
        self.startups = {}
        self.renew("")

    cdef int renew(self, str notice) except -1:
        """The configuration is a new one: startup packets are read again, and `notice` is told at login."""
        self.startups.clear()
        self.ready = (notice_message(notice) if notice else b"") + b"Z\0\0\0\x05I"
        return 0
