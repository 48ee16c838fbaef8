"""What is known of a database's catalog."""


cdef class CatalogReader:
    """Reads a database's catalog; see services.catalog_reader."""

    cdef int begin(self, bint whole) except -1:
        raise NotImplementedError

    cdef int forget(self) except -1:
        raise NotImplementedError

    cdef int ask(self, bytes text, object on_answer) except -1:
        raise NotImplementedError


cdef class CatalogState:
    """What is known of what a database may do to sessions, and how old that is."""
