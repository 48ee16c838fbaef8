"""A set of words with bits, and the scan of a statement's text for them.

The scan knows no SQL: words in strings and comments count like others, case does not. It may say too much, which
costs a closer look (classify), but never too little. A place where a statement may begin is the start of the text,
behind a semicolon, behind the end of a comment, and the start of a line in a text that has a `--` before it. (A line
ends at CR as well as at LF.)

A word begins behind whatever digits and `$` stand before it, for PostgreSQL before 15 takes `1into` and `$1into` for
two tokens each; `1e5into` likewise. In all versions one may begin behind the `$` that ends a string: `$a$x$a$into`.
"""

cimport cython
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memchr, memcpy

cdef extern from * nogil:
    """
    #include <stdint.h>
    #include <string.h>
    /* The n < 64 bytes at p and NULs behind them, 64 in all. */
    static inline void pgf_pad(char *to, const char *p, size_t n) {
        memset(to, 0, 64);
        if (n >= 32) {
            char head[32], tail[32];
            memcpy(head, p, 32);
            memcpy(tail, p + n - 32, 32);
            memcpy(to, head, 32);
            memcpy(to + n - 32, tail, 32);
        } else
            memcpy(to, p, n);
    }
    /* A bit for each of 64 bytes: is it part of a word, is it one that begins no word (a digit or $), is it one of
       ; & - / (which may matter between words). Bytes from 128 on are part of words. */
    #ifdef __SSE2__
    #include <emmintrin.h>
    #define PGF_UPTO(x, low, n) \
        _mm_cmpeq_epi8(_mm_subs_epu8(_mm_sub_epi8(x, _mm_set1_epi8(low)), _mm_set1_epi8(n)), _mm_setzero_si128())
    #define PGF_IS(x, c) _mm_cmpeq_epi8(x, _mm_set1_epi8(c))
    static inline void pgf_kinds(const uint8_t *p, uint64_t *words, uint64_t *inner, uint64_t *marks) {
        uint64_t w = 0, d = 0, m = 0;
        for (int i = 0; i < 64; i += 16) {
            __m128i x = _mm_loadu_si128((const __m128i *)(p + i));
            __m128i digit = PGF_UPTO(x, '0', 9);
            __m128i letter = PGF_UPTO(_mm_or_si128(x, _mm_set1_epi8(32)), 'a', 25);
            digit = _mm_or_si128(digit, PGF_IS(x, '$'));
            __m128i word = _mm_or_si128(_mm_or_si128(letter, digit), PGF_IS(x, '_'));
            /* '-' | 2 is '/' */
            __m128i mark = _mm_or_si128(PGF_IS(_mm_or_si128(x, _mm_set1_epi8(2)), '/'),
                                        _mm_or_si128(PGF_IS(x, ';'), PGF_IS(x, '&')));
            w |= (uint64_t)(uint32_t)_mm_movemask_epi8(_mm_or_si128(word, x)) << i;
            d |= (uint64_t)(uint32_t)_mm_movemask_epi8(digit) << i;
            m |= (uint64_t)(uint32_t)_mm_movemask_epi8(mark) << i;
        }
        *words = w, *inner = d, *marks = m;
    }
    #else
    static inline void pgf_kinds(const uint8_t *p, uint64_t *words, uint64_t *inner, uint64_t *marks) {
        uint64_t w = 0, d = 0, m = 0;
        for (int i = 63; i >= 0; i--) {
            uint8_t c = p[i], digit = (c >= '0' && c <= '9') || c == '$', letter = (c | 32) >= 'a' && (c | 32) <= 'z';
            w = w << 1 | (letter || digit || c >= 128 || c == '_');
            d = d << 1 | digit;
            m = m << 1 | ((c | 2) == '/' || c == ';' || c == '&');
        }
        *words = w, *inner = d, *marks = m;
    }
    #endif
    """
    void pad "pgf_pad" (char *to, const char *p, size_t n)
    void kinds "pgf_kinds" (const uint8_t *p, uint64_t *words, uint64_t *inner, uint64_t *marks)
    int lowest "__builtin_ctzll" (uint64_t bits)
    int leading "__builtin_clzll" (uint64_t bits)

cdef enum:
    NAME_LENGTH = 63        # bytes of a name that count
    MOST_DOLLARS = 8        # in what looks like one word; with more it may be anything

# By byte: 0 between words, else the lower-case letter. Digits and $ are in words but do not begin them.
cdef uint8_t LETTER[256]
cdef int _i
for _i in range(256):
    LETTER[_i] = 0
    if _i >= 128 or chr(_i).isalnum() or _i == 95 or _i == 36:
        LETTER[_i] = ord(chr(_i).lower()) if _i < 128 else _i


cdef inline bint is_digit(char c) noexcept:
    return 48 <= <uint8_t>c <= 57


