"""Functions and relations in a statement whose use may change or need state of the session."""

from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping

from pgferry.session.findings import Findings
from pgferry.session.lexer import GAP, IDENT, NAMES, PARAM, STRINGS, Tokens
from pgferry.session.verdict import (
    ANYTHING,
    DEFINES,
    REWRITE_RELATION,
    REWRITE_RELATION_WITH_ALIAS,
    Need,
    Touch,
)
from pgferry.session.words import (
    DDL,
    LASTING,
    LOCKING,
    MAINTENANCE,
    SELECT_INTO,
    SLOT_MAKERS,
    STRING_RUNNERS,
    UNLESS_AFTER,
    UNLOCKING,
    lasting,
)

_ARGUMENT_TOKENS = 64  # an argument list that is longer is not looked into
_TRUE = frozenset((b"t", b"tr", b"tru", b"true", b"y", b"ye", b"yes", b"on", b"1"))
_TEXT_TYPES = ((b"text",), (b"varchar",), (b"character", b"varying"))
_BOOLEAN_TYPES = ((b"bool",), (b"boolean",))
_CLAUSES = frozenset(
    b"select from where group order having set returning on using values limit offset window".split()
)
# Behind a relation in FROM, these are no alias.
_NO_ALIAS = frozenset(
    b"where join inner left right full cross natural on using group order having limit offset fetch for union"
    b" intersect except window returning into set when then with".split()
)

# A range of tokens: of the first and of the one behind the last.
Range = tuple[int, int]


