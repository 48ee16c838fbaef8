"""What the isolation adversary works with: roles, payloads (the state it tries to leave behind), and objects.

A payload is one piece of session state. For each payload that is a function call there is a set of permanent
objects in the schema `adv_evil` that make it in an indirect way (function, view, trigger, rule, default, domain,
operator, cast, procedure); what a program makes by itself goes into the schema `adv_play`.
"""

from collections.abc import Collection
from dataclasses import dataclass

from pgferry.embedded import Cluster

APP = "adv_app"  # logs in, is not a superuser, is a member of all ROLES
ROLES = ("adv_r0", "adv_r1")
LOCK = 424242
LONG = "app." + "n" * 62  # PostgreSQL cuts each part of a name at 63 bytes, not the whole
LONGER = "app." + "m" * 1100


@dataclass(frozen=True, slots=True)
class Payload:
    """State to leave behind: by a function call of type text, by a statement, or both."""

    name: str
    call: str = ""
    statement: str = ""
    setting: str = ""  # with its value: what set_config is called with
    value: str = ""
    superuser: bool = False


def _setting(name: str, setting: str, value: str, statement: str = "", superuser: bool = False) -> Payload:
    call = f"set_config('{setting}', '{value}', false)"
    return Payload(name, call, statement or f"SET {setting} = '{value}'", setting, value, superuser)


def fresh(tag: str) -> Payload:
    """A custom setting of a name that nobody has ever heard of."""
    return _setting("fresh", f"adv.u{tag}", "evil")


PAYLOADS = (
    _setting("path", "search_path", "adv_evil", "SET search_path = adv_evil, public"),
    _setting("role", "role", ROLES[0], f"SET ROLE {ROLES[0]}"),
    _setting("tenant", "app.tenant", "evil"),
    _setting("mixed", "App.MixedCase", "evil", 'SET "App"."MixedCase" = \'evil\''),
    _setting("long", LONG, "evil"),
    _setting("timeout", "statement_timeout", "9"),
    _setting("lock_timeout", "lock_timeout", "7"),
    _setting("zone", "TimeZone", "Asia/Tokyo"),
    _setting("style", "DateStyle", "German"),
    _setting("interval", "IntervalStyle", "iso_8601"),
    _setting("strings", "standard_conforming_strings", "off"),
    _setting("nulls", "transform_null_equals", "on"),
    _setting("isolation", "default_transaction_isolation", "serializable"),
    _setting("memory", "work_mem", "77"),
    Payload("lock", f"pg_advisory_lock_shared({LOCK})::text", f"SELECT pg_advisory_lock_shared({LOCK})"),
    _setting("authorization", "session_authorization", APP, f"SET SESSION AUTHORIZATION {APP}", True),
    Payload("temp", "", "CREATE TEMP TABLE things AS SELECT 'temp'::text AS label"),
    Payload("cursor", "", "DECLARE adv_cursor CURSOR WITH HOLD FOR SELECT 1"),
    Payload("listen", "", "LISTEN adv_channel"),
    Payload("prepared", "", "PREPARE adv_prepared AS SELECT 'evil'"),
    Payload("sequence", "nextval('public.adv_seq')::text", "SELECT nextval('public.adv_seq')"),
    Payload("load", "", "LOAD 'plpgsql'"),
    Payload("seed", "(SELECT 1 FROM setseed(0.5))::text", "SELECT setseed(0.5)"),
)
# Those that the permanent objects make.
FIXED = tuple(p for p in PAYLOADS if p.call and p.name not in ("sequence", "seed", "authorization"))
SETTINGS = tuple(p for p in FIXED if p.setting)
# Custom settings that anybody in a round may set; PostgreSQL does not list them.
CUSTOM = ("app.tenant", "app.x", "app.keeper", "App.MixedCase", LONG, LONG[:63], "app.start")

