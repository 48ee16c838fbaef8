"""A server dies between two transactions of a client whose session state it had: that client is told what is lost."""

from collections.abc import Callable

import pytest

from pgferry.embedded import Cluster
from support.pooler import Pooler, eventually
from support.proxy import TO_CLIENT, FaultProxy
from support.wire import Message, Wire, message, query

pytestmark = pytest.mark.usefixtures("workers")
MakePooler = Callable[..., Pooler]
ANSWER = message(b"C", b"DO\0") + message(b"Z", b"I")
LOST = "session state lost with its server"
TERMINATED = "terminating connection due to administrator command"


def last_words(wire: Wire) -> list[Message]:
    seen = []
    with wire:
        while True:
            try:
                seen.append(wire.recv())
            except (EOFError, ConnectionResetError):
                return seen


def answered(proxy: FaultProxy, wire: Wire) -> int:
    """How many bytes the server has sent for a query, and for questions of pgferry's own."""
    before = proxy.seen[TO_CLIENT]
    wire.query("SELECT 1")
    return proxy.seen[TO_CLIENT] - before


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("PERFORM set_config('app.tenant', 'a', false)", id="asked"),
        # May have made functions: pgferry asks when it has read the catalog, and the connection ends before that.
        pytest.param("EXECUTE format('SELECT 1')", id="to-be-asked"),
    ],
)
def test_while_it_is_asked(make_pooler: MakePooler, cluster: Cluster, text: str) -> None:
    """The connection ends behind the answer to the statement, which makes pgferry ask."""
    with FaultProxy(("127.0.0.1", cluster.port)) as proxy:
        pooler = make_pooler(databases={"*": f"host={proxy.host} port={proxy.port}"})
        wire = Wire.login((pooler.host, pooler.port))
        eventually(lambda: len({answered(proxy, wire) for _ in range(5)}) == 1)  # the catalog has been read
        proxy.cut_after(len(ANSWER))
        wire.send(query(f"DO $$BEGIN {text}; END$$"))
        *answer, told = last_words(wire)
        assert [m.type for m in answer] == ["C", "Z"]
        assert (told.fields["S"], told.sqlstate) == ("FATAL", "08006")
        assert told.text.startswith(
            "server connection lost before PostgreSQL told what it held of the session, after "
        )
        pooler.wait_log(LOST)
        assert {row["counter"]: row["count"] for row in pooler.show("STATE_COUNTERS")}["losses"] == 1
        assert LOST in [row["reason"] for row in pooler.show("CLOSES")]
        with pooler.connect() as well:
            assert well.execute("SELECT 1").fetchone() == (1,)


def test_while_a_client_is_pinned(make_pooler: MakePooler, cluster: Cluster) -> None:
    with FaultProxy(("127.0.0.1", cluster.port)) as proxy:
        pooler = make_pooler(databases={"*": f"host={proxy.host} port={proxy.port}"})
        wires = [Wire.login((pooler.host, pooler.port)) for _ in range(2)]
        for wire in wires:
            wire.query("CREATE TEMPORARY TABLE lost (a int)")
        backend = int(wires[0].rows("SELECT pg_backend_pid()")[0][0] or 0)
        eventually(lambda: len(pooler.show("PINS")) == 2)
        cluster.sql(f"SELECT pg_terminate_backend({backend})")
        theirs, ours = last_words(wires[0])
        assert (theirs.sqlstate, theirs.text) == ("57P01", TERMINATED)
        text = "server connection lost, and with it session state: temporary objects, by "
        assert ours.sqlstate == "08006" and ours.text.startswith(text)
        proxy.cut()
        (ours,) = last_words(wires[1])
        assert ours.sqlstate == "08006" and ours.text.startswith(text)
