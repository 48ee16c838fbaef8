"""What a session starts with is the client's own: start-up packet, connect_query, RESET and DISCARD ALL."""

from collections.abc import Callable

import pytest

from pgferry.embedded import Cluster
from support.clients import raw
from support.pooler import Pooler
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
