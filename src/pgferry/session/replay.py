"""How session state that is kept as SQL text is told from other values, and made again."""

from pgferry.engine.core.outline import outline
from pgferry.engine.core.words import WordSet
from pgferry.session.lexer import lex

REPLAY = b"\0"  # begins the value of a setting that is kept as the SET its client wrote

_PREPARES = WordSet()
_PREPARES.add(b"prepare", 0, 1)


def prepared_statement(text: bytes, name: bytes) -> bytes | None:
    """The PREPARE of `name` in the text that pg_prepared_statements shows for it; None when it is not in there.

    PostgreSQL keeps the whole text that the client sent, which may hold other statements beside the PREPARE.
    """
    found = outline(text, _PREPARES, True)
    if found.doubtful or found.overflow or (found.ambiguous and b";" in text):
        return None
    for start, end, *_ in found.pieces:
        tokens = lex(text, True, (start, end), [(0, 2)])
        if tokens.words[0] == b"prepare" and tokens.names[1] == name:
            return (
                text if found.count == 1 else text[start:end]
            )  # with its comments, so that it is as it was written
    return None
