"""The built-in words that make a statement's text worth a closer look.

A value is what a text with the word may do at worst, for texts that cannot be read: Touch bits, Need bits shifted by
NEED_SHIFT, NOTIFIES and DEFINES.
"""

import re
from collections.abc import Iterable, Mapping

from pgferry.engine.core.words import WordSet
from pgferry.session.lexer import NAME_LENGTH, truncate
from pgferry.session.verdict import ANYTHING, DEFINES, NEED_SHIFT, NOTIFIES, Need, Touch

_NEEDS_PREPARED = Need.PREPARED << NEED_SHIFT
_NEEDS_SEQUENCES = Need.SEQUENCES << NEED_SHIFT


def _words(value: int, names: str) -> dict[bytes, int]:
    return {name.encode(): int(value) for name in names.split()}


# Functions that run SQL given to them as a string, read a relation named in a string or by its oid, or check a value of
# a type that is given so: a domain's CHECK runs functions.
STRING_RUNNERS = frozenset(
    b"query_to_xml query_to_xmlschema query_to_xml_and_xmlschema cursor_to_xml cursor_to_xmlschema table_to_xml"
    b" table_to_xmlschema table_to_xml_and_xmlschema schema_to_xml schema_to_xmlschema"
    b" schema_to_xml_and_xmlschema database_to_xml database_to_xmlschema database_to_xml_and_xmlschema"
    b" ts_stat ts_rewrite crosstab crosstab2 crosstab3 crosstab4 connectby xpath_table"
    b" domain_in domain_recv array_in array_recv record_in record_recv range_in range_recv multirange_in"
    b" multirange_recv pg_input_is_valid pg_input_error_info pg_restore_attribute_stats"
    b" brin_summarize_range brin_summarize_new_values bt_index_check bt_index_parent_check".split()
)

# Built-in functions by what a call of them may do.
LOCKING = frozenset(
    b"pg_advisory_lock pg_advisory_lock_shared pg_try_advisory_lock pg_try_advisory_lock_shared".split()
)
UNLOCKING = frozenset(b"pg_advisory_unlock pg_advisory_unlock_shared pg_advisory_unlock_all".split())
LASTING = frozenset(
    b"setseed dblink_connect dblink_connect_u pg_replication_origin_session_setup pg_backup_start"
    b" pg_start_backup".split()
)
# With the place, counted from 0, of the argument that makes the slot temporary.
SLOT_MAKERS = {
    b"pg_create_logical_replication_slot": 2,
    b"pg_create_physical_replication_slot": 2,
    b"pg_copy_logical_replication_slot": 2,
    b"pg_copy_physical_replication_slot": 2,
}

# Words that count wherever they stand. b"u&" stands for U&"..." and U&'...': names that no scan for words can read.
WORDS: dict[bytes, int] = {
    **_words(Touch.SETTINGS | Touch.UNNAMED, "set_config pg_settings"),
    **_words(Touch.SETTINGS, "set_limit"),
    **_words(Touch.TEMP, "pg_temp"),
    **dict.fromkeys(LOCKING | UNLOCKING, int(Touch.LOCKS)),
    **dict.fromkeys(LASTING | SLOT_MAKERS.keys(), int(Touch.FOREVER)),
    **_words(_NEEDS_SEQUENCES, "currval lastval"),
    **_words(_NEEDS_PREPARED, "execute pg_prepared_statements pg_prepared_statement"),
    **_words(NOTIFIES, "pg_notify"),
    **dict.fromkeys(STRING_RUNNERS, int(ANYTHING | DEFINES)),
    **_words(ANYTHING | _NEEDS_PREPARED | _NEEDS_SEQUENCES, "u&"),
}

