"""Which functions and relations of a database may change session state when a statement names them."""

import re
from collections.abc import Callable, Collection, Iterable, Sequence

import msgspec

from pgferry.session.catalog_queries import SCAN_QUERY, VERSION_QUERY
from pgferry.session.graph import Graph
from pgferry.session.source import READABLE, UNKNOWN, Finding, analyze, analyze_expression
from pgferry.session.verdict import DEFINES, MAKES, NEED_SHIFT, NOTIFIES, Need, Touch
from pgferry.session.words import DDL, MAINTENANCE, SELECT_INTO

__all__ = ["SCAN_QUERY", "SELECT_INTO", "VERSION_QUERY", "Knowledge", "analyze_catalog"]

Row = Sequence[bytes | None]

# Kinds of nodes (oid of the system catalog, before the colon) that run without any name of theirs in a statement:
# operators, casts, support functions of indexes. They are what their functions are, whatever types they are for.
_NAMELESS = (b"2617:", b"2605:", b"2603:", b"2602:", b"2616:", b"2753:")

_FUNCTION = b"1255:"
_TYPE = b"1247:"
_RELATION = b"1259:"

_ANY_OBJECT = b"*"  # the node of whatever a computed name may mean
_ALWAYS = (
    int(max(Touch)) * 2 - 1 | DEFINES
)  # what counts where no word of a text says so: with Touch bits, all of them
# What VACUUM and the like of all tables leave behind: what their functions set is undone with each table.
_SURVIVES_MAINTENANCE = int(Touch.LOCKS | Touch.FOREVER | Touch.UNREADABLE) | DEFINES | MAKES
_CODE = int(max(Touch)) * 2 - 1 & ~int(Touch.TEMP)
_MANY = 10  # functions between two breaths
_CUSTOM = 1000  # names of custom settings that are asked for; if there are more they count as unknown
_RUN = re.compile(rb"[a-z0-9_$\x80-\xff]+")


class Knowledge(msgspec.Struct, frozen=True):
    """What a database's own functions and relations may do, by the words that a statement uses them with."""

    # Lower-case word -> Touch bits, Need bits << NEED_SHIFT, NOTIFIES, DEFINES, MAKES. SELECT_INTO is a key that
    # is no word.
    words: dict[bytes, int] = {}
    # For words with SETTINGS or LOCAL without UNNAMED and UNREADABLE: the names of all the settings they may change;
    # b"" among them stands for any, until the end of the transaction. A word that is not in here may change any that
    # is known.
    names: dict[bytes, tuple[bytes, ...]] = {}
    custom: tuple[bytes, ...] = ()  # names with a dot that the sources set; pg_settings does not list them
    # Touch bits, and DEFINES, of what any statement may do, whatever its words.
    everything: int = 0
    # Bits of what has a name with other characters than ASCII: in an encoding other than UTF-8 on either side it may
    # be spelled with other bytes.
    non_ascii: int = 0
    reads_sequences: bool = False  # currval or lastval is in some source
    # Oids of types whose values are not made without code of the database's own, and its Touch bits and DEFINES.
    types: dict[int, int] = {}
    notifying: frozenset[bytes] = frozenset()  # words whose use may send a notification
    # By word: the function of its name that cannot be read, and its language: "f (plpython3u)".
    unreadable: dict[bytes, str] = {}
    encoding: str = ""  # the database's


def analyze_catalog(
    rows: Iterable[Row], pause: Callable[[], object] = bool, harmless: Collection[bytes] = ()
) -> Knowledge:
    """What the answer to SCAN_QUERY says of the database's functions and of what calls them.

    In a side thread, `pause` lets the others run now and then. `harmless`: lower-case names of functions, with or
    without their schema (and a dot), that do no harm whatever is in them.
    """
    reading = _Reading(frozenset(harmless))
    for number, row in enumerate(rows):
        reading.take(*(column or b"" for column in row))
        if number % _MANY == 0:
            pause()
    return reading.knowledge(pause)


