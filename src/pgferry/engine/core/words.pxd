# A set of words with bits, and the scan of a statement's text for them.
from libc.stdint cimport uint32_t, uint64_t


cdef struct Word:
    uint64_t hash       # 0: free
    uint32_t anywhere   # bits the word stands for wherever it is found
    uint32_t first      # bits it stands for where a statement may begin


cdef enum:
    # In `anywhere`: where a statement begins with it, takes the meaning of a SHIELDED word directly behind it.
    SHIELD = 1 << 30
    SHIELDED = 1 << 31


cdef class WordSet:
    cdef Word *words
    cdef uint32_t cap                # a power of two
    cdef readonly uint32_t count
    cdef uint32_t lengths[1024]      # by first and last character: which lengths (modulo 32) occur

    cpdef int add(self, bytes word, uint32_t anywhere, uint32_t first) except -1
    cdef int enter(self, uint64_t hash, uint32_t anywhere, uint32_t first) except -1
    cdef uint32_t look_up(self, const char *word, size_t n, bint first) noexcept
    cdef uint32_t meaning(self, const char *word, size_t n, bint first, bint sure, const char **shield) noexcept
    cdef uint32_t behind_exponent(self, const char *word, size_t n, const char *end) noexcept
    cdef uint32_t escaped(self, const char *word, size_t n, const char *end) noexcept
    cdef uint32_t scan_closely(self, const char *p, size_t n) noexcept
    cdef uint32_t scan(self, const char *p, size_t n) noexcept
