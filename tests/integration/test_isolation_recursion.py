"""Statements that execute each other, or themselves, by name: following them comes to an end."""

import pytest

from support import wire
from support.pooler import Pooler

pytestmark = [pytest.mark.pg(18), pytest.mark.workers(1)]


def test_prepare_and_execute_in_one_text(pooler: Pooler) -> None:
    text = "PREPARE p AS SELECT set_config('app.x', 'own', false); EXECUTE p"
    with wire.Wire.login((pooler.host, pooler.port)) as client, wire.Wire.login((pooler.host, pooler.port)) as other:
        client.rows(text)
        assert other.rows("SELECT nullif(current_setting('app.x', true), '')") == [[None]]
        assert client.rows("SELECT current_setting('app.x', true)") == [[b"own"]]
        assert client.rows("EXECUTE p") == [[b"own"]]


def test_a_statement_that_executes_itself(pooler: Pooler) -> None:
    with wire.Wire.login((pooler.host, pooler.port)) as client:
        client.send(wire.parse("EXECUTE one", "two") + wire.parse("EXECUTE two", "one") + wire.sync())
        client.until()
        client.send(wire.bind((), "one") + wire.execute() + wire.sync())
        client.until()
        client.query("EXECUTE two")
        assert client.query("SELECT 1")[-1].type == "Z"
