"""auth_query: users that only PostgreSQL knows, asked for on connections that no client can touch."""

import re
from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest

from pgferry.auth.md5 import md5_secret
from pgferry.embedded import Cluster
from support import cluster as clusters
from support.clients import raw, refusal
from support.pooler import Pooler, eventually
from support.wire import Wire, startup

Make = Callable[..., Pooler]
SECRET = "a right password"
FAILED = "FATAL 08P01 password authentication failed"
SASL_FAILED = "FATAL 08P01 SASL authentication failed"
CONFIG = "FATAL 08P01 bouncer config error"
ROLES = f"""
CREATE ROLE asker SUPERUSER LOGIN PASSWORD 'asker''s own';
CREATE ROLE in_scram LOGIN PASSWORD '{SECRET}';
CREATE ROLE expired LOGIN PASSWORD '{SECRET}' VALID UNTIL '2001-01-01';
CREATE ROLE valid LOGIN PASSWORD '{SECRET}' VALID UNTIL '2100-01-01';
CREATE ROLE no_login PASSWORD '{SECRET}';
CREATE ROLE no_password LOGIN;
SET password_encryption = 'md5';
CREATE ROLE in_md5 LOGIN PASSWORD '{SECRET}';
"""
HBA = ["local all all trust", "host all asker all scram-sha-256", "host all all all md5"]


@pytest.fixture(scope="module")
def server(pg_version: int) -> Iterator[Cluster]:
    """A server whose roles all have passwords; over TCP it wants them."""
    cluster = clusters.new_cluster(pg_version, hba=HBA)
    cluster.sql(ROLES)
    cluster.sql("CREATE DATABASE other")
    yield cluster
    cluster.close()


@pytest.fixture
def asking(server: Cluster, make_pooler: Make) -> Callable[..., Pooler]:
    """A pooler that knows the console's user and asker from its file, everybody else from PostgreSQL."""

    def make(settings: dict[str, Any] | None = None, **more: Any) -> Pooler:
        more.setdefault("userlist", {"admin": SECRET, "asker": "asker's own"})
        return make_pooler(
            server, settings={"auth_type": "md5", "auth_user": "asker", **(settings or {})}, **more
        )

    return make


def console(pooler: Pooler, command: str) -> None:
    with psycopg.connect(
        pooler.conninfo("pgbouncer", "admin", password=SECRET),
        autocommit=True,
        cursor_factory=psycopg.ClientCursor,
    ) as connection:
        connection.execute(command.encode())


@pytest.mark.parametrize("auth_type", ["plain", "md5", "scram-sha-256", "trust"])
def test_who_gets_in(asking: Callable[..., Pooler], auth_type: str) -> None:
    pooler = asking({"auth_type": auth_type})
    for user in ("in_scram", "in_md5", "valid"):
        said = refusal(pooler, user=user, secret=SECRET)
        if auth_type in ("trust", "plain"):
            # The secret that was found is not one that the server takes: only the pooler's own check is looked at.
            assert said == "logged in" or "server login failed: wrong password type" in said, user
        elif auth_type == "scram-sha-256" and user == "in_md5":
            assert said == SASL_FAILED
        else:
            assert said == "logged in", user
    if auth_type == "trust":
        for user in ("nobody", "no_login"):
            assert refusal(pooler, user=user) == 'FATAL 08P01 "trust" authentication failed'
        return
    for user in ("expired", "no_login", "no_password", "nobody", "in_scram"):
        said = refusal(pooler, user=user, secret="wrong")
        assert said in (FAILED, SASL_FAILED), user
    for user in ("expired", "no_login", "no_password", "nobody"):
        assert refusal(pooler, user=user, secret=SECRET) in (FAILED, SASL_FAILED), user
    assert SECRET not in pooler.log()
    assert "SCRAM-SHA-256$" not in pooler.log()


