"""classify(): what a text of one or more statements may do to the session it runs in.

The compiled lexer reads a text of any length to its end and picks the statements with words that matter; those are
read here, as far as they are few. A false alarm costs a question to the server; a miss would be a leak. So whatever
cannot be read for certain counts as the worst that its words allow.
"""

from collections.abc import Callable, Mapping

from pgferry.engine.core.lexer import may_mislead
from pgferry.engine.core.outline import Outline, outline, windows
from pgferry.engine.core.words import WordSet
from pgferry.session.bodies import read_do
from pgferry.session.calls import Calls
from pgferry.session.clears import clears
from pgferry.session.findings import Findings
from pgferry.session.lexer import STRINGS, Tokens, lex
from pgferry.session.setting import read_reset, read_set
from pgferry.session.verdict import (
    ANYTHING,
    DEALLOCATE_ALL,
    DISCARD_ALL,
    DISCARD_SEQUENCES,
    DISCARD_TEMP,
    HARMLESS,
    PINNING,
    REWRITE_DEALLOCATE,
    REWRITE_EXECUTE,
    REWRITE_PREPARE,
    Need,
    Touch,
    Verdict,
)
from pgferry.session.words import (
    ALTERED_WITHOUT_CODE,
    CREATE_MODIFIERS,
    WITHOUT_CODE,
    may_define,
    word_set,
)

# Objects that are never temporary.
_NEVER_TEMPORARY = frozenset(
    b"role user group database tablespace server publication subscription policy trigger constraint rule index"
    b" unique cast language procedural trusted event access transform".split()
)
# Their definition holds code that is kept for later, and not run now.
_KEPT_CODE = frozenset(
    b"function procedure view recursive rule policy trigger constraint role user group".split()
)
_EVERYTHING = Touch.SETTINGS | Touch.PREPARED | Touch.LISTEN | Touch.TEMP | Touch.LOCKS | Touch.CURSORS


def classify(
    text: bytes,
    words: Mapping[bytes, int] | None = None,
    settings: Mapping[bytes, tuple[bytes, ...]] | None = None,
    *,
    known: WordSet | None = None,
    mixed: bool = False,
    doubt: int = 0,
) -> Verdict:
    """Classify a text.

    `words`: names from the catalog whose use may change state; `settings`: the settings that some of them change, where
    they change no others; `known`: word_set(words), if the caller has it; `mixed`: the client's encoding has ASCII
    bytes in its characters, or is not known for certain; `doubt`: bits of names that the text may have in another
    encoding than the catalog.
    """
    catalog = words or {}
    if known is None:
        known = word_set(catalog)
    if mixed and may_mislead(text):
        return _worst(text, known.bits(text) | doubt)
    readings = [outline(text, known, True)]
    if readings[0].ambiguous:
        readings.append(outline(text, known, False))
    readings = [reading for reading in readings if not reading.doubtful]
    if not readings:
        return _worst(text, known.bits(text) | doubt)
    findings = Findings(settings)
    if doubt:
        findings.bits(doubt, "name in another encoding")
    for number, reading in enumerate(readings):
        if reading.overflow or not _read(text, reading, number == 0, catalog, findings):
            value = known.bits(text) if reading.bits & ANYTHING == ANYTHING else reading.bits
            return _worst(text, value | doubt)
    if readings[0].ambiguous:
        findings.rewrites = list(dict.fromkeys(findings.rewrites))
        findings.plain = None
        findings.clears = 0
        findings.resets_at.clear()
    return findings.verdict()


def _read(
    text: bytes, found: Outline, standard: bool, catalog: Mapping[bytes, int], findings: Findings
) -> bool:
    """Read the statements that matter. False: one of them cannot be read."""
    findings.ends_transaction |= found.ends_transaction
    cleared = 0
    clearing = len(found.pieces) == found.count
    for start, end, number, count, in_body, spots in found.pieces:
        tokens = lex(text, standard, (start, end), windows(count, spots))
        if tokens.doubtful:
            return False
        before = findings.resets_so_far()
        _Statement(tokens, catalog, findings, in_body).read()
        if not in_body:
            findings.note_reset(before, end, number)
        bits = clears(tokens) if clearing else 0
        clearing = bits != 0
        cleared |= bits
    findings.clears = cleared if clearing else 0
    if found.count != 1:
        findings.plain = None
    else:
        findings.resets_at.clear()
    return True


