# One message of a client, as far as it is there and has been read.


cdef struct Message:
    char kind           # its type byte
    const char *p
    size_t n            # bytes that are there, which may be of what follows it, too
    size_t total        # its length, type byte included
    size_t have         # bytes of it that are there
    # Parse, Bind, once understood: the name of the statement, and the NUL behind it.
    size_t name_at
    size_t name_end
