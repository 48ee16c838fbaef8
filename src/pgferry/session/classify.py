"""classify(): what a text of one or more statements may do to the session it runs in.

A false alarm costs a question to the server; a miss would be a leak. So whatever cannot be read for certain counts as
the worst that its words allow.
"""

import re
from collections.abc import Callable, Iterator, Mapping

from pgferry.session.bodies import read_do
from pgferry.session.calls import Calls
from pgferry.session.clears import clears
from pgferry.session.findings import Findings
from pgferry.session.lexer import STRINGS, Tokens, lex
from pgferry.session.setting import read_reset, read_set
from pgferry.session.skim import is_harmless
from pgferry.session.verdict import (
    ANYTHING,
    DEALLOCATE_ALL,
    DISCARD_ALL,
    DISCARD_SEQUENCES,
    DISCARD_TEMP,
    EDIT_DEALLOCATE,
    EDIT_EXECUTE,
    EDIT_PREPARE,
    HARMLESS,
    PINNING,
    Need,
    Touch,
    Verdict,
)
from pgferry.session.words import spelled, worst

# Objects that are never temporary.
_NEVER_TEMPORARY = frozenset(
    b"role user group database tablespace server publication subscription policy trigger constraint rule index"
    b" unique cast language procedural trusted event access transform".split()
)
# Their definition holds code that is kept for later, and not run now.
_KEPT_CODE = frozenset(
    b"function procedure view recursive rule policy trigger constraint role user group".split()
)
# What these are made of brings no code that runs by itself, except what the text names.
_WITHOUT_CODE = frozenset(
    b"table index unique sequence role user group database statistics publication subscription tablespace".split()
)
# ALTER of these changes nothing that runs by itself, nor the name of anything that does.
_ALTERED_WITHOUT_CODE = frozenset(
    b"role user group database system tablespace statistics publication subscription default large".split()
)
_DEFINING = re.compile(rb"\b(?:create|alter|execute|import)\b", re.IGNORECASE)
# Between CREATE and the kind of the object.
_CREATE_MODIFIERS = frozenset(b"or replace local global temp temporary unlogged".split())
_SPLITTERS = frozenset((b"(", b")", b";", b"begin", b"end", b"case"))

_LONG = 1000  # from here on a quick look first pays
_TOO_LONG = 16384  # from here on reading closely would take too long: nobody else is served meanwhile
_CLEARING = frozenset((b"discard", b"reset", b"set", b"unlisten", b"deallocate", b"close", b"select"))

_EVERYTHING = Touch.SETTINGS | Touch.PREPARED | Touch.LISTEN | Touch.TEMP | Touch.LOCKS | Touch.CURSORS


def classify(
    text: bytes,
    words: Mapping[bytes, int] | None = None,
    settings: Mapping[bytes, tuple[bytes, ...]] | None = None,
) -> Verdict:
    """Judge a text: HARMLESS, or what it may do. `words`: names from the catalog whose use may change state;
    `settings`: those that some of them change, where they change no others."""
    catalog = words or {}
    if len(text) > _LONG and is_harmless(text, catalog):
        return HARMLESS
    if len(text) > _TOO_LONG:
        return _worst(text, catalog)
    findings = Findings(settings)
    tokens = lex(text)
    if tokens.ambiguous:
        other = lex(text, standard=False)
        if tokens.doubtful and other.doubtful:
            return _worst(text, catalog)
        for reading in (tokens, other):
            if not reading.doubtful:
                _Statements(reading, catalog, findings).read()
        findings.edits = list(dict.fromkeys(findings.edits))
        findings.plain = None
        findings.resets_at.clear()
    elif tokens.doubtful:
        return _worst(text, catalog)
    else:
        _Statements(tokens, catalog, findings).read()
        if tokens.words[0] in _CLEARING:
            findings.clears = clears(tokens)
    return findings.verdict()


def _worst(text: bytes, catalog: Mapping[bytes, int]) -> Verdict:
    """The verdict on a text that cannot be read."""
    value = worst(text, catalog)
    notifies = not spelled(text).isdisjoint((b"notify", b"pg_notify"))
    if not (value or notifies):
        return HARMLESS
    findings = Findings()
    findings.bits(value, "text that cannot be read")
    findings.ends = int(PINNING)
    findings.notifies = notifies
    findings.ends_transaction = True
    findings.defines = _DEFINING.search(text) is not None or b"do" in spelled(text)
    return findings.verdict()