cdef inline bint begins_word(char c) noexcept:
    return LETTER[<uint8_t>c] != 0 and c != b"$" and not is_digit(c)


cdef inline bint is_space(char c) noexcept:
    return c == b" " or 9 <= <uint8_t>c <= 13


cdef inline bint all_space(const char *p, const char *end) noexcept:
    while p < end and is_space(p[0]):
        p += 1
    return p == end


cdef inline bint exponent(const char *word, size_t n, const char *begin) noexcept:
    """Whether a word may begin with the exponent of the number in front of it."""
    return word[0] | 32 == b"e" and n > 1 and word > begin and is_digit(word[-1]) and is_digit(word[1])


cdef const char *skip_opening(const char *p, const char *end) noexcept:
    """Where the first token of a text begins: behind white space and comments, which nest."""
    cdef int depth
    while p < end:
        if is_space(p[0]):
            p += 1
        elif end - p > 1 and p[0] == b"-" and p[1] == b"-":
            while p < end and p[0] != b"\n" and p[0] != b"\r":
                p += 1
        elif end - p > 1 and p[0] == b"/" and p[1] == b"*":
            p += 2
            depth = 1
            while depth and end - p > 1:
                if p[0] == b"/" and p[1] == b"*":
                    depth += 1
                    p += 2
                elif p[0] == b"*" and p[1] == b"/":
                    depth -= 1
                    p += 2
                else:
                    p += 1
            if depth:
                return end
        else:
            return p
    return p


cdef inline uint64_t hash_word(const char *word, size_t n) noexcept:
    """FNV-1a of the word in lower case; never 0."""
    cdef uint64_t h = 0xcbf29ce484222325ULL
    cdef size_t i
    for i in range(n):
        h = (h ^ LETTER[<uint8_t>word[i]]) * 0x100000001b3ULL
    return h | 1


cdef inline uint32_t ends(const char *word, size_t n) noexcept:
    """An index by the first and the last character (n > 0), the same in either case."""
    return (<uint32_t>word[0] & 31) << 5 | (<uint32_t>word[n - 1] & 31)


cdef inline uint32_t length_bit(size_t n) noexcept:
    return 1u << (n & 31)


cdef inline bint matters(const char *p, const char *begin, const char *end) noexcept:
    """A statement may begin behind this byte, or a word be spelled in a way that only a closer look finds."""
    if p[0] == b"-":
        return end - p > 1 and p[1] == b"-"
    if p[0] == b"/":
        return p > begin and p[-1] == b"*"
    return p[0] == b";" or p[0] == b"&"


cdef uint32_t behind_dollars(WordSet words, const char *word, size_t n, const char *end) noexcept:
    """The bits of words that may begin behind a `$` in this one."""
    cdef uint32_t found = 0
    cdef size_t i
    cdef int count = 0
    cdef const char *rest
    cdef const char *nothing
    for i in range(n):
        if word[i] != b"$":
            continue
        count += 1
        if count > MOST_DOLLARS:
            return found | words.look_up(b"u&", 2, False)
        rest = word + i + 1
        while rest < word + n and not begins_word(rest[0]):
            rest += 1
        if rest == word + n:
            break
        nothing = NULL
        found |= words.meaning(rest, word + n - rest, False, False, &nothing)
        found |= words.escaped(rest, word + n - rest, end)
        if exponent(rest, word + n - rest, word):
            found |= words.behind_exponent(rest, word + n - rest, end)
    return found


