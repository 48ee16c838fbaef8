"""The startup parameter ``options``: settings given as command-line switches (COMPAT 4.1)."""

from collections.abc import Iterable
from typing import Final

from pgferry.protocol.errors import BAD_OPTIONS, ProtocolError

_SPACE: Final = " \t\n\v\f\r"


def parse_options(text: str) -> list[tuple[str, str]]:
    """Return the settings of ``-c k=v``, ``-ck=v`` and ``--k=v``, in order; names as PostgreSQL spells them.

    A backslash takes the next character as it is, so a value may hold blanks. ProtocolError with PgBouncer's
    text for any other switch, or a switch without ``name=``.
    """
    found = []
    position = _skip_space(text, 0)
    while position < len(text):
        switch = text[position : position + 2]
        if switch not in ("-c", "--"):
            raise ProtocolError(BAD_OPTIONS)
        position += 2
        if switch == "-c":
            position = _skip_space(text, position)
        setting, position = _word(text, position)
        name, equals, value = setting.partition("=")
        if not name or not equals:
            raise ProtocolError(BAD_OPTIONS)
        # PostgreSQL takes --search-path=x for search_path; so do we, under the setting's own name.
        found.append((name.replace("-", "_"), value))
        position = _skip_space(text, position)
    return found


def build_options(settings: Iterable[tuple[str, str]]) -> str:
    """Return an ``options`` text that ``parse_options`` (and PostgreSQL) reads back as these settings."""
    return " ".join(f"-c {_escape(name)}={_escape(value)}" for name, value in settings)


def _skip_space(text: str, position: int) -> int:
    while position < len(text) and text[position] in _SPACE:
        position += 1
    return position


def _word(text: str, position: int) -> tuple[str, int]:
    """Read up to the next blank that no backslash protects; return the word and where it ended."""
    letters = []
    while position < len(text) and text[position] not in _SPACE:
        if text[position] == "\\":
            position += 1
            if position == len(text):  # a lone backslash at the end means nothing
                break
        letters.append(text[position])
        position += 1
    return "".join(letters), position


def _escape(text: str) -> str:
    return "".join("\\" + letter if letter in _SPACE or letter == "\\" else letter for letter in text)