_ROLES = f"""
CREATE ROLE {APP} LOGIN;
{"".join(f"CREATE ROLE {r}; GRANT {r} TO {APP};" for r in ROLES)}
ALTER ROLE {APP} SET app.from_role = 'of the role';
ALTER ROLE {APP} SET deadlock_timeout TO DEFAULT;
"""
_PUBLIC = """
CREATE TABLE public.things AS SELECT 'public'::text AS label;
CREATE FUNCTION public.whoami() RETURNS text LANGUAGE sql AS $$SELECT 'public'::text$$;
CREATE SEQUENCE public.adv_seq;
GRANT ALL ON ALL TABLES IN SCHEMA public TO PUBLIC;
GRANT ALL ON ALL SEQUENCES IN SCHEMA public TO PUBLIC;
CREATE SCHEMA adv_evil;
GRANT USAGE ON SCHEMA adv_evil TO PUBLIC;
CREATE TABLE adv_evil.things AS SELECT 'evil'::text AS label;
CREATE FUNCTION adv_evil.whoami() RETURNS text LANGUAGE sql AS $$SELECT 'evil'::text$$;
CREATE PROCEDURE adv_evil.back() LANGUAGE plpgsql AS $$BEGIN ROLLBACK; END$$;
CREATE PROCEDURE adv_evil.keep() LANGUAGE plpgsql AS $$BEGIN COMMIT; END$$;
CREATE FUNCTION adv_evil.named(n text, v text) RETURNS text LANGUAGE sql AS $$SELECT set_config(n, v, false)$$;
CREATE FUNCTION adv_evil.run(t text) RETURNS text LANGUAGE plpgsql AS $$BEGIN EXECUTE t; RETURN 'run'; END$$;
"""
_TENANT = """
CREATE SCHEMA adv_t{n};
GRANT USAGE ON SCHEMA adv_t{n} TO PUBLIC;
CREATE TABLE adv_t{n}.things AS SELECT 'tenant {n}'::text AS label;
"""
# By kind. {p}: the payload's name; {call}: its call.
_INDIRECT = {
    "function": """
CREATE FUNCTION adv_evil.do_{p}() RETURNS text LANGUAGE sql AS $$SELECT {call}$$;
CREATE FUNCTION adv_evil.check_{p}(v text) RETURNS boolean LANGUAGE plpgsql AS
$$BEGIN PERFORM {call}; RETURN true; END$$;
CREATE PROCEDURE adv_evil.proc_{p}() LANGUAGE plpgsql AS $$BEGIN PERFORM {call}; END$$;
""",
    "odd": """
CREATE FUNCTION adv_evil."!{p}"() RETURNS text LANGUAGE sql AS $$SELECT {call}$$;
CREATE FUNCTION adv_evil."9$9{p}"() RETURNS text LANGUAGE sql AS $$SELECT {call}$$;
CREATE FUNCTION adv_evil."1$abc{p}"() RETURNS text LANGUAGE sql AS $$SELECT {call}$$;
CREATE FUNCTION adv_evil."é{p}"() RETURNS text LANGUAGE sql AS $$SELECT {call}$$;
""",
    "view": "CREATE VIEW adv_evil.view_{p} AS SELECT {call} AS v;",
    "domain": "CREATE DOMAIN adv_evil.dom_{p} AS text CHECK (adv_evil.check_{p}(VALUE));",
    "default": "CREATE TABLE adv_evil.defaulted_{p} (id int, v text DEFAULT {call});",
    "trigger": """
CREATE TABLE adv_evil.triggered_{p} (id int);
CREATE FUNCTION adv_evil.trigger_{p}() RETURNS trigger LANGUAGE plpgsql AS
$$BEGIN PERFORM {call}; RETURN NEW; END$$;
CREATE TRIGGER t BEFORE INSERT ON adv_evil.triggered_{p} FOR EACH ROW EXECUTE FUNCTION adv_evil.trigger_{p}();
""",
    "rule": """
CREATE TABLE adv_evil.ruled_{p} (id int);
CREATE RULE r AS ON INSERT TO adv_evil.ruled_{p} DO ALSO SELECT {call};
""",
    "type": """
CREATE TYPE adv_evil.type_{p} AS (v text);
CREATE FUNCTION adv_evil.cast_{p}(adv_evil.type_{p}) RETURNS int LANGUAGE plpgsql AS
$$BEGIN PERFORM {call}; RETURN 1; END$$;
CREATE CAST (adv_evil.type_{p} AS int) WITH FUNCTION adv_evil.cast_{p}(adv_evil.type_{p});
CREATE FUNCTION adv_evil.operate_{p}(adv_evil.type_{p}, int) RETURNS int LANGUAGE plpgsql AS
$$BEGIN PERFORM {call}; RETURN 1; END$$;
CREATE OPERATOR adv_evil.+ (LEFTARG = adv_evil.type_{p}, RIGHTARG = int, FUNCTION = adv_evil.operate_{p});
""",
    "policy": """
CREATE TABLE adv_evil.secured_{p} AS SELECT 1 AS id;
ALTER TABLE adv_evil.secured_{p} ENABLE ROW LEVEL SECURITY;
CREATE POLICY mine ON adv_evil.secured_{p} USING (adv_evil.check_{p}('x'));
""",
}
# Without those because of which any statement may do anything, whatever its words.
QUIET = ("function", "view", "domain", "default", "trigger", "rule")
KINDS = tuple(_INDIRECT)
_PLAY = f"""
DROP SCHEMA IF EXISTS adv_play CASCADE;
CREATE SCHEMA adv_play;
GRANT ALL ON SCHEMA adv_play TO PUBLIC, {APP};
"""


def make_roles(cluster: Cluster) -> None:
    """The roles, which belong to all databases."""
    cluster.sql(_ROLES)


def drop_roles(cluster: Cluster) -> None:
    """After the databases that use them."""
    cluster.sql(f"DROP ROLE IF EXISTS {', '.join([APP, *ROLES])}")


def make_objects(cluster: Cluster, database: str, kinds: Collection[str]) -> dict[str, int]:
    """Objects in a new database; the type oids of the domains, by payload, and of their arrays ("_" before)."""
    text = _PUBLIC + "".join(_TENANT.format(n=n) for n in range(3))
    for payload in FIXED:
        text += "".join(
            _INDIRECT[kind].format(p=payload.name, call=payload.call) for kind in KINDS if kind in kinds
        )
    text += "GRANT ALL ON ALL TABLES IN SCHEMA adv_evil, adv_t0, adv_t1, adv_t2 TO PUBLIC;"
    cluster.sql(text, database)
    cluster.sql(f"ALTER DATABASE {database} SET jit = off", database)
    cluster.sql(_PLAY, database)
    rows = cluster.sql("SELECT typname, oid FROM pg_type WHERE typname ~ '^_?dom_'", database)
    return {str(name).replace("dom_", "", 1): int(str(oid)) for name, oid in rows}


def clean(cluster: Cluster, database: str) -> None:
    """Drop what programs have made."""
    cluster.sql(_PLAY, database)
