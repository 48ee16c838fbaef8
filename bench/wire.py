"""A minimal PostgreSQL client on a raw socket: trust login, one statement, results thrown away."""

from __future__ import annotations

import socket
import ssl
import struct

from pgferry.embedded.client import connect, error_fields, query_packet, startup_packet

from .system import BenchError

READY_IDLE = b"Z\x00\x00\x00\x05I"
BULK_BUFFER_BYTES = 1 << 20
SSL_REQUEST = struct.pack("!ii", 8, 80877103)


def read_until_ready(link: socket.socket) -> None:
    """Read and drop messages up to ReadyForQuery; raises BenchError for an error or a hang-up."""
    data = b""
    while not data.endswith(READY_IDLE):
        piece = link.recv(65536)
        if not piece:
            raise BenchError(f"connection closed by the server: {_error_text(data)}")
        data += piece
        if data[:1] == b"E":
            raise BenchError(f"the server answered: {_error_text(data)}")


def login(
    port: int, user: str, database: str, timeout_s: float = 20, tls: ssl.SSLContext | None = None
) -> socket.socket:
    """Connect to 127.0.0.1:`port` and log in without a password; raises BenchError or OSError."""
    link = connect(("127.0.0.1", port), timeout_s)
    try:
        if tls is not None:
            link.sendall(SSL_REQUEST)
            if link.recv(1) != b"S":
                raise BenchError("no TLS")
            link = tls.wrap_socket(link)
        link.sendall(startup_packet(user, database))
        read_until_ready(link)
    except BaseException:
        link.close()
        raise
    return link


def discard_result(link: socket.socket, statement: str) -> int:
    """Run `statement` and return how many bytes came back, all thrown away."""
    buffer = bytearray(BULK_BUFFER_BYTES)
    view = memoryview(buffer)
    total = 0
    tail = b""
    link.sendall(query_packet(statement))
    while tail != READY_IDLE:
        count = link.recv_into(buffer)
        if not count:
            raise BenchError("connection closed by the server in the middle of a result")
        if total == 0 and buffer[:1] == b"E":
            raise BenchError(f"the server answered: {_error_text(bytes(view[:count]))}")
        total += count
        # The last six bytes may arrive in two pieces.
        tail = (tail + bytes(view[max(0, count - 6) : count]))[-6:]
    return total


def _error_text(data: bytes) -> str:
    """Return the message field of an ErrorResponse at the start of `data`, or the raw bytes."""
    if data[:1] != b"E":
        return repr(data[-200:])
    return error_fields(data[5:]).get("M", repr(data[:200]))
