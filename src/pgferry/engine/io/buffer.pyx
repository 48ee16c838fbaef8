"""Bytes that a stream keeps: unsent ones, and received ones not consumed yet. An idle connection has neither."""

from libc.stdlib cimport free, realloc
from libc.string cimport memcpy, memmove


cdef class Memory:
    """How much the buffers of all connections take."""

    def __cinit__(self):
        self.chunk = 4096


cdef int keep_unsent(OutBuffer *b, const char *data, size_t n, Memory memory) except -1:
    """Put bytes behind the unsent ones. Raises MemoryError."""
    cdef size_t cap
    cdef char *p
    if b.tail + n > b.cap:
        if b.head:
            memmove(b.data, b.data + b.head, b.tail - b.head)
            b.tail -= b.head
            b.head = 0
        if b.tail + n > b.cap:
            cap = max(b.cap * 2, memory.chunk)
            while cap < b.tail + n:
                cap *= 2
            p = <char *>realloc(b.data, cap)
            if p == NULL:
                raise MemoryError()
            memory.buffers += b.cap == 0
            memory.bytes += cap - b.cap
            b.data = p
            b.cap = cap
    memcpy(b.data + b.tail, data, n)
    b.tail += n
    return 0


cdef int sent(OutBuffer *b, size_t n, Memory memory) noexcept:
    """n of the unsent bytes are gone; with the last one the memory is given back."""
    b.head += n
    if b.head == b.tail:
        free_out(b, memory)
    return 0


cdef int free_out(OutBuffer *b, Memory memory) noexcept:
    memory.bytes -= b.cap
    memory.buffers -= b.cap != 0
    free(b.data)
    b.data = NULL
    b.head = b.tail = b.cap = 0
    return 0


cdef int hold(InBuffer *b, const char *data, size_t n, Memory memory) except -1:
    """Keep these bytes, which may be the end of what is kept already. Raises MemoryError."""
    if b.data != NULL and b.data <= data < b.data + b.cap:
        memmove(b.data, data, n)
    else:
        if n > b.cap:
            enlarge(b, n, memory)
        memcpy(b.data, data, n)
    b.size = n
    return 0


cdef int enlarge(InBuffer *b, size_t cap, Memory memory) except -1:
    """Room for so many bytes. Raises MemoryError."""
    cdef char *p
    cap = max(cap, memory.chunk)
    p = <char *>realloc(b.data, cap)
    if p == NULL:
        raise MemoryError()
    memory.buffers += b.cap == 0
    memory.bytes += cap - b.cap
    b.data = p
    b.cap = cap
    return 0


cdef int free_in(InBuffer *b, Memory memory) noexcept:
    memory.bytes -= b.cap
    memory.buffers -= b.cap != 0
    free(b.data)
    b.data = NULL
    b.size = b.cap = 0
    return 0
