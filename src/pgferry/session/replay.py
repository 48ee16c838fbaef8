"""How session state that is kept as SQL text is told from other values, and made again."""

from pgferry.session.lexer import lex

REPLAY = b"\0"  # begins the value of a setting that is kept as the SET its client wrote


def prepared_statement(text: bytes, name: bytes) -> bytes | None:
    """The PREPARE of `name` in the text that pg_prepared_statements shows for it; None when it is not in there.

    PostgreSQL keeps the whole text that the client sent, which may hold other statements beside the PREPARE.
    """
    tokens = lex(text)
    if tokens.doubtful or (tokens.ambiguous and b";" in text):
        return None
    words = tokens.words
    last = len(tokens)
    if words[0] == b"prepare" and tokens.names[1] == name and b";" not in words[: last - 1]:
        return text  # with its comments, so that it is shown as it was written
    for at in range(last):
        if words[at] != b"prepare" or tokens.names[at + 1] != name or (at and words[at - 1] != b";"):
            continue
        end = at + 1
        while end < last and words[end] != b";":
            end += 1
        return text[tokens.starts[at] : tokens.ends[end - 1]]
    return None
