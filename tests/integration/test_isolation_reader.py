"""What misled the reader of texts leaves nothing behind: each text here changes a session in disguise."""

from collections.abc import Callable

import psycopg
import pytest

from pgferry.embedded import Cluster
from support.clients import raw
from support.pooler import Pooler
from support.wire import Wire, bind, execute, parse, query, sync

Make = Callable[..., Pooler]

pytestmark = pytest.mark.workers(1)

LOOK = (
    "SELECT current_user, current_setting('search_path'), current_setting('work_mem'),"
    " coalesce(current_setting('app.tenant', true), ''),"
    " (SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()),"
    " (SELECT count(*) FROM pg_class WHERE relnamespace = pg_my_temp_schema() AND relkind = 'r')"
)
CLEAN = [b"postgres", b'"$user", public', b"4MB", b"", b"0", b"0"]

LEAVES = "LANGUAGE plpgsql AS $$ BEGIN SET work_mem = '7MB'; PERFORM pg_advisory_lock(77); RETURN 1; END $$"
LONG_NAME = "n" * 63
OBJECTS = f"""
    CREATE SCHEMA evil;
    CREATE FUNCTION evil."!"() RETURNS int {LEAVES};
    CREATE FUNCTION evil."9$9"() RETURNS int {LEAVES};
    CREATE FUNCTION evil."1$abc"() RETURNS int {LEAVES};
    CREATE FUNCTION evil.{LONG_NAME}() RETURNS int {LEAVES};
    CREATE FUNCTION "\u00e9"() RETURNS int {LEAVES};
    CREATE FUNCTION checked(text) RETURNS boolean LANGUAGE plpgsql AS
        $$ BEGIN SET work_mem = '7MB'; PERFORM pg_advisory_lock(77); RETURN true; END $$;
    CREATE DOMAIN guarded AS text CHECK (checked(VALUE));
"""
ARTICLES = "CREATE TABLE articles (id int PRIMARY KEY, body text)"


class Place:
    """A database behind a pooler with one server, so that whoever comes next finds what is left."""

    def __init__(self, pooler: Pooler, database: str) -> None:
        self.pooler = pooler
        self.database = database

    def join(self) -> Wire:
        return raw(self.pooler, self.database)

    def finds_nothing(self, owner: Wire) -> None:
        """The next client of the server, now or when its owner has left, finds a session as it was made."""
        witness = self.join()
        witness.send(query(LOOK))
        if witness.silent(1.0):
            owner.close()
        found = [m.row for m in witness.until() if m.type == "D"]
        assert found == [CLEAN], found


def place(make_pooler: Make, cluster: Cluster, database: str, objects: str) -> Place:
    with psycopg.connect(cluster.conninfo(database), autocommit=True) as direct:
        direct.execute(ARTICLES)
        direct.execute(objects)
    return Place(make_pooler(cluster, settings={"default_pool_size": 1}), database)


@pytest.fixture
def one(make_pooler: Make, cluster: Cluster, database: str) -> Place:
    return place(make_pooler, cluster, database, OBJECTS)


@pytest.fixture
def plain(make_pooler: Make, cluster: Cluster, database: str) -> Place:
    """The same without functions that leave something."""
    return place(make_pooler, cluster, database, "")


def run(wire: Wire, text: bytes) -> None:
    """Run a text of any bytes, which must succeed."""
    wire.send(query(text))
    assert [m.text for m in wire.until() if m.type == "E"] == []


