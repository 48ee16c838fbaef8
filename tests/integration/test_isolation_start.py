"""What a session starts with is the client's own: start-up packet, connect_query, RESET and DISCARD ALL."""

from collections.abc import Callable

import pytest

from pgferry.embedded import Cluster
from support.clients import raw
from support.pooler import Pooler, eventually
from support.wire import Wire, bind, execute, parse, query, sync, types

Make = Callable[..., Pooler]
SHOW = (
    "SELECT current_setting('search_path'), current_setting('TimeZone'), current_setting('app.tenant', true)"
)
START = {"options": "-c search_path=mine -c app.tenant=seven", "TimeZone": "Asia/Tokyo"}
OWN = [b"mine", b"Asia/Tokyo", b"seven"]


def batch(*texts: str) -> bytes:
    return b"".join(parse(text) + bind() + execute() for text in texts) + sync()


def row(wire: Wire) -> list[bytes | None]:
    """The one row of the next answer."""
    (found,) = [m.row for m in wire.until() if m.type == "D"]
    return found


@pytest.mark.parametrize("behind", [(), ("SET search_path = other",)], ids=["alone", "set"])
def test_discard_all_and_an_error_in_one_batch(pooler: Pooler, behind: tuple[str, ...]) -> None:
    """PostgreSQL commits DISCARD ALL at once; the client's start values do not go with what is rolled back."""
    with raw(pooler, **START) as wire:
        assert wire.rows(SHOW) == [OWN]
        wire.send(batch("DISCARD ALL", *behind, "SELECT 1/0"), query(SHOW))
        assert types(wire.until()).endswith("EZ")
        assert row(wire) == OWN
        assert wire.parameters["TimeZone"] == "Asia/Tokyo"
        assert wire.rows(SHOW) == [OWN]
        wire.send(batch("SET search_path = other", "SELECT 1/0"))
        wire.until()
        assert wire.rows(SHOW) == [OWN]
        wire.send(batch("DISCARD ALL", *behind), query(SHOW))
        wire.until()
        assert row(wire) == [b"other" if behind else b"mine", *OWN[1:]]


def on_its_way(wire: Wire, *texts: str) -> list[list[bytes | None]]:
    """What SHOW tells behind each of these, by either protocol."""
    found = []
    for number, text in enumerate(texts):
        wire.send(query(text) if number % 2 else batch(text))
        assert "E" not in types(wire.until()), text
        found.append(wire.rows(SHOW)[0])
    return found


def test_reset_in_session_mode(cluster: Cluster, make_pooler: Make) -> None:
    """As on a direct connection, RESET leads to what the client's own startup packet asked for."""
    pooler = make_pooler(cluster, settings={"pool_mode": "session"})
    changed = "SET search_path = other", "SET app.tenant = 'x'"
    with raw(pooler, **START) as wire:
        found = on_its_way(
            wire,
            *changed,
            "RESET search_path",
            "RESET ALL",
            *changed,
            "DISCARD ALL",
            "SET search_path TO DEFAULT",
            "SET TimeZone TO 'UTC'",
            "SET TIME ZONE DEFAULT",
        )
        assert found == [
            [b"other", b"Asia/Tokyo", b"seven"],
            [b"other", b"Asia/Tokyo", b"x"],
            [b"mine", b"Asia/Tokyo", b"x"],
            OWN,
            [b"other", b"Asia/Tokyo", b"seven"],
            [b"other", b"Asia/Tokyo", b"x"],
            OWN,
            OWN,
            [b"mine", b"UTC", b"seven"],
            OWN,
        ]
        assert wire.parameters["TimeZone"] == "Asia/Tokyo"
        wire.query("BEGIN")
        wire.query("RESET search_path")
        assert wire.rows(SHOW) == [OWN]
        wire.query("ROLLBACK")
        assert wire.rows(SHOW) == [OWN]
        wire.query("SET search_path = other")
        wire.query("BEGIN")
        wire.query("RESET ALL")
        assert wire.rows(SHOW) == [OWN]
        wire.query("ROLLBACK")
        assert wire.rows(SHOW) == [[b"other", *OWN[1:]]]
    with raw(pooler) as wire:
        assert wire.rows("SHOW search_path") == [[b'"$user", public']]
        wire.query("SET search_path = other")
        wire.query("RESET search_path")
        assert wire.rows("SHOW search_path") == [[b'"$user", public']]


