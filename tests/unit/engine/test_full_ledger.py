"""No place left for the counts of one more pool: an error that says so, and room again when another one goes."""

from pgferry.engine.shared.ledger import Counter, LedgerFull
from support.rig import Rig
from support.wire import startup


def test_a_login_to_one_more_pool() -> None:
    rig = Rig()
    held: list[Counter] = []
    try:
        while True:
            held.append(rig.ledger.counter("some", str(len(held))))
    except LedgerFull:
        pass
    port = rig.connect(startup("app", "db"))
    answer = port.read()
    assert b"C53000\0" in answer and b"Mtoo many databases, users and pools are in use\0" in answer
    assert port.stream.closed and not rig.bugs
    del held[:10]
    rig.login()
    rig.close()
