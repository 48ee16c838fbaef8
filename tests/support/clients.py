"""What tests say about raw clients in few words: how one ends, which worker serves it, one of each."""

import time

from support.pooler import Pooler
from support.wire import Wire, query


def raw(pooler: Pooler, db: str = "postgres", user: str = "postgres", **more: object) -> Wire:
    """A raw client that is logged in; see Wire.login for the keywords."""
    return Wire.login((pooler.host, pooler.port), user, db, **more)  # type: ignore[arg-type]


def raw_soon(pooler: Pooler, db: str = "postgres", user: str = "postgres", seconds: float = 10.0) -> Wire:
    """raw(), tried again while the pooler refuses (places of clients that left come back a moment later)."""
    limit = time.monotonic() + seconds
    while True:
        try:
            return raw(pooler, db, user)
        except ConnectionError:
            assert time.monotonic() < limit, "still refused"
            time.sleep(0.02)


def refusal(pooler: Pooler, db: str = "postgres", user: str = "postgres", **more: object) -> str:
    """The words of the error that a login ends with: "FATAL 08P01 text"."""
    try:
        raw(pooler, db, user, **more).close()
    except ConnectionError as error:
        return str(error)
    return "logged in"


def fatal(wire: Wire, timeout: float = 10.0) -> str:
    """The text of the pooler's last words to a client, their form checked; what comes before is skipped."""
    wire.sock.settimeout(timeout)
    got = wire.recv()
    while got.type != "E":
        got = wire.recv()
    assert got.fields["S"] == "FATAL", got.fields
    assert got.sqlstate == "08P01", got.fields
    assert wire.at_end()
    return got.text


def pid_of(wire: Wire) -> int:
    """The backend that a query of this client gets."""
    return int(wire.rows("SELECT pg_backend_pid()")[0][0] or 0)


def begin(wire: Wire) -> int:
    """Open a transaction, so that the client keeps its server; the backend's process id."""
    wire.send(query("BEGIN"))
    wire.until()
    return pid_of(wire)


def worker_of(wire: Wire) -> int:
    """The number of the worker that serves this client (it is part of the cancel key)."""
    return wire.pid & 0xFF


def one_of_each(pooler: Pooler, workers: int, db: str = "postgres", user: str = "postgres") -> list[Wire]:
    """A client at every worker, in the order of the workers."""
    found: dict[int, Wire] = {}
    spare = []
    for _ in range(200):
        wire = raw(pooler, db, user)
        if worker_of(wire) in found:
            spare.append(wire)
        else:
            found[worker_of(wire)] = wire
        if len(found) == workers:
            break
    for wire in spare:
        wire.close()
    return [found[i] for i in range(workers)]
