"""What a feed sends to one stream: bytes of our own making and pieces of its input, in order, with an owner.

A feed walks through one chunk of input and collects what its messages become; one system call sends it all. The bytes
belong to one stream: whatever else is put() for that stream meanwhile goes behind them, so that the order of calls is
the order of bytes, and what is sent to another stream in the midst of a feed leaves them alone.
"""

from libc.stdlib cimport free, malloc, realloc
from libc.string cimport memcpy

cdef enum:
    SMALL = 16384           # bytes of the stage at rest


cdef class Output:
    """The bytes, in one buffer of the loop and in the input."""

    def __cinit__(self):
        self.stage_cap = SMALL
        self.stage = <char *>malloc(SMALL)
        if self.stage == NULL:
            raise MemoryError()

    def __dealloc__(self):
        free(self.stage)

    cdef int grow(self, const char *data, size_t n) except -1:
        """Copy bytes to the end of the stage. Raises MemoryError."""
        cdef size_t cap
        cdef char *p
        if self.stage_len + n > self.stage_cap:
            cap = self.stage_cap * 2
            while cap < self.stage_len + n:
                cap *= 2
            p = <char *>realloc(self.stage, cap)
            if p == NULL:
                raise MemoryError()
            self.stage = p
            self.stage_cap = cap
        memcpy(self.stage + self.stage_len, data, n)
        self.stage_len += n
        return 0

    cdef int shrink(self) except -1:
        """Give the memory of an empty stage back."""
        cdef char *p = <char *>realloc(self.stage, SMALL)
        if p != NULL:
            self.stage = p
            self.stage_cap = SMALL
        return 0
