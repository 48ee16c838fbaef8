"""Objects that a program makes and uses at once, so that nobody can know yet what they do.

{t}: a tag for names, {call}: a function call that changes the session.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Shape:
    """How to make an object, and how to use it. single: both are one statement each; keeps: the state stays.

    nameless: no word of a statement shows that it is used, so any statement might, and what can never be undone would
    pin everybody (docs/session-state.md).
    """

    make: str
    use: str
    single: bool = False
    keeps: bool = True
    nameless: bool = False


_TABLE = "CREATE TABLE adv_play.t_{t} (id int)"
_CHECK = (
    "CREATE FUNCTION adv_play.c_{t}(text) RETURNS boolean LANGUAGE plpgsql IMMUTABLE AS"
    " $$BEGIN PERFORM {call}; RETURN true; END$$"
)
_TRIGGER = (
    "CREATE FUNCTION adv_play.g_{t}() RETURNS trigger LANGUAGE plpgsql AS"
    " $$BEGIN PERFORM {call}; RETURN NEW; END$$"
)

SHAPES = (
    Shape(
        "CREATE FUNCTION adv_play.f_{t}() RETURNS text LANGUAGE sql AS $$SELECT {call}$$",
        "SELECT adv_play.f_{t}()",
        True,
    ),
    Shape(
        "CREATE FUNCTION adv_play.f_{t}() RETURNS text LANGUAGE plpgsql AS $$BEGIN RETURN {call}; END$$",
        "SELECT adv_play.f_{t}()",
        True,
    ),
    Shape(
        "CREATE FUNCTION adv_play.f_{t}() RETURNS text LANGUAGE sql AS $$SELECT ''::text$$;"
        "SELECT adv_play.f_{t}();"
        "CREATE OR REPLACE FUNCTION adv_play.f_{t}() RETURNS text LANGUAGE sql AS $$SELECT {call}$$",
        "SELECT adv_play.f_{t}()",
    ),
    Shape(
        "CREATE PROCEDURE adv_play.p_{t}() LANGUAGE plpgsql AS $$BEGIN PERFORM {call}; END$$",
        "CALL adv_play.p_{t}()",
        True,
    ),
    Shape("CREATE VIEW adv_play.v_{t} AS SELECT {call} AS v", "SELECT * FROM adv_play.v_{t}", True),
    Shape("CREATE VIEW adv_play.v_{t} AS SELECT {call} AS v", "TABLE adv_play.v_{t}", True),
    Shape(
        "CREATE TABLE adv_play.d_{t} (id int, v text DEFAULT {call})",
        "INSERT INTO adv_play.d_{t} VALUES (1)",
        True,
    ),
    Shape(
        f"{_TABLE}; {_TRIGGER};"
        "CREATE TRIGGER t BEFORE INSERT ON adv_play.t_{t} FOR EACH ROW EXECUTE FUNCTION adv_play.g_{t}()",
        "INSERT INTO adv_play.t_{t} VALUES (1)",
    ),
    Shape(
        f"{_TABLE}; {_TRIGGER};"
        "CREATE CONSTRAINT TRIGGER t AFTER INSERT ON adv_play.t_{t} DEFERRABLE INITIALLY DEFERRED"
        " FOR EACH ROW EXECUTE FUNCTION adv_play.g_{t}()",
        "INSERT INTO adv_play.t_{t} VALUES (1)",
    ),
    Shape(
        f"{_TABLE}; CREATE RULE r AS ON INSERT TO adv_play.t_{{t}} DO ALSO SELECT {{call}}",
        "INSERT INTO adv_play.t_{t} VALUES (1)",
    ),
    Shape(
        f"{_CHECK}; CREATE DOMAIN adv_play.d_{{t}} AS text CHECK (adv_play.c_{{t}}(VALUE))",
        "SELECT 'x'::adv_play.d_{t}",
    ),
    Shape(
        f"{_CHECK}; CREATE OPERATOR adv_play.!! (RIGHTARG = text, FUNCTION = adv_play.c_{{t}})",
        "SELECT OPERATOR(adv_play.!!) 'x'::text; DROP OPERATOR adv_play.!! (NONE, text)",
        nameless=True,
    ),
    Shape(
        "CREATE TYPE adv_play.y_{t} AS (v text);"
        "CREATE FUNCTION adv_play.k_{t}(adv_play.y_{t}) RETURNS int LANGUAGE plpgsql AS $$BEGIN PERFORM {call};"
        "RETURN 1; END$$; CREATE CAST (adv_play.y_{t} AS int) WITH FUNCTION adv_play.k_{t}(adv_play.y_{t})",
        "SELECT ROW('x')::adv_play.y_{t}::int",
        nameless=True,
    ),
    Shape(
        f"{_CHECK}; {_TABLE}; CREATE INDEX ON adv_play.t_{{t}} (adv_play.c_{{t}}(id::text))",
        "INSERT INTO adv_play.t_{t} VALUES (1)",
    ),
    Shape(
        f"{_CHECK}; CREATE TABLE adv_play.t_{{t}} (id text CHECK (adv_play.c_{{t}}(id)))",
        "INSERT INTO adv_play.t_{t} VALUES ('x')",
    ),
    Shape(
        f"{_CHECK}; CREATE TABLE adv_play.t_{{t}}"
        " (id text, g boolean GENERATED ALWAYS AS (adv_play.c_{t}(id)) STORED)",
        "INSERT INTO adv_play.t_{t} VALUES ('x')",
    ),
    Shape(
        "CREATE FUNCTION adv_play.s_{t}(int, int) RETURNS int LANGUAGE plpgsql AS"
        " $$BEGIN PERFORM {call}; RETURN 1; END$$;"
        "CREATE AGGREGATE adv_play.a_{t}(int) (SFUNC = adv_play.s_{t}, STYPE = int, INITCOND = '0')",
        "SELECT adv_play.a_{t}(1)",
    ),
    Shape(
        "CREATE FUNCTION adv_play.f_{t}(v text DEFAULT {call}) RETURNS text LANGUAGE sql AS $$SELECT v$$",
        "SELECT adv_play.f_{t}()",
        True,
    ),
    Shape(
        "CREATE MATERIALIZED VIEW adv_play.m_{t} AS SELECT 1 AS id, {call} AS v WITH NO DATA",
        "REFRESH MATERIALIZED VIEW adv_play.m_{t}",
        True,
        keeps=False,
    ),
    Shape(
        "PREPARE adv_e_{t} AS SELECT {call}",
        "EXPLAIN ANALYZE EXECUTE adv_e_{t}",
        True,
    ),
)
