"""Malformed streams: valid ones with structure-aware damage."""

import random
import struct
from collections.abc import Callable

LENGTHS = (0, 1, 3, 4, 5, 8, 255, 65536, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFE, 0xFFFFFFFF)
KINDS = b"QPBDECSHFdcfXpR1234567890ZTDCEIGHWKNASnstV\0\xff"


def split(stream: bytes) -> list[bytes]:
    """The messages of a stream; what is no message is one piece."""
    found, at = [], 0
    while at + 5 <= len(stream):
        end = at + 1 + struct.unpack_from("!I", stream, at + 1)[0]
        if end > len(stream) or end < at + 5:
            break
        found.append(stream[at:end])
        at = end
    return [*found, stream[at:]] if at < len(stream) else found


def _kind(pick: random.Random, m: bytes) -> bytes:
    return bytes([pick.choice(KINDS)]) + m[1:]


def _length(pick: random.Random, m: bytes) -> bytes:
    return m[:1] + struct.pack("!I", pick.choice(LENGTHS)) + m[5:]


def _length_a_little(pick: random.Random, m: bytes) -> bytes:
    return m[:1] + struct.pack("!I", max(0, len(m) - 1 + pick.randint(-4, 4))) + m[5:]


def _flip(pick: random.Random, m: bytes) -> bytes:
    damaged = bytearray(m)
    for _ in range(pick.randint(1, 3)):
        damaged[pick.randrange(len(damaged))] = pick.choice(
            (0, 1, 0x20, 0x7F, 0x80, 0xFF, pick.randrange(256))
        )
    return bytes(damaged)


def _no_nul(_pick: random.Random, m: bytes) -> bytes:
    return m[:5] + m[5:].replace(b"\0", b"x")


def _other_body(pick: random.Random, m: bytes) -> bytes:
    body = pick.randbytes(pick.choice((0, 1, 2, 7, 100)))
    return m[:1] + struct.pack("!I", len(body) + 4) + body


def _cut(pick: random.Random, m: bytes) -> bytes:
    return m[: pick.randrange(len(m))]


def _long_names(pick: random.Random, m: bytes) -> bytes:
    body = m[5:].replace(b"\0", b"n" * pick.choice((1, 5000, 20_000)) + b"\0", 1)
    return m[:1] + struct.pack("!I", len(body) + 4) + body


DAMAGE: tuple[Callable[[random.Random, bytes], bytes], ...] = (
    _kind,
    _length,
    _length_a_little,
    _flip,
    _flip,
    _no_nul,
    _other_body,
    _cut,
    _long_names,
)


def mutate(pick: random.Random, stream: bytes) -> bytes:
    """The stream with some of its messages damaged, lost, doubled, moved, or with garbage between them."""
    messages = split(stream)
    for _ in range(pick.randint(1, 4)):
        if not messages:
            break
        i = pick.randrange(len(messages))
        what = pick.randrange(12)
        if what == 0:
            del messages[i]
        elif what == 1:
            messages.insert(i, messages[pick.randrange(len(messages))])
        elif what == 2:
            pick.shuffle(messages)
        elif what == 3:
            messages.insert(i, pick.randbytes(pick.randint(1, 40)))
        elif messages[i]:
            messages[i] = pick.choice(DAMAGE)(pick, messages[i])
    return b"".join(messages)


def pieces(pick: random.Random, stream: bytes) -> list[bytes]:
    """The stream in up to five pieces."""
    cuts = sorted(pick.randrange(len(stream) + 1) for _ in range(pick.choice((0, 0, 1, 4))))
    return [stream[a:b] for a, b in zip([0, *cuts], [*cuts, len(stream)], strict=True)]
