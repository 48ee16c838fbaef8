"""The outline of a text: which statements it has, and which of them have words that matter.

outline() reads a text of any length to its end, at the speed of memory where it is data, and tells of the statements
that have words in a set; windows() says which of their tokens are worth a closer look.
"""

cimport cython
from libc.stdint cimport uint32_t, uint64_t

from pgferry.engine.core.lexer cimport (
    K_CHAR, K_END, K_IDENT, K_QUOTED, K_UNICODE_NAME, NAME_LIMIT, Reader, Token, is_word, next_token,
)
from pgferry.engine.core.words cimport SHIELD, SHIELDED, WordSet

cdef enum:
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