def test_queries_run_as_the_user(asking: Callable[..., Pooler]) -> None:
    """CVE-2015-6817: nobody is auth_user but auth_user. The verifier found serves the login to the server."""
    pooler = asking()
    for user in ("in_scram", "in_md5"):
        with pooler.connect(user=user, password=SECRET) as conn:
            assert conn.execute("SELECT current_user, session_user").fetchone() == (user, user)
    assert refusal(pooler, user="unknown", secret="asker's own") in (FAILED, SASL_FAILED)
    assert refusal(pooler, user="asker", secret="asker's own") == "logged in"


def test_a_changed_password_counts_at_once(asking: Callable[..., Pooler], server: Cluster) -> None:
    pooler = asking({"auth_type": "scram-sha-256"})
    server.sql("CREATE ROLE fickle LOGIN PASSWORD 'one'")
    assert refusal(pooler, user="fickle", secret="one") == "logged in"
    server.sql("ALTER ROLE fickle PASSWORD 'two'")
    assert refusal(pooler, user="fickle", secret="one") == SASL_FAILED
    console_free = refusal(pooler, user="fickle", secret="two")
    assert console_free == "logged in"
    server.sql("ALTER ROLE fickle VALID UNTIL 'yesterday'")
    assert refusal(pooler, user="fickle", secret="two") == SASL_FAILED
    server.sql("DROP ROLE fickle")


@pytest.mark.workers(1)
def test_unknown_users_look_like_others(asking: Callable[..., Pooler]) -> None:
    """auth_type md5 asks known users with a verifier for SCRAM: the unknown are asked the same."""
    pooler = asking()
    assert refusal(pooler, user="in_scram", secret=SECRET) == "logged in"
    asked = set()
    for user in ("in_scram", "nobody", "no_login", "expired"):
        for _ in range(6):
            with Wire((pooler.host, pooler.port)) as wire:
                wire.send(startup(user, "postgres"))
                asked.add(wire.recv().body[:4])
    assert asked == {b"\0\0\0\x0a"}


@pytest.mark.workers(1)
def test_client_parameters_stay_out(asking: Callable[..., Pooler], server: Cluster) -> None:
    """CVE-2025-12819: what a startup packet asks for is not there when the query runs."""
    server.sql("CREATE TABLE IF NOT EXISTS seen (path text, name text, zone text)")
    server.sql(
        "CREATE OR REPLACE FUNCTION look(text) RETURNS TABLE (u text, p text) LANGUAGE plpgsql AS $$ BEGIN "
        "INSERT INTO public.seen VALUES (current_setting('search_path'), current_setting('application_name'), "
        "current_setting('TimeZone')); "
        "RETURN QUERY SELECT rolname::text, rolpassword FROM pg_authid WHERE rolname = $1; END $$"
    )
    server.sql(
        "CREATE SCHEMA IF NOT EXISTS evil; CREATE OR REPLACE FUNCTION evil.look(text) RETURNS TABLE (u text, "
        "p text) LANGUAGE sql AS $$ SELECT 'postgres'::text, ''::text $$"
    )
    pooler = asking(
        {
            "auth_query": "SELECT * FROM look($1)",
            "track_extra_parameters": "search_path",
            "session_state": "track",
        }
    )
    with psycopg.connect(
        pooler.conninfo(
            user="in_scram",
            password=SECRET,
            application_name="intruder",
            options="-c search_path=evil -c TimeZone=Asia/Tokyo",
        ),
        autocommit=True,
    ) as conn:
        conn.execute("SET search_path = evil")
        conn.execute("CREATE TEMP TABLE pg_authid (rolname name, rolpassword text)")
        assert refusal(pooler, user="in_md5", secret=SECRET) == "logged in"
    rows = server.sql("SELECT DISTINCT path, name, zone FROM seen")
    assert len(rows) == 1
    assert "evil" not in str(rows[0][0])
    assert rows[0][1] == ""
    assert rows[0][2] != "Asia/Tokyo"
    server.sql("DROP TABLE seen; DROP FUNCTION look(text); DROP SCHEMA evil CASCADE")


