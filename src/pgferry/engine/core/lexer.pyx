"""PostgreSQL's lexical rules (its scan.l), compiled: a statement's text cut into tokens exactly as the server cuts it.

cut() makes Python objects of the tokens of a statement, or of those around the words that matter (session.lexer is its
face); outline reads them here as they are, one after the other.

Where versions of PostgreSQL differ, the cut is that of those before 15, which accept most: `1abc` is a number and a
word there, and an error since. Their words are words here in all cases.
"""

import os

from libc.stdint cimport uint8_t
from libc.string cimport memchr

cdef extern from "<string.h>" nogil:
    void *memmem(const void *haystack, size_t n, const void *needle, size_t k)

(IDENT, QUOTED, PLAIN, ESCAPED, UNICODE, DOLLAR, BITS, NUMBER, PARAM, CHAR, UNICODE_NAME, GAP, NAME_LENGTH) = (
    K_IDENT, K_QUOTED, K_PLAIN, K_ESCAPED, K_UNICODE, K_DOLLAR, K_BITS, K_NUMBER, K_PARAM, K_CHAR, K_UNICODE_NAME,
    K_GAP, NAME_LIMIT)

cdef enum:
    C_SPACE = 1
    C_START = 2         # may begin an identifier
    C_WORD = 4          # may go on in one
    C_DIGIT = 8

cdef uint8_t CLASS[256]
cdef int _i
for _i in range(256):
    CLASS[_i] = 0
    if _i == 32 or 9 <= _i <= 13:
        CLASS[_i] = C_SPACE
    elif _i >= 128 or chr(_i).isalpha() or _i == 95:
        CLASS[_i] = C_START | C_WORD
    elif chr(_i).isdigit():
        CLASS[_i] = C_WORD | C_DIGIT
    elif _i == 36:
        CLASS[_i] = C_WORD

# Engine.omit has it for all others; a Reader knows no engine.
cdef bint returns_go_on = "comment" in os.environ.get("PGFERRY_TEST_OMIT", "").split(",")
cdef list SINGLE = [bytes([_i]) for _i in range(256)]
cdef dict KEYWORDS = {}     # words that were seen before, so that each is one object


cdef inline uint8_t kind_of(char c) noexcept:
    return CLASS[<uint8_t>c]


cdef inline char at(Reader *r, size_t place) noexcept:
    """The character at a place, NUL behind the end."""
    return r.text[place] if place < r.n else 0


cdef size_t line_end(Reader *r, size_t place) noexcept:
    while place < r.n and r.text[place] != b"\n" and (r.text[place] != b"\r" or returns_go_on):
        place += 1
    return place


cdef size_t comment_end(Reader *r, size_t place) noexcept:
    """Behind the comment whose opening ends at `place`, with those nested in it; 0: it has no end."""
    cdef int depth = 1
    cdef char c
    while place + 1 < r.n:
        c = r.text[place]
        if c == b"*" and r.text[place + 1] == b"/":
            place += 2
            depth -= 1
            if depth == 0:
                return place
        elif c == b"/" and r.text[place + 1] == b"*":
            place += 2
            depth += 1
        else:
            place += 1
    return 0


cdef bint skip_space(Reader *r) noexcept:
    """Go to the next token. False: there is none."""
    cdef size_t p = r.at
    cdef char c
    while p < r.n:
        c = r.text[p]
        if kind_of(c) & C_SPACE:
            p += 1
        elif c == b"-" and at(r, p + 1) == b"-":
            p = line_end(r, p)
        elif c == b"/" and at(r, p + 1) == b"*":
            p = comment_end(r, p + 2)
            if p == 0:
                r.doubtful = True
                r.at = r.n
                return False
        else:
            r.at = p
            return True
    r.at = p
    return False


cdef size_t next_piece(Reader *r, size_t place) noexcept:
    """Where a string goes on that has ended at `place`: behind white space with the end of a line in it. 0: nowhere."""
    cdef bint line = False
    cdef char c
    while place < r.n:
        c = r.text[place]
        if c == b"\n" or c == b"\r":
            line = True
            place += 1
        elif kind_of(c) & C_SPACE:
            place += 1
        elif c == b"-" and at(r, place + 1) == b"-":
            place = line_end(r, place)
        else:
            return place if line and c == b"'" else 0
    return 0


cdef size_t body_end(Reader *r, size_t place, bint escapes, bint doubled) noexcept:
    """Behind the quote that ends the piece of a string whose first quote is at `place`; 0: it has no end."""
    cdef const char *quote
    cdef size_t first = place + 1, before
    place += 1
    while place < r.n:
        quote = <const char *>memchr(r.text + place, b"'", r.n - place)
        if quote == NULL:
            return 0
        before = place
        place = quote - r.text
        if place > first and r.text[place - 1] == b"\\":
            r.ambiguous = True
            if escapes and is_escaped(r, place, before):
                place += 1
                continue
        place += 1
        if not doubled or at(r, place) != b"'":
            return place
        place += 1
    return 0


