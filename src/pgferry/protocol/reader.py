"""Cutting a byte stream into messages, however it was split on its way."""

from collections.abc import Iterator
from typing import Final

from pgferry.protocol.errors import ProtocolError

# PostgreSQL refuses to send or take more in one message.
MAX_MESSAGE_SIZE: Final = 0x3FFFFFFF
# Consumed bytes leave the buffer's front only now and then, so that many small messages stay linear.
_COMPACT: Final = 65536


class MessageReader:
    """Feed it bytes, take messages as (type, payload).

    While ``typed`` is False, packets have no type byte (startup phase) and come out with type ``b""``; the
    owner switches it when the startup packet has been taken. ``max_size`` is the longest payload accepted; a
    longer or impossible length is a ProtocolError, and then the stream cannot be read on.
    """

    __slots__ = ("_buffer", "_start", "max_size", "typed")

    def __init__(self, *, typed: bool = True, max_size: int = MAX_MESSAGE_SIZE) -> None:
        self._buffer = bytearray()
        self._start = 0
        self.typed = typed
        self.max_size = max_size

    @property
    def pending(self) -> int:
        """The number of bytes fed but not yet taken; must be 0 when a connection switches to TLS."""
        return len(self._buffer) - self._start

    def feed(self, data: bytes | bytearray | memoryview) -> None:
        """Add received bytes."""
        if self._start == len(self._buffer):
            self._buffer.clear()
            self._start = 0
        elif self._start > _COMPACT:
            del self._buffer[: self._start]
            self._start = 0
        self._buffer += data

    def take(self) -> tuple[bytes, bytes] | None:
        """Return the next message, or None when it has not come in whole."""
        header = 5 if self.typed else 4
        if self.pending < header:
            return None
        body = self._start + header
        length = int.from_bytes(self._buffer[body - 4 : body], "big")
        kind = bytes(self._buffer[self._start : body - 4])
        if not 4 <= length <= self.max_size + 4:
            raise ProtocolError(
                f"message of type {kind!r} with length {length}", "message header", header - 4
            )
        end = body + length - 4
        if end > len(self._buffer):
            return None
        self._start = end
        return kind, bytes(self._buffer[body:end])

    def take_bytes(self, count: int) -> bytes:
        """Return up to ``count`` bytes that are no message, as the answer to a request for encryption."""
        end = min(self._start + count, len(self._buffer))
        data = bytes(self._buffer[self._start : end])
        self._start = end
        return data

    def __iter__(self) -> Iterator[tuple[bytes, bytes]]:
        """Take all messages that are there."""
        while (message := self.take()) is not None:
            yield message
