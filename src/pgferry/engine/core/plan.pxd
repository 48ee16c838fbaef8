# The response plan: what a server still owes, in order, and what becomes of each answer.
from libc.stdint cimport uint8_t, uint32_t, uint64_t


cpdef enum Kind:
    # What was asked; decides which backend message answers it.
    K_QUERY = 1       # Query or FunctionCall: everything up to ReadyForQuery
    K_SYNC = 2        # ReadyForQuery
    K_PARSE = 3       # ParseComplete
    K_BIND = 4        # BindComplete
    K_DESCRIBE_S = 5  # ParameterDescription, then RowDescription or NoData
    K_DESCRIBE_P = 6  # RowDescription or NoData
    K_EXECUTE = 7     # CommandComplete, EmptyQueryResponse or PortalSuspended
    K_CLOSE = 8       # CloseComplete
    K_COPY_END = 9    # no answer: the client's CopyDone or CopyFail went by here


cpdef enum Flag:
    F_SWALLOW = 1     # the client did not ask: nothing of the answer reaches it
    F_FAKE = 2        # the server was not asked: pgferry answers when the entry comes to the front
    F_CLIENT_OP = 4   # success or failure settles the oldest entry of client.names.undos
    F_SERVER_OP = 8   # success or failure settles statement `number` in server.prepared
    F_UNNAMED = 16    # concerns the server's unnamed statement
    F_IN_COPY = 32    # a Sync that the server may have read, and dropped, while in copy-in mode
    F_DROPS = 64      # may drop all prepared statements, the client's and the server's
    F_NOTED = 128     # Plan.notes has a Note of it


cpdef enum Begun:
    NOTHING = 0
    TEXTS = 1         # what can fail: Parse, Describe of a statement
    PORTALS = 2       # and what a Sync would end


cdef enum:
    # Number of a swallowed K_EXECUTE whose rows are wanted: what a text is parsed under (parse_settings).
    SHOWS = 1


cdef struct Entry:
    uint8_t kind
    uint8_t flags
    uint64_t number   # of a Statement (F_SERVER_OP, and K_BIND so that a stale plan can be told)


cdef class Note:
    # What belongs to one entry of a plan, and to no other, until it is answered.
    cdef bytes refusal           # ErrorResponse in the place of PostgreSQL's: what was sent cannot be parsed; or None
    # What its DEALLOCATEs name, in order: (client's name, or None when it is that of PREPARE; number of the Statement)
    cdef list deallocates
    # The entry is a command of pgferry's own: if it succeeds, the server has `value` (see SessionTracker.sql) under
    # `name` as a prepared statement of SQL, or no such statement any more (None). name None: it is DISCARD SEQUENCES.
    cdef bint ensures
    cdef bytes name
    cdef tuple value

    cdef int apply(self, dict statements) except -1
    cdef int lose(self) noexcept


# The three kinds of Note.
cdef Note note_of_refusal(bytes error)
cdef Note note_of_deallocates(list names)
cdef Note note_of_ensured(bytes name, tuple value)


cdef class Plan:
    cdef Entry *ring
    cdef list notes              # of the entries with F_NOTED, oldest first
    cdef uint32_t cap            # a power of two
    cdef uint32_t head           # index of the oldest entry, not reduced
    cdef uint32_t tail
    cdef readonly int effects    # entries that settle a named statement, or drop all
    cdef readonly int batch      # those among them since the last Sync or Query
    cdef readonly int unnamed    # entries that settle the unnamed statement
    cdef readonly int drops      # entries that drop all
    cdef readonly uint8_t begun  # what of the client's present batch is pushed (Begun)
    cdef readonly int turns      # the client's own entries that end with ReadyForQuery

    cdef int push(self, uint8_t kind, uint8_t flags, uint64_t number) except -1
    cdef int begin_batch(self) noexcept
    cdef int note(self, Note note) except -1
    cdef Note front_note(self)
    cdef int drop_note(self) noexcept
    cdef int grow(self) except -1
    cdef int drop_syncs_in_copy(self) noexcept

    cdef inline uint32_t size(self) noexcept:
        return self.tail - self.head

    cdef inline Entry *front(self) noexcept:
        # NULL when nothing is owed.
        if self.head == self.tail:
            return NULL
        return &self.ring[self.head & (self.cap - 1)]

    cdef inline Entry *at(self, uint32_t i) noexcept:
        # The i-th oldest entry; i < size().
        return &self.ring[(self.head + i) & (self.cap - 1)]

    cdef inline void pop(self) noexcept:
        cdef uint8_t flags = self.ring[self.head & (self.cap - 1)].flags
        if self.ring[self.head & (self.cap - 1)].kind <= K_SYNC and not flags & F_SWALLOW:
            self.turns -= 1
        if flags:
            if flags & F_NOTED:
                self.drop_note()
            if flags & F_UNNAMED:
                self.unnamed -= 1
            if flags & F_DROPS:
                self.drops -= 1
            if self.named(flags):
                self.effects -= 1
                if self.batch > self.effects:
                    self.batch = self.effects
        self.head += 1

    cdef inline bint named(self, uint8_t flags) noexcept:
        # Whether such an entry changes what names mean.
        return flags & F_DROPS or (flags & (F_CLIENT_OP | F_SERVER_OP) and not flags & F_UNNAMED)

    cdef inline bint unsettled(self) noexcept:
        # True while an earlier batch may still change what names mean (see relay: stall).
        return self.effects > self.batch
