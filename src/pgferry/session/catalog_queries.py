"""The two queries that show what a database's own functions and relations are made of, and when that changed.

Both run on PostgreSQL 13 to 18 through the simple protocol. They name every function, type and operator with its
schema, so that no search_path can mislead them: a spaced `=` becomes OPERATOR(pg_catalog.=), and IN, NOT IN, BETWEEN
and IS DISTINCT FROM, which look `=` up by name, are not used. pg_get_ruledef() runs a query of its own that is not so
careful; `guard` sets search_path for it until the end of the transaction, so run SCAN_QUERY in none. Run both with
client_encoding SQL_ASCII: sources then come as they are stored, and no character that another encoding lacks can
fail a query.
"""

import re

from pgferry.session import words

# Sources, triggers and the like of objects made after initdb only.
_FIRST_USER_OID = "16384"

# What a stored expression (default, check, policy, view, rule) may call without pg_depend showing it, since PostgreSQL
# keeps no record of what depends on its own objects.
_BUILTINS = sorted(
    words.LOCKING
    | words.UNLOCKING
    | words.LASTING
    | words.SLOT_MAKERS.keys()
    | words.STRING_RUNNERS
    | {b"set_config", b"currval", b"lastval", b"pg_notify", b"pg_prepared_statement"}
)
_BUILTIN_VIEWS = ("pg_settings", "pg_prepared_statements")

# Functions of extensions, written in C, that leave something in the session; what they leave is in source.py.
_EXTENSION_FUNCTIONS = (
    "dblink_connect,dblink_connect_u,dblink_disconnect,set_limit,hypopg_create_index,hypopg_drop_index,"
    "hypopg_reset,hypopg_hide_index,hypopg_unhide_index,pgv_set,pgv_insert,pgv_update,pgv_delete,pgv_remove,"
    "pgv_free,set_user,reset_user,set_session_auth,sepgsql_setcon,triggered_change_notification,crosstab,"
    "crosstab2,crosstab3,crosstab4,connectby,xpath_table,"
    "check_primary_key,check_foreign_key"
)

_OPERATOR = re.compile(r" (=|<>|>=|~|&) ")


def _qualified(sql: str) -> bytes:
    """The text with its operators and user-object oids written out."""
    sql = _OPERATOR.sub(
        r" OPERATOR(pg_catalog.\1) ", sql.replace("USER_OID", f"'{_FIRST_USER_OID}'::pg_catalog.oid")
    )
    return " ".join(sql.split()).encode()


def _sums(*parts: tuple[str, str, str, str]) -> str:
    """A sum of hashes for each (catalog, text to hash, oid that seeds the hash, condition)."""
    return ", ',', ".join(
        f"(SELECT pg_catalog.sum(pg_catalog.hashtextextended({text}, {oid}::pg_catalog.int8))"
        f" FROM {table} WHERE {condition})"
        for table, text, oid, condition in parts
    )


_TEMP_RELATIONS = (
    "WITH temporary AS MATERIALIZED (SELECT ARRAY(SELECT t.oid FROM pg_catalog.pg_class t"
    " WHERE t.relpersistence = 't') AS oids) "
)


def _lasting(relation: str) -> str:
    """True for what belongs to no temporary table: those come and go all the time, and pin their server anyway."""
    return f"({relation} = ANY ((SELECT t.oids FROM temporary t)::pg_catalog.oid[])) IS NOT TRUE"


_XMIN = "x.xmin::pg_catalog.text"