# Words that count only where a statement may start.
STARTERS: dict[bytes, int] = {
    **_words(Touch.SETTINGS | Touch.UNNAMED, "set"),
    **_words(Touch.SETTINGS, "reset alter"),
    **_words(ANYTHING & ~Touch.UNNAMED, "discard"),
    **_words(Touch.PREPARED | _NEEDS_PREPARED, "prepare deallocate"),
    **_words(Touch.LISTEN, "listen unlisten"),
    **_words(NOTIFIES, "notify"),
    **_words(Touch.FOREVER, "load"),
    **_words(ANYTHING | _NEEDS_PREPARED | _NEEDS_SEQUENCES, "do"),
    **_words(Touch.TEMP | Touch.SETTINGS, "create"),
    **_words(Touch.TEMP, "drop explain"),
    **_words(Touch.CURSORS, "declare close"),
}

# Words that count unless one of the named words stands directly before them: SELECT ... INTO makes a table, and
# makes it a temporary one if search_path says so; INSERT INTO does not.
UNLESS_AFTER: dict[bytes, tuple[int, frozenset[bytes]]] = {
    b"into": (int(Touch.TEMP), frozenset((b"insert", b"merge"))),
}

# First words of statements that fire event triggers; in a catalog's words where one of these triggers is suspect.
DDL = tuple(b"alter comment create drop grant import reassign refresh reindex revoke security".split())
# Statements that run functions of tables which they need not name; in a catalog's words where a table has suspect ones.
MAINTENANCE = tuple(b"analyse analyze cluster reindex vacuum".split())
# A key of a catalog's words that is no word: what SELECT ... INTO may touch where an event trigger is suspect.
SELECT_INTO = b"select into"

# What these are made of brings no code that runs by itself, except what the text names.
WITHOUT_CODE = frozenset(
    b"table index unique sequence role user group database statistics publication subscription tablespace".split()
)
# ALTER of these changes nothing that runs by itself, nor the name of anything that does.
ALTERED_WITHOUT_CODE = frozenset(
    b"role user group database system tablespace statistics publication subscription default large".split()
)
# Between CREATE and the kind of the object.
CREATE_MODIFIERS = frozenset(b"or replace local global temp temporary unlogged".split())

_WORD = re.compile(rb"[A-Za-z_\x80-\xff][A-Za-z0-9_$\x80-\xff]*+")
_BEHIND_DOLLAR = re.compile(rb"(?<=\$)[0-9]*([a-z_\x80-\xff][a-z0-9_\x80-\xff]*)")  # $a$string$a$word
_ESCAPED = re.compile(rb"[uU]&['\"]")


def _base() -> WordSet:
    found = WordSet()
    for word, bits in WORDS.items():
        found.add(word, bits, 0)
    for word, bits in STARTERS.items():
        found.add(word, 0, bits)
    for word, (bits, shields) in UNLESS_AFTER.items():
        found.add_shielded(word, bits)
        for shield in shields:
            found.add_shield(shield)
    return found


def _anywhere(words: Iterable[bytes], bits: int) -> WordSet:
    found = WordSet()
    for word in words:
        found.add(word, bits, 0)
    return found


_BASE = _base()
_LASTING_WORDS = _anywhere((b"load", *LASTING, *SLOT_MAKERS), int(Touch.FOREVER))
_DEFINING_WORDS = _anywhere((b"create", b"alter", b"execute", b"import"), 1)


def word_set(catalog: Mapping[bytes, int]) -> WordSet:
    """The words above and those of a catalog, for the scan."""
    found = _BASE.copy()
    for word, bits in catalog.items():
        if word in UNLESS_AFTER:
            found.unshield(word)
        found.add(word, bits, 0)
    return found


def lasting(text: bytes) -> int:
    """FOREVER if a text has, in its strings or anywhere, a word of what can be neither asked for nor undone."""
    return _LASTING_WORDS.bits(text)


def may_define(text: bytes) -> bool:
    """Whether a text that is not read may make or change what has code, as far as its words tell."""
    return _DEFINING_WORDS.bits(text) != 0


def spelled(text: bytes) -> set[bytes]:
    """All words of a text, in lower case, wherever they stand: in strings and comments too."""
    words = set(_WORD.findall(text.lower()))
    words.update([rest for word in words if b"$" in word for rest in _BEHIND_DOLLAR.findall(word)])
    words |= {truncate(word) for word in words if len(word) > NAME_LENGTH}
    if _ESCAPED.search(text):
        words.add(b"u&")
    return words