@cython.final
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
        self.lengths[ends(w, n)] |= length_bit(n)
        return self.enter(hash_word(w, n), anywhere, first)

    def add_shield(self, bytes word):
        """Add a word that takes the meaning of a shielded one directly behind it, where a statement begins with it."""
        self.add(word, SHIELD, 0)

    def add_shielded(self, bytes word, uint32_t anywhere):
        """Add a word that has these bits except behind a shield."""
        self.add(word, <uint32_t>SHIELDED | anywhere, 0)

    def unshield(self, bytes word):
        """Have a word count wherever it stands."""
        cdef uint64_t hash = hash_word(word, len(word))
        cdef uint32_t i
        for i in range(self.cap):
            if self.words[i].hash == hash:
                self.words[i].anywhere &= ~<uint32_t>SHIELDED

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

    cdef uint32_t meaning(self, const char *word, size_t n, bint first, bint sure, const char **shield) noexcept:
        """The bits of a word. `sure`: a statement does begin here, if this is no string; `shield`: the end of the
        word before, if that is one of these and shields.
        """
        cdef uint32_t bits = 0
        cdef size_t k
        if n > NAME_LENGTH:                     # PostgreSQL cuts it there, and not within a character
            for k in range(NAME_LENGTH - 3, NAME_LENGTH + 1):
                bits |= self.look_up(word, k, first)
        elif self.lengths[ends(word, n)] & length_bit(n):
            bits = self.look_up(word, n, first)
        if bits & SHIELDED and shield[0] != NULL and all_space(shield[0], word):
            bits = 0
        shield[0] = word + n if sure and bits & SHIELD else NULL
        return bits

    cdef uint32_t behind_exponent(self, const char *word, size_t n, const char *end) noexcept:
        """The bits of the word that follows the exponent at the start of this one."""
        cdef const char *rest = word + 1
        cdef const char *nothing = NULL
        while rest < word + n and not begins_word(rest[0]):
            rest += 1
        n -= rest - word
        if n == 0:
            return 0
        return self.meaning(rest, n, False, False, &nothing) | self.escaped(rest, n, end)

    cdef uint32_t escaped(self, const char *word, size_t n, const char *end) noexcept:
        """The bits of U&"...", if that begins with this word: an identifier may be spelled with escapes."""
        if n == 1 and word[0] | 32 == b"u" and end - word > 2 and word[1] == b"&" and (
                word[2] == b"'" or word[2] == b'"'):
            return self.look_up(b"u&", 2, False)
        return 0

    cdef uint32_t scan(self, const char *p, size_t n) noexcept:
        """The bits of all words found in p[:n].

        Takes 64 bytes at a time, as long as nothing between the words matters.
        """
        cdef const char *begin = p
        cdef const char *end = p + n
        cdef const char *block
        cdef const char *shield = NULL
        cdef char rest[64]
        cdef uint32_t found = 0
        cdef uint64_t words, inner, starts, marks, after
        cdef int at, k, done
        cdef bint last, first = True
        while True:
            last = end - p < 64
            block = p
            if last:
                pad(rest, p, end - p)
                block = rest
            kinds(<const uint8_t *>block, &words, &inner, &marks)
            # These do not begin a word: a run of them at the start of one is added to, and carries into what follows.
            starts = words & ~(words << 1)
            starts = (starts & ~inner) | (((starts & inner) + inner) & ~inner & words)
            while marks:
                at = lowest(marks)
                if matters(p + at, begin, end) and (
                    not last or p[at] == b"&" or (starts and 63 - leading(starts) > at)
                ):
                    return self.scan_closely(begin, n)
                marks &= marks - 1
            done = 63       # what is between words is looked at with its neighbour
            while starts:
                at = lowest(starts)
                after = ~words >> at
                if after == 0:          # the word may go on; the last block ends with bytes that are in none
                    if at == 0:
                        return self.scan_closely(begin, n)
                    done = at
                    break
                k = lowest(after)
                if self.lengths[ends(block + at, k)] >> (k & 31) & 1:
                    found |= self.meaning(p + at, k, first, first, &shield)
                else:
                    shield = NULL
                if exponent(p + at, k, begin):
                    found |= self.behind_exponent(p + at, k, end)
                if inner >> at & ((1ULL << k) - 1) and memchr(p + at, b"$", k) != NULL:
                    found |= behind_dollars(self, p + at, k, end)
                first = False
                starts &= starts - 1
            if last:
                return found & ~<uint32_t>(SHIELD | SHIELDED)
            p += done

    cdef uint32_t scan_closely(self, const char *p, size_t n) noexcept:
        """The same byte by byte, with all that may matter between words."""
        cdef const char *begin = p
        cdef const char *end = p + n
        cdef const char *word
        cdef const char *shield = NULL
        cdef uint32_t found = 0
        cdef size_t k
        cdef bint first = True, sure = True, dashes = False, commented = False
        cdef char c
        p = skip_opening(p, end)
        while p < end:
            c = p[0]
            if begins_word(c):
                word = p
                p += 1
                while p < end and LETTER[<uint8_t>p[0]]:
                    p += 1
                k = p - word
                found |= self.meaning(word, k, first, sure, &shield) | self.escaped(word, k, end)
                if exponent(word, k, begin):
                    found |= self.behind_exponent(word, k, end)
                if memchr(word, b"$", k) != NULL:
                    found |= behind_dollars(self, word, k, end)
                first = sure = False
                continue
            if c == b";":
                first = True
                sure = not commented    # else it may be in a comment, whose end is no start of a statement
            elif c == b"/" and p > begin and p[-1] == b"*":
                first = commented = True
                sure = False
            elif (c == b"\n" or c == b"\r") and dashes:
                first = True
                sure = False
            elif not is_space(c):
                if c == b"-" and end - p > 1 and p[1] == b"-":
                    dashes = commented = True
                sure = False
            p += 1
        return found & ~<uint32_t>(SHIELD | SHIELDED)

    def bits(self, bytes text):
        """scan() for Python."""
        return self.scan(text, len(text))
