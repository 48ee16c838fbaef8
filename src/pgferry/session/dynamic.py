"""The text of PL/pgSQL's EXECUTE, put together as far as its source tells it: literals, names, quoted values."""

import re
from collections.abc import Sequence

from pgferry.session.source_lexer import HOLE, NUMBER, STRING, WORD, Token

_ENDS = frozenset((b"into", b"using", b"loop"))
_DEPTH = {b"(": 1, b"[": 1, b")": -1, b"]": -1}

# Casts, variables of triggers and functions whose text can be nothing but a name or a number.
_NAMING_TYPES = frozenset(
    b"regclass regtype regnamespace regrole int integer int2 int4 int8 smallint bigint oid date uuid boolean"
    b" bool numeric".split()
)
_NAMING_VARIABLES = frozenset(b"tg_table_name tg_table_schema tg_relname tg_relid tg_op tg_name".split())
_NAMING_CALLS = frozenset(
    b"quote_ident extract date_part txid_current pg_backend_pid length array_length".split()
)
_VALUE_CALLS = frozenset((b"quote_literal", b"quote_nullable"))
_PLAIN_PATTERN = re.compile(rb"[A-Za-z0-9_ :.-]*")
_FORMAT_SPEC = re.compile(rb"%(?:(%)|(?:([0-9]+)\$)?-?(\*|[0-9]+)?([sIL]))")


def closing(found: Sequence[Token], opening: int) -> int:
    """The place of the parenthesis that closes the one at `opening`, or the end."""
    depth = 0
    for i in range(opening, len(found)):
        if found[i].kind != STRING:
            depth += _DEPTH.get(found[i].text, 0)
            if depth == 0:
                return i
    return len(found)


def _split(found: Sequence[Token], separator: bytes) -> list[Sequence[Token]]:
    parts, start, depth = [], 0, 0
    for i, token in enumerate(found):
        if token.kind == STRING:
            continue
        depth += _DEPTH.get(token.text, 0)
        if depth == 0 and token.text == separator:
            parts.append(found[start:i])
            start = i + 1
    parts.append(found[start:])
    return parts


def arguments(found: Sequence[Token], opening: int) -> list[Sequence[Token]]:
    """The arguments of a call whose parenthesis opens at `opening`."""
    inner = found[opening + 1 : closing(found, opening)]
    return _split(inner, b",") if inner else []


def template(found: Sequence[Token], start: int) -> bytes | None:
    """The text that an EXECUTE whose argument begins at `start` runs, HOLEs for computed names; None if unknown."""
    depth, end = 0, start
    for token in found[start:]:
        if token.kind != STRING:
            depth += _DEPTH.get(token.text, 0)
            if depth < 0 or (
                depth == 0 and (token.text == b";" or (token.kind == WORD and token.text in _ENDS))
            ):
                break
        end += 1
    return _text(found[start:end])


def _text(expression: Sequence[Token]) -> bytes | None:
    """The text of an expression of strings, as far as it is known."""
    pieces = []
    for part in _split(expression, b"||"):
        piece = _piece(part)
        if piece is None:
            return None
        pieces.append(piece)
    return b"".join(pieces)


def _piece(part: Sequence[Token]) -> bytes | None:
    if not part:
        return None
    if len(part) == 1 and part[0].kind == STRING:
        return part[0].text if part[0].readable else None
    if _naming(part):
        return HOLE
    if part[0].text == b"(" and part[0].kind != STRING and closing(part, 0) == len(part) - 1:
        return _text(part[1:-1])
    part = _unqualified(part)
    if len(part) < 3 or part[1].text != b"(" or closing(part, 1) != len(part) - 1:
        return None
    if part[0].text in _VALUE_CALLS:
        return b" '' "
    if part[0].text == b"format":
        return _format(arguments(part, 1))
    return (
        b" "
        if part[0].text == b"chr" and [t.text for t in part[2:-1]] in ([b"10"], [b"13"], [b"9"])
        else None
    )


def _unqualified(part: Sequence[Token]) -> Sequence[Token]:
    return part[2:] if len(part) > 2 and part[0].text == b"pg_catalog" and part[1].text == b"." else part


def _naming(part: Sequence[Token]) -> bool:
    """True for an expression whose text can be nothing but a name or a number."""
    part = _unqualified(part)
    while len(part) > 2 and part[-2].text == b"::" and part[-1].kind == WORD:
        if part[-1].text in _NAMING_TYPES:
            return True
        if part[-1].text not in (b"text", b"varchar", b"name"):
            return False
        part = part[:-2]
    if len(part) == 1:
        return part[0].kind == NUMBER or (part[0].kind == WORD and part[0].text in _NAMING_VARIABLES)
    if len(part) < 3 or part[1].text != b"(" or closing(part, 1) != len(part) - 1:
        return False
    if part[0].text == b"to_char":
        return all(_PLAIN_PATTERN.fullmatch(t.text) for t in part if t.kind == STRING)
    return part[0].text in _NAMING_CALLS


def _format(given: list[Sequence[Token]]) -> bytes | None:
    """The text of a call of format()."""
    pattern = _text(given[0]) if given else None
    if pattern is None:
        return None
    pieces: list[bytes] = []
    at, position = 0, 0
    for spec in _FORMAT_SPEC.finditer(pattern):
        pieces.append(pattern[at : spec.start()])
        at = spec.end()
        if spec[1]:
            pieces.append(b"%")
            continue
        position = int(spec[2]) if spec[2] else position + 1 + (spec[3] == b"*")
        if spec[4] == b"s":
            piece = _piece(given[position]) if 0 < position < len(given) else None
            if piece is None:
                return None
            pieces.append(piece)
        else:
            pieces.append(HOLE if spec[4] == b"I" else b" '' ")
    return b"".join((*pieces, pattern[at:]))
