"""What a function's source may do to a session, found in its text alone, before it ever runs.

SQL and PL/pgSQL are read exactly; dynamic SQL counts as ANYTHING unless it is put together from literals, names and
quoted values only. Other languages are not read: a function in one of them may do anything, unless an operator vouches
for it (harmless_functions).
"""

import re
from collections.abc import Iterator, Sequence

import msgspec

from pgferry.session import words
from pgferry.session.dynamic import arguments, template
from pgferry.session.findings import ANY_LOCAL
from pgferry.session.source_lexer import HOLE, OPERATOR, QUOTED, STRING, WORD, Token, cut, tokens, uncommented
from pgferry.session.verdict import ANYTHING, DEFINES, MAKES, NEED_SHIFT, NOTIFIES, Need, Touch

_NEEDS_PREPARED = Need.PREPARED << NEED_SHIFT
_NEEDS_SEQUENCES = Need.SEQUENCES << NEED_SHIFT
UNKNOWN = int(ANYTHING | _NEEDS_PREPARED | NOTIFIES | DEFINES)  # what SQL does that nobody can read
_UNREADABLE = UNKNOWN & ~int(Touch.UNNAMED) | int(Touch.UNREADABLE)

READABLE = frozenset((b"sql", b"plpgsql", b"internal", b"c"))  # languages; those in C are known by name


class Finding(msgspec.Struct):
    """What a source may do itself; what it calls is for catalog.py to follow."""

    bits: int = 0  # Touch, Need << NEED_SHIFT, NOTIFIES, DEFINES, MAKES
    names: set[bytes] = msgspec.field(default_factory=set)  # settings it changes by a literal name
    words: set[bytes] = msgspec.field(default_factory=set)  # every word in it, in lower case
    any_object: bool = False  # dynamic SQL in it uses functions or relations by computed names


# Functions whose call counts, with its bits; set_config and the makers of slots depend on their arguments.
_CALLS: dict[bytes, int] = {
    **dict.fromkeys(words.LOCKING | words.UNLOCKING, int(Touch.LOCKS)),
    **dict.fromkeys(words.LASTING, int(Touch.FOREVER)),
    **dict.fromkeys(words.STRING_RUNNERS, UNKNOWN),
    b"currval": int(_NEEDS_SEQUENCES),
    b"lastval": int(_NEEDS_SEQUENCES),
    b"pg_notify": NOTIFIES,
    b"pg_prepared_statement": int(_NEEDS_PREPARED),
    b"set_limit": int(Touch.SETTINGS),
}

# The settings of calls that change always the same one.
_CALL_NAMES = {b"set_limit": (b"pg_trgm.similarity_threshold",)}

# Words that begin statements that count, with their bits; those with 0 depend on what follows.
_HEADS: dict[bytes, int] = {
    b"set": 0,
    b"reset": 0,
    b"do": 0,
    b"declare": 0,
    b"alter": 0,
    b"import": DEFINES,
    b"discard": int(ANYTHING),
    b"listen": int(Touch.LISTEN),
    b"unlisten": int(Touch.LISTEN),
    b"notify": NOTIFIES,
    b"prepare": int(Touch.PREPARED | _NEEDS_PREPARED),
    b"deallocate": int(Touch.PREPARED | _NEEDS_PREPARED),
    b"load": int(Touch.FOREVER),
    b"drop": int(Touch.TEMP),  # it may end a pin
}
_ANYWHERE = (
    _CALLS.keys()
    | words.SLOT_MAKERS.keys()
    | {b"set_config", b"execute", b"create", b"pg_temp", b"pg_settings"}
) | {b"pg_prepared_statements"}
_HOT = _ANYWHERE | {b"hold"}
_HEAD_AFTER = frozenset((b"then", b"else", b"loop", b"begin", b"atomic", b"do", b"also", b"instead"))
# A name after these has columns in parentheses, not arguments.
_BEFORE_COLUMNS = frozenset(
    (b"into", b"table", b"on", b"references", b"exists", b"only", b"view", b"as", b"with")
)
_NOT_A_STATEMENT = frozenset((b"end", b"else", b"when", b"is", b"and", b"or", b"as", b"from"))

