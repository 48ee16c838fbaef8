"""A quick look at a long text: most of them are data, and have the words that matter only in their strings."""

import re
from collections.abc import Mapping

from pgferry.session.words import STARTERS, WORDS, spelled

# Strings and comments go, a quote stands for each; identifiers in quotes stay, and make it all much slower.
_DATA = re.compile(rb"'[^']*+(?:''[^']*+)*+'|--[^\n\r]*+")
_DATA_OR_QUOTED = re.compile(_DATA.pattern + rb"|(\"[^\"]*+(?:\"\"[^\"]*+)*+\")")
# What these few rules do not cover: comments that nest, and strings with rules of their own.
_BEYOND = (b"/*", b"e'", b"u&")
_NO_PARAMETER = re.compile(rb"\$(?![0-9])")
_FIRST_WORDS = re.compile(rb"(?:\A|;)['\s(]*+([a-z]+)")
# Patterns that begin with a letter are found quickest.
_INTO = re.compile(rb"insert\s+into\b")
_MERGE_INTO = re.compile(rb"merge\s+into\b")


def is_harmless(text: bytes, catalog: Mapping[bytes, int]) -> bool:
    """Whether a text certainly does no harm; False where only reading it in full can tell."""
    if b"\\'" in text:
        return False
    code = _DATA_OR_QUOTED.sub(rb"\1'", text) if b'"' in text else _DATA.sub(b"'", text)
    code = code.lower()
    if any(beyond in code for beyond in _BEYOND) or (b"$" in code and _NO_PARAMETER.search(code)):
        return False
    words = spelled(code)
    if not words.isdisjoint(WORDS) or not catalog.keys().isdisjoint(words):
        return False
    if not STARTERS.keys().isdisjoint(words) and any(word in STARTERS for word in _FIRST_WORDS.findall(code)):
        return False
    return b"into" not in words or _only_inserts(code, words)


def _only_inserts(code: bytes, words: set[bytes]) -> bool:
    """Whether each INTO belongs to an INSERT or a MERGE."""
    if any(word.endswith((b"insert", b"merge")) for word in words - {b"insert", b"merge"}):
        return False
    return code.count(b"into") == len(_INTO.findall(code)) + len(_MERGE_INTO.findall(code))