VERSION_QUERY: bytes = _qualified(
    _TEMP_RELATIONS
    + "SELECT pg_catalog.concat("
    + _sums(
        ("pg_catalog.pg_proc x", _XMIN, "x.oid", "x.oid >= USER_OID"),
        ("pg_catalog.pg_trigger x", _XMIN, "x.oid", "x.oid >= USER_OID AND x.tgfoid >= USER_OID"),
        ("pg_catalog.pg_rewrite x", _XMIN, "x.oid", f"x.oid >= USER_OID AND {_lasting('x.ev_class')}"),
        ("pg_catalog.pg_attrdef x", _XMIN, "x.oid", f"x.oid >= USER_OID AND {_lasting('x.adrelid')}"),
        ("pg_catalog.pg_constraint x", _XMIN, "x.oid", f"x.oid >= USER_OID AND {_lasting('x.conrelid')}"),
        ("pg_catalog.pg_policy x", _XMIN, "x.oid", "x.oid >= USER_OID"),
        (
            "pg_catalog.pg_type x",
            _XMIN,
            "x.oid",
            "x.oid >= USER_OID AND x.typtype = ANY ('{d,r,m}'::pg_catalog.\"char\"[])",
        ),
        # Columns of domains: a new column changes no other row that is looked at here.
        (
            "pg_catalog.pg_type x JOIN pg_catalog.pg_depend d ON d.refclassid = '1247'::pg_catalog.oid"
            " AND d.refobjid = x.oid",
            "pg_catalog.concat(d.objid, ' ', d.objsubid)",
            "d.classid",
            "x.oid >= USER_OID AND x.typtype = 'd'",
        ),
        ("pg_catalog.pg_operator x", _XMIN, "x.oid", "x.oid >= USER_OID"),
        ("pg_catalog.pg_cast x", _XMIN, "x.oid", "x.oid >= USER_OID"),
        ("pg_catalog.pg_amproc x", _XMIN, "x.oid", "x.oid >= USER_OID"),
        ("pg_catalog.pg_opclass x", _XMIN, "x.oid", "x.oid >= USER_OID"),
        ("pg_catalog.pg_event_trigger x", _XMIN, "x.oid", "x.oid >= USER_OID"),
        ("pg_catalog.pg_extension x", _XMIN, "x.oid", "x.oid >= USER_OID"),
        ("pg_catalog.pg_foreign_data_wrapper x", _XMIN, "x.oid", "x.oid >= USER_OID"),
        ("pg_catalog.pg_foreign_server x", _XMIN, "x.oid", "x.oid >= USER_OID"),
        ("pg_catalog.pg_statistic_ext x", _XMIN, "x.oid", "x.oid >= USER_OID"),
        (
            "pg_catalog.pg_index x",
            "x.xmin::pg_catalog.text",
            "x.indexrelid",
            "x.indexrelid >= USER_OID AND (x.indexprs IS NOT NULL OR x.indpred IS NOT NULL)",
        ),
        (
            "pg_catalog.pg_inherits x",
            "x.inhparent::pg_catalog.text",
            "x.inhrelid",
            f"x.inhrelid >= USER_OID AND {_lasting('x.inhrelid')}",
        ),
        # Not its xmin: TRUNCATE and the like change that all the time.
        (
            "pg_catalog.pg_class x",
            "pg_catalog.concat(x.relname, ' ', x.relnatts, x.relforcerowsecurity)",
            "x.oid",
            "x.oid >= USER_OID AND x.relpersistence <> 't'"
            " AND x.relkind = ANY ('{r,p,v,m,f,c}'::pg_catalog.\"char\"[])",
        ),
    )
    + ")"
)


def _edges(user: str, used: str, rest: str) -> str:
    return f"SELECT 'edge', {user}, {used}, NULL, NULL, NULL {rest}"


def _texts(node: str, text: str, rest: str) -> str:
    return f"SELECT 'text', {node}, {text}, NULL, NULL, NULL {rest}"


def _name(node: str, name: str, rest: str) -> str:
    return f"SELECT 'name', {node}, {name}::pg_catalog.text, NULL, NULL, NULL {rest}"


def _node(catalog: int | str, oid: str) -> str:
    return f"pg_catalog.concat('{catalog}:', {oid})"


def _tree(column: str) -> str:
    """True for a stored expression that calls one of the built-in functions."""
    return f"{column}::pg_catalog.text ~ (SELECT p.pattern FROM pattern p)"


_ACTS = "'{c,n,d}'::pg_catalog.\"char\"[]"