def test_settings_of_databases(asking: Callable[..., Pooler], server: Cluster) -> None:
    server.sql("CREATE ROLE second SUPERUSER LOGIN PASSWORD 'x'")
    server.sql("CREATE TABLE IF NOT EXISTS accounts (name text, secret text)", dbname="other")
    server.sql(f"INSERT INTO accounts VALUES ('in_md5', '{md5_secret('special', 'in_md5')}')", dbname="other")
    where = f"host=127.0.0.1 port={server.port}"
    pooler = asking(
        {"auth_user": None, "auth_type": "plain"},
        userlist={"admin": SECRET, "asker": "asker's own", "second": "x"},
        databases={
            "postgres": f"{where} auth_user=second",
            "none": f"{where} dbname=postgres",
            "lent": f"{where} dbname=postgres auth_user=asker auth_dbname=other "
            "auth_query='SELECT name, secret FROM accounts WHERE name=$1' user=postgres",
            "other": where,
        },
    )
    assert refusal(pooler, "none", user="in_scram", secret=SECRET) == FAILED
    assert refusal(pooler, "lent", user="in_md5", secret=SECRET) == FAILED
    assert "password authentication failed for user" in refusal(
        pooler, "lent", user="in_md5", secret="special"
    )
    assert refusal(pooler, user="in_md5", secret="special") == FAILED
    said = refusal(pooler, user="in_md5", secret=SECRET)
    assert said == "logged in", said
    # The pools show who asks where.
    with psycopg.connect(
        pooler.conninfo("pgbouncer", "admin", password=SECRET),
        autocommit=True,
        cursor_factory=psycopg.ClientCursor,
    ) as connection:
        pools = {(row[0], row[1]) for row in connection.execute("SHOW POOLS").fetchall()}
    assert ("other", "asker") in pools
    assert ("postgres", "second") in pools
    server.sql("DROP TABLE accounts", dbname="other")
    server.sql("DROP ROLE second")


def test_global_auth_dbname(asking: Callable[..., Pooler], server: Cluster) -> None:
    """One database answers for all, also for those that do not exist, and for the console."""
    where = f"host=127.0.0.1 port={server.port}"
    pooler = asking(
        {"auth_dbname": "other", "admin_users": "admin,in_scram"},
        databases={"postgres": where, "other": where},
    )
    assert refusal(pooler, user="in_scram", secret=SECRET) == "logged in"
    assert (
        refusal(pooler, "missing", user="in_scram", secret=SECRET) == "FATAL 08P01 no such database: missing"
    )
    assert refusal(pooler, "missing", user="nobody", secret=SECRET) in (FAILED, SASL_FAILED)
    assert refusal(pooler, "pgbouncer", user="in_scram", secret=SECRET) == "logged in"
    assert refusal(pooler, "pgbouncer", user="in_scram", secret="wrong") in (FAILED, SASL_FAILED)
    assert refusal(pooler, "pgbouncer", user="in_md5", secret=SECRET) == "FATAL 08P01 not allowed"
    console(pooler, "DISABLE other")
    said = refusal(pooler, user="in_scram", secret=SECRET)
    assert said == 'FATAL 08P01 authentication database "other" is disabled'
    console(pooler, "ENABLE other")
    pooler.set({"auth_dbname": "gone"}, reload=False)
    console(pooler, "RELOAD")
    assert refusal(pooler, user="in_scram", secret=SECRET) == CONFIG