@pytest.mark.parametrize(
    "text",
    [
        "-- x\rset work_mem = '7MB'",
        "select 1 -- x\r; set work_mem = '7MB'",
        'select evil."!"()',
        'select evil."9$9"()',
        'select evil."1$abc"()',
        f"select evil.{LONG_NAME}more()",
        "select domain_in('x', 'guarded'::regtype, -1) is null",
        "select array_in('{x}', ('guar' || 'ded')::regtype, -1) is null",
        "select '{x}'::_guarded",
        "set search_path = pg_temp; select 1 insert into t; reset search_path",
        "set search_path = pg_temp; select $a$x$a$into t; reset search_path",
        "set search_path = pg_temp; select 1 as merge into t; reset search_path",
        "select U&\"\\0073et_config\"('app.tenant', 'evil', false)",
        "select 1 where false; " * 60 + "set work_mem = '7MB'",
        "set work_mem = '7MB'; " * 60,
        "set work_mem = '7MB'; insert into articles values (1, '" + "x" * 1_000_000 + "')",
        "insert into articles values (1, '" + "x" * 1_000_000 + "'); set work_mem = '7MB'",
    ],
    ids=lambda text: text[:40],
)
def test_disguises(one: Place, text: str) -> None:
    owner = one.join()
    run(owner, text.encode())
    one.finds_nothing(owner)


@pytest.mark.parametrize("encoding", ["SJIS", "GB18030"])
@pytest.mark.parametrize("batch", [False, True])
def test_a_backslash_as_half_a_character(one: Place, encoding: str, batch: bool) -> None:
    """In one of these encodings the backslash belongs to the character before it."""
    character = b"\x83\x5c" if encoding == "SJIS" else b"\xb0\x5c"
    text = b"select E'%b' ; set work_mem = '7MB' ; --'" % character
    owner = one.join()
    if batch:
        # The second text is read before PostgreSQL has told of the new encoding.
        owner.send(
            parse(f"set client_encoding = '{encoding}'"),
            bind(),
            execute(),
            parse(b"select E'%b', set_config('work_mem', '7MB', false) --'" % character),
            bind(),
            execute(),
            sync(),
        )
        assert [m.text for m in owner.until() if m.type == "E"] == []
    else:
        run(owner, f"set client_encoding = '{encoding}'".encode())
        run(owner, text)
    one.finds_nothing(owner)


def test_a_name_in_another_encoding(one: Place) -> None:
    owner = one.join()
    run(owner, b"set client_encoding = 'LATIN1'")
    run(owner, "select \u00e9()".encode("latin-1"))
    one.finds_nothing(owner)


def test_refuse_sees_what_stands_behind_a_comment(make_pooler: Make, cluster: Cluster, database: str) -> None:
    pooler = make_pooler(cluster, settings={"session_state": "refuse"})
    client = raw(pooler, database)
    client.send(query("-- x\rset work_mem = '7MB'"))
    assert [m.sqlstate for m in client.until() if m.type == "E"] == ["0A000"]


@pytest.mark.parametrize("extended", [False, True])
def test_words_in_the_data_of_a_long_text_pin_nothing(plain: Place, extended: bool) -> None:
    """An upsert of an article that says set, into and temp, with an ORM's log tag."""
    body = "put it into a temp table, set and execute it; " * 2000
    text = (
        f"INSERT INTO articles VALUES (1, E'{body}\\''), (2, $$it''s {body}$$)"
        " ON CONFLICT (id) DO UPDATE SET body = excluded.body /*app='shop'*/"
    )
    clients = [plain.join() for _ in range(3)]
    for client in clients:
        if extended:
            client.send(parse(text), bind(), execute(), sync())
            assert [m.text for m in client.until() if m.type == "E"] == []
        else:
            run(client, text.encode())
    assert plain.pooler.show("PINS") == []


def test_settings_around_a_long_text_stay_with_their_client(plain: Place) -> None:
    owner, other = plain.join(), plain.join()
    run(owner, b"set app.tenant = 'mine'; insert into articles values (3, '" + b"set temp " * 100_000 + b"')")
    assert other.rows(LOOK) == [CLEAN]
    assert owner.rows("show app.tenant") == [[b"mine"]]
    assert plain.pooler.show("PINS") == []


def test_settings_of_a_transaction_are_not_asked_for(plain: Place) -> None:
    owner, other = plain.join(), plain.join()
    run(owner, b"begin; set local app.tenant = 'mine'; select set_config('work_mem', '7MB', true); commit")
    assert other.rows(LOOK) == [CLEAN]
    assert owner.rows("select current_setting('app.tenant', true)") == [[b""]]
    assert plain.pooler.show("STATE_COUNTERS") == []
