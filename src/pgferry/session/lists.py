"""Settings that are lists of names: as SET takes them, which is cheaper for PostgreSQL than a call of set_config().

SET writes the value anew from its elements (flatten_set_variable_args in PostgreSQL), so this is only for values that
come out as they went in; the callers use set_config() for all others.
"""

import functools
import re

# What PostgreSQL 13 to 18 quote as identifiers (pg_get_keywords(), without the unreserved ones).
KEYWORDS = frozenset(
    b"all analyse analyze and any array as asc asymmetric authorization between bigint binary bit boolean"
    b" both case cast char character check coalesce collate collation column concurrently constraint create"
    b" cross current_catalog current_date current_role current_schema current_time current_timestamp"
    b" current_user dec decimal default deferrable desc distinct do else end except exists extract false"
    b" fetch float for foreign freeze from full grant greatest group grouping having ilike in initially"
    b" inner inout int integer intersect interval into is isnull join json json_array json_arrayagg"
    b" json_exists json_object json_objectagg json_query json_scalar json_serialize json_table json_value"
    b" lateral leading least left like limit localtime localtimestamp merge_action national natural nchar"
    b" none normalize not notnull null nullif numeric offset on only or order out outer overlaps overlay"
    b" placing position precision primary real references returning right row select session_user setof"
    b" similar smallint some substring symmetric system_user table tablesample then time timestamp to"
    b" trailing treat trim true union unique user using values varchar variadic verbose when where window"
    b" with xmlattributes xmlconcat xmlelement xmlexists xmlforest xmlnamespaces xmlparse xmlpi xmlroot"
    b" xmlserialize xmltable".split()
)
_ELEMENT = re.compile(rb'([a-z_][a-z0-9_]*)|"((?:[^"\\]|"")*)"')
_PLAIN = re.compile(rb"[a-z_][a-z0-9_]*")


@functools.lru_cache(maxsize=4096)
def as_literals(value: bytes) -> bytes | None:
    """The elements of a list as SQL string literals; None: SET would spell the value otherwise.

    ASCII only: in other encodings a byte of a character may look like a quote.
    """
    if not value.isascii():
        return None
    literals = []
    for part in _split(value):
        found = _ELEMENT.fullmatch(part)
        if found is None:
            return None
        plain, quoted = found.groups()
        name = plain if plain is not None else quoted.replace(b'""', b'"')
        if name in KEYWORDS or (plain is None) == bool(_PLAIN.fullmatch(name)):
            return None
        literals.append(b"'" + name.replace(b"'", b"''") + b"'")
    return b",".join(literals)


def _split(value: bytes) -> list[bytes]:
    """At `, ` outside of quotes."""
    parts = [b""]
    for piece in value.split(b", "):
        if parts[-1].count(b'"') % 2:
            parts[-1] += b", " + piece
        else:
            parts.append(piece)
    return parts[1:]