_WORD = re.compile(rb"[a-z_\x80-\xff][a-z0-9_$\x80-\xff]*")
_HEAD_WORDS = {head: re.compile(head + rb"(?![a-z0-9_$\x80-\xff])") for head in _HEADS if head != b"declare"}
_BEFORE_HEAD = (b";", b">", b"(", b"then", b"else", b"loop", b"begin", b"atomic", b"do", b"also", b"instead")
_INTO = re.compile(rb"(?<!insert)(?<!merge)\s+into\s")
_LOOKS_CALLING = re.compile(
    b"|".join(sorted(_CALLS.keys() | words.SLOT_MAKERS.keys() | {b"set_config"})), re.IGNORECASE
)

# What outlives the call of a function in another language, where that is known.
_OUTLIVES = re.compile(rb"_SHARED|\b[GS]D\b|\bglobal\b|\bour\b|\bglobalThis\b")
_OUTLIVING = frozenset(
    b"plperl plperlu plpythonu plpython2u plpython3u pltcl pltclu plv8 plcoffee plls".split()
)
_CUSTOM = re.compile(
    rb"set_config\s*\(\s*e?'+([a-z0-9_$]+(?:\.[a-z0-9_$]+)+)'"
    rb"|\bset\s+(?:session\s+)?([a-z0-9_$]+(?:\.[a-z0-9_$]+)+)\s*(?:=|to\b)",
    re.I,
)

# Functions made anew from C functions of the server itself (language internal), by the C function's name.
_SYMBOLS = re.compile(
    rb"(pg_(?:try_)?advisory_(?:un)?lock)|(set_config_by_name)|(setseed|pg_replication_origin_session)"
)

# Triggers of the extension refint write to tables that only the trigger's arguments name.
_REFERENCES = frozenset((b"check_primary_key", b"check_foreign_key"))

# C functions of extensions that leave something; those not named here and not known to words.py do not.
_EXTENSIONS: dict[bytes, int] = {
    b"set_user": int(Touch.SETTINGS | Touch.UNNAMED | Touch.FOREVER),
    b"reset_user": int(Touch.SETTINGS | Touch.UNNAMED | Touch.FOREVER),
    b"set_limit": int(Touch.SETTINGS),
    b"triggered_change_notification": NOTIFIES,
    **dict.fromkeys(words.STRING_RUNNERS, UNKNOWN),
}


def analyze(name: bytes, language: bytes, source: bytes) -> Finding:
    """What a function may do itself."""
    if language == b"c":
        if name in _REFERENCES:
            return Finding(any_object=True)
        return Finding(bits=_EXTENSIONS.get(name, int(Touch.FOREVER)), names=set(_CALL_NAMES.get(name, ())))
    if language == b"internal":
        return Finding(bits=_internal(source))
    if language not in READABLE:
        return _other_language(language, source)
    plain = uncommented(source).lower()
    found = Finding(words=words.spelled(plain))
    if _needs_reading(plain, found.words, language):
        _read(source, found, plpgsql=language == b"plpgsql")
    return found


def analyze_expression(text: bytes) -> Finding:
    """What a default, check, policy, view or rule may do itself, as PostgreSQL writes it out."""
    found = Finding()
    all_tokens = tokens(text)
    if all_tokens and all_tokens[0].text == b"create":  # the rule's or the trigger's own
        del all_tokens[0]
    reader = _Reader(all_tokens, found, plpgsql=False)
    reader.read()
    if any(t.text == b"pg_settings" for t in reader.tokens if t.kind in (WORD, QUOTED)):
        found.bits |= Touch.SETTINGS | Touch.UNNAMED  # to update such a view is to SET
    return found


def _internal(symbol: bytes) -> int:
    match = _SYMBOLS.match(symbol)
    if match is None or b"xact" in symbol:
        return 0
    return int((Touch.LOCKS, Touch.SETTINGS | Touch.UNNAMED, Touch.FOREVER)[(match.lastindex or 1) - 1])