_WITH = f"""
WITH builtin AS MATERIALIZED (
    SELECT p.oid, p.proname FROM pg_catalog.pg_proc p
    WHERE p.pronamespace = '11'::pg_catalog.oid
        AND p.proname = ANY ('{{{",".join(b.decode() for b in _BUILTINS)}}}'::pg_catalog.name[])
), pattern AS MATERIALIZED (
    SELECT pg_catalog.concat(':funcid (', (SELECT pg_catalog.string_agg(b.oid::pg_catalog.text, '|') FROM builtin b),
        ') |:relid (', (SELECT pg_catalog.string_agg(c.oid::pg_catalog.text, '|') FROM pg_catalog.pg_class c
            WHERE c.relnamespace = '11'::pg_catalog.oid
                AND c.relname = ANY ('{{{",".join(_BUILTIN_VIEWS)}}}'::pg_catalog.name[])),
        ') |:conditionname ') AS pattern
), guard AS MATERIALIZED (
    SELECT pg_catalog.set_config('search_path', 'pg_catalog', true) AS path
), dep AS MATERIALIZED (
    SELECT DISTINCT d.classid, d.objid, d.refclassid, d.refobjid FROM pg_catalog.pg_depend d
    WHERE d.objid >= USER_OID AND d.refobjid >= USER_OID AND (
        d.refclassid = '1255'::pg_catalog.oid
        OR d.refclassid = ANY ('{{2328,1417}}'::pg_catalog.oid[])
        OR d.refclassid = '1247'::pg_catalog.oid AND (d.classid <> '1259'::pg_catalog.oid OR d.deptype = 'n')
        OR d.refclassid = '1259'::pg_catalog.oid AND d.deptype = 'n'
            AND d.classid = ANY ('{{2618,3256,1255}}'::pg_catalog.oid[]))
)
"""

# A C function that belongs to no extension: nobody vouches for it, and it cannot be read.
C_ALONE = "c, of no extension"

_NAMES = (
    "SELECT 'encoding', pg_catalog.getdatabaseencoding()::pg_catalog.text, NULL, NULL, NULL, NULL",
    _name(
        _node(1259, "c.oid"),
        "c.relname",
        "FROM pg_catalog.pg_class c"
        " WHERE c.oid >= USER_OID AND c.relkind = ANY ('{r,p,v,m,f,c}'::pg_catalog.\"char\"[])",
    ),
    _name(
        _node(1247, "t.oid"),
        "t.typname",
        "FROM pg_catalog.pg_type t"
        " WHERE t.oid >= USER_OID AND (t.typtype = ANY ('{d,r,m}'::pg_catalog.\"char\"[])"
        " OR t.typtype = 'b' AND t.typelem = '0'::pg_catalog.oid)",
    ),
    # Types of arrays have names of their own: _mydomain.
    _name(
        _node(1247, "e.oid"),
        "t.typname",
        "FROM pg_catalog.pg_type t JOIN pg_catalog.pg_type e ON e.oid = t.typelem"
        " WHERE t.oid >= USER_OID AND t.typcategory = 'A' AND (e.typtype = ANY ('{d,r,m}'::pg_catalog.\"char\"[])"
        " OR e.typrelid <> '0'::pg_catalog.oid AND EXISTS (SELECT FROM dep d WHERE d.classid = '1259'::pg_catalog.oid"
        " AND d.objid = e.typrelid AND d.refclassid = '1247'::pg_catalog.oid))",
    ),
    # The validator of a foreign-data wrapper runs where options are given to it or to what it serves.
    _name(
        _node(2328, "w.oid"), "w.fdwname", "FROM pg_catalog.pg_foreign_data_wrapper w WHERE w.oid >= USER_OID"
    ),
    _name(_node(1417, "s.oid"), "s.srvname", "FROM pg_catalog.pg_foreign_server s WHERE s.oid >= USER_OID"),
    # A body in SQL's standard form is no text: it is written out, header and all. Such functions have no prosrc.
    f"""SELECT 'function', {_node(1255, "p.oid")}, p.proname::pg_catalog.text,
        CASE WHEN l.lanname = 'c' AND x.objid IS NULL THEN '{C_ALONE}' ELSE l.lanname::pg_catalog.text END,
        CASE WHEN l.lanname = 'sql' AND p.prosrc = '' THEN pg_catalog.pg_get_functiondef(p.oid) ELSE p.prosrc END,
        n.nspname::pg_catalog.text
    FROM pg_catalog.pg_proc p JOIN pg_catalog.pg_language l ON l.oid = p.prolang
        JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace
        LEFT JOIN pg_catalog.pg_depend x ON l.lanname = 'c' AND x.classid = '1255'::pg_catalog.oid
            AND x.objid = p.oid AND x.deptype = 'e'
    WHERE p.oid >= USER_OID AND (l.lanname <> 'c' OR x.objid IS NULL
        OR p.proname = ANY ('{{{_EXTENSION_FUNCTIONS}}}'::pg_catalog.name[]))""",
    f"SELECT 'event', {_node(3466, 'e.oid')}, {_node(1255, 'e.evtfoid')}, e.evtevent::pg_catalog.text, NULL, NULL"
    " FROM pg_catalog.pg_event_trigger e WHERE e.evtenabled <> 'D' AND e.evtevent <> 'login'",
)

