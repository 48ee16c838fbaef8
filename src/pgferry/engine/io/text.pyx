"""Text put together in memory of its own: a log line costs no object and no formatting machinery."""

from libc.stdint cimport uint8_t
from libc.stdlib cimport free, realloc
from libc.string cimport memcpy, memmove, strlen

from pgferry.engine.io.sys cimport AF_INET, AF_INET6, inet_ntop, ntohs, sockaddr_in, sockaddr_in6

cdef extern from "Python.h":
    bint PyUnicode_IS_COMPACT_ASCII(object s)
    const void *PyUnicode_1BYTE_DATA(object s)
    Py_ssize_t PyUnicode_GET_LENGTH(object s)

cdef enum:
    STEP = 4096

cdef const char *DIGITS = b"0123456789abcdef"


cdef class Text:
    """UTF-8 that grows at its end; str with surrogates gives back the bytes they stand for."""

    def __dealloc__(self):
        free(self.data)

    cdef char *room(self, size_t n) except NULL:
        """Where n bytes more can be written; the caller adds to `size` what it used. Raises MemoryError."""
        cdef size_t cap = self.cap
        cdef char *p
        if self.size + n > cap:
            cap = max(cap * 2, <size_t>STEP)
            while cap < self.size + n:
                cap *= 2
            p = <char *>realloc(self.data, cap)
            if p == NULL:
                raise MemoryError()
            self.data = p
            self.cap = cap
        return self.data + self.size

    cdef int raw(self, const char *data, size_t n) except -1:
        memcpy(self.room(n), data, n)
        self.size += n
        return 0

    cdef int put(self, str s) except -1:
        cdef bytes encoded
        if s is None:
            raise TypeError("no text")
        if PyUnicode_IS_COMPACT_ASCII(s):
            return self.raw(<const char *>PyUnicode_1BYTE_DATA(s), PyUnicode_GET_LENGTH(s))
        encoded = s.encode("utf-8", "surrogateescape")
        return self.raw(encoded, len(encoded))

    cdef int number(self, long long n) except -1:
        cdef char digits[24]
        cdef int at = 24
        cdef unsigned long long left = <unsigned long long>n if n >= 0 else -<unsigned long long>n
        while True:
            at -= 1
            digits[at] = <char>(48 + left % 10)
            left //= 10
            if left == 0:
                break
        if n < 0:
            at -= 1
            digits[at] = 45
        return self.raw(digits + at, 24 - at)

    cdef int hexadecimal(self, unsigned long long n) except -1:
        """n as 0x..."""
        cdef char digits[18]
        cdef int at = 18
        while True:
            at -= 1
            digits[at] = DIGITS[n % 16]
            n //= 16
            if n == 0:
                break
        digits[at - 1] = b"x"
        digits[at - 2] = b"0"
        return self.raw(digits + at - 2, 20 - at)

    cdef int address(self, bytes raw) except -1:
        """host:port of a struct sockaddr, IPv6 in brackets; nothing when it is no internet address."""
        cdef char text[64]
        cdef const char *p = raw
        cdef const sockaddr_in *v4 = <const sockaddr_in *>p
        cdef const sockaddr_in6 *v6 = <const sockaddr_in6 *>p
        cdef const uint8_t *parts
        cdef int i
        if len(raw) >= 16 and v4.sin_family == AF_INET:
            parts = <const uint8_t *>&v4.sin_addr
            for i in range(4):
                self.number(parts[i])
                self.raw(b"." if i < 3 else b":", 1)
            return self.number(ntohs(v4.sin_port))
        if len(raw) >= 28 and v6.sin6_family == AF_INET6:
            inet_ntop(AF_INET6, &v6.sin6_addr, text, 64)
            self.raw(b"[", 1)
            self.raw(text, strlen(text))
            self.raw(b"]:", 2)
            return self.number(ntohs(v6.sin6_port))
        return 0

    cdef int drop(self, size_t n) except -1:
        """Take the first n bytes away; memory of a rare crowd is given back."""
        self.size -= n
        if self.size:
            memmove(self.data, self.data + n, self.size)
        elif self.cap > 16 * STEP:
            free(self.data)
            self.data = NULL
            self.cap = 0
        return 0