cdef inline bint is_escaped(Reader *r, size_t place, size_t first) noexcept:
    """Whether the character at a place has a backslash in front of it that is none of a pair; looks back to `first`."""
    cdef size_t p = place
    while p > first and r.text[p - 1] == b"\\":
        p -= 1
    return (place - p) & 1


cdef void read_string(Reader *r, Token *t, size_t quote, int kind) noexcept:
    """A string whose first quote is at `quote`, with all its pieces."""
    cdef bint ambiguous = r.ambiguous
    cdef bint escapes = kind == K_ESCAPED or (kind == K_PLAIN and not r.standard)
    cdef size_t end, place = quote
    while True:
        end = body_end(r, place, escapes, kind != K_BITS)
        if end == 0:
            r.doubtful = True
            t.end = r.n
            break
        t.end = end
        place = next_piece(r, end)
        if place == 0:
            break
    t.kind = kind
    r.at = t.end
    if kind != K_PLAIN:
        r.ambiguous = ambiguous         # its escapes are the same in all settings
    elif not r.standard:
        r.ambiguous = True


cdef void read_quoted(Reader *r, Token *t, size_t quote, int kind) noexcept:
    """An identifier whose first quote is at `quote`."""
    cdef const char *end
    t.kind = kind
    while True:
        end = <const char *>memchr(r.text + quote + 1, b'"', r.n - quote - 1)
        if end == NULL:
            r.doubtful = True
            t.end = r.at = r.n
            return
        quote = end - r.text + 1
        if at(r, quote) != b'"':
            t.end = r.at = quote
            return


cdef void read_word(Reader *r, Token *t) noexcept:
    """An identifier or keyword, or a string or identifier that begins with a letter."""
    cdef size_t p = t.start + 1
    cdef char quote, letter
    while p < r.n and kind_of(r.text[p]) & C_WORD:
        p += 1
    t.kind = K_IDENT
    t.end = r.at = p
    if p - t.start > 1:
        return
    quote = at(r, p)
    letter = r.text[t.start] | 32
    if quote == b"&" and letter == b"u":
        quote = at(r, p + 1)
        if quote == b"'":
            read_string(r, t, p + 1, K_UNICODE)
        elif quote == b'"':
            read_quoted(r, t, p + 1, K_UNICODE_NAME)
    elif quote == b"'":
        if letter == b"e":
            read_string(r, t, p, K_ESCAPED)
        elif letter == b"b" or letter == b"x":
            read_string(r, t, p, K_BITS)


cdef size_t digits_end(Reader *r, size_t place) noexcept:
    while place < r.n and kind_of(r.text[place]) & C_DIGIT:
        place += 1
    return place


cdef void read_number(Reader *r, Token *t) noexcept:
    cdef size_t p = digits_end(r, t.start), exponent
    if at(r, p) == b"." and (p == t.start or at(r, p + 1) != b"."):
        p = digits_end(r, p + 1)
    if at(r, p) | 32 == b"e":
        exponent = p + 1
        if at(r, exponent) == b"+" or at(r, exponent) == b"-":
            exponent += 1
        if kind_of(at(r, exponent)) & C_DIGIT:
            p = digits_end(r, exponent)
    t.kind = K_NUMBER
    t.end = r.at = p


cdef void read_dollar(Reader *r, Token *t) noexcept:
    """$1, or a string between two tags."""
    cdef size_t p = t.start + 1
    cdef const char *end
    t.kind = K_CHAR
    t.end = r.at = p
    if kind_of(at(r, p)) & C_DIGIT:
        t.kind = K_PARAM
        t.end = r.at = digits_end(r, p)
        return
    if kind_of(at(r, p)) & C_START:
        while p < r.n and kind_of(r.text[p]) & C_WORD and r.text[p] != b"$":
            p += 1
    if at(r, p) != b"$":
        r.doubtful = True
        return
    p += 1
    end = <const char *>memmem(r.text + p, r.n - p, r.text + t.start, p - t.start)
    if end == NULL:
        r.doubtful = True
        t.end = r.at = r.n
        return
    t.kind = K_DOLLAR
    t.end = r.at = end - r.text + (p - t.start)


