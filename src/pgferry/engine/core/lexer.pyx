"""PostgreSQL's lexical rules (its scan.l), compiled: a statement's text cut into tokens exactly as the server cuts it.

outline() reads a text of any length to its end, at the speed of memory where it is data, and tells of the statements
that have words in a set; cut() makes Python objects of the tokens of one of them, or of those around the words that
matter. session.lexer is the face of both.

Where versions of PostgreSQL differ, the cut is that of those before 15, which accept most: `1abc` is a number and a
word there, and an error since. Their words are words here in all cases.
"""

import os

cimport cython
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.string cimport memchr

from pgferry.engine.core.words cimport SHIELD, SHIELDED, WordSet

cdef extern from "<string.h>" nogil:
    void *memmem(const void *haystack, size_t n, const void *needle, size_t k)

cdef enum:
    K_END = 0
    K_IDENT = 1         # a word, folded to lower case
    K_QUOTED = 2        # "an identifier"
    K_PLAIN = 3         # 'a string'
    K_ESCAPED = 4       # E'a string'
    K_UNICODE = 5       # U&'a string'
    K_DOLLAR = 6        # $$a string$$
    K_BITS = 7          # B'01', X'0f'
    K_NUMBER = 8
    K_PARAM = 9         # $1
    K_CHAR = 10         # one character of an operator, or punctuation
    K_UNICODE_NAME = 12     # U&"an identifier"
    K_GAP = 13          # in cut(): tokens that were left out

    NAME_LIMIT = 63     # NAMEDATALEN - 1
    # What Python sees of a text; beyond it the text counts as what its words may do at worst. 50 times SET costs
    # about half a millisecond.
    MOST_PIECES = 50
    MOST_TOKENS = 2000
    MOST_SPOTS = 20
    # Of a statement with more tokens than this only those around the words that matter are seen.
    WHOLE = 400
    HEAD = 64           # tokens at the beginning of such a statement
    BEFORE = 40         # in front of a word that matters
    BEHIND = 80         # behind it: more than session.calls looks into

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


cdef inline bint is_word(Reader *r, Token *t, const char *word, size_t n) noexcept:
    """Whether a token is this keyword, which is given in lower case letters."""
    cdef size_t i
    if t.kind != K_IDENT or t.end - t.start != n:
        return False
    for i in range(n):
        if r.text[t.start + i] | 32 != word[i]:
            return False
    return True


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


@cython.final
cdef class Outline:
    """What outline() has found."""

    cdef readonly bint ambiguous
    cdef readonly bint doubtful
    cdef readonly bint overflow     # more to look at than Python is to see: only `bits` counts
    cdef readonly uint32_t bits     # of all words that are tokens: what the text may do at worst
    cdef readonly int count         # statements that are not empty
    cdef readonly bint ends_transaction     # COMMIT, END, ROLLBACK or ABORT is among them
    # Statements with words that matter: (start, end, its number among all statements, tokens, whether it is in the
    # body of a function, numbers of the tokens that matter)
    cdef readonly list pieces
    cdef size_t tokens


cdef struct Statement:
    size_t start, end
    size_t tokens
    bint in_body
    bint matters
    int spots
    size_t spot[MOST_SPOTS]
    # Whether it is CREATE FUNCTION or PROCEDURE: how far its first words agree.
    int routine
    bint ender
    int depth
    uint64_t selects        # a bit for each depth of parentheses: SELECT stands there


cdef struct Body:
    bint inside             # in BEGIN ATOMIC ... END
    int cases


cdef void begin_statement(Statement *s, bint in_body) noexcept:
    s.tokens = 0
    s.in_body = in_body
    s.matters = False
    s.spots = 0
    s.routine = 0
    s.ender = False
    s.depth = 0
    s.selects = 0


cdef void add_spot(Statement *s) noexcept:
    s.matters = True
    if s.spots < MOST_SPOTS:
        s.spot[s.spots] = s.tokens
    s.spots += 1


cdef uint32_t quoted_bits(Reader *r, Token *t, WordSet words) noexcept:
    """What the name of a quoted identifier stands for, in any case of its letters."""
    cdef const char *nothing = NULL
    cdef char name[NAME_LIMIT + 1]
    cdef size_t p = t.start + 1, n = 0
    while p + 1 < t.end and n < NAME_LIMIT + 1:
        if r.text[p] == b'"':
            p += 1
        name[n] = r.text[p]
        n += 1
        p += 1
    return words.meaning(name, n, False, False, &nothing) if n else 0


cdef uint32_t see_word(Reader *r, Token *t, Statement *s, WordSet words) noexcept:
    """A word or a quoted identifier: what it may do."""
    cdef const char *nothing = NULL
    cdef uint32_t bits
    cdef bint first = s.tokens == 0
    if t.kind == K_QUOTED:
        bits = quoted_bits(r, t, words) & ~<uint32_t>(SHIELD | SHIELDED)
    else:
        bits = words.meaning(r.text + t.start, t.end - t.start, first, False, &nothing)
        if bits & SHIELDED and s.depth < 64 and not s.selects >> s.depth & 1:
            bits = 0                    # INTO of INSERT or MERGE
        bits &= ~<uint32_t>(SHIELD | SHIELDED)
        if s.depth < 64 and is_word(r, t, b"select", 6):
            s.selects |= 1ULL << s.depth
        see_ender(r, t, s)
    if bits:
        add_spot(s)
    return bits


