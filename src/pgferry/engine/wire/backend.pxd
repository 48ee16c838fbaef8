# What the type of a backend message, or a command tag, says by itself.
from libc.string cimport strncmp


cdef inline bint must_be_whole(char kind) noexcept:
    return (kind == b"Z" or kind == b"C" or kind == b"E" or kind == b"S" or kind == b"1" or kind == b"2"
            or kind == b"3" or kind == b"G" or kind == b"n" or kind == b"s" or kind == b"I"
            or kind == b"A")


cdef inline bint always_short(char kind) noexcept:
    # PostgreSQL's own limits (names, columns) keep these far below WHOLE.
    return (kind == b"Z" or kind == b"C" or kind == b"1" or kind == b"2" or kind == b"3" or kind == b"n"
            or kind == b"s" or kind == b"I" or kind == b"G" or kind == b"H" or kind == b"W" or kind == b"c")


cdef inline bint is_standalone(const char *tag) noexcept:
    """Whether this is the end of a statement that may be Server.standalone_set."""
    return (strncmp(tag, b"SET", 4) == 0 or strncmp(tag, b"RESET", 6) == 0 or strncmp(tag, b"DISCARD", 7) == 0
            or strncmp(tag, b"UNLISTEN", 9) == 0 or strncmp(tag, b"DEALLOCATE ALL", 15) == 0)


cdef inline bint may_reset(const char *tag, bint to_default) noexcept:
    """Whether this is the end of a statement that may have set settings back to the server's own values.

    `to_default`: a SET may have been one TO DEFAULT.
    """
    return (strncmp(tag, b"RESET", 6) == 0 or strncmp(tag, b"DISCARD ALL", 12) == 0
            or (to_default and strncmp(tag, b"SET", 4) == 0))


cdef inline bint ends_transaction(const char *tag) noexcept:
    """Whether this is the end of a transaction, or of what came behind a savepoint."""
    return (strncmp(tag, b"ROLLBACK", 8) == 0 or strncmp(tag, b"COMMIT", 6) == 0
            or strncmp(tag, b"PREPARE TRANSACTION", 19) == 0)