def _other_language(language: bytes, source: bytes) -> Finding:
    outlives = language in _OUTLIVING and _OUTLIVES.search(source)
    return Finding(
        bits=_UNREADABLE | (int(Touch.FOREVER) if outlives else 0),
        names=set(_custom(source)),
        words=words.spelled(source),
    )


def _custom(source: bytes) -> Iterator[bytes]:
    """Names of custom settings that show anywhere in a source."""
    for first, second in _CUSTOM.findall(source):
        yield (first or second).lower()


def _needs_reading(plain: bytes, found: set[bytes], language: bytes) -> bool:
    """Cheap and on the safe side: most functions have none of the words, or UPDATE's SET only."""
    if not found.isdisjoint(_HOT) or b"u&" in plain:
        return True
    if language == b"sql" and b"into" in found and _INTO.search(plain):
        return True
    return any(
        _may_begin(plain, match.start())
        for head in found & _HEAD_WORDS.keys()
        for match in _HEAD_WORDS[head].finditer(plain)
    )


def _may_begin(plain: bytes, at: int) -> bool:
    """False if what stands before a word tells that no statement begins with it: UPDATE's SET, a column's name."""
    before = plain[max(0, at - 100) : at].rstrip()
    return not before or before.endswith(_BEFORE_HEAD)


def _read(source: bytes, found: Finding, *, plpgsql: bool) -> None:
    body = _body(source)
    readings = [cut(body)]
    if readings[0].ambiguous:  # whether \\' ends a string depends on standard_conforming_strings
        readings.append(cut(body, standard=False))
    readings = [reading for reading in readings if not reading.doubtful]
    for reading in readings:
        _Reader(reading.tokens, found, plpgsql=plpgsql).read()
    if not readings:
        found.bits |= UNKNOWN
    if found.bits & Touch.UNNAMED:
        found.names.update(_custom(source))


_STANDARD_BODY = re.compile(rb"^(?:BEGIN ATOMIC|RETURN)\b", re.MULTILINE)


def _body(source: bytes) -> bytes:
    """Of a definition written out by PostgreSQL, what runs: its header has SET clauses that undo themselves."""
    if not source.startswith((b"CREATE OR REPLACE FUNCTION ", b"CREATE OR REPLACE PROCEDURE ")):
        return source
    match = _STANDARD_BODY.search(source)
    return source[match.start() :] if match else source


