# What a feed sends to one stream: bytes of our own making and pieces of its input, in order, with an owner.
from libc.stdint cimport uint64_t


cdef class Output:
    # Who gets the bytes: a Stream, or NULL between feeds and as long as a feed does not know it. Nobody else's flush()
    # touches them. Only compared: it does not keep the stream alive.
    cdef void *owner
    # They are stage[:stage_len], then run[:run_len]: a piece of the input, which is not copied and does not outlive the
    # feed. While run_len is 0, run means nothing.
    cdef char *stage
    cdef size_t stage_len
    cdef size_t stage_cap
    cdef const char *run
    cdef size_t run_len

    cdef int grow(self, const char *data, size_t n) except -1
    cdef int shrink(self) except -1

    cdef inline bint is_empty(self) noexcept:
        return self.stage_len == 0 and self.run_len == 0

    cdef inline int begin(self, object owner) noexcept:
        """A feed begins; owner None: it is not known yet."""
        self.stage_len = self.run_len = 0
        self.owner = <void *>owner
        return 0

    cdef inline int clear(self) noexcept:
        """All is with the owner, or nobody gets it any more."""
        self.stage_len = self.run_len = 0
        return 0

    cdef inline int end(self) noexcept:
        """The feed is over: what nobody has delivered is dropped with it."""
        self.stage_len = self.run_len = 0
        self.owner = NULL
        return 0

    cdef inline int settle(self) except -1:
        """Copy the run."""
        cdef size_t n = self.run_len
        self.run_len = 0
        return self.grow(self.run, n)

    cdef inline int emit_run(self, const char *data, size_t n) except -1:
        """Add input bytes; not copied while they continue the run. Raises MemoryError."""
        if self.run_len:
            if self.run + self.run_len == data:
                self.run_len += n
                return 0
            self.settle()
        self.run = data
        self.run_len = n
        return 0

    cdef inline int emit(self, const char *data, size_t n) except -1:
        """Add bytes of our own making. Raises MemoryError."""
        if self.run_len:
            self.settle()
        return self.grow(data, n)


cdef enum:
    LARGE_STAGE = 1024 * 1024   # bytes; a stage that has become larger is given back when it is sent