class _Reading:
    """What has been read of a catalog so far."""

    def __init__(self, harmless: frozenset[bytes]) -> None:
        self._harmless = harmless
        self._graph = Graph()
        self._named: list[tuple[bytes, bytes]] = []  # (lower-case name, node)
        self._findings: dict[bytes, Finding] = {}
        self._events: list[bytes] = []
        self._unreadable: dict[bytes, str] = {}  # by node
        self._encoding = ""

    def take(self, kind: bytes, a: bytes, b: bytes, c: bytes, d: bytes, e: bytes) -> None:
        """One row."""
        if kind == b"edge":
            if not a.startswith(_NAMELESS) or b.startswith(_FUNCTION):
                self._graph.uses(a, b)
        elif kind == b"text":  # nothing in it: dropped meanwhile, and nobody knows what it was
            self._own(a, analyze_expression(b) if b else Finding(bits=UNKNOWN))
        elif kind == b"name":
            self._named.append((b.lower(), a))
        elif kind == b"function":
            self._named.append((b.lower(), a))
            self._function(a, b, c, d, e)
        elif kind == b"event":
            self._events.append(b)
        elif kind == b"encoding":
            self._encoding = a.decode("ascii", "replace")

    def _function(self, node: bytes, name: bytes, language: bytes, source: bytes, schema: bytes) -> None:
        if not self._harmless.isdisjoint((name.lower(), (schema + b"." + name).lower())):
            self._findings[node] = Finding()
            return
        self._findings[node] = analyze(name, language, source)
        if self._findings[node].bits & Touch.UNREADABLE and language not in READABLE:
            self._unreadable[node] = (
                f"{name.decode('utf-8', 'replace')} ({language.decode('utf-8', 'replace')})"
            )

    def _own(self, node: bytes, finding: Finding) -> None:
        if finding.bits:
            self._graph.add(node, finding.bits, frozenset(finding.names))
        if finding.any_object:
            self._graph.uses(node, _ANY_OBJECT)

    def knowledge(self, pause: Callable[[], object]) -> Knowledge:
        """What comes of all rows."""
        graph, named = self._graph, self._named
        for event in self._events:
            named.extend((word, event) for word in (*DDL, SELECT_INTO))
        _mentions(graph, named, self._findings)
        for node, finding in self._findings.items():
            self._own(node, finding)
        lasting = [names for node, names in graph.names.items() if graph.bits[node] & Touch.SETTINGS]
        custom = sorted({n for names in lasting for n in names or () if b"." in n})
        pause()
        graph.settle(_ANY_OBJECT)
        pause()
        if len(custom) > _CUSTOM:
            for node, bits in graph.bits.items():
                if bits & Touch.SETTINGS:
                    graph.bits[node] = bits | Touch.UNNAMED
        for node, bits in graph.bits.items():
            if bits & MAKES and bits & _CODE:  # a table, with something that runs in its defaults or checks
                graph.bits[node] = bits | DEFINES
        return self._tell(custom[:_CUSTOM])

    def _tell(self, custom: list[bytes]) -> Knowledge:
        graph = self._graph
        words: dict[bytes, int] = {}
        settings: dict[bytes, set[bytes] | None] = {}
        unreadable: dict[bytes, str] = {}
        everything = non_ascii = 0
        for name, node in self._named:
            bits = graph.bits.get(node, 0)
            if not bits:
                continue
            found = _words_of(name)
            if not found:
                everything |= bits & _ALWAYS
            if not name.isascii():
                non_ascii |= bits
            names = graph.names[node]
            for word in found:
                words[word] = words.get(word, 0) | bits
                if names is None:
                    settings[word] = None
                elif (known := settings.setdefault(word, set())) is not None:
                    known.update(names)
                if node in self._unreadable:
                    unreadable[word] = self._unreadable[node]
        for node, bits in graph.bits.items():
            if node.startswith(_NAMELESS):
                everything |= bits & _ALWAYS
        tables = _all(graph, _RELATION) & _SURVIVES_MAINTENANCE
        for word in MAINTENANCE if tables else ():
            words[word] = words.get(word, 0) | tables
        untold = Touch.UNNAMED | Touch.UNREADABLE
        return Knowledge(
            words=words,
            names={
                word: tuple(sorted(names))
                for word, names in settings.items()
                if names and words[word] & (Touch.SETTINGS | Touch.LOCAL) and not words[word] & untold
            },
            custom=tuple(custom),
            everything=everything,
            non_ascii=non_ascii,
            types={
                int(node[len(_TYPE) :]): bits & _ALWAYS
                for node, bits in graph.bits.items()
                if node.startswith(_TYPE) and bits & _ALWAYS
            },
            reads_sequences=any(bits & Need.SEQUENCES << NEED_SHIFT for bits in graph.bits.values()),
            notifying=frozenset(word for word, bits in words.items() if bits & NOTIFIES),
            unreadable=unreadable,
            encoding=self._encoding,
        )


def _all(graph: Graph, kind: bytes) -> int:
    """The bits of all nodes of a kind."""
    found = 0
    for node, bits in graph.bits.items():
        if node.startswith(kind):
            found |= bits
    return found


def _mentions(graph: Graph, named: list[tuple[bytes, bytes]], findings: dict[bytes, Finding]) -> None:
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
    """What the scan for words sees of a name: itself, or its longest piece if it has to be written in quotes. Nothing
    of one that has no piece which the scan takes for a word: "!", "9$9".
    """
    if name == SELECT_INTO:
        return (name,)
    pieces = [piece for run in _RUN.findall(name) if (piece := run.lstrip(b"0123456789$"))]
    if not pieces:
        return ()
    longest = max(pieces, key=len)
    return (name,) if longest == name else (name, longest)
