"""Code inside a statement: the body of DO, which is a string to the lexer and a program to the server."""

import re
from collections.abc import Mapping

from pgferry.session.calls import Calls
from pgferry.session.findings import Findings
from pgferry.session.lexer import STRINGS, Tokens, lex
from pgferry.session.setting import read_reset, read_set
from pgferry.session.verdict import ANYTHING, NEED_SHIFT, PINNING, Need, Touch
from pgferry.session.words import STARTERS, UNLOCKING, WORDS, lasting, spelled

_DYNAMIC = ANYTHING | (Need.PREPARED | Need.SEQUENCES) << NEED_SHIFT
_REASON = "DO block"
# Read as tokens; or meaning something else in a body than at the start of a statement.
_BY_TOKEN = frozenset((b"set_config", b"set", b"reset", b"load"))
_OTHER_MEANING = frozenset((b"do", b"execute", b"explain", b"declare", b"close", b"create", b"alter"))
_ENDING = UNLOCKING | {b"drop", b"close", b"discard"}
# In front of a statement of PL/pgSQL stands one of these.
_BEFORE_STATEMENT = frozenset((b";", b"begin", b"then", b"else", b"loop", b">"))
_LOAD = re.compile(rb"\bload\b\s*(?:[e%$/'-]|u&)")
# What may be the name of a custom setting, in a string or in the code.
_DOTTED = re.compile(rb"[A-Za-z_][A-Za-z0-9_$]*+(?:\.[A-Za-z_][A-Za-z0-9_$]*+)++")
_HINTS = 50
_LONGEST = 8192  # bytes of a body that is read; longer ones may do anything
_MOST = 50  # of SET, RESET and set_config in it that are read


def read_do(tokens: Tokens, start: int, end: int, catalog: Mapping[bytes, int], findings: Findings) -> None:
    """A DO statement."""
    body: bytes | None = None
    language = b"plpgsql"
    for at in range(start + 1, end):
        if tokens.words[at] == b"language":
            language = tokens.names[at + 1] or tokens.string(at + 1) or b"?"
        elif tokens.kinds[at] in STRINGS and tokens.words[at - 1] != b"language":
            body = tokens.string(at)
    if body is None:
        findings.bits(_DYNAMIC | Touch.FOREVER, _REASON)
        findings.ends |= PINNING
        findings.notifies = True
        return
    _read_body(body, language.lower() == b"plpgsql", catalog, findings)


def _read_body(body: bytes, readable: bool, catalog: Mapping[bytes, int], findings: Findings) -> None:
    """The program itself; `readable`: in a language whose static statements can be told from its text."""
    if len(body) > _LONGEST:
        findings.bits(_DYNAMIC | lasting(body), _REASON)
        findings.ends |= PINNING
        findings.notifies = findings.ends_transaction = True
        return
    words = spelled(body)
    dynamic = not readable or not words.isdisjoint((b"execute", b"u&"))
    value = int(_DYNAMIC) if dynamic else 0
    for word in words - _BY_TOKEN - _OTHER_MEANING:
        value |= WORDS.get(word, 0) | STARTERS.get(word, 0)
    for word in words:
        value |= catalog.get(word, 0)
    if b"create" in words:
        value |= Touch.TEMP
        if b"extension" in words:
            value |= Touch.SETTINGS
    if _LOAD.search(body.lower()):
        value |= Touch.FOREVER
    if not words.isdisjoint(_BY_TOKEN):
        value |= _read_code(body, catalog, findings)
    if value & Touch.SETTINGS or findings.is_any_setting:
        _hint(body, findings)
    findings.bits(value, _REASON)
    if dynamic or not words.isdisjoint(_ENDING):
        findings.ends |= PINNING
    if dynamic or not words.isdisjoint((b"notify", b"pg_notify")):
        findings.notifies = True
    if dynamic or not words.isdisjoint((b"commit", b"rollback")):
        findings.ends_transaction = True


def _read_code(body: bytes, catalog: Mapping[bytes, int], findings: Findings) -> int:
    """Read SET, RESET and set_config from the code. Returns what there is to say if it cannot be read."""
    code = lex(body)
    if code.doubtful or code.ambiguous or sum(word in _BY_TOKEN for word in code.words) > _MOST:
        return WORDS[b"set_config"]
    Calls(code, catalog, findings, program=True).scan(0, len(code), rewrites=False, params=False)
    for at in range(len(code)):
        if code.words[at] in (b"set", b"reset") and at and code.words[at - 1] in _BEFORE_STATEMENT:
            reader = read_set if code.words[at] == b"set" else read_reset
            reader(code, at, len(code), findings)
    findings.plain = None
    return 0


def _hint(body: bytes, findings: Findings) -> None:
    """Names that the body shows: what looks like the name of a custom setting, in strings too."""
    findings.hint([*dict.fromkeys(_DOTTED.findall(body.lower()))][:_HINTS])
