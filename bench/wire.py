"""A minimal PostgreSQL client on a raw socket: trust login, one statement, results thrown away."""

from __future__ import annotations

import socket

from pgferry.client import ClientError, Connection, Target
from pgferry.protocol import backend, frontend

from .system import BenchError

READY_IDLE = backend.ReadyForQuery().build()
BULK_BUFFER_BYTES = 1 << 20


def read_until_ready(link: socket.socket) -> None:
    """Read and drop messages up to ReadyForQuery; raises BenchError for an error or a hang-up."""
    data = b""
    while not data.endswith(READY_IDLE):
        piece = link.recv(65536)
        if not piece:
            raise BenchError(f"connection closed by the server: {_error_text(data)}")
        data += piece
        if data.startswith(backend.ErrorResponse.TYPE):
            raise BenchError(f"the server answered: {_error_text(data)}")


def login(
    port: int, user: str, database: str, timeout_s: float = 20, sslmode: str = "disable"
) -> socket.socket:
    """Connect to 127.0.0.1:`port` and log in without a password; raises BenchError."""
    target = Target("127.0.0.1", port, user, database, sslmode=sslmode, timeout=timeout_s)
    try:
        return Connection(target, timeout=timeout_s).sock
    except ClientError as error:
        raise BenchError(str(error)) from error


def discard_result(link: socket.socket, statement: str) -> int:
    """Run `statement` and return how many bytes came back, all thrown away."""
    buffer = bytearray(BULK_BUFFER_BYTES)
    view = memoryview(buffer)
    total = 0
    tail = b""
    link.sendall(frontend.Query(statement).build())
    while tail != READY_IDLE:
        count = link.recv_into(buffer)
        if not count:
            raise BenchError("connection closed by the server in the middle of a result")
        if total == 0 and buffer.startswith(backend.ErrorResponse.TYPE):
            raise BenchError(f"the server answered: {_error_text(bytes(view[:count]))}")
        total += count
        # The last six bytes may arrive in two pieces.
        tail = (tail + bytes(view[max(0, count - 6) : count]))[-6:]
    return total


def _error_text(data: bytes) -> str:
    """Return the message of the first error in `data`, or the raw bytes."""
    error = backend.first_error(data)
    return error.message if error is not None else repr(data[-200:])