_TRUNCATE_TRIGGERS = (
    "FROM pg_catalog.pg_trigger t"
    " WHERE t.tgfoid >= USER_OID AND (t.tgtype & '32'::pg_catalog.int2) <> '0'::pg_catalog.int2"
)

_EDGES = (
    # Columns are a node of their own (1249), so that a row type does not inherit the table's triggers.
    _edges(
        "pg_catalog.concat(CASE WHEN d.classid = '1259'::pg_catalog.oid AND d.refclassid = '1247'::pg_catalog.oid"
        " THEN '1249'::pg_catalog.oid ELSE d.classid END, ':', d.objid)",
        "pg_catalog.concat(CASE WHEN d.classid = '1247'::pg_catalog.oid AND d.refclassid = '1259'::pg_catalog.oid"
        " THEN '1249'::pg_catalog.oid ELSE d.refclassid END, ':', d.refobjid)",
        "FROM dep d",
    ),
    _edges(
        _node(1259, "c.objid"),
        _node(1249, "c.objid"),
        "FROM dep c WHERE c.classid = '1259'::pg_catalog.oid AND c.refclassid = '1247'::pg_catalog.oid",
    ),
    _edges(
        _node(1247, "t.oid"),
        _node(1249, "c.objid"),
        "FROM dep c JOIN pg_catalog.pg_type t ON t.typrelid = c.objid"
        " WHERE c.classid = '1259'::pg_catalog.oid AND c.refclassid = '1247'::pg_catalog.oid",
    ),
    *(
        _edges(
            _node(1259, f"o.{relation}"),
            _node(number, f"o.{oid}"),
            f"FROM dep d JOIN pg_catalog.{catalog} o ON o.{oid} = d.objid WHERE d.classid = '{number}'::pg_catalog.oid",
        )
        for number, catalog, oid, relation in (
            (2604, "pg_attrdef", "oid", "adrelid"),
            (2606, "pg_constraint", "oid", "conrelid"),
            (2618, "pg_rewrite", "oid", "ev_class"),
            (2620, "pg_trigger", "oid", "tgrelid"),
            (3256, "pg_policy", "oid", "polrelid"),
            (1259, "pg_index", "indexrelid", "indrelid"),
            (3381, "pg_statistic_ext", "oid", "stxrelid"),
        )
    ),
    _edges(
        _node(1247, "c.contypid"),
        _node(2606, "c.oid"),
        "FROM dep d JOIN pg_catalog.pg_constraint c ON c.oid = d.objid"
        " WHERE d.classid = '2606'::pg_catalog.oid AND c.contypid <> '0'::pg_catalog.oid",
    ),
    _edges(
        _node(1259, "i.inhparent"),
        _node(1259, "i.inhrelid"),
        "FROM pg_catalog.pg_inherits i WHERE i.inhrelid >= USER_OID",
    ),
    _edges(
        _node(1259, "f.confrelid"),
        _node(1259, "f.conrelid"),
        f"FROM pg_catalog.pg_constraint f WHERE f.contype = 'f'"
        f" AND (f.confdeltype = ANY ({_ACTS}) OR f.confupdtype = ANY ({_ACTS}))",
    ),
    # TRUNCATE ... CASCADE reaches every child, but fires its triggers for TRUNCATE only: nodes of their own (0).
    _edges(
        _node(0, "t.tgrelid"),
        _node(1255, "t.tgfoid"),
        _TRUNCATE_TRIGGERS,
    ),
    _edges(
        _node(0, "f.confrelid"),
        _node(0, "f.conrelid"),
        f"FROM pg_catalog.pg_constraint f WHERE f.contype = 'f' AND EXISTS (SELECT {_TRUNCATE_TRIGGERS})",
    ),
    _edges(
        _node(1259, "f.confrelid"),
        _node(0, "f.confrelid"),
        f"FROM pg_catalog.pg_constraint f WHERE f.contype = 'f' AND EXISTS (SELECT {_TRUNCATE_TRIGGERS})",
    ),
    # Checks of foreign keys run as the table's owner, whom policies bind only if they are forced.
    _edges(
        _node(1259, "f.conrelid"),
        _node(3256, "p.oid"),
        "FROM pg_catalog.pg_constraint f JOIN pg_catalog.pg_policy p ON p.polrelid = f.confrelid"
        " JOIN pg_catalog.pg_class c ON c.oid = p.polrelid WHERE f.contype = 'f' AND c.relforcerowsecurity",
    ),
    _edges(
        _node(1259, "f.confrelid"),
        _node(3256, "p.oid"),
        "FROM pg_catalog.pg_constraint f JOIN pg_catalog.pg_policy p ON p.polrelid = f.conrelid"
        " JOIN pg_catalog.pg_class c ON c.oid = p.polrelid WHERE f.contype = 'f' AND c.relforcerowsecurity",
    ),
)

