"""Which encodings of clients a text can be cut into tokens in, before PostgreSQL has converted it."""

import re

_NOT_IN_NAMES = re.compile(rb"[^a-z0-9]")

# Encodings in which each byte of a character other than ASCII is above 127, as PostgreSQL spells them without their
# punctuation, with its aliases. SQL_ASCII means the database's own, which are all of this kind.
_SEPARATE = frozenset(
    b"utf8 unicode sqlascii muleinternal eucjp euccn euckr euctw eucjis2004 koi8 koi8r koi8u abc alt tcvn tcvn5712"
    b" vscii win latin1 latin2 latin3 latin4 latin5 latin6 latin7 latin8 latin9 latin10".split()
    + [b"iso8859%d" % n for n in range(1, 17)]
    + [b"%b%d" % (kind, n) for kind in (b"win", b"windows") for n in (866, 874, *range(1250, 1259))]
)
_UTF8 = frozenset((b"utf8", b"unicode"))


def is_separate(encoding: bytes) -> bool:
    """Whether no character of the encoding has a byte that alone would be one of ASCII; False for unknown ones."""
    return _plain(encoding) in _SEPARATE


def is_utf8(encoding: bytes) -> bool:
    """Whether the encoding is UTF-8."""
    return _plain(encoding) in _UTF8


def _plain(encoding: bytes) -> bytes:
    return _NOT_IN_NAMES.sub(b"", encoding.lower())