@pytest.mark.parametrize(
    ("query", "line"),
    [
        ("SELECT rolname FROM pg_authid WHERE rolname=$1", "expected 2 columns from auth_query, not 1"),
        ("SELECT rolname, rolpassword, 1 FROM pg_authid WHERE rolname=$1", "not 3"),
        ("SELECT no_such_column FROM pg_authid WHERE rolname=$1", "no_such_column"),
        ("SELECT $1::text, 'a' UNION ALL SELECT 'b', 'c'", "more than one user"),
        ("COPY pg_authid TO STDOUT", "bind message supplies 1 parameters|out of step"),
        ("SELECT $1::text, 'x', pg_terminate_backend(pg_backend_pid())", "terminating connection|crashed"),
    ],
)
@pytest.mark.workers(1)
def test_broken_queries(asking: Callable[..., Pooler], query: str, line: str) -> None:
    """Nobody gets in, the log says why, and unknown clients see an exchange as ever."""
    pooler = asking({"auth_query": query, "auth_type": "md5"})
    with Wire((pooler.host, pooler.port)) as wire:
        wire.send(startup("in_md5", "postgres"))
        assert wire.recv().type == "R"
    assert refusal(pooler, user="in_md5", secret=SECRET) == CONFIG
    pooler.wait_log(f"auth_query for postgres/in_md5 in postgres as asker: .*({line})")


def test_null_name_is_nobody(asking: Callable[..., Pooler]) -> None:
    pooler = asking({"auth_query": "SELECT NULL::text, $1::text"})
    assert refusal(pooler, user="in_md5", secret="in_md5") == FAILED


def test_the_name_that_is_returned_counts(asking: Callable[..., Pooler]) -> None:
    pooler = asking(
        {
            "auth_type": "plain",
            "auth_query": "SELECT rolname, rolpassword FROM pg_authid WHERE 'alias_' || rolname = $1::text",
            "admin_users": "admin,alias_in_scram",
            "auth_dbname": "postgres",
        }
    )
    with pooler.connect(user="alias_in_md5", password=SECRET) as conn:
        assert conn.execute("SELECT current_user").fetchone() == ("in_md5",)
    assert refusal(pooler, user="in_md5", secret=SECRET) == FAILED
    # A right of the name that was asked for is not one of the user behind it.
    assert refusal(pooler, "pgbouncer", user="alias_in_scram", secret=SECRET) == "FATAL 08P01 not allowed"


@pytest.mark.workers(1)
def test_hostile_names(asking: Callable[..., Pooler]) -> None:
    pooler = asking({"auth_type": "md5"})
    for name in (
        "x' OR '1'='1",
        'x"; DROP TABLE t; --',
        "$1",
        "n" * 127,
        "\\",
        "'" * 100,
        "в" * 60,
        "a\nb",
    ):
        assert refusal(pooler, user=name, secret=SECRET) == FAILED, name
    with Wire((pooler.host, pooler.port)) as wire:
        body = b"\0\3\0\0user\0\xff\xfe\0database\0postgres\0\0"
        wire.send((len(body) + 4).to_bytes(4, "big") + body)
        assert wire.recv().type == "R"
    assert refusal(pooler, user="in_scram", secret=SECRET) == "logged in"
    assert not re.search(r"auth_query for", pooler.log())


@pytest.mark.workers(1)
def test_strangers_make_no_databases(asking: Callable[..., Pooler]) -> None:
    """With `*` and without auth_dbname the database is asked itself: the missing ones are not asked twice a second."""
    pooler = asking({"auth_type": "scram-sha-256"})
    for _ in range(4):
        assert refusal(pooler, "missing", user="nobody", secret="x") == CONFIG
    assert pooler.log().count('database "missing" does not exist') <= 3


def test_a_dead_server_is_asked_again(asking: Callable[..., Pooler], server: Cluster) -> None:
    """The connections are gone: the next login gets a new one, and waits for it."""
    pooler = asking({"auth_type": "scram-sha-256"})
    assert refusal(pooler, user="in_scram", secret=SECRET) == "logged in"
    server.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'asker'")
    assert refusal(pooler, user="in_scram", secret=SECRET) == "logged in"
    console(pooler, "RECONNECT")
    assert refusal(pooler, user="in_scram", secret=SECRET) == "logged in"


