"""Frames of pgferry's internal channels: 4 bytes length, then a msgpack map."""

from collections.abc import Iterator
from typing import Any

import msgspec

Message = dict[str, Any]
LONGEST = 256 * 1024 * 1024


def packed(message: Message) -> bytes:
    """The frame of a message."""
    body = msgspec.msgpack.encode(message)
    return len(body).to_bytes(4, "big") + body


class Frames:
    """Messages out of a stream, in whatever pieces it comes."""

    def __init__(self) -> None:
        self._have = bytearray()

    def feed(self, data: bytes) -> Iterator[Message]:
        """The messages that are complete with these bytes. ValueError: this is no stream of frames."""
        self._have += data
        while len(self._have) >= 4:
            end = 4 + int.from_bytes(self._have[:4], "big")
            if end > LONGEST:
                raise ValueError(f"a frame of {end} bytes")
            if len(self._have) < end:
                return
            body = bytes(self._have[4:end])
            del self._have[:end]
            try:
                yield msgspec.msgpack.decode(body, type=Message, strict=False)
            except msgspec.MsgspecError as error:
                raise ValueError(f"a frame that is no map: {error}") from error
