"""Clients for the storm, in processes of their own: a crowd that logs in at once, and one that keeps asking.

python -m bench.crowd crowd PORT USER PASSWORD DATABASE CLIENTS     all logins, then JSON
python -m bench.crowd probe PORT USER PASSWORD DATABASE             queries until stdin ends, then JSON
"""

from __future__ import annotations

import asyncio
import json
import select
import ssl
import struct
import sys
import time
from dataclasses import dataclass, field

from pgferry.auth.scram import ClientExchange, Keys, derive_keys
from pgferry.embedded.client import error_fields, query_packet, startup_packet

from .system import raise_descriptor_limit

SSL_REQUEST = struct.pack("!ii", 8, 80877103)
PROBE_PAUSE_S = 0.005
RETRY_S = 0.5
GIVE_UP_S = 120.0


@dataclass
class Who:
    """Where to log in, and as whom; the keys are derived once, as libpq's users have them in seconds, not at once."""

    port: int
    user: str
    password: str
    database: str
    keys: dict[tuple[bytes, int], Keys] = field(default_factory=dict)

    def keys_for(self, salt: bytes, iterations: int) -> Keys:
        """The keys of the password, derived when they are first needed."""
        if (salt, iterations) not in self.keys:
            self.keys[salt, iterations] = derive_keys(self.password, salt, iterations)
        return self.keys[salt, iterations]


class Refused(Exception):
    """The login failed; the text says why."""


class Connection:
    """One client over TLS."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    async def login(cls, who: Who, context: ssl.SSLContext) -> Connection:
        """Connect, TLS, SCRAM, up to ReadyForQuery; raises Refused or OSError."""
        reader, writer = await asyncio.open_connection("127.0.0.1", who.port)
        link = cls(reader, writer)
        try:
            writer.write(SSL_REQUEST)
            if await reader.readexactly(1) != b"S":
                raise Refused("no TLS")
            await writer.start_tls(context, server_hostname="localhost")
            writer.write(startup_packet(who.user, who.database))
            await link._authenticate(who)
        except BaseException:
            writer.close()
            raise
        return link

    async def query(self, text: str) -> None:
        """Run a query and drop its answer."""
        self._writer.write(query_packet(text))
        while (await self._message())[0] != b"Z":
            pass

    def close(self) -> None:
        """Hang up without a word."""
        self._writer.transport.abort()

    async def _authenticate(self, who: Who) -> None:
        exchange = ClientExchange()
        while True:
            kind, body = await self._message()
            if kind == b"Z":
                return
            if kind != b"R":
                continue
            (code,) = struct.unpack_from("!i", body)
            if code == 10:
                first = exchange.first()
                self._answer(b"SCRAM-SHA-256\0" + struct.pack("!i", len(first)) + first)
            elif code == 11:
                challenge = exchange.server_first(body[4:])
                self._answer(exchange.final(*who.keys_for(challenge.salt, challenge.iterations)))
            elif code == 12:
                exchange.verify(body[4:])

    def _answer(self, body: bytes) -> None:
        self._writer.write(b"p" + struct.pack("!i", len(body) + 4) + body)

    async def _message(self) -> tuple[bytes, bytes]:
        head = await self._reader.readexactly(5)
        body = await self._reader.readexactly(struct.unpack("!i", head[1:])[0] - 4)
        if head[:1] == b"E":
            raise Refused(error_fields(body).get("M", "an error"))
        return head[:1], body


async def crowd(who: Who, clients: int) -> dict[str, object]:
    """Let all clients log in and run one query at once; they stay until the last one is in."""
    context = _context()
    began = time.monotonic()
    times: list[float] = []
    failures: dict[str, int] = {}

    async def one() -> Connection | None:
        while time.monotonic() - began < GIVE_UP_S:
            try:
                link = await Connection.login(who, context)
                await link.query("SELECT 1")
            except (Refused, OSError, asyncio.IncompleteReadError, ssl.SSLError) as error:
                why = str(error) if isinstance(error, Refused) else type(error).__name__
                failures[why] = failures.get(why, 0) + 1
                await asyncio.sleep(RETRY_S)
            else:
                times.append(time.monotonic() - began)
                return link
        return None

    links = await asyncio.gather(*(one() for _ in range(clients)))
    seconds = time.monotonic() - began
    for link in links:
        if link is not None:
            link.close()
    return {"seconds": seconds, "times": sorted(times), "failures": failures}


async def probe(who: Who) -> dict[str, object]:
    """Ask again and again on one connection; returns (end, seconds) of each query."""
    link = await Connection.login(who, _context())
    answers: list[tuple[float, float]] = []
    print("in", flush=True)
    while not select.select([sys.stdin], [], [], PROBE_PAUSE_S)[0]:
        began = time.time()
        await link.query("SELECT 1")
        answers.append((time.time(), time.time() - began))
    link.close()
    return {"answers": answers}


def _context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def main(arguments: list[str]) -> None:
    """Run as the module's text says."""
    raise_descriptor_limit()
    who = Who(int(arguments[1]), user=arguments[2], password=arguments[3], database=arguments[4])
    work = crowd(who, int(arguments[5])) if arguments[0] == "crowd" else probe(who)
    print(json.dumps(asyncio.run(work)), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
