"""SASLprep (RFC 4013) as PostgreSQL applies it to passwords before SCRAM.

PostgreSQL differs from the letter of the RFC, and a pooler must share its rules to agree on the same keys:
pure ASCII is never changed nor checked; prohibited, unassigned and bidirectional characters are looked for
after the mapping but before the normalization; U+200B becomes a space instead of nothing; whenever
preparation fails (no UTF-8, prohibited, unassigned, wrong direction, nothing left) the raw bytes are used.
"""

import stringprep
import unicodedata

from pgferry.auth.text import to_bytes

_PROHIBITED = (
    stringprep.in_table_c12,
    stringprep.in_table_c21_c22,
    stringprep.in_table_c3,
    stringprep.in_table_c4,
    stringprep.in_table_c5,
    stringprep.in_table_c6,
    stringprep.in_table_c7,
    stringprep.in_table_c8,
    stringprep.in_table_c9,
    stringprep.in_table_a1,
)


def saslprep(password: str | bytes) -> bytes:
    """Return the prepared password, or its raw bytes when it cannot be prepared. Never raises."""
    raw = to_bytes(password)
    if raw.isascii():
        return raw
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError:
        return raw
    mapped = _map(text)
    if not mapped or _prohibited(mapped) or _wrong_direction(mapped):
        return raw
    return unicodedata.normalize("NFKC", mapped).encode("utf-8")


def _map(text: str) -> str:
    """RFC 4013, 2.1: other spaces become U+0020, the characters of table B.1 vanish."""
    return "".join(
        " " if stringprep.in_table_c12(c) else "" if stringprep.in_table_b1(c) else c for c in text
    )


def _prohibited(text: str) -> bool:
    """RFC 4013, 2.3 and 2.5: any character of the prohibited tables or unassigned in Unicode 3.2."""
    return any(table(c) for c in text for table in _PROHIBITED)


def _wrong_direction(text: str) -> bool:
    """RFC 3454, 6: right-to-left text must be so at both ends and hold no left-to-right letter."""
    if not any(map(stringprep.in_table_d1, text)):
        return False
    if any(map(stringprep.in_table_d2, text)):
        return True
    return not (stringprep.in_table_d1(text[0]) and stringprep.in_table_d1(text[-1]))
