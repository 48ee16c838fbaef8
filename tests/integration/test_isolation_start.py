"""What a session starts with is the client's own and stays so: start-up packet, connect_query, RESET and DISCARD ALL."""

from collections.abc import Callable

import pytest

from support.clients import raw
from support.pooler import Pooler
from support.wire import Wire, bind, execute, parse, query, sync, types

Make = Callable[..., Pooler]
SHOW = "SELECT current_setting('search_path'), current_setting('TimeZone'), current_setting('app.tenant', true)"
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
