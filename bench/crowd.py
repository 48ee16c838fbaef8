"""Clients for the storm, in processes of their own: a crowd that logs in at once, and one that keeps asking.

python -m bench.crowd crowd PORT USER PASSWORD DATABASE CLIENTS     all logins, then JSON
python -m bench.crowd probe PORT USER PASSWORD DATABASE             queries until stdin ends, then JSON
"""

from __future__ import annotations

import asyncio
import json
import select
import ssl
import sys
import time
from dataclasses import dataclass, field

from pgferry.auth.scram import ClientExchange, Keys, derive_keys
from pgferry.protocol import backend, frontend
from pgferry.protocol.codec import Message
from pgferry.protocol.reader import MessageReader
from pgferry.protocol.startup import SSLRequest, startup

from .system import raise_descriptor_limit

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
        self._messages = MessageReader()

    @classmethod
    async def login(cls, who: Who, context: ssl.SSLContext) -> Connection:
        """Connect, TLS, SCRAM, up to ReadyForQuery; raises Refused or OSError."""
        reader, writer = await asyncio.open_connection("127.0.0.1", who.port)
        link = cls(reader, writer)
        try:
            link._send(SSLRequest())
            if await reader.readexactly(1) != b"S":
                raise Refused("no TLS")
            await writer.start_tls(context, server_hostname="localhost")
            link._send(startup(user=who.user, database=who.database))
            await link._authenticate(who)
        except BaseException:
            writer.close()
            raise
        return link

    async def query(self, text: str) -> None:
        """Run a query and drop its answer."""
        self._send(frontend.Query(text))
        while not isinstance(await self._message(), backend.ReadyForQuery):
            pass

    def close(self) -> None:
        """Hang up without a word."""
        self._writer.transport.abort()

    async def _authenticate(self, who: Who) -> None:
        exchange = ClientExchange()
        while True:
            match await self._message():
                case backend.ReadyForQuery():
                    return
                case backend.AuthenticationSASL():
                    self._send(frontend.sasl_initial("SCRAM-SHA-256", exchange.first()))
                case backend.AuthenticationSASLContinue(data=data):
                    challenge = exchange.server_first(data)
                    keys = who.keys_for(challenge.salt, challenge.iterations)
                    self._send(frontend.AuthenticationAnswer(exchange.final(*keys)))
                case backend.AuthenticationSASLFinal(data=data):
                    exchange.verify(data)

    def _send(self, message: Message) -> None:
        self._writer.write(message.build())

    async def _message(self) -> Message:
        while (found := self._messages.take()) is None:
            data = await self._reader.read(65536)
            if not data:
                raise asyncio.IncompleteReadError(b"", None)
            self._messages.feed(data)
        message = backend.parse(*found)
        if isinstance(message, backend.ErrorResponse):
            raise Refused(message.message)
        return message


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
