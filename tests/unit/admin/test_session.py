"""A console session on a bare socket pair: the protocol itself, in good order and not."""

import asyncio
import socket
import struct
from collections.abc import Awaitable, Callable
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pgferry.admin.server import Console
from pgferry.config import Config
from pgferry.protocol import backend, frontend
from pgferry.protocol.codec import Message
from pgferry.protocol.reader import MessageReader
from pgferry.supervisor.pooler import Pooler
from unit.supervisor.fake_worker import ROWS


class FakeFleet:
    """Answers every request as two workers would that have nothing to object."""

    size = 2

    async def ask_all(self, op: str, _timeout: float | None = None, **fields: Any) -> dict[int, Any]:
        if op == "show":
            return {index: {"rows": ROWS[fields["what"]](index)} for index in range(self.size)}
        return {index: {} for index in range(self.size)}


class Silent:
    """A log for nobody."""

    verbose = 0

    def __getattr__(self, _name: str) -> Callable[[str], None]:
        return lambda _text: None


class Peer:
    """The client's end of a session."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self.messages = MessageReader()

    def send(self, *messages: Message) -> None:
        self.writer.write(b"".join(message.build() for message in messages))

    async def receive(self) -> Message | None:
        while (found := self.messages.take()) is None:
            data = await asyncio.wait_for(self.reader.read(65536), 5)
            if not data:
                return None
            self.messages.feed(data)
        return backend.parse(*found)

    async def until_ready(self) -> list[Message]:
        """All messages to ReadyForQuery, or to the end of the connection, which shows as None."""
        received: list[Message] = []
        while True:
            message = await self.receive()
            received.append(message)
            if message is None or isinstance(message, backend.ReadyForQuery):
                return received


def console_test(test: Callable[[Peer], Awaitable[None]], rights: str = "admin") -> None:
    async def run() -> None:
        pooler = Pooler(Config(), Silent())  # type: ignore[arg-type]
        pooler.fleet = FakeFleet()  # type: ignore[assignment]
        console = Console(pooler, SimpleNamespace(), SimpleNamespace())  # type: ignore[arg-type]
        ours, theirs = socket.socketpair()
        served = asyncio.ensure_future(console.serve(theirs, {"client_id": 77, "rights": rights}))
        reader, writer = await asyncio.open_connection(sock=ours)
        peer = Peer(reader, writer)
        try:
            await test(peer)
        finally:
            writer.close()
            await asyncio.wait_for(served, 5)

    asyncio.run(run())


def names(messages: list[Message]) -> list[str]:
    return [type(message).__name__ for message in messages]


def test_greeting() -> None:
    async def test(peer: Peer) -> None:
        greeting = await peer.until_ready()
        assert isinstance(greeting[0], backend.AuthenticationOk)
        values = {m.name: m.value for m in greeting if isinstance(m, backend.ParameterStatus)}
        assert values == {
            "server_version": "1.25.2/bouncer",
            "client_encoding": "UTF8",
            "server_encoding": "UTF8",
            "DateStyle": "ISO",
            "TimeZone": "GMT",
            "standard_conforming_strings": "on",
            "is_superuser": "on",
        }
        assert isinstance(greeting[-2], backend.BackendKeyData)
        assert greeting[-2].process_id == 77

    console_test(test)


def test_simple_queries() -> None:
    async def test(peer: Peer) -> None:
        await peer.until_ready()
        peer.send(frontend.Query("SHOW PEERS"), frontend.Query("SHOW VERSION"), frontend.Query("nope"))
        assert names(await peer.until_ready()) == ["RowDescription", "CommandComplete", "ReadyForQuery"]
        assert names(await peer.until_ready()) == [
            "RowDescription",
            "DataRow",
            "CommandComplete",
            "ReadyForQuery",
        ]
        error, ready = await peer.until_ready()
        assert isinstance(error, backend.ErrorResponse)
        assert error.fields == (
            ("S", "ERROR"),
            ("C", "08P01"),
            ("M", "invalid command 'nope', use SHOW HELP;"),
        )
        assert isinstance(ready, backend.ReadyForQuery)
        peer.send(frontend.CopyData(b"x"), frontend.Query("SHOW HELP"))
        notice, complete, _ready = await peer.until_ready()
        assert isinstance(notice, backend.NoticeResponse)
        assert dict(notice.fields)["C"] == "00000"
        assert complete == backend.CommandComplete("SHOW")
        peer.send(frontend.Terminate())
        assert await peer.receive() is None

    console_test(test)


def test_extended_queries() -> None:
    async def test(peer: Peer) -> None:
        await peer.until_ready()
        peer.send(
            frontend.Parse("s", "SHOW LISTS"),
            frontend.Describe("S", "s"),
            frontend.Bind("p", "s", result_formats=(1,)),
            frontend.Describe("P", "p"),
            frontend.Execute("p", 10),
            frontend.Execute("p", 10),
            frontend.Close("P", "p"),
            frontend.Close("S", "unknown"),
            frontend.Flush(),
            frontend.Sync(),
        )
        got = await peer.until_ready()
        assert names(got) == [
            "ParseComplete",
            "ParameterDescription",
            "RowDescription",
            "BindComplete",
            "RowDescription",
            *["DataRow"] * 10,
            "PortalSuspended",
            *["DataRow"] * 4,
            "CommandComplete",
            "CloseComplete",
            "CloseComplete",
            "ReadyForQuery",
        ]
        assert [column.format for column in got[2].columns] == [0, 0]
        assert [column.format for column in got[4].columns] == [1, 1]
        assert got[5].values == (b"databases", struct.pack("!i", 2))

    console_test(test)


@pytest.mark.parametrize(
    ("messages", "code"),
    [
        ([frontend.Parse("", "SHOW $1")], "08P01"),
        ([frontend.Parse("", "SHOW POOLS", (25,))], "08P01"),
        ([frontend.Parse("", "SHOW POOLS"), frontend.Bind("", "", values=(b"x",))], "08P01"),
        ([frontend.Parse("", "SHOW POOLS"), frontend.Bind("", "", result_formats=(7,))], "08P01"),
        ([frontend.Bind("", "nowhere")], "26000"),
        ([frontend.Describe("S", "nowhere")], "26000"),
        ([frontend.Execute("nowhere")], "34000"),
        ([frontend.Parse("a", "SHOW POOLS"), frontend.Parse("a", "SHOW POOLS")], "42P05"),
        ([frontend.Parse("", "PAUSE")], "08P01"),
    ],
)
def test_extended_errors_skip_to_sync(messages: list[Message], code: str) -> None:
    async def test(peer: Peer) -> None:
        await peer.until_ready()
        peer.send(*messages, frontend.Execute(""), frontend.Query("SHOW VERSION"), frontend.Sync())
        got = await peer.until_ready()
        errors = [m for m in got if isinstance(m, backend.ErrorResponse)]
        assert [error.sqlstate for error in errors] == [code]
        assert names(got)[-2:] == ["ErrorResponse", "ReadyForQuery"]
        peer.send(frontend.Query("SHOW VERSION"))
        assert names(await peer.until_ready())[-1] == "ReadyForQuery"

    console_test(test, rights="stats")


def test_broken_messages() -> None:
    async def test(peer: Peer) -> None:
        await peer.until_ready()
        peer.writer.write(b"P\0\0\0\6xy")
        peer.send(frontend.Sync())
        assert names(await peer.until_ready()) == ["ErrorResponse", "ReadyForQuery"]
        peer.writer.write(b"F\0\0\0\4")
        assert names(await peer.until_ready()) == ["ErrorResponse", "NoneType"]

    console_test(test)


def test_oversized_message_ends_the_session() -> None:
    async def test(peer: Peer) -> None:
        await peer.until_ready()
        peer.writer.write(b"Q" + struct.pack("!I", 1 << 30))
        assert await peer.receive() is None

    console_test(test)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.lists(st.one_of(st.binary(max_size=60), st.sampled_from([b"Q", b"P", b"B", b"E", b"S"])), max_size=8)
)
def test_rubbish_never_hangs_or_breaks_the_session(pieces: list[bytes]) -> None:
    async def test(peer: Peer) -> None:
        await peer.until_ready()
        for piece in pieces:
            kind, body = (piece[:1] or b"Q"), piece[1:]
            peer.writer.write(kind + struct.pack("!I", len(body) + 4) + body)
        peer.writer.write_eof()
        while await peer.receive() is not None:
            pass

    console_test(test, rights="stats")