cdef inline void see_ender(Reader *r, Token *t, Statement *s) noexcept:
    """Follow whether the statement may end the transaction: COMMIT, but not COMMIT PREPARED or ROLLBACK TO."""
    if s.tokens == 0:
        s.ender = (is_word(r, t, b"commit", 6) or is_word(r, t, b"rollback", 8) or is_word(r, t, b"end", 3)
                   or is_word(r, t, b"abort", 5))
    elif s.ender and s.tokens <= 2:
        s.ender = not (is_word(r, t, b"to", 2) or (s.tokens == 1 and is_word(r, t, b"prepared", 8)))


cdef void see_routine(Reader *r, Token *t, Token *before, Statement *s, Body *body) noexcept:
    """Follow BEGIN ATOMIC ... END of CREATE FUNCTION, which has semicolons in it."""
    if body.inside:
        if is_word(r, before, b"as", 2) or (before.kind == K_CHAR and r.text[before.start] == b"."):
            return
        if is_word(r, t, b"case", 4):
            body.cases += 1
        elif is_word(r, t, b"end", 3):
            if body.cases:
                body.cases -= 1
            else:
                body.inside = False
    elif s.tokens == 0:
        s.routine = 1 if is_word(r, t, b"create", 6) else 0
    elif s.routine == 1 and s.tokens <= 3:
        if is_word(r, t, b"function", 8) or is_word(r, t, b"procedure", 9):
            s.routine = 2
        elif not (is_word(r, t, b"or", 2) or is_word(r, t, b"replace", 7)):
            s.routine = 0
    elif s.routine == 2 and is_word(r, t, b"atomic", 6) and is_word(r, before, b"begin", 5):
        body.inside = True
        body.cases = 0


cdef int end_statement(Outline found, Statement *s) except -1:
    """Note a statement that is at its end."""
    cdef int i
    if s.tokens == 0:
        return 0
    if s.ender and not s.in_body:
        found.ends_transaction = True
    if s.matters:
        found.tokens += s.tokens if s.tokens <= WHOLE else HEAD + s.spots * (BEFORE + BEHIND)
        if len(found.pieces) >= MOST_PIECES or s.spots > MOST_SPOTS or found.tokens > MOST_TOKENS:
            found.overflow = True
        else:
            found.pieces.append((s.start, s.end, found.count, s.tokens, s.in_body, [s.spot[i] for i in range(s.spots)]))
    found.count += 1
    return 0


def outline(bytes text, WordSet words, bint standard):
    """Read a text to its end and find the statements with words of the set; `standard`: standard_conforming_strings.

    The cost in Python objects has a limit whatever the text is.
    """
    cdef Outline found = Outline()
    cdef Reader r
    cdef Token t, before
    cdef Statement s
    cdef Body body
    cdef char c
    r.text, r.n, r.at, r.standard = text, len(text), 0, standard
    r.ambiguous = r.doubtful = False
    r.dot = len(text)
    body.inside, body.cases = False, 0
    found.pieces = []
    before.kind, before.start, before.end = K_END, 0, 0
    begin_statement(&s, False)
    while next_token(&r, &t):
        if s.tokens == 0:
            s.start = t.start
        if t.kind == K_CHAR:
            c = r.text[t.start]
            if c == b"(":
                s.depth += 1
                if s.depth < 64:
                    s.selects &= ~(1ULL << s.depth)
            elif c == b")":
                s.depth -= s.depth > 0
            elif c == b";" and s.depth == 0:
                end_statement(found, &s)
                begin_statement(&s, body.inside)
                before = t
                continue
        elif t.kind == K_IDENT:
            found.bits |= see_word(&r, &t, &s, words)
            see_routine(&r, &t, &before, &s, &body)
        elif t.kind == K_QUOTED:
            found.bits |= see_word(&r, &t, &s, words)
        elif t.kind == K_UNICODE_NAME:
            found.bits |= words.look_up(b"u&", 2, False)
            add_spot(&s)
        s.tokens += 1
        s.end = t.end
        before = t
    end_statement(found, &s)
    found.ambiguous, found.doubtful = r.ambiguous, r.doubtful
    return found


def windows(size_t tokens, list spots):
    """Which tokens of a statement Python is to see, as ranges of their numbers; None: all."""
    cdef list found
    if tokens <= WHOLE:
        return None
    found = [(0, HEAD)]
    for spot in spots:
        start = max(0, spot - BEFORE)
        if start <= found[-1][1]:
            found[-1] = (found[-1][0], max(found[-1][1], spot + BEHIND))
        else:
            found.append((start, spot + BEHIND))
    return found


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