def _worst(text: bytes, value: int) -> Verdict:
    """The verdict on a text that cannot be read, with the bits of its words."""
    if value == 0:
        return HARMLESS
    findings = Findings()
    findings.bits(value, "text that cannot be read")
    findings.ends = int(PINNING)
    findings.ends_transaction = True
    findings.defines |= findings.makes or may_define(text) or value & ANYTHING == ANYTHING
    return findings.verdict()


class _Statement:
    """Reads one statement by its first word."""

    __slots__ = ("_calls", "_catalog", "_findings", "_in_body", "_tokens", "_words")

    def __init__(
        self, tokens: Tokens, catalog: Mapping[bytes, int], findings: Findings, in_body: bool
    ) -> None:
        self._tokens = tokens
        self._words = tokens.words
        self._catalog = catalog
        self._findings = findings
        self._calls = Calls(tokens, catalog, findings)
        self._in_body = in_body  # in the body of a CREATE FUNCTION ... BEGIN ATOMIC

    def read(self) -> None:
        """Add what the statement does to the findings."""
        self._statement(0, len(self._tokens))

    def _statement(self, start: int, end: int) -> None:
        reader = _READERS.get(self._words[start])
        if reader is None:
            self._scan(start, end)
        else:
            reader(self, start, end)

    def _scan(self, start: int, end: int, params: bool = True) -> None:
        self._calls.scan(start, end, rewrites=not self._in_body, params=params)

    def _edit(self, kind: int, at: int) -> None:
        """The name of a prepared statement stands here."""
        tokens = self._tokens
        if tokens.names[at] and not self._in_body:
            rewrite = (tokens.starts[at], tokens.ends[at], kind, tokens.names[at])
            self._findings.rewrites.append(rewrite)

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
            self._edit(REWRITE_PREPARE, start + 1)
        self._scan(start + 2, end, params=False)

    def _execute(self, start: int, end: int) -> None:
        self._edit(REWRITE_EXECUTE, start + 1)
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
            self._edit(REWRITE_DEALLOCATE, at)

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
        if self._findings.touch & ANYTHING == ANYTHING or may_define(body):
            self._findings.defines = True

    def _create(self, start: int, end: int) -> None:
        words = self._words
        self._calls.scan(start, start + 1)
        at = start + 1
        while words[at] in CREATE_MODIFIERS:
            at += 1
        kind = words[at]
        if kind in WITHOUT_CODE:
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
            self._calls.scan(at, end, rewrites=False)
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
        if self._words[start + 1] not in ALTERED_WITHOUT_CODE:
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

    def _nothing(self, _start: int, _end: int) -> None:
        """Statements that neither change state nor evaluate anything."""


_READERS: dict[bytes, Callable[[_Statement, int, int], None]] = {
    b"set": _Statement._set,
    b"reset": _Statement._reset,
    b"discard": _Statement._discard,
    b"prepare": _Statement._prepare,
    b"execute": _Statement._execute,
    b"deallocate": _Statement._deallocate,
    b"listen": _Statement._listen,
    b"unlisten": _Statement._unlisten,
    b"notify": _Statement._notify,
    b"load": _Statement._load,
    b"do": _Statement._do,
    b"create": _Statement._create,
    b"alter": _Statement._alter,
    b"drop": _Statement._drop,
    b"declare": _Statement._declare,
    b"close": _Statement._close,
    b"explain": _Statement._explain,
    **dict.fromkeys((b"begin", b"start", b"savepoint", b"release", b"show"), _Statement._nothing),
}
