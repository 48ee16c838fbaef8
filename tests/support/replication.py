"""What replication clients do, in few words: streams of changes on raw connections, PostgreSQL's own tools."""

import struct
import subprocess
from collections.abc import Sequence
from pathlib import Path

from pgferry.embedded import Cluster, Installation
from support.pooler import Pooler
from support.wire import Message, Wire, copy_data, query

SETTINGS: dict[str, str | int] = {
    "wal_level": "logical",
    "max_wal_senders": 40,
    "max_replication_slots": 40,
    "wal_sender_timeout": "60s",
}
KEEPALIVE, XLOG_DATA = b"k", b"w"


def subscriber(pooler: Pooler, db: str = "postgres", user: str = "postgres", **more: str) -> Wire:
    """A logged-in logical replication connection."""
    return Wire.login((pooler.host, pooler.port), user, db, replication="database", **more)


def standby(pooler: Pooler, db: str = "replication", user: str = "postgres", **more: str) -> Wire:
    """A logged-in physical replication connection."""
    return Wire.login((pooler.host, pooler.port), user, db, replication="true", **more)


def stream(wire: Wire, command: str) -> None:
    """START_REPLICATION; returns when the server is streaming."""
    wire.send(query(command))
    got = wire.recv()
    assert got.type == "W", (got.type, got.text)


def logical(wire: Wire, slot: str) -> None:
    """Make a temporary logical slot and stream from it, as text."""
    wire.rows(f"CREATE_REPLICATION_SLOT {slot} TEMPORARY LOGICAL test_decoding")
    stream(wire, f"START_REPLICATION SLOT {slot} LOGICAL 0/0")


def physical(wire: Wire) -> None:
    """Stream from where the server is."""
    position = (wire.rows("IDENTIFY_SYSTEM")[0][2] or b"").decode()
    stream(wire, f"START_REPLICATION PHYSICAL {position}")


def changes(wire: Wire, upto: bytes) -> bytes:
    """Read a logical stream until a change has these bytes; everything that was decoded."""
    seen = b""
    while upto not in seen:
        got = wire.recv()
        assert got.type == "d", (got.type, got.text)
        if got.body[:1] == XLOG_DATA:
            seen += got.body[25:]
        elif got.body[17]:
            wire.send(feedback())
    return seen


def keepalive(wire: Wire) -> Message:
    """Skip to the next keepalive that wants an answer."""
    while True:
        got = wire.recv()
        assert got.type == "d", (got.type, got.text)
        if got.body[:1] == KEEPALIVE and got.body[17]:
            return got


def feedback() -> bytes:
    """A standby status update that confirms nothing."""
    return copy_data(b"r" + struct.pack("!QQQQB", 1, 1, 1, 0, 0))


def has_tools(server: Installation) -> bool:
    """Whether PostgreSQL's client programs come with this server."""
    return all((server.bindir / tool).exists() for tool in ("pg_basebackup", "pg_recvlogical"))


class Tool:
    """One of PostgreSQL's programs at work, as the account that runs the servers; use it in a with statement."""

    def __init__(self, cluster: Cluster, name: str, *arguments: str | Path) -> None:
        self.log_file = cluster.directory / f"{name}.log"
        argv = [str(cluster.server.bindir / name), *map(str, arguments)]
        with self.log_file.open("wb") as sink:
            self._process = cluster.account.popen(argv, cwd=cluster.directory, stdout=sink.fileno())

    def log(self) -> str:
        return self.log_file.read_text(errors="replace")

    def stop(self, how: int, timeout: float = 20.0) -> int:
        """Signal, and wait for the end; the exit status."""
        self._process.send_signal(how)
        return self._process.wait(timeout)

    def __enter__(self) -> "Tool":
        return self

    def __exit__(self, *_: object) -> None:
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()


def run_tool(cluster: Cluster, name: str, *arguments: str | Path, timeout: float = 60.0) -> str:
    """Run one of PostgreSQL's programs to its end; what it printed. AssertionError when it fails."""
    argv: Sequence[str] = [str(cluster.server.bindir / name), *map(str, arguments)]
    status, output = cluster.account.run(argv, cwd=cluster.directory, timeout=timeout)
    assert status == 0, f"{subprocess.list2cmdline(argv)}: status {status}\n{output}"
    return output
