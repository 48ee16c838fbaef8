"""What the isolation adversary has found, step by step."""

from collections.abc import Callable

import pytest

from pgferry.embedded import Cluster
from support import wire
from support.pooler import Pooler

pytestmark = [pytest.mark.pg(18), pytest.mark.workers(1)]


def test_prepare_and_execute_in_one_text(pooler: Pooler) -> None:
    text = "PREPARE p AS SELECT set_config('app.x', 'own', false); EXECUTE p"
    with (
        wire.Wire.login((pooler.host, pooler.port)) as client,
        wire.Wire.login((pooler.host, pooler.port)) as other,
    ):
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


@pytest.mark.parametrize("first", ["DISCARD ALL", "RESET ALL"])
@pytest.mark.parametrize("mode", ["transaction", "session"])
def test_a_failed_batch_whose_sync_comes_late(
    cluster: Cluster, make_pooler: Callable[..., Pooler], first: str, mode: str
) -> None:
    """What sets the start values again waits for the end of the batch, which the client has yet to send."""
    pooler = make_pooler(cluster, settings={"pool_mode": mode})
    with wire.Wire.login((pooler.host, pooler.port), DateStyle="German") as client:
        for text in (first, "SELECT 1/0"):
            client.send(wire.parse(text) + wire.bind() + wire.execute() + wire.flush())
        while client.recv().type != "E":
            pass
        client.send(wire.sync())
        assert client.until()[-1].type == "Z"
        assert client.rows("SHOW DateStyle") == [[b"German, DMY"]]


def test_two_clients_listen_to_a_new_channel_at_once(pooler: Pooler) -> None:
    with (
        wire.Wire.login((pooler.host, pooler.port)) as one,
        wire.Wire.login((pooler.host, pooler.port)) as other,
    ):
        for number in range(200):
            for client in (one, other):
                client.send(wire.query(f"LISTEN channel_{number}"))
            for client in (one, other):
                assert client.until()[-1].type == "Z"
