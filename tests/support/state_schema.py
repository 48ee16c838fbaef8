"""The roles and objects that session-state programs use: tenants, and every indirect way to change a session.

Each tenant has a schema with a table `things` of its own. What changes session state indirectly is written with
its schema, so that programs reach it whatever their search_path is: functions, a procedure, a trigger, a view,
a column default, a rule.
"""

from pgferry.embedded import Cluster

TENANTS = [f"tenant_{n}" for n in range(4)]
ROLES = [f"state_r{n}" for n in range(3)]
APP = "state_app"  # logs in, is not a superuser, is a member of all ROLES
SLOTS = 40  # clients of one round, each with a sequence of its own

_ROLES = f"""
CREATE ROLE {APP} LOGIN;
{"".join(f"CREATE ROLE {r}; GRANT {r} TO {APP};" for r in ROLES)}
ALTER ROLE {APP} SET app.from_role = 'of the role';
ALTER ROLE {APP} SET lock_timeout = '77s';
"""

# A body of standard SQL, and what stands for it where there is none (before PostgreSQL 14).
_ATOMIC = "BEGIN ATOMIC; SELECT set_config('app.tenant', t, false); END;"
_AS_TEXT = "AS $$SELECT set_config('app.tenant', t, false)$$;"
_OBJECTS = """
CREATE TABLE public.things AS SELECT 'things of public' AS label;
GRANT SELECT ON public.things TO PUBLIC;
CREATE TABLE public.audited (who text, v text);
CREATE TABLE public.defaulted (who text, v text DEFAULT set_config('app.x', 'of a default', false));
CREATE TABLE public.ruled (who text);
CREATE TABLE public.owned (tenant text, v text);
INSERT INTO public.owned SELECT 'tenant_' || g, 'row of ' || g FROM generate_series(0, 3) g;
ALTER TABLE public.owned ENABLE ROW LEVEL SECURITY;
CREATE POLICY mine ON public.owned USING (tenant = current_setting('app.tenant', true));
GRANT ALL ON public.audited, public.defaulted, public.ruled, public.owned TO PUBLIC;

CREATE FUNCTION public.set_tenant(t text) RETURNS text LANGUAGE plpgsql AS
$$BEGIN PERFORM set_config('app.tenant', t, false); RETURN current_setting('app.tenant'); END$$;
CREATE FUNCTION public.outer_tenant(t text) RETURNS text LANGUAGE plpgsql AS
$$BEGIN RETURN public.set_tenant(t); END$$;
CREATE FUNCTION public.go_to(path text) RETURNS text LANGUAGE sql AS
$$SELECT set_config('search_path', path, false)$$;
CREATE FUNCTION public.atomic_tenant(t text) RETURNS text LANGUAGE sql
BEGIN ATOMIC; SELECT set_config('app.tenant', t, false); END;
CREATE FUNCTION public.computed(n text, v text) RETURNS text LANGUAGE sql AS
$$SELECT set_config(n, v, false)$$;
CREATE FUNCTION public.dynamic(text) RETURNS void LANGUAGE plpgsql AS $$BEGIN EXECUTE $1; END$$;
CREATE FUNCTION public.locker(k bigint) RETURNS void LANGUAGE sql AS $$SELECT pg_advisory_lock(k)$$;
CREATE FUNCTION public.local_tenant(t text) RETURNS text LANGUAGE plpgsql AS
$$BEGIN PERFORM set_config('app.tenant', t, true); RETURN current_setting('app.tenant'); END$$;
CREATE FUNCTION public.caught(t text) RETURNS text LANGUAGE plpgsql AS
$$BEGIN PERFORM set_config('app.tenant', t, false); PERFORM 1/0; RETURN 'no';
EXCEPTION WHEN division_by_zero THEN RETURN coalesce(nullif(current_setting('app.tenant', true), ''), 'none'); END$$;
CREATE FUNCTION public.scoped() RETURNS text LANGUAGE plpgsql SET search_path = tenant_2 AS
$$BEGIN RETURN (SELECT label FROM things); END$$;
CREATE FUNCTION public.wanted() RETURNS text LANGUAGE plpgsql AS $$BEGIN RETURN (SELECT label FROM things); END$$;
CREATE FUNCTION public.audit() RETURNS trigger LANGUAGE plpgsql AS
$$BEGIN PERFORM set_config('app.last', NEW.who, false); RETURN NEW; END$$;
CREATE TRIGGER audit BEFORE INSERT ON public.audited FOR EACH ROW EXECUTE FUNCTION public.audit();
CREATE VIEW public.touching AS SELECT set_config('app.x', 'of a view', false) AS v;
GRANT SELECT ON public.touching TO PUBLIC;
CREATE RULE ruled AS ON INSERT TO public.ruled DO ALSO SELECT set_config('app.last', NEW.who, false);
CREATE PROCEDURE public.proceed(t text) LANGUAGE plpgsql AS
$$BEGIN PERFORM set_config('app.tenant', t, false); COMMIT; PERFORM set_config('app.tenant', 'undone', false);
ROLLBACK; PERFORM set_config('app.last', t, false); END$$;
"""


def make_roles(cluster: Cluster) -> None:
    """The roles, which belong to all databases."""
    cluster.sql(_ROLES)


def drop_roles(cluster: Cluster) -> None:
    """After the databases that use them."""
    cluster.sql(f"DROP ROLE IF EXISTS {', '.join([APP, *ROLES])}")


def make_objects(cluster: Cluster, database: str) -> None:
    """Tenants, functions and the rest, and settings of the database."""
    cluster.sql(_OBJECTS.replace(_ATOMIC, _AS_TEXT) if cluster.version < 14 else _OBJECTS, database)
    for n, schema in enumerate(TENANTS):
        reader = ROLES[0] if n == len(TENANTS) - 1 else "PUBLIC"
        cluster.sql(
            f"CREATE SCHEMA {schema}; CREATE TABLE {schema}.things AS SELECT 'things of {schema}' AS label;"
            f"GRANT USAGE ON SCHEMA {schema} TO {reader}; GRANT SELECT ON {schema}.things TO PUBLIC",
            database,
        )
    for n in range(SLOTS):
        cluster.sql(
            f"CREATE SEQUENCE public.seq_{n}; GRANT ALL ON SEQUENCE public.seq_{n} TO PUBLIC", database
        )
    cluster.sql(f"ALTER DATABASE {database} SET app.from_db = 'of the database'")
    cluster.sql(f"ALTER DATABASE {database} SET statement_timeout = '90s'")
    cluster.sql(f"ALTER DATABASE {database} SET jit = off")  # enable_seqscan = off makes plans look expensive
    cluster.sql(f"ALTER ROLE {APP} IN DATABASE {database} SET work_mem = '5MB'")


def clean(cluster: Cluster, database: str) -> None:
    """As before the first run."""
    cluster.sql("TRUNCATE public.audited, public.defaulted, public.ruled", database)
