# PostgreSQL's lexical rules: one token after the other.


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


cdef struct Token:
    size_t start
    size_t end
    int kind


cdef struct Reader:
    const char *text
    size_t n
    size_t at           # where the next token is looked for
    size_t dot          # where the second dot of `..` is
    bint standard       # the setting standard_conforming_strings
    bint ambiguous      # a string that was read ends elsewhere with the other standard_conforming_strings, or may
    bint doubtful       # PostgreSQL would not accept the text


cdef inline bint is_word(Reader *r, Token *t, const char *word, size_t n) noexcept:
    """Whether a token is this keyword, which is given in lower case letters."""
    cdef size_t i
    if t.kind != K_IDENT or t.end - t.start != n:
        return False
    for i in range(n):
        if r.text[t.start + i] | 32 != word[i]:
            return False
    return True


cdef bint next_token(Reader *r, Token *t) noexcept