class _Reader:
    """Reads the tokens of one piece of SQL or PL/pgSQL into a Finding."""

    def __init__(
        self, found_tokens: list[Token], found: Finding, *, plpgsql: bool, dynamic: bool = False
    ) -> None:
        self.tokens = found_tokens
        self.found = found
        self.plpgsql = plpgsql
        self.dynamic = dynamic  # a template of dynamic SQL, whose unknown names are HOLEs

    def read(self, *, heads: bool = True) -> None:
        for i, token in enumerate(self.tokens):
            if token.kind == STRING:
                self._string(token)
            elif token.kind in (WORD, QUOTED):
                if not token.readable:
                    self.found.bits |= UNKNOWN
                self._name(i, token.text)
                if heads and token.kind == WORD and token.text in _HEADS and self._is_head(i):
                    self._head(i, token.text)

    def _at(self, i: int) -> bytes:
        """The text of a word or operator; nothing for strings and beyond the ends."""
        if 0 <= i < len(self.tokens) and self.tokens[i].kind != STRING:
            return self.tokens[i].text
        return b""

    def _string(self, token: Token) -> None:
        """A string is data; only calls in it count, for whoever runs it."""
        if _LOOKS_CALLING.search(token.text):
            inner = cut(token.text)
            _Reader(inner.tokens, self.found, plpgsql=False).read(heads=False)
            if inner.doubtful or not token.readable:
                self.found.bits |= UNKNOWN

    def _name(self, i: int, name: bytes) -> None:
        if HOLE in name:
            self._hole(i)
        if self.dynamic:
            self.found.words.add(name)
        if name not in _ANYWHERE:
            if name == b"into" and not self.plpgsql and self._at(i - 1) not in (b"insert", b"merge"):
                self.found.bits |= Touch.TEMP
            return
        called = self._at(i + 1) == b"("
        if called and name in _CALLS:
            self.found.bits |= _CALLS[name]
            self.found.names.update(_CALL_NAMES.get(name, ()))
        elif called and name == b"set_config":
            self._set_config(i + 1)
        elif called and name in words.SLOT_MAKERS:
            self._slot(i + 1, words.SLOT_MAKERS[name])
        elif name == b"execute":
            self._execute(i)
        elif name == b"create" and self._at(i - 1) not in (b"grant", b"revoke", b","):
            self._create(i)
        elif name == b"pg_temp":
            self.found.bits |= Touch.TEMP
        elif name == b"pg_prepared_statements":
            self.found.bits |= _NEEDS_PREPARED
        elif name == b"pg_settings" and any(t.text == b"update" for t in self.tokens if t.kind == WORD):
            self.found.bits |= Touch.SETTINGS | Touch.UNNAMED

    def _hole(self, i: int) -> None:
        """A computed name: of a function it may be any, of a relation any of this database."""
        self.found.any_object = True
        if self._at(i - 1) in (b"", b";"):
            self.found.bits |= UNKNOWN  # the statement itself is computed
        if self._at(i + 1) != b"(":
            return
        while self._at(i - 1) == b".":
            i -= 2
        if self._at(i - 1) not in _BEFORE_COLUMNS:
            self.found.bits |= UNKNOWN

    def _set_config(self, opening: int) -> None:
        given = arguments(self.tokens, opening)
        place = {b"setting_name": 0, b"new_value": 1, b"is_local": 2}
        by_place: dict[int, Sequence[Token]] = {}
        for n, argument in enumerate(given):
            if len(argument) > 2 and argument[1].text in (b"=>", b":=") and argument[0].text in place:
                by_place[place[argument[0].text]] = argument[2:]
            else:
                by_place[n] = argument
        name = by_place.get(0, ())
        value = _constant(name) if name and name[0].kind == STRING else None
        local = _constant(by_place.get(2, ()))
        if local is not None and local.lower() in (b"true", b"t", b"on", b"yes", b"1"):
            if value is not None and value.lower() == b"seed":
                self.found.bits |= Touch.FOREVER  # it knows no LOCAL
            else:
                known = value is not None and HOLE not in value
                self._local(value.lower() if value is not None and known else ANY_LOCAL)
            return
        self.found.bits |= Touch.SETTINGS
        if value is None or HOLE in value:
            self.found.bits |= Touch.UNNAMED
        else:
            self._setting(value.lower())

    def _slot(self, opening: int, place: int) -> None:
        given = arguments(self.tokens, opening)
        if any(b"temporary" in (t.text for t in a) for a in given) or (
            len(given) > place and _constant(given[place]) not in (b"false", b"f")
        ):
            self.found.bits |= Touch.FOREVER

    def _setting(self, name: bytes) -> None:
        if name == b"seed":
            self.found.bits |= Touch.FOREVER
        self.found.names.add(name)

    def _execute(self, i: int) -> None:
        """EXECUTE of PL/pgSQL (dynamic SQL) or SQL (a prepared statement); not the privilege or CREATE TRIGGER's."""
        after = self._at(i + 1)
        if self._at(i - 1) == b"." or after in (b"on", b",", b")", b";", b"=", b"."):
            return
        if after in (b"function", b"procedure") and self._at(i + 2) not in (b"||", b";", b""):
            return
        known = template(self.tokens, i + 1) if self.plpgsql else None
        if known is None:
            self.found.bits |= UNKNOWN
            if not self.found.words.isdisjoint((b"load", b"setseed", b"dblink_connect")):
                self.found.bits |= Touch.FOREVER
        else:
            _Reader(tokens(known), self.found, plpgsql=False, dynamic=True).read()

    def _is_head(self, i: int) -> bool:
        if self._at(i + 1) in _NOT_A_STATEMENT or self._at(i + 1) in (b":=", b"=", b",", b")"):
            return False
        if i == 0:
            return True
        before = self.tokens[i - 1]
        if before.kind == OPERATOR:
            return before.text in (b";", b">>") or (before.text == b"(" and self._at(i - 2) in _HEAD_AFTER)
        return before.kind == WORD and before.text in _HEAD_AFTER

    def _head(self, i: int, name: bytes) -> None:
        self.found.bits |= _HEADS[name]
        if name in (b"set", b"reset"):
            self._set(i + 1)
        elif name == b"do":
            self._do(i + 1)
        elif name == b"alter":
            if self._at(i + 1) not in words.ALTERED_WITHOUT_CODE:
                self.found.bits |= DEFINES
            self._extension(i)
        elif name == b"declare" and not self.plpgsql and b"hold" in (t.text for t in self.tokens):
            self.found.bits |= Touch.CURSORS

    def _create(self, i: int) -> None:
        self.found.bits |= Touch.TEMP  # wherever search_path says
        at = i + 1
        while self._at(at) in words.CREATE_MODIFIERS:
            at += 1
        self.found.bits |= MAKES if self._at(at) in words.WITHOUT_CODE else DEFINES
        self._extension(i)

    def _extension(self, i: int) -> None:
        """CREATE or ALTER EXTENSION runs a script, and what that sets stays."""
        if self._at(i + 1) == b"extension":
            self.found.bits |= UNKNOWN

    def _set(self, i: int) -> None:
        """The rest of SET or RESET."""
        first = self._at(i)
        if first == b"session" and self._at(i + 1) == b"characteristics":
            self.found.names.update(
                b"default_transaction_" + n for n in (b"isolation", b"read_only", b"deferrable")
            )
        elif first == b"local" and self._at(i + 1) == b"seed":
            self.found.bits |= Touch.FOREVER  # it knows no LOCAL
            return
        elif first == b"local":
            name = self._dotted(i + 1)
            self._local(_SPELLED.get(name, name) if HOLE not in name else ANY_LOCAL)
            return
        elif first in (b"transaction", b"constraints"):
            return
        elif first == b"session" and self._at(i + 1) == b"authorization":
            self.found.names.update((b"session_authorization", b"role"))
        elif first == b"session" and self._at(i + 1) not in (b"=", b"to", b"."):
            self._set(i + 1)
            return
        elif first == b"time" and self._at(i + 1) == b"zone":
            self._setting(b"timezone")
        elif first in _SPELLED and self._at(i + 1) != b".":
            self._setting(_SPELLED[first])
        else:
            name = self._dotted(i)
            if not name or HOLE in name or name == b"all":
                self.found.bits |= Touch.UNNAMED
            else:
                self._setting(name)
        self.found.bits |= Touch.SETTINGS

    def _dotted(self, i: int) -> bytes:
        """A name with its dots."""
        name = self._at(i)
        while self._at(i + 1) == b".":
            i += 2
            name += b"." + self._at(i)
        return name

    def _local(self, name: bytes) -> None:
        """A setting is changed until the end of the transaction."""
        self.found.bits |= Touch.LOCAL
        if name == b"client_encoding":  # later texts of the transaction have to be read in it
            self.found.bits |= Touch.SETTINGS
        self.found.names.add(name)

    def _do(self, i: int) -> None:
        """A DO block of SQL: its text is PL/pgSQL unless it says otherwise."""
        if i < len(self.tokens) and self.tokens[i].kind == STRING and self._at(i + 1) != b"language":
            _Reader(tokens(self.tokens[i].text), self.found, plpgsql=True).read()
        elif self._at(i) == b"language" or self._at(i + 1) == b"language":
            self.found.bits |= UNKNOWN


_SPELLED = {
    b"time": b"timezone",
    b"session": b"session_authorization",
    b"names": b"client_encoding",
    b"xml": b"xmloption",
    b"schema": b"search_path",
    b"catalog": b"search_path",
}


def _constant(argument: Sequence[Token]) -> bytes | None:
    """The text of an argument that is a constant, cast or not; else None."""
    if not argument or not argument[0].readable or len(argument) % 2 == 0:
        return None
    casts = zip(argument[1::2], argument[2::2], strict=True)
    return argument[0].text if all(c.text == b"::" and t.kind in (WORD, QUOTED) for c, t in casts) else None
