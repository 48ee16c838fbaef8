"""The console's grammar: one command per text, PgBouncer's words and limits."""

import re
from dataclasses import dataclass

from pgferry.supervisor.errors import CommandError

_WORD = r'(?:"(?:[^"]|"")*"|[0-9a-z_]+)'
_END = r"\s*(?:;\s*)?"
_PLAIN = re.compile(rf"\s*({_WORD})(?:\s+({_WORD})(?:\s+({_WORD}))?)?{_END}", re.I | re.ASCII)
_SET = re.compile(
    rf"\s*set\s+({_WORD})\s*(?:=|\bto\b)\s*(?:({_WORD})|'((?:[^']|'')*)'){_END}", re.I | re.ASCII
)

_LOOKS = ("SHOW", "SELECT")
_CLIENT_ID = re.compile(r"[0-9]{1,18}|0x[0-9a-f]{1,15}", re.I | re.ASCII)

_MAX_VERB = 16
_MAX_ARGUMENT = 64
_MAX_VALUE = 256


@dataclass(frozen=True, slots=True)
class Command:
    """A parsed command. `verb` is upper case, `argument` is as written.

    `value` is what SET sets, or the third word of a SHOW.
    """

    verb: str
    argument: str | None
    value: str | None
    text: str


def invalid(text: str) -> CommandError:
    """The error for a text that is no command."""
    return CommandError(f"invalid command '{text}', use SHOW HELP;")


def parse(text: str) -> Command:
    """Read one command. Raises CommandError."""
    if match := _SET.fullmatch(text):
        key = _unquote(match[1])
        value = match[3].replace("''", "'") if match[3] is not None else _unquote(match[2])
        _check_length(key, _MAX_ARGUMENT)
        _check_length(value, _MAX_VALUE)
        return Command("SET", key, value, text)
    match = _PLAIN.fullmatch(text)
    if match is None:
        raise invalid(text)
    verb = _unquote(match[1]).upper()
    argument = _unquote(match[2]) if match[2] is not None else None
    _check_length(verb, _MAX_VERB)
    if argument is not None:
        _check_length(argument, _MAX_ARGUMENT)
    third = _unquote(match[3]) if match[3] is not None else None
    if third is not None:
        if verb not in _LOOKS:
            raise invalid(text)
        _check_length(third, _MAX_ARGUMENT)
    return Command(verb, argument or None, third or None, text)


def client_number(text: str) -> int:
    """The client that `id` or `ptr` of SHOW CLIENTS names. Raises CommandError."""
    if not _CLIENT_ID.fullmatch(text):
        raise CommandError("invalid client pointer supplied")
    return int(text, 16 if text[:2] in ("0x", "0X") else 10)


def _unquote(word: str) -> str:
    return word[1:-1].replace('""', '"') if word.startswith('"') else word


def _check_length(text: str, limit: int) -> None:
    if len(text.encode()) >= limit:
        raise CommandError("bad arguments")