class Calls:
    """Looks for names that matter in the tokens of a text."""

    def __init__(
        self, tokens: Tokens, catalog: Mapping[bytes, int], findings: Findings, *, program: bool = False
    ) -> None:
        """`program`: the text is PL/pgSQL, where INTO names variables and no table."""
        self._tokens = tokens
        self._catalog = catalog
        self._findings = findings
        names = tokens.names
        found = [i for i, name in enumerate(names) if name in _BUILT_IN or name in catalog]
        if tokens.quoted and catalog:
            found = sorted({*found, *(i for i in tokens.quoted if names[i].lower() in catalog)})
        self._found = [i for i in found if names[i] != b"into"] if program else found

    def scan(self, start: int, end: int, *, rewrites: bool = True, params: bool = True) -> None:
        """Find them between two tokens. `params`: $1 is what the client binds (and not an argument of EXECUTE)."""
        found = self._found
        for k in range(bisect_left(found, start), len(found)):
            at = found[k]
            if at >= end:
                return
            name = self._tokens.names[at]
            reader = _BUILT_IN.get(name)
            if reader is not None:
                reader(self, at, rewrites, params)
            value = self._catalog.get(name)
            if value is None and self._tokens.kinds[at] != IDENT:
                name = name.lower()
                value = self._catalog.get(name)
            if value is not None:
                if name in DDL or name in MAINTENANCE:
                    known_as = "functions that run with " + name.decode().upper()
                else:
                    known_as = "function " + name.decode("utf-8", "replace")
                self._findings.known(name, value, known_as)

    # One method for each kind of name. `at` is the place of the name.

    def _called(self, at: int) -> bool:
        return self._tokens.words[at + 1] == b"("

    def _set_config(self, at: int, _edits: bool, params: bool) -> None:
        if not self._called(at):
            return
        tokens = self._tokens
        arguments = self._arguments(at + 1)
        if len(arguments) != 3:
            self._findings.any_setting("set_config", unnamed=True)
            return
        name, _, local = arguments
        name = self._without_cast(name, _TEXT_TYPES)
        single = name[1] - name[0] == 1
        value = tokens.string(name[0]) if single else None
        if self._is_true(local) and not (value is not None and value.lower() == b"seed"):
            self._findings.local(value, "set_config")
            return
        if value is not None:
            self._findings.setting(value, "set_config")
        elif single and params and tokens.kinds[name[0]] == PARAM:
            self._findings.params.append(int(tokens.raw(name[0])[1:]))
            self._findings.add(Touch.SETTINGS, "set_config")
        else:
            self._findings.any_setting("set_config", unnamed=True)

    def _set_limit(self, at: int, _edits: bool, _params: bool) -> None:
        if self._called(at):
            self._findings.setting(b"pg_trgm.similarity_threshold", "set_limit")

    def _lock(self, at: int, _edits: bool, _params: bool) -> None:
        if self._called(at):
            self._findings.add(Touch.LOCKS, self._tokens.names[at].decode())

    def _unlock(self, at: int, _edits: bool, _params: bool) -> None:
        if self._called(at):
            self._findings.ends |= Touch.LOCKS
            self._findings.because(self._tokens.names[at].decode())

    def _lasting(self, at: int, _edits: bool, _params: bool) -> None:
        if self._called(at):
            self._findings.add(Touch.FOREVER, self._tokens.names[at].decode())

    def _slot(self, at: int, _edits: bool, _params: bool) -> None:
        if not self._called(at):
            return
        name = self._tokens.names[at]
        arguments = self._arguments(at + 1)
        place = SLOT_MAKERS[name]
        if 0 < len(arguments) <= place and not any(self._named(a) for a in arguments):
            return
        if len(arguments) > place and self._words(arguments[place]) == [b"false"]:
            return
        self._findings.add(Touch.FOREVER, name.decode())

    def _sequence(self, at: int, _edits: bool, _params: bool) -> None:
        if self._called(at):
            self._findings.needs |= Need.SEQUENCES
            self._findings.because(self._tokens.names[at].decode())

    def _notify(self, at: int, _edits: bool, _params: bool) -> None:
        if self._called(at):
            self._findings.notifies = True
            self._findings.because("pg_notify")

    def _runner(self, at: int, _edits: bool, _params: bool) -> None:
        if self._called(at) and self._findings.touch & ANYTHING != ANYTHING:
            bits = ANYTHING | DEFINES | lasting(self._tokens.text)
            self._findings.bits(bits, self._tokens.names[at].decode())
            self._findings.notifies = True

    def _temp_schema(self, _at: int, _edits: bool, _params: bool) -> None:
        self._findings.add(Touch.TEMP, "temporary schema")

    def _into(self, at: int, _edits: bool, _params: bool) -> None:
        tokens = self._tokens
        before = tokens.words[at - 1] if at else b""
        if tokens.kinds[at] == IDENT and (before not in UNLESS_AFTER[b"into"][1] or self._in_select(at)):
            temporary = {b"temp", b"temporary"} & {tokens.words[at + 1], tokens.words[at + 2]}
            self._findings.add(Touch.TEMP, "temporary table" if temporary else "SELECT INTO")
            if SELECT_INTO in self._catalog:
                self._findings.bits(self._catalog[SELECT_INTO], "event trigger")

    def _settings_view(self, at: int, _edits: bool, _params: bool) -> None:
        """UPDATE pg_settings is a set_config in disguise."""
        words = self._tokens.words
        at -= 1
        while at >= 0 and (words[at] in (b".", b"only", b"pg_catalog", b"")):
            at -= 1
        if at >= 0 and words[at] == b"update":
            self._findings.any_setting("UPDATE pg_settings", unnamed=True)

    def _prepared_view(self, at: int, rewrites: bool, _params: bool) -> None:
        self._findings.needs |= Need.PREPARED
        self._findings.because("pg_prepared_statements")
        if not rewrites:
            return
        tokens = self._tokens
        words = tokens.words
        first = at
        if at >= 2 and words[at - 1] == b"." and tokens.names[at - 2] == b"pg_catalog":
            first = at - 2
        behind = words[at + 1]
        if behind in (b".", b"(", b"*", b"tablesample") or not self._in_from(first):
            return
        alias = behind not in _NO_ALIAS and tokens.kinds[at + 1] in NAMES
        kind = REWRITE_RELATION_WITH_ALIAS if alias else REWRITE_RELATION
        rewrite = (tokens.starts[first], tokens.ends[at], kind, tokens.names[at])
        self._findings.rewrites.append(rewrite)

    def _prepared_function(self, at: int, _edits: bool, _params: bool) -> None:
        if self._called(at):
            self._findings.needs |= Need.PREPARED
            self._findings.because("pg_prepared_statement")

    # How the tokens around a name are read.

    def _in_select(self, at: int) -> bool:
        """Whether INTO is that of a SELECT, although it stands behind INSERT or MERGE: `SELECT 1 insert INTO t`."""
        tokens = self._tokens
        depth = 0
        for k in range(at - 1, -1, -1):
            word = tokens.words[k]
            if word == b")":
                depth += 1
            elif word == b"(":
                depth -= 1
                if depth < 0:
                    return False
            elif tokens.kinds[k] == GAP or (depth == 0 and word == b"select" and tokens.kinds[k] == IDENT):
                return True
        return False

    def _in_from(self, at: int) -> bool:
        """Whether the relation at this place stands in a FROM clause."""
        words = self._tokens.words
        at -= 1
        while at >= 0 and words[at] == b"(":
            at -= 1
        before = words[at] if at >= 0 else b""
        if before in (b"join", b"using"):
            return True
        if before == b"from":
            return not (words[at - 1] == b"distinct" and at >= 2 and words[at - 2] in (b"is", b"not"))
        if before != b",":
            return False
        depth = 0
        for k in range(at, max(-1, at - 4 * _ARGUMENT_TOKENS), -1):
            word = words[k]
            if word == b")":
                depth += 1
            elif word == b"(":
                depth -= 1
                if depth < 0:
                    return False
            elif self._tokens.kinds[k] == GAP:
                return False
            elif depth == 0 and word in _CLAUSES:
                return word == b"from"
        return False

    def _arguments(self, opening: int) -> list[Range]:
        """The arguments of the list that opens here; none where it is too long to be read, or has no end."""
        words = self._tokens.words
        arguments: list[Range] = []
        depth, start = 0, opening + 1
        for k in range(opening, min(len(words), opening + _ARGUMENT_TOKENS)):
            word = words[k]
            if word in (b"(", b"["):
                depth += 1
            elif word in (b")", b"]"):
                depth -= 1
                if depth == 0:
                    if k > start:
                        arguments.append((start, k))
                    return arguments
            elif word == b"," and depth == 1:
                arguments.append((start, k))
                start = k + 1
            elif self._tokens.kinds[k] == GAP:
                break
        return []

    def _words(self, part: Range) -> list[bytes]:
        return self._tokens.words[part[0] : part[1]]

    def _named(self, part: Range) -> bool:
        """Whether the argument is given as name => value."""
        return self._tokens.words[part[0] + 1] in (b"=", b":")

    def _without_cast(self, part: Range, types: tuple[tuple[bytes, ...], ...]) -> Range:
        """What `x::type` and `CAST(x AS type)` cast, if it is one token and the type one of these."""
        words = self._words(part)
        if words[:2] == [b"cast", b"("] and words[-1] == b")" and words[3:4] == [b"as"]:
            inner, named = (part[0] + 2, part[0] + 3), words[4:-1]
        elif words[1:3] == [b":", b":"]:
            inner, named = (part[0], part[0] + 1), words[3:]
        else:
            return part
        if named[:2] == [b"pg_catalog", b"."]:
            named = named[2:]
        return inner if tuple(named) in types else part

    def _is_true(self, part: Range) -> bool:
        """Whether an argument is a plain constant true."""
        part = self._without_cast(part, _BOOLEAN_TYPES)
        if part[1] - part[0] != 1:
            return False
        if self._tokens.words[part[0]] == b"true":
            return True
        if self._tokens.kinds[part[0]] not in STRINGS:
            return False
        value = self._tokens.string(part[0])
        return value is not None and value.strip().lower() in _TRUE


_Reader = Callable[[Calls, int, bool, bool], None]


def _readers() -> Iterator[tuple[bytes, _Reader]]:
    yield b"set_config", Calls._set_config
    yield b"set_limit", Calls._set_limit
    yield b"pg_notify", Calls._notify
    yield b"pg_temp", Calls._temp_schema
    yield b"into", Calls._into
    yield b"pg_settings", Calls._settings_view
    yield b"pg_prepared_statements", Calls._prepared_view
    yield b"pg_prepared_statement", Calls._prepared_function
    for names, reader in (
        (LOCKING, Calls._lock),
        (UNLOCKING, Calls._unlock),
        (LASTING, Calls._lasting),
        (SLOT_MAKERS, Calls._slot),
        (STRING_RUNNERS, Calls._runner),
        ((b"currval", b"lastval"), Calls._sequence),
    ):
        for name in names:
            yield name, reader


_BUILT_IN: dict[bytes, _Reader] = dict(_readers())
