"""The ClientHello, as far as it says which application protocols (ALPN, RFC 7301) a client offers."""

from typing import Final

PROTOCOL: Final = b"postgresql"
NO_PROTOCOL_ALERT: Final = b"\x15\x03\x01\x00\x02\x02\x78"
"""A record with the fatal alert no_application_protocol."""

_HANDSHAKE: Final = 22
_CLIENT_HELLO: Final = 1
_ALPN: Final = 16


class _Bytes:
    """Reads big-endian numbers and counted parts; IndexError when the data end too early."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def __bool__(self) -> bool:
        return self._at < len(self._data)

    def take(self, size: int) -> bytes:
        end = self._at + size
        if end > len(self._data):
            raise IndexError
        part = self._data[self._at : end]
        self._at = end
        return part

    def number(self, size: int) -> int:
        return int.from_bytes(self.take(size), "big")

    def part(self, size: int) -> "_Bytes":
        """Read a length of `size` bytes and what it counts."""
        return _Bytes(self.take(self.number(size)))

    def rest(self) -> bytes:
        return self._data[self._at :]


def offered_protocols(record: bytes) -> list[bytes] | None:
    """Return the protocols that the ClientHello in a first record offers; None when it offers none.

    None as well for what cannot be read: whether that is a ClientHello is OpenSSL's business.
    """
    try:
        data = _Bytes(record)
        if data.number(1) != _HANDSHAKE:
            return None
        data.take(2)
        message = data.part(2)
        if message.number(1) != _CLIENT_HELLO:
            return None
        hello = message.part(3)
        hello.take(34)  # version and random
        hello.part(1)  # session id
        hello.part(2)  # cipher suites
        hello.part(1)  # compression
        extensions = hello.part(2)
        while extensions:
            kind = extensions.number(2)
            body = extensions.part(2)
            if kind == _ALPN:
                return _names(body.part(2))
    except IndexError:
        return None
    return None


def _names(data: _Bytes) -> list[bytes]:
    names = []
    while data:
        names.append(data.part(1).rest())
    return names
