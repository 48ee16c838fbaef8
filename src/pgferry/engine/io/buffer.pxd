# Bytes that a stream keeps: unsent ones, and received ones that are not consumed yet.


cdef struct OutBuffer:
    # 0 <= head <= tail <= cap, and data is NULL exactly when cap is 0. Unsent is data[head:tail].
    char *data
    size_t head
    size_t tail
    size_t cap


cdef struct InBuffer:
    # 0 <= size <= cap, and data is NULL exactly when cap is 0. Received and not consumed is data[:size], always from
    # the beginning of a message.
    char *data
    size_t size
    size_t cap


cdef class Memory:
    # How much the buffers of all connections take.
    cdef readonly size_t bytes
    cdef readonly int buffers
    cdef public size_t chunk        # step in which a buffer grows first, bytes (pkt_buf)

cdef int keep_unsent(OutBuffer *b, const char *data, size_t n, Memory memory) except -1
cdef int sent(OutBuffer *b, size_t n, Memory memory) noexcept
cdef int free_out(OutBuffer *b, Memory memory) noexcept
cdef int hold(InBuffer *b, const char *data, size_t n, Memory memory) except -1
cdef int enlarge(InBuffer *b, size_t cap, Memory memory) except -1
cdef int free_in(InBuffer *b, Memory memory) noexcept


cdef inline size_t unsent(const OutBuffer *b) noexcept:
    return b.tail - b.head