def test_auth_user_cannot_log_in(asking: Callable[..., Pooler]) -> None:
    pooler = asking(
        {"auth_type": "scram-sha-256", "server_login_retry": 0.2},
        userlist={"admin": SECRET, "asker": "not this"},
    )
    for _ in range(3):
        assert refusal(pooler, user="in_scram", secret=SECRET) == CONFIG
    pooler.wait_log("as asker: password authentication failed for user")
    pooler.set(userlist={"asker": "asker's own"}, reload=False)
    console(pooler, "RELOAD")
    eventually(lambda: refusal(pooler, user="in_scram", secret=SECRET) == "logged in")


def test_many_at_once_with_little_room(asking: Callable[..., Pooler]) -> None:
    """One server connection of each pool is enough for all, over all workers."""
    pooler = asking({"auth_type": "md5", "default_pool_size": 1, "max_db_connections": 2})
    wires = []
    for i in range(20):
        wire = Wire((pooler.host, pooler.port), timeout=30)
        wire.send(startup(f"nobody_{i}" if i % 2 else "in_md5", "postgres"))
        wires.append(wire)
    for wire in wires:
        assert wire.recv().type == "R"
        wire.close()


def test_a_client_that_leaves_while_it_waits(asking: Callable[..., Pooler]) -> None:
    pooler = asking(
        {"auth_query": "SELECT rolname, rolpassword FROM pg_authid, pg_sleep(0.3) WHERE rolname=$1"}
    )
    for _ in range(3):
        with Wire((pooler.host, pooler.port)) as wire:
            wire.send(startup("in_md5", "postgres"))
    assert refusal(pooler, user="in_md5", secret=SECRET) == "logged in"


def test_forced_user_and_dynamic_user(asking: Callable[..., Pooler], server: Cluster) -> None:
    """An entry's user never logs in with what auth_query found."""
    where = f"host=127.0.0.1 port={server.port} dbname=postgres"
    pooler = asking({"auth_type": "plain"}, databases={"postgres": where, "forced": f"{where} user=in_md5"})
    assert refusal(pooler, user="in_md5", secret=SECRET) == "logged in"
    assert "password authentication failed for user" in refusal(
        pooler, "forced", user="in_md5", secret=SECRET
    )


def test_limits_of_dynamic_users(asking: Callable[..., Pooler]) -> None:
    pooler = asking({"auth_type": "md5"}, users={"in_md5": "max_user_client_connections=1 pool_mode=session"})
    with raw(pooler, user="in_md5", secret=SECRET):
        said = refusal(pooler, user="in_md5", secret=SECRET)
        assert said == "FATAL 08P01 client connections exceeded (max_user_client_connections)"
    eventually(lambda: refusal(pooler, user="in_md5", secret=SECRET) == "logged in")


@pytest.mark.workers(1)
def test_who_has_left_costs_nothing(asking: Callable[..., Pooler], server: Cluster) -> None:
    """Strangers come and go while nothing can be asked: nobody asks for them later, and nothing is kept of them."""
    server.sql(
        "CREATE TABLE asked (name text); CREATE FUNCTION note(text) RETURNS TABLE (u text, p text) LANGUAGE sql AS "
        "$$ INSERT INTO public.asked VALUES ($1); SELECT rolname::text, rolpassword FROM pg_authid "
        "WHERE rolname = $1 $$"
    )
    pooler = asking({"auth_query": "SELECT * FROM public.note($1)", "max_client_conn": 1000})
    assert refusal(pooler, user="in_md5", secret=SECRET) == "logged in"
    console(pooler, "PAUSE")
    for i in range(600):
        with Wire((pooler.host, pooler.port)) as wire:
            wire.send(startup(f"stranger_{i % 400}", "postgres"))
    with Wire((pooler.host, pooler.port)) as waiting:
        waiting.send(startup("in_md5", "postgres"))
        assert waiting.silent(0.5)
        console(pooler, "RESUME")
        assert waiting.recv().body[:4] == b"\0\0\0\5"
    names = [row[0] for row in server.sql("SELECT name FROM asked")]
    assert names.count("in_md5") == 2
    assert len(names) <= 4, names
    server.sql("DROP FUNCTION note(text); DROP TABLE asked")
