"""SET and RESET in all their forms."""

from pgferry.session.findings import Findings
from pgferry.session.lexer import CHAR, IDENT, NAMES, NUMBER, PLAIN, QUOTED, Tokens

# What may stand behind the name of a setting; before these, even LOCAL and SESSION are (part of) a name.
_BEHIND_NAME = frozenset((b".", b"=", b"to", b"from"))

_CHARACTERISTICS = (
    b"default_transaction_isolation",
    b"default_transaction_read_only",
    b"default_transaction_deferrable",
)
# They end with their transaction, however they are set.
_OF_TRANSACTION = frozenset((b"transaction_isolation", b"transaction_read_only", b"transaction_deferrable"))

# Not to be repeated from the text alone: PostgreSQL merges the new value with the old one (datestyle), looks up what
# it means at the time (default_text_search_config), treats it apart from other settings, or tells clients of it.
_NEVER_PLAIN = _OF_TRANSACTION | {
    b"role",
    b"session_authorization",
    b"client_encoding",
    b"seed",
    b"datestyle",
    b"default_text_search_config",
    b"is_superuser",
}

# Words of SET's forms of its own, and the settings that they set.
_SPELLED = {
    b"time": b"timezone",
    b"names": b"client_encoding",
    b"schema": b"search_path",
    b"catalog": b"search_path",
    b"xml": b"xmloption",
    b"session": b"session_authorization",
}


def read_set(tokens: Tokens, start: int, end: int, findings: Findings) -> None:
    """A SET statement; `start` is the place of the word SET."""
    words = tokens.words
    at = start + 1
    local = False
    if words[at] in (b"session", b"local") and words[at + 1] not in _BEHIND_NAME:
        special = words[at] == b"session" and words[at + 1] in (b"authorization", b"characteristics")
        if not special:
            local = words[at] == b"local"
            at += 1
    name, behind = _name(tokens, at)
    if name and words[behind] in (b"=", b"to", b"from"):
        if local:
            _local(name, findings)
        else:
            _named(tokens, (at, behind, end), name, findings)
        return
    if local:
        if words[at] in _SPELLED or words[at] in (b"role", b"seed"):
            _local(words[at], findings)
        return
    _special(tokens, at, end, findings)


def _named(tokens: Tokens, span: tuple[int, int, int], name: bytes, findings: Findings) -> None:
    """SET name {=|TO} value, SET name TO DEFAULT, SET name FROM CURRENT."""
    start, behind, end = span
    name = findings.setting(name)
    if tokens.words[behind] == b"from":
        return
    if tokens.words[behind + 1] == b"default":
        findings.reset(name)
    elif name not in _NEVER_PLAIN and tokens.repeatable:
        values = _plain_values(tokens, behind + 1, end)
        if values:
            raw = tokens.text[tokens.starts[start] : tokens.ends[behind - 1]]
            if behind - start > 1:
                raw = b"".join(tokens.raw(i) for i in range(start, behind))
            findings.plain = (name, b"SET " + raw + b" TO " + values)


def _plain_values(tokens: Tokens, start: int, end: int) -> bytes:
    """The list of values between `start` and `end`, written anew; b"" where it is anything but plain."""
    values: list[bytes] = []
    at = start
    while True:
        sign = b""
        if tokens.words[at] in (b"+", b"-"):
            sign = tokens.words[at]
            at += 1
        kind = tokens.kinds[at]
        if kind not in (IDENT, QUOTED, PLAIN, NUMBER) or (sign and kind != NUMBER):
            return b""
        if tokens.words[at] in (b"default", b"null"):
            return b""
        values.append(sign + tokens.raw(at))
        at += 1
        if at >= end:
            return b", ".join(values)
        if tokens.words[at] != b",":
            return b""
        at += 1


def _local(name: bytes, findings: Findings) -> None:
    """SET LOCAL ends with its transaction; only the state of random() does not go back."""
    name = name.lower()
    if name == b"seed":
        findings.setting(name)
    elif name not in _OF_TRANSACTION:
        findings.local(_SPELLED.get(name, name), "SET LOCAL " + name.decode("utf-8", "replace"))


def _special(tokens: Tokens, at: int, end: int, findings: Findings) -> None:
    """The forms with words of their own."""
    words = tokens.words
    first, second = words[at], words[at + 1]
    if first in (b"transaction", b"constraints"):
        return
    if first == b"session" and second == b"characteristics":
        for name in _CHARACTERISTICS:
            findings.setting(name, "SET SESSION CHARACTERISTICS")
    elif first == b"session" and second == b"authorization":
        findings.setting(b"session_authorization", "SET SESSION AUTHORIZATION")
    elif first == b"time" and second == b"zone":
        findings.setting(b"timezone", "SET TIME ZONE")
        if words[at + 2] in (b"default", b"local"):
            findings.reset(b"timezone")
        elif tokens.kinds[at + 2] == PLAIN and end == at + 3 and tokens.repeatable:
            findings.plain = (b"timezone", b"SET timezone TO " + tokens.raw(at + 2))
    elif first == b"role":
        findings.setting(b"role", "SET ROLE")
    elif first == b"names":
        findings.setting(b"client_encoding", "SET NAMES")
        if at + 1 >= end or second == b"default":
            findings.reset(b"client_encoding")
    elif first == b"schema":
        findings.setting(b"search_path", "SET SCHEMA")
    elif first == b"seed":
        findings.setting(b"seed")
    elif first == b"xml" and second == b"option":
        findings.setting(b"xmloption", "SET XML OPTION")
    else:
        findings.any_setting("SET", unnamed=True)


def read_reset(tokens: Tokens, start: int, _end: int, findings: Findings) -> None:
    """A RESET statement; `start` is the place of the word RESET."""
    words = tokens.words
    at = start + 1
    first, second = words[at], words[at + 1]
    if first == b"all":
        findings.any_setting("RESET ALL")
        findings.reset(None)
    elif first == b"session" and second == b"authorization":
        findings.setting(b"session_authorization", "RESET SESSION AUTHORIZATION")
    elif first == b"time" and second == b"zone":
        findings.reset(findings.setting(b"timezone", "RESET TIME ZONE"))
    elif first == b"transaction" and second == b"isolation":
        return
    else:
        name, _ = _name(tokens, at)
        if name:
            findings.reset(findings.setting(name, "RESET " + name.lower().decode("utf-8", "replace")))
        else:
            findings.any_setting("RESET", unnamed=True)


def _name(tokens: Tokens, at: int) -> tuple[bytes, int]:
    """The name of a setting, with its dots, and the place behind it; b"" where no name stands."""
    if tokens.kinds[at] not in NAMES:
        return b"", at
    parts = [tokens.names[at]]
    at += 1
    while tokens.words[at] == b"." and tokens.kinds[at] == CHAR and tokens.kinds[at + 1] in NAMES:
        parts.append(tokens.names[at + 1])
        at += 2
    return b".".join(parts), at