class _Statements:
    """Splits a text into statements and reads each by its first word."""

    __slots__ = ("_calls", "_catalog", "_findings", "_in_body", "_tokens", "_words")

    def __init__(self, tokens: Tokens, catalog: Mapping[bytes, int], findings: Findings) -> None:
        self._tokens = tokens
        self._words = tokens.words
        self._catalog = catalog
        self._findings = findings
        self._calls = Calls(tokens, catalog, findings)
        self._in_body = False  # in the body of a CREATE FUNCTION ... BEGIN ATOMIC

    def read(self) -> None:
        count = 0
        findings = self._findings
        for start, end, in_body in self._split():
            if start < end:
                self._in_body = in_body
                before = findings.resets_so_far()
                self._statement(start, end)
                if not in_body:
                    findings.note_reset(before, self._tokens.ends[end - 1], count)
                count += 1
        if count != 1:
            findings.plain = None
        else:
            findings.resets_at.clear()

    def _split(self) -> Iterator[tuple[int, int, bool]]:
        """The statements, and whether each is part of a function's body."""
        words = self._words
        length = len(self._tokens)
        if b";" not in words:
            yield 0, length, False
            return
        start = depth = cases = 0
        atomic = started_atomic = False
        for at, word in enumerate(words):
            if word not in _SPLITTERS:
                continue
            if word == b"(":
                depth += 1
            elif word == b")":
                depth = max(0, depth - 1)
            elif word == b";":
                if depth == 0:
                    yield start, at, started_atomic
                    start, started_atomic = at + 1, atomic
            elif word == b"begin":
                if words[at + 1] == b"atomic" and words[start] == b"create":
                    atomic, cases = True, 0
            elif atomic and (at == 0 or words[at - 1] not in (b".", b"as")):
                if word == b"case":
                    cases += 1
                elif cases:
                    cases -= 1
                else:
                    atomic = False
        yield start, length, started_atomic

    def _statement(self, start: int, end: int) -> None:
        reader = _READERS.get(self._words[start])
        if reader is None:
            self._scan(start, end)
        else:
            reader(self, start, end)

    def _scan(self, start: int, end: int, params: bool = True) -> None:
        self._calls.scan(start, end, edits=not self._in_body, params=params)

    def _edit(self, kind: int, at: int) -> None:
        """The name of a prepared statement stands here."""
        tokens = self._tokens
        if tokens.names[at] and not self._in_body:
            edit = (tokens.starts[at], tokens.ends[at], kind, tokens.names[at])
            self._findings.edits.append(edit)

    # One method for each first word.

    def _set(self, start: int, end: int) -> None:
        read_set(self._tokens, start, end, self._findings)

    def _reset(self, start: int, end: int) -> None:
        read_reset(self._tokens, start, end, self._findings)

    def _discard(self, start: int, _end: int) -> None:
        findings = self._findings
        what = self._words[start + 1]
        if what == b"plans":
            return
        if what == b"all":
            findings.add(_EVERYTHING, "DISCARD ALL")
            findings.any_setting("DISCARD ALL")
            findings.reset(None)
            findings.ends |= _EVERYTHING
            findings.discards |= DISCARD_ALL
        elif what in (b"temp", b"temporary"):
            findings.ends |= Touch.TEMP
            findings.discards |= DISCARD_TEMP
            findings.because("DISCARD TEMP")
        else:
            findings.discards |= DISCARD_SEQUENCES
            findings.because("DISCARD SEQUENCES")

    def _prepare(self, start: int, end: int) -> None:
        tokens, findings = self._tokens, self._findings
        if self._words[start + 1] == b"transaction" and tokens.kinds[start + 2] in STRINGS:
            findings.ends_transaction |= not self._in_body
            return
        findings.add(Touch.PREPARED, "PREPARE")
        findings.needs |= Need.PREPARED
        if tokens.names[start + 1]:
            findings.prepares.append(tokens.names[start + 1])
            self._edit(EDIT_PREPARE, start + 1)
        self._scan(start + 2, end, params=False)

    def _execute(self, start: int, end: int) -> None:
        self._edit(EDIT_EXECUTE, start + 1)
        self._findings.needs |= Need.PREPARED
        self._findings.because("EXECUTE")
        self._scan(start + 2, end)

    def _deallocate(self, start: int, end: int) -> None:
        findings = self._findings
        at = start + 1
        if self._words[at] == b"prepare" and at + 1 < end:
            at += 1
        findings.add(Touch.PREPARED, "DEALLOCATE")
        findings.ends |= Touch.PREPARED
        findings.needs |= Need.PREPARED
        if self._words[at] == b"all":
            findings.discards |= DEALLOCATE_ALL
        else:
            self._edit(EDIT_DEALLOCATE, at)

    def _listen(self, start: int, _end: int) -> None:
        self._findings.add(Touch.LISTEN, "LISTEN")
        if self._tokens.names[start + 1]:
            self._findings.listens.append(self._tokens.names[start + 1])

    def _unlisten(self, _start: int, _end: int) -> None:
        self._findings.add(Touch.LISTEN, "UNLISTEN")
        self._findings.ends |= Touch.LISTEN

    def _notify(self, _start: int, _end: int) -> None:
        self._findings.notifies = True
        self._findings.because("NOTIFY")

    def _load(self, _start: int, _end: int) -> None:
        self._findings.add(Touch.FOREVER, "LOAD")

    def _do(self, start: int, end: int) -> None:
        tokens = self._tokens
        read_do(tokens, start, end, self._catalog, self._findings)
        body = tokens.text[tokens.starts[start] : tokens.ends[end - 1]]
        if self._findings.touch & ANYTHING == ANYTHING or _DEFINING.search(body):
            self._findings.defines = True

    def _create(self, start: int, end: int) -> None:
        words = self._words
        self._calls.scan(start, start + 1)
        at = start + 1
        while words[at] in _CREATE_MODIFIERS:
            at += 1
        kind = words[at]
        if kind in _WITHOUT_CODE:
            self._findings.makes = True
        else:
            self._findings.defines = True
            self._findings.because("CREATE " + kind.decode("utf-8", "replace").upper())
        if kind == b"extension":
            self._findings.any_setting("CREATE EXTENSION")
        if kind not in _NEVER_TEMPORARY:
            temporary = {b"temp", b"temporary"} & set(words[start + 1 : at])
            name = kind.decode("utf-8", "replace")
            self._findings.add(Touch.TEMP, f"temporary {name}" if temporary else f"CREATE {name.upper()}")
        if kind in _KEPT_CODE:
            return
        if kind == b"materialized":
            self._calls.scan(at, end, edits=False)
            return
        if kind in (b"table", b"foreign"):
            self._create_as_execute(at, end)
        self._scan(at, end)

    def _create_as_execute(self, start: int, end: int) -> None:
        """CREATE TABLE ... AS EXECUTE name."""
        words = self._words
        depth = 0
        for at in range(start, end):
            word = words[at]
            if word == b"(":
                depth += 1
            elif word == b")":
                depth -= 1
            elif word == b"execute" and depth == 0 and words[at - 1] == b"as":
                self._execute(at, at + 2)
                return

    def _alter(self, start: int, end: int) -> None:
        if self._words[start + 1] not in _ALTERED_WITHOUT_CODE:
            self._findings.defines = True
            self._findings.because("ALTER")
        if self._words[start + 1] == b"extension":
            self._findings.any_setting("ALTER EXTENSION")
            self._findings.add(Touch.TEMP, "ALTER EXTENSION")
        self._scan(start, end)

    def _drop(self, start: int, _end: int) -> None:
        self._calls.scan(start, start + 1)
        self._findings.ends |= Touch.TEMP
        self._findings.because("DROP")

    def _declare(self, start: int, end: int) -> None:
        words = self._words
        for at in range(start + 2, end):
            if words[at] == b"for":
                break
            if words[at] == b"hold" and words[at - 1] == b"with":
                self._findings.add(Touch.CURSORS, "cursor WITH HOLD")
        self._scan(start + 1, end)

    def _close(self, _start: int, _end: int) -> None:
        self._findings.ends |= Touch.CURSORS
        self._findings.because("CLOSE")

    def _explain(self, start: int, end: int) -> None:
        """EXPLAIN ANALYZE does what it explains, and EXPLAIN EXECUTE needs the statement."""
        words = self._words
        at = start + 1
        if words[at] == b"(" and words[at + 1] not in (b"select", b"with", b"values", b"table", b"("):
            while at < end and words[at] != b")":
                at += 1
            at += 1
        while words[at] in (b"analyze", b"analyse", b"verbose"):
            at += 1
        if words[at] == b"execute":
            self._execute(at, end)
        elif words[at] == b"create":
            self._create(at, end)
        else:
            self._scan(start, end)

    def _end_transaction(self, start: int, end: int) -> None:
        words = self._words
        to_savepoint = words[start] == b"rollback" and b"to" in words[start + 1 : min(end, start + 3)]
        if words[start + 1] != b"prepared" and not to_savepoint:
            self._findings.ends_transaction |= not self._in_body

    def _nothing(self, _start: int, _end: int) -> None:
        """Statements that neither change state nor evaluate anything."""


_READERS: dict[bytes, Callable[[_Statements, int, int], None]] = {
    b"set": _Statements._set,
    b"reset": _Statements._reset,
    b"discard": _Statements._discard,
    b"prepare": _Statements._prepare,
    b"execute": _Statements._execute,
    b"deallocate": _Statements._deallocate,
    b"listen": _Statements._listen,
    b"unlisten": _Statements._unlisten,
    b"notify": _Statements._notify,
    b"load": _Statements._load,
    b"do": _Statements._do,
    b"create": _Statements._create,
    b"alter": _Statements._alter,
    b"drop": _Statements._drop,
    b"declare": _Statements._declare,
    b"close": _Statements._close,
    b"explain": _Statements._explain,
    **dict.fromkeys((b"commit", b"end", b"rollback", b"abort"), _Statements._end_transaction),
    **dict.fromkeys((b"begin", b"start", b"savepoint", b"release", b"show"), _Statements._nothing),
}
