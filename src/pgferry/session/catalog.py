"""Which functions and relations of a database may change session state when a statement names them."""

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence

import msgspec

from pgferry.session.catalog_queries import SCAN_QUERY, VERSION_QUERY
from pgferry.session.source import UNKNOWN, Finding, judge, judge_expression
from pgferry.session.verdict import NEED_SHIFT, NOTIFIES, Need, Touch
from pgferry.session.words import DDL, SELECT_INTO

__all__ = ["SCAN_QUERY", "SELECT_INTO", "VERSION_QUERY", "Knowledge", "understand"]

Row = Sequence[bytes | None]

# Kinds of nodes (oid of the system catalog, before the colon) that run without any name of theirs in a statement:
# operators, casts, support functions of indexes. They are what their functions are, whatever types they are for.
_NAMELESS = (b"2617:", b"2605:", b"2603:", b"2602:", b"2616:", b"2753:")

_FUNCTION = b"1255:"
_TYPE = b"1247:"

_ANY_OBJECT = b"*"  # the node of whatever a computed name may mean
_TOUCHES = int(max(Touch)) * 2 - 1  # all Touch bits
_MANY = 10  # functions between two breaths
_PIECE = re.compile(rb"[a-z_\x80-\xff][a-z0-9_$\x80-\xff]*")


class Knowledge(msgspec.Struct, frozen=True):
    """What a database's own functions and relations may do, by the words that a statement uses them with."""

    # Lower-case word -> Touch bits, Need bits << NEED_SHIFT, NOTIFIES. SELECT_INTO is a key that is no word.
    words: dict[bytes, int] = {}
    # For words with SETTINGS without UNNAMED: the names of all the settings they may change.
    names: dict[bytes, tuple[bytes, ...]] = {}
    custom: tuple[bytes, ...] = ()  # names with a dot that the sources set; pg_settings does not list them
    everything: int = 0  # Touch bits of what any statement may do, whatever its words
    reads_sequences: bool = False  # currval or lastval is in some source
    types: dict[
        int, int
    ] = {}  # oids of types whose values are not made without code of the database's own -> its bits
    notifying: frozenset[bytes] = frozenset()  # words whose use may send a notification


def understand(rows: Iterable[Row], breathe: Callable[[], object] = bool) -> Knowledge:
    """The answer to SCAN_QUERY, thought through. In a side thread, `breathe` lets the others run now and then."""
    graph = _Graph()
    named: list[tuple[bytes, bytes]] = []  # (lower-case name, node)
    findings: dict[bytes, Finding] = {}
    events: list[bytes] = []
    for row in rows:
        kind, a, b, c, d = (column or b"" for column in row)
        if kind == b"edge":
            if not a.startswith(_NAMELESS) or b.startswith(_FUNCTION):
                graph.uses(a, b)
        elif kind == b"text":  # nothing in it: dropped meanwhile, and nobody knows what it was
            _own(graph, a, judge_expression(b) if b else Finding(bits=UNKNOWN))
        elif kind == b"name":
            named.append((b.lower(), a))
        elif kind == b"function":
            named.append((b.lower(), a))
            findings[a] = judge(b, c, d)
            if len(findings) % _MANY == 0:
                breathe()
        elif kind == b"event":
            events.append(b)
    for event in events:
        named.extend((word, event) for word in (*DDL, SELECT_INTO))
    _mentions(graph, named, findings)
    breathe()
    for node, finding in findings.items():
        _own(graph, node, finding)
    graph.settle()
    breathe()
    return _knowledge(graph, named)


class _Graph:
    """What uses what, and how bits and names of settings climb from the used to the users."""

    def __init__(self) -> None:
        self.bits: dict[bytes, int] = {}
        self.names: dict[bytes, frozenset[bytes]] = {}
        self._users: dict[bytes, list[bytes]] = defaultdict(list)

    def uses(self, user: bytes, used: bytes) -> None:
        self._users[used].append(user)

    def add(self, node: bytes, bits: int, names: frozenset[bytes]) -> bool:
        """Give a node more; True if it is new to it."""
        old_bits, old_names = self.bits.get(node, 0), self.names.get(node, frozenset())
        if old_bits | bits == old_bits and names <= old_names:
            return False
        self.bits[node] = old_bits | bits
        self.names[node] = old_names | names
        return True

    def settle(self) -> None:
        """Let everything climb until nothing changes; bits and names only grow, so that ends."""
        open_nodes = list(self.bits)
        while open_nodes:
            node = open_nodes.pop()
            bits, names = self.bits[node], self.names[node]
            if node != _ANY_OBJECT and self.add(_ANY_OBJECT, bits, names):
                open_nodes.append(_ANY_OBJECT)
            open_nodes.extend(user for user in self._users[node] if self.add(user, bits, names))


def _own(graph: _Graph, node: bytes, finding: Finding) -> None:
    if finding.bits:
        graph.add(node, finding.bits, frozenset(finding.names))
    if finding.any_object:
        graph.uses(node, _ANY_OBJECT)


def _mentions(graph: _Graph, named: list[tuple[bytes, bytes]], findings: dict[bytes, Finding]) -> None:
    """A function uses whatever has the name of a word in its source."""
    names: set[bytes] = set()
    for name, node in named:
        for word in _words_of(name):
            names.add(word)
            graph.uses(b"=" + word, node)
    for node, finding in findings.items():
        for word in finding.words & names:
            graph.uses(node, b"=" + word)


def _words_of(name: bytes) -> tuple[bytes, ...]:
    """What a scan for words sees of a name: itself, or its longest piece if it has to be written in quotes."""
    if _PIECE.fullmatch(name) or name == SELECT_INTO:
        return (name,)
    pieces = _PIECE.findall(name)
    return (name, max(pieces, key=len)) if pieces else (name,)


def _knowledge(graph: _Graph, named: list[tuple[bytes, bytes]]) -> Knowledge:
    words: dict[bytes, int] = {}
    settings: dict[bytes, frozenset[bytes]] = {}
    for name, node in named:
        bits = graph.bits.get(node, 0)
        for word in _words_of(name) if bits else ():
            words[word] = words.get(word, 0) | int(bits)
            settings[word] = settings.get(word, frozenset()) | graph.names[node]
    everything = 0
    for node, bits in graph.bits.items():
        if node.startswith(_NAMELESS):
            everything |= int(bits & _TOUCHES)
    told = Touch.SETTINGS | Touch.UNNAMED
    return Knowledge(
        words=words,
        names={w: tuple(sorted(settings[w])) for w, bits in words.items() if bits & told == Touch.SETTINGS},
        custom=tuple(sorted({n for names in graph.names.values() for n in names if b"." in n})),
        everything=everything,
        reads_sequences=any(bits & Need.SEQUENCES << NEED_SHIFT for bits in graph.bits.values()),
        types={
            int(node[len(_TYPE) :]): int(bits & _TOUCHES)
            for node, bits in graph.bits.items()
            if node.startswith(_TYPE)
        },
        notifying=frozenset(w for w, bits in words.items() if bits & NOTIFIES),
    )
