"""Prepared statements at protocol level: one table of texts for the worker, a set of numbers for each server.

Clients name statements as they like; servers know them as PGFERRY_<number>. The same text with the same
parameter types is one Statement, whichever client sends it, so a server parses it once. The key also holds what names
in it mean: the client's own search_path, if it has one, and the database's DDL epoch. After DDL a client that prepares
anew gets a new Statement, and so a new plan, on every server, as on a direct connection; one that does not prepare anew
keeps the old one and sees PostgreSQL's own error.
"""

from libc.stdint cimport uint32_t, uint64_t
from libc.stdlib cimport calloc, free


cdef class Statement:
    """One text with parameter types, and the name servers know it by."""

    def __init__(self):
        raise TypeError("made by StatementTable.intern only")


cdef class StatementTable:
    """All statements that a client or a server of this worker holds."""

    def __cinit__(self):
        self.by_key = {}
        self.by_number = {}

    def __len__(self):
        return len(self.by_key)

    cdef Statement intern(self, object meaning, bytes body):
        """The Statement of this body; made when new, with no holder yet."""
        cdef tuple key = (meaning, body)
        cdef Statement st = self.by_key.get(key)
        if st is None:
            st = Statement.__new__(Statement)
            self.last += 1
            st.number = self.last
            st.body = body
            st.wire_name = b"PGFERRY_%d\x00" % st.number
            st.key = key
            self.by_key[key] = st
            self.by_number[st.number] = st
        return st

    cdef Statement get(self, uint32_t number):
        return self.by_number.get(number)

    cdef int acquire(self, Statement st) except -1:
        st.refs += 1
        return 0

    cdef int release(self, Statement st) except -1:
        """One holder less; the last one takes the Statement out of the table."""
        st.refs -= 1
        if st.refs <= 0 and self.by_number.pop(st.number, None) is not None:
            self.by_key.pop(st.key, None)
        return 0


cdef class ServerStatements:
    """A hash set of statement numbers with the time of last use (open addressing, linear probing)."""

    def __cinit__(self, StatementTable table):
        self.table = table

    def __dealloc__(self):
        free(self.slots)

    def __len__(self):
        return self.count

    cdef bint touch(self, uint32_t number) noexcept:
        """Mark as used now; False when the server does not have it."""
        cdef uint32_t i
        if self.count == 0:
            return False
        i = (number * 2654435761u) & (self.cap - 1)
        while self.slots[i].number:
            if self.slots[i].number == number:
                self.tick += 1
                self.slots[i].used = self.tick
                return True
            i = (i + 1) & (self.cap - 1)
        return False

    cdef int place(self, uint32_t number, uint64_t used) noexcept:
        cdef uint32_t i = (number * 2654435761u) & (self.cap - 1)
        while self.slots[i].number:
            i = (i + 1) & (self.cap - 1)
        self.slots[i].number = number
        self.slots[i].used = used
        return 0

    cdef int resize(self, uint32_t cap) except -1:
        cdef Slot *old = self.slots
        cdef uint32_t n = self.cap, i
        self.slots = <Slot *>calloc(cap, sizeof(Slot))
        if self.slots == NULL:
            self.slots = old
            raise MemoryError()
        self.cap = cap
        for i in range(n):
            if old[i].number:
                self.place(old[i].number, old[i].used)
        free(old)
        return 0

    cdef int add(self, uint32_t number) except -1:
        """Add a statement that the server does not have yet."""
        cdef Statement st = self.table.get(number)
        if st is None or self.touch(number):
            return 0
        if (self.count + 1) * 2 > self.cap:
            self.resize(self.cap * 2 if self.cap else 16)
        self.tick += 1
        self.place(number, self.tick)
        self.count += 1
        return self.table.acquire(st)

    cdef int discard(self, uint32_t number) except -1:
        """The server does not have it (any more)."""
        if self.leaves(number):
            self.closed(number)
        return 0

    cdef int closed(self, uint32_t number) except -1:
        """A statement that leaves() took out is gone from the server: nobody holds it for its sake."""
        cdef Statement st = self.table.get(number)
        if st is not None:
            self.table.release(st)
        return 0

    cdef int stays(self, uint32_t number) except -1:
        """The Close of a statement that leaves() took out was not carried out."""
        self.add(number)
        return self.closed(number)

    cdef bint leaves(self, uint32_t number) noexcept:
        """Take a statement out that is being closed; it is held until closed() or stays(). False: it is not here."""
        cdef uint32_t i, j, home
        if not self.touch(number):
            return False
        i = (number * 2654435761u) & (self.cap - 1)
        while self.slots[i].number != number:
            i = (i + 1) & (self.cap - 1)
        # Close the gap, so that probing needs no tombstones.
        j = i
        while True:
            self.slots[i].number = 0
            while True:
                j = (j + 1) & (self.cap - 1)
                if self.slots[j].number == 0:
                    self.count -= 1
                    return True
                home = (self.slots[j].number * 2654435761u) & (self.cap - 1)
                # Move j back unless its home lies cyclically in (i, j].
                if ((j - home) & (self.cap - 1)) >= ((j - i) & (self.cap - 1)):
                    break
            self.slots[i] = self.slots[j]
            i = j

    cdef uint32_t oldest(self) noexcept:
        """The statement whose last use lies longest back; 0 when there is none."""
        cdef uint32_t i, found = 0
        cdef uint64_t used = 0
        for i in range(self.cap):
            if self.slots[i].number and (found == 0 or self.slots[i].used < used):
                found = self.slots[i].number
                used = self.slots[i].used
        return found

    cdef int clear(self) except -1:
        """The server has none any more."""
        cdef uint32_t i
        cdef Statement st
        for i in range(self.cap):
            if self.slots[i].number:
                st = self.table.get(self.slots[i].number)
                if st is not None:
                    self.table.release(st)
        free(self.slots)
        self.slots = NULL
        self.cap = self.count = 0
        return 0
