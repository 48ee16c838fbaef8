"""The response plan: what a server still owes, in order, and what becomes of each answer.

Every message that a server will answer has one entry, pushed when the message is staged for sending and popped
when its answer has come. What pgferry asks for itself is marked F_SWALLOW, what it answers itself F_FAKE. An
ErrorResponse to an extended-protocol message makes PostgreSQL skip everything up to the next Sync, so the
relay drops the entries up to there; entries that would have changed a map (F_CLIENT_OP, F_SERVER_OP) are
undone as they are dropped. A server whose plan is empty owes nothing.
"""

from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.stdlib cimport free, malloc


cdef bytes GONE = b"\0"     # Note.name when that name has been taken away meanwhile; no statement is called so


cdef class Note:
    """What belongs to one entry of a plan, and to no other."""

    cdef int apply(self, dict statements) except -1:
        """The command has succeeded: what it makes of the server's SQL-level prepared statements."""
        if self.value is not None and self.name != GONE:
            statements[self.name] = self.value
        elif self.name is not None:
            statements.pop(self.name, None)
        return 0

    cdef int lose(self) noexcept:
        """Whatever the command brings, something that was sent behind it takes it away."""
        self.name = GONE
        return 0


cdef Note note_of_refusal(bytes error):
    """The entry is of something that PostgreSQL cannot parse."""
    cdef Note note = Note.__new__(Note)
    note.refusal = error
    return note


cdef Note note_of_deallocates(list names):
    """The entry has these DEALLOCATEs."""
    cdef Note note = Note.__new__(Note)
    note.deallocates = names
    return note


cdef Note note_of_ensured(bytes name, tuple value):
    """The entry is a command of pgferry's own that brings this, or takes it away."""
    cdef Note note = Note.__new__(Note)
    note.ensures = True
    note.name = name
    note.value = value
    return note


cdef class Plan:
    """A ring of entries that grows as needed."""

    def __cinit__(self):
        self.cap = 8
        self.ring = <Entry *>malloc(self.cap * sizeof(Entry))
        if self.ring == NULL:
            raise MemoryError()
        self.notes = []

    def __dealloc__(self):
        free(self.ring)

    def __len__(self):
        return self.size()

    cdef int push(self, uint8_t kind, uint8_t flags, uint64_t number) except -1:
        cdef Entry *entry
        if self.tail - self.head == self.cap:
            self.grow()
        entry = &self.ring[self.tail & (self.cap - 1)]
        entry.kind = kind
        entry.flags = flags
        entry.number = number
        self.tail += 1
        if flags:
            if flags & F_UNNAMED:
                self.unnamed += 1
            if flags & F_DROPS:
                self.drops += 1
            if self.named(flags):
                self.effects += 1
                self.batch += 1
        if kind <= K_SYNC:
            if not flags & F_SWALLOW:
                self.batch = 0
                self.turns += 1
                # A Query in the middle of a batch is skipped with the rest when that has failed.
                if kind == K_SYNC:
                    self.begin_batch()
        elif kind != K_CLOSE and kind != K_COPY_END and not flags & (F_SWALLOW | F_FAKE):
            if kind != K_PARSE and kind != K_DESCRIBE_S:
                self.begun = PORTALS
            elif self.begun == NOTHING:
                self.begun = TEXTS
        return 0

    cdef int begin_batch(self) noexcept:
        """Nothing of the client's batch that comes next is pushed."""
        self.begun = NOTHING
        return 0

    cdef int note(self, Note note) except -1:
        """Add a Note to the entry pushed last."""
        self.at(self.size() - 1).flags |= F_NOTED
        self.notes.append(note)
        return 0

    cdef Note front_note(self):
        """The Note of the oldest entry; None when it has none."""
        cdef Entry *entry = self.front()
        return self.notes[0] if entry != NULL and entry.flags & F_NOTED else None

    cdef int drop_note(self) noexcept:
        del self.notes[0]
        return 0

    cdef int grow(self) except -1:
        cdef uint32_t n = self.tail - self.head, i
        cdef Entry *ring = <Entry *>malloc(self.cap * 2 * sizeof(Entry))
        if ring == NULL:
            raise MemoryError()
        for i in range(n):
            ring[i] = self.ring[(self.head + i) & (self.cap - 1)]
        free(self.ring)
        self.ring = ring
        self.cap *= 2
        self.head = 0
        self.tail = n
        return 0

    cdef int drop_syncs_in_copy(self) noexcept:
        """Take out the Syncs marked F_IN_COPY (the server has read and dropped them); returns how many."""
        cdef uint32_t n = self.tail - self.head, i, kept = 0
        cdef Entry entry
        for i in range(n):
            entry = self.ring[(self.head + i) & (self.cap - 1)]
            if entry.kind == K_SYNC and entry.flags & F_IN_COPY:
                continue
            self.ring[(self.head + kept) & (self.cap - 1)] = entry
            kept += 1
        self.tail = self.head + kept
        self.turns -= <int>(n - kept)
        return n - kept

    def entries(self):
        """(kind, flags, number) of every entry, oldest first (for tests and diagnosis)."""
        cdef uint32_t i
        return [(self.at(i).kind, self.at(i).flags, self.at(i).number) for i in range(self.size())]