_TEXTS = (
    _texts(
        _node(1255, "p.oid"),
        "pg_catalog.pg_get_expr(p.proargdefaults, '0'::pg_catalog.oid)",
        f"FROM pg_catalog.pg_proc p WHERE p.oid >= USER_OID AND {_tree('p.proargdefaults')}",
    ),
    _texts(
        _node(1259, "a.adrelid"),
        "pg_catalog.pg_get_expr(a.adbin, a.adrelid)",
        f"FROM pg_catalog.pg_attrdef a WHERE a.oid >= USER_OID AND {_tree('a.adbin')}",
    ),
    _texts(
        f"CASE WHEN c.contypid <> '0'::pg_catalog.oid THEN {_node(1247, 'c.contypid')}"
        f" ELSE {_node(1259, 'c.conrelid')} END",
        "pg_catalog.pg_get_expr(c.conbin, c.conrelid)",
        f"FROM pg_catalog.pg_constraint c WHERE c.oid >= USER_OID AND {_tree('c.conbin')}",
    ),
    _texts(
        _node(1247, "t.oid"),
        "pg_catalog.pg_get_expr(t.typdefaultbin, '0'::pg_catalog.oid)",
        f"FROM pg_catalog.pg_type t WHERE t.oid >= USER_OID AND {_tree('t.typdefaultbin')}",
    ),
    *(
        _texts(
            _node(1259, "p.polrelid"),
            f"pg_catalog.pg_get_expr(p.{column}, p.polrelid)",
            f"FROM pg_catalog.pg_policy p WHERE p.oid >= USER_OID AND {_tree('p.' + column)}",
        )
        for column in ("polqual", "polwithcheck")
    ),
    _texts(
        _node(1259, "t.tgrelid"),
        "pg_catalog.pg_get_triggerdef(t.oid)",
        f"FROM pg_catalog.pg_trigger t WHERE t.oid >= USER_OID AND {_tree('t.tgqual')}",
    ),
    _texts(
        _node(1259, "r.ev_class"),
        "pg_catalog.pg_get_ruledef(r.oid)",
        "FROM pg_catalog.pg_rewrite r WHERE r.oid >= USER_OID AND (SELECT g.path FROM guard g) IS NOT NULL"
        f" AND ({_tree('r.ev_action')} OR {_tree('r.ev_qual')})",
    ),
    _texts(
        _node(2617, "o.oid"),
        "pg_catalog.concat(b.proname, '()')",
        "FROM pg_catalog.pg_operator o JOIN builtin b ON b.oid = o.oprcode::pg_catalog.oid"
        " WHERE o.oid >= USER_OID",
    ),
    _texts(
        _node(2605, "c.oid"),
        "pg_catalog.concat(b.proname, '()')",
        "FROM pg_catalog.pg_cast c JOIN builtin b ON b.oid = c.castfunc WHERE c.oid >= USER_OID",
    ),
    _texts(
        _node(1255, "a.aggfnoid::pg_catalog.oid"),
        "pg_catalog.concat(b.proname, '()')",
        "FROM pg_catalog.pg_aggregate a JOIN builtin b ON b.oid = ANY (ARRAY[a.aggtransfn::pg_catalog.oid,"
        " a.aggfinalfn::pg_catalog.oid, a.aggcombinefn::pg_catalog.oid, a.aggmtransfn::pg_catalog.oid,"
        " a.aggminvtransfn::pg_catalog.oid, a.aggmfinalfn::pg_catalog.oid])"
        " WHERE a.aggfnoid::pg_catalog.oid >= USER_OID",
    ),
)

SCAN_QUERY: bytes = _qualified(_WITH + " UNION ALL ".join((*_NAMES, *_EDGES, *_TEXTS)))