CONNECT = (
    "'SET ROLE reader; SET statement_timeout = ''7s''; SET app.tenant = ''base''; PREPARE one AS SELECT 41 + 1;"
    " SET TimeZone = ''Asia/Tokyo'''"
)
LOOK = (
    "SELECT current_user, current_setting('statement_timeout'), current_setting('app.tenant', true),"
    " current_setting('TimeZone')"
)
BASE = [b"reader", b"7s", b"base", b"Asia/Tokyo"]


@pytest.fixture
def reader(own_cluster: Cluster) -> str:
    """The line of an entry whose connect_query sets all kinds of state."""
    own_cluster.sql("CREATE ROLE reader")
    return f"host=127.0.0.1 port={own_cluster.port} dbname=postgres pool_size=1 connect_query={CONNECT}"


def test_connect_query_is_part_of_every_start(make_pooler: Make, reader: str) -> None:
    """Whoever had the server before and whatever he did: a client starts with what connect_query sets."""
    pooler = make_pooler(databases={"postgres": reader})
    for spoil in (
        "SELECT 1",
        "DISCARD ALL",
        "RESET ROLE; RESET statement_timeout",
        "SET SESSION AUTHORIZATION reader",
        "CREATE TEMP TABLE t ()",
        "SELECT set_config('app.tenant', 'x', false)",
        "DEALLOCATE ALL",
    ):
        with raw(pooler) as wire, raw(pooler) as other:
            assert wire.rows(LOOK) == [BASE], spoil
            assert wire.rows("EXECUTE one") == [[b"42"]]
            assert "E" not in types(wire.query(spoil)), spoil
            if "TEMP" not in spoil:
                assert other.rows(LOOK) == [BASE], spoil
                assert other.rows("EXECUTE one") == [[b"42"]]
        with raw(pooler) as wire:
            assert wire.rows(LOOK) == [BASE], spoil


def test_connect_query_sets_a_tracked_parameter_on_the_second_server_as_on_the_first(
    make_pooler: Make, reader: str
) -> None:
    """What the first server has reported of it is known to be reported already."""
    pooler = make_pooler(databases={"postgres": reader}, workers=1)
    with raw(pooler) as first:
        assert first.rows(LOOK) == [BASE]
        pid = first.rows("SELECT pg_backend_pid()")
        pooler.admin("RECONNECT postgres")
        eventually(lambda: first.rows("SELECT pg_backend_pid()") != pid)
        with raw(pooler) as second:
            for _ in range(2):
                assert first.rows(LOOK) == [BASE]
                assert second.rows(LOOK) == [BASE]


def test_reset_leads_to_what_connect_query_sets(make_pooler: Make, reader: str) -> None:
    pooler = make_pooler(databases={"postgres": reader})
    with raw(pooler, options="-c search_path=mine") as wire:
        for reset in ("RESET ALL", "SET statement_timeout TO DEFAULT; RESET app.tenant; RESET TimeZone"):
            wire.query("SET statement_timeout = '1s'; SET app.tenant = 'x'; SET TimeZone = 'UTC'")
            assert wire.rows(LOOK) == [[b"reader", b"1s", b"x", b"UTC"]]
            wire.query(reset)
            assert wire.rows(LOOK) == [BASE]
            assert wire.rows("SHOW search_path") == [[b"mine"]]


def test_the_first_greeting_is_as_postgresql_writes_it(cluster: Cluster, make_pooler: Make) -> None:
    pooler = make_pooler(cluster)
    asked = {"client_encoding": "latin1", "TimeZone": "asia/tokyo", "DateStyle": "german"}
    with raw(pooler, **asked) as wire:
        first = wire.parameters
        assert {name: first[name] for name in asked} == {
            "client_encoding": "LATIN1",
            "TimeZone": "Asia/Tokyo",
            "DateStyle": "German, DMY",
        }
        assert wire.rows("SHOW client_encoding") == [[b"LATIN1"]]
    for more, reported in ({}, {}), ({"options": "-c search_path=mine"}, {"search_path": "mine"}):
        with raw(pooler, **asked, **more) as wire:
            told = reported if "search_path" in first else {}  # from PostgreSQL 18 on
            assert wire.parameters == {**first, **told}
            assert wire.rows("SHOW TimeZone") == [[b"Asia/Tokyo"]]


def test_what_postgresql_does_not_take_is_refused_at_the_login(cluster: Cluster, make_pooler: Make) -> None:
    pooler = make_pooler(cluster)
    for _ in range(2):
        with pytest.raises(
            ConnectionError, match='FATAL 22023 invalid value for parameter "TimeZone": "nowhere"'
        ):
            raw(pooler, TimeZone="nowhere")
    with raw(pooler, TimeZone="UTC") as wire:
        assert wire.rows("SHOW TimeZone") == [[b"UTC"]]
