# Text put together in memory of its own.
cdef class Text:
    cdef char *data
    cdef size_t size
    cdef size_t cap

    cdef char *room(self, size_t n) except NULL
    cdef int raw(self, const char *data, size_t n) except -1
    cdef int put(self, str s) except -1
    cdef int number(self, long long n) except -1
    cdef int hexadecimal(self, unsigned long long n) except -1
    cdef int address(self, bytes raw) except -1
    cdef int drop(self, size_t n) except -1

    cdef inline int cut(self, size_t size) noexcept:
        # What is behind that is forgotten.
        self.size = size
        return 0