cdef bint next_token(Reader *r, Token *t) noexcept:
    """The next token. False: there is none, t is where the text ends."""
    cdef char c
    cdef uint8_t kind
    if not skip_space(r):
        t.kind = K_END
        t.start = t.end = r.n
        return False
    t.start = r.at
    c = r.text[r.at]
    kind = kind_of(c)
    if kind & C_START:
        read_word(r, t)
    elif kind & C_DIGIT or (c == b"." and kind_of(at(r, r.at + 1)) & C_DIGIT and r.at != r.dot):
        read_number(r, t)
    elif c == b"'":
        read_string(r, t, r.at, K_PLAIN)
    elif c == b'"':
        read_quoted(r, t, r.at, K_QUOTED)
    elif c == b"$":
        read_dollar(r, t)
    else:
        t.kind = K_CHAR
        t.end = r.at = r.at + 1
        if c == 0:
            r.doubtful = True
        elif c == b"." and at(r, r.at) == b"." and t.start != r.dot:
            r.dot = r.at                # `..` is one token, so that the second dot begins no number
    return True


cdef bytes lowered(const char *word, size_t n):
    """A word in lower case."""
    cdef bytes raw = word[:n]
    cdef object known = KEYWORDS.get(raw)
    if known is None:
        known = raw.lower()
        if len(KEYWORDS) < 4096 and n < 32:
            KEYWORDS[raw] = known
    return known


def cut(bytes text, size_t start, size_t end, bint standard, windows, list kinds, list starts, list ends, list words,
        list names):
    """Add the tokens of text[start:end] to the lists (session.lexer.Tokens). Returns (ambiguous, doubtful).

    `windows`: ranges of the numbers of those that are wanted, in order; None: all. For tokens that are left out stand
    one of kind GAP and the parentheses that they close or open on balance.
    """
    cdef Reader r
    cdef Token t
    cdef size_t number = 0, low = 0, high = <size_t>-1
    cdef int window = 0, opened = 0, closed = 0
    cdef bint skipped = False
    r.text, r.n, r.at, r.standard = text, end, start, standard
    r.ambiguous = r.doubtful = False
    r.dot = len(text)
    if windows is not None:
        low, high = windows[0]
    while next_token(&r, &t):
        if number >= high and window + 1 < len(windows):
            window += 1
            low, high = windows[window]
        if not low <= number < high:
            skipped = True
            if t.kind == K_CHAR:
                if r.text[t.start] == b"(":
                    opened += 1
                elif r.text[t.start] == b")":
                    if opened:
                        opened -= 1
                    else:
                        closed += 1
        else:
            if skipped:
                add_gap(t.start, closed, opened, kinds, starts, ends, words, names)
                skipped = False
                opened = closed = 0
            add_token(&r, &t, kinds, starts, ends, words, names)
        number += 1
    if skipped:
        add_gap(end, 0, 0, kinds, starts, ends, words, names)
    return r.ambiguous, r.doubtful


cdef int add_gap(size_t place, int closed, int opened, list kinds, list starts, list ends, list words, list names,
                 ) except -1:
    cdef list marks = [b""] + [b")"] * min(closed, 64) + [b"("] * min(opened, 64)
    for i, mark in enumerate(marks):
        kinds.append(CHAR if i else GAP)
        starts.append(place)
        ends.append(place)
        words.append(mark)
        names.append(b"")
    return 0


cdef int add_token(Reader *r, Token *t, list kinds, list starts, list ends, list words, list names) except -1:
    cdef bytes word = b"", name = b""
    if t.kind == K_IDENT:
        word = name = lowered(r.text + t.start, t.end - t.start)
        if t.end - t.start > NAME_LIMIT:
            word = name = truncate(word)
    elif t.kind == K_CHAR:
        word = <bytes>SINGLE[<uint8_t>r.text[t.start]]
    elif t.kind == K_QUOTED and t.end - t.start > 1:
        name = truncate(r.text[t.start + 1:t.end - 1].replace(b'""', b'"'))
    kinds.append(t.kind)
    starts.append(t.start)
    ends.append(t.end)
    words.append(word)
    names.append(name)
    return 0


cpdef bytes truncate(bytes name):
    """A name as PostgreSQL keeps it: cut to 63 bytes, and not within a character (of UTF-8)."""
    cdef const char *text = name
    cdef int end = NAME_LIMIT
    if len(name) <= NAME_LIMIT:
        return name
    while end > NAME_LIMIT - 4 and 0x80 <= <uint8_t>text[end] < 0xC0:
        end -= 1
    return name[:NAME_LIMIT if 0x80 <= <uint8_t>text[end] < 0xC0 else end]


def may_mislead(bytes text):
    """Whether the text has what an encoding with ASCII bytes in its characters may give another meaning: such a byte
    that matters (a backslash, the character of an operator) behind one above 127. No such encoding has quotes, `$`,
    `-`, `/`, `*` or `;` in its characters; letters and digits are parts of words in any case.
    """
    cdef const char *p = text
    cdef size_t i, n = len(text)
    cdef uint8_t c
    for i in range(1, n):
        c = <uint8_t>p[i]
        if 64 <= c < 127 and not CLASS[c] & C_WORD and <uint8_t>p[i - 1] >= 128:
            return True
    return False
