"""A set of words with bits, and the scan of a statement's text for them.

The scan knows no SQL: words in strings and comments count like others, case does not. It may say too much, which
costs a closer look (judge), but never too little. A place where a statement may begin is the start of the text,
behind a semicolon, behind the end of a comment, and the start of a line in a text that has a `--` before it.
"""

from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcpy

# By byte: 0 between words, else the lower-case letter. Digits are in words but do not begin them.
cdef uint8_t LETTER[256]
cdef int _i
for _i in range(256):
    LETTER[_i] = 0
    if _i >= 128 or chr(_i).isalnum() or _i == 95 or _i == 36:
        LETTER[_i] = ord(chr(_i).lower()) if _i < 128 else _i


cdef inline uint64_t hash_word(const char *word, size_t n) noexcept:
    """FNV-1a of the word in lower case; never 0."""
    cdef uint64_t h = 0xcbf29ce484222325ULL
    cdef size_t i
    for i in range(n):
        h = (h ^ LETTER[<uint8_t>word[i]]) * 0x100000001b3ULL
    return h | 1


cdef class WordSet:
    """Open addressing by hash; two different words of one hash would only cost a closer look."""

    def __cinit__(self):
        self.cap = 256
        self.words = <Word *>calloc(self.cap, sizeof(Word))
        if self.words == NULL:
            raise MemoryError()

    def __dealloc__(self):
        free(self.words)

    cpdef int add(self, bytes word, uint32_t anywhere, uint32_t first) except -1:
        """Add a lower-case word, or more bits of it."""
        cdef const char *w = word
        cdef size_t n = len(word)
        if n == 0:
            return 0
        self.lengths[<uint8_t>w[0]] |= 1u << (n if n < 31 else 31)
        return self.enter(hash_word(w, n), anywhere, first)

    cdef int enter(self, uint64_t hash, uint32_t anywhere, uint32_t first) except -1:
        cdef uint32_t i, old_cap
        cdef Word *old
        if (self.count + 1) * 2 > self.cap:
            old, old_cap = self.words, self.cap
            self.words = <Word *>calloc(old_cap * 2, sizeof(Word))
            if self.words == NULL:
                self.words = old
                raise MemoryError()
            self.cap = old_cap * 2
            self.count = 0
            for i in range(old_cap):
                if old[i].hash:
                    self.enter(old[i].hash, old[i].anywhere, old[i].first)
            free(old)
        i = <uint32_t>(hash >> 20) & (self.cap - 1)
        while self.words[i].hash and self.words[i].hash != hash:
            i = (i + 1) & (self.cap - 1)
        if self.words[i].hash == 0:
            self.count += 1
        self.words[i].hash = hash
        self.words[i].anywhere |= anywhere
        self.words[i].first |= first
        return 0

    def copy(self):
        """Another set of the same words."""
        cdef WordSet other = WordSet()
        cdef uint32_t i
        for i in range(self.cap):
            if self.words[i].hash:
                other.enter(self.words[i].hash, self.words[i].anywhere, self.words[i].first)
        memcpy(other.lengths, self.lengths, sizeof(self.lengths))
        return other

    cdef uint32_t look_up(self, const char *word, size_t n, bint first) noexcept:
        cdef uint64_t hash = hash_word(word, n)
        cdef uint32_t i = <uint32_t>(hash >> 20) & (self.cap - 1)
        while self.words[i].hash:
            if self.words[i].hash == hash:
                return self.words[i].anywhere | (self.words[i].first if first else 0)
            i = (i + 1) & (self.cap - 1)
        return 0

    cdef uint32_t scan(self, const char *p, size_t n) noexcept:
        """The bits of all words found in p[:n]."""
        cdef const char *end = p + n
        cdef const char *word
        cdef uint32_t found = 0, bits, before = 0
        cdef size_t k
        cdef bint first = True, dashes = False
        cdef uint8_t c
        while p < end:
            c = <uint8_t>p[0]
            if LETTER[c] and not (48 <= c <= 57):
                word = p
                p += 1
                while p < end and LETTER[<uint8_t>p[0]]:
                    p += 1
                k = p - word
                bits = 0
                if self.lengths[LETTER[c]] & (1u << (k if k < 31 else 31)):
                    bits = self.look_up(word, k, first)
                    if not (bits & SHIELDED and before & SHIELD):
                        found |= bits
                before = bits
                if k == 1 and c | 32 == 117 and end - p > 1 and p[0] == b"&" and (p[1] == b"'" or p[1] == b'"'):
                    found |= self.look_up(b"u&", 2, first)      # an identifier may be spelled with escapes
                first = False
                continue
            if c == 59 or (c == 47 and p > end - n and p[-1] == b"*") or (c == 10 and dashes):
                first = True
            elif c == 45 and end - p > 1 and p[1] == b"-":
                dashes = True
            p += 1
        return found & ~<uint32_t>(SHIELD | SHIELDED)

    def bits(self, bytes text):
        """scan() for Python."""
        return self.scan(text, len(text))
