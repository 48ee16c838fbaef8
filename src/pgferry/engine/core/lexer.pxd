# PostgreSQL's lexical rules: one token after the other.


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


cdef bint next_token(Reader *r, Token *t) noexcept
