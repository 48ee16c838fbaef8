"""A small HTTP/1.1 server for the operator's port: parsing is h11's, the limits are here.

Not a web framework: a dozen routes for a few people and a scraper, in a process whose signals, log and end belong
to the supervisor. Nobody can hold it up: heads and bodies are small and have to come soon, and who does nothing makes
room for others (observe/http_slots.py). What cannot be read as a request is answered with 400, whatever reads it.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

import h11

from pgferry.observe.http_slots import HttpSlot, HttpSlots
from pgferry.supervisor.log import Log

_MAX_HEAD = 16 * 1024
_MAX_BODY = 64 * 1024
_BACKLOG = 1024
_AT_A_TIME = 8
_FIRST_HEAD_SECONDS = 5.0
_REQUEST_SECONDS = 10.0
_IDLE_SECONDS = 75.0
_SEND_SECONDS = 30.0
_TEXT = "text/plain; charset=utf-8"


@dataclass(frozen=True, slots=True)
class Request:
    """A request that has been read in full. Names of headers are in lower case."""

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: bytes
    peer: str
    """Address of the other end."""

    def cookie(self, name: str) -> str:
        """The value of a cookie, empty when there is none."""
        for part in self.headers.get("cookie", "").split(";"):
            key, _, value = part.strip().partition("=")
            if key == name:
                return value
        return ""


@dataclass(slots=True)
class Response:
    """An answer; with `stream` the body is what that yields, until either side has enough."""

    body: bytes = b""
    status: int = 200
    content_type: str = _TEXT
    headers: list[tuple[str, str]] = field(default_factory=list)
    stream: AsyncIterator[bytes] | None = None


Handler = Callable[[Request], Awaitable[Response]]


class HttpError(Exception):
    """An answer that is not the expected one."""

    def __init__(self, status: int, text: str = "") -> None:
        super().__init__(text or HTTPStatus(status).phrase)
        self.status = status


def split_url(text: str) -> SplitResult:
    """The parts of a URL that a client has sent. Raises HttpError (400)."""
    try:
        return urlsplit(text)
    except ValueError as error:
        raise HttpError(400) from error


class HttpServer:
    """Serves `routes` ((method, path) -> handler) on listening sockets.

    Paths that begin with `health` are served at once, whoever else is connected; what they run does not wait.
    """

    def __init__(self, log: Log, routes: Callable[[str, str], Handler | None], health: str) -> None:
        self._log = log
        self._routes = routes
        self._health = health
        self._slots = HttpSlots()
        self._servers: list[asyncio.Server] = []
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self, sockets: Sequence[socket.socket]) -> None:
        """Take connections from now on."""
        for sock in sockets:
            # asyncio accepts so many at a time: few, so that who comes with a request is heard before it is dropped.
            server = await asyncio.start_server(self._accept, sock=sock, limit=_MAX_HEAD, backlog=_AT_A_TIME)
            sock.listen(_BACKLOG)
            self._servers.append(server)

    async def stop(self) -> None:
        """End: listeners, then the connections that are left."""
        for server in self._servers:
            server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        peer = writer.get_extra_info("peername")
        address = str(peer[0]) if peer else ""

        def drop() -> None:
            writer.transport.abort()  # what the peer has not read is not kept for it
            task.cancel()

        slot = self._slots.enter(address, drop)
        self._tasks.add(task)
        try:
            await _Connection(reader, writer, address, slot, self._slots, self._answer).run()
        except (ConnectionError, TimeoutError, asyncio.CancelledError):
            return
        except Exception as error:
            self._log.error(f"internal error in an HTTP connection\n{_trace(error)}")
        finally:
            self._slots.leave(slot)
            self._tasks.discard(task)
            writer.close()

    async def _answer(self, request: Request, slot: HttpSlot) -> Response:
        """The answer to a request; errors become one, too."""
        if slot.surplus and not request.path.startswith(self._health):
            return Response(b"too many connections\n", 503, headers=[("connection", "close")])
        handler = self._routes(request.method if request.method != "HEAD" else "GET", request.path)
        try:
            if handler is None:
                known = any(self._routes(method, request.path) for method in ("GET", "POST"))
                raise HttpError(405 if known else 404)
            return await handler(request)
        except HttpError as error:
            return Response(f"{error}\n".encode(), error.status)
        except (ConnectionError, TimeoutError):
            raise
        except Exception as error:
            self._log.error(f"internal error in {request.method} {request.path}\n{_trace(error)}")
            return Response(b"internal error, see the log\n", 500)


def _trace(error: Exception) -> str:
    return "".join(traceback.format_exception(error))


class _Connection:
    """One connection: request, answer, and again."""

    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        peer: str,
        slot: HttpSlot,
        slots: HttpSlots,
        answer: Callable[[Request, HttpSlot], Awaitable[Response]],
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._peer = peer
        self._slot = slot
        self._slots = slots
        self._answer = answer
        self._head_only = False
        self._h11 = h11.Connection(h11.SERVER, max_incomplete_event_size=_MAX_HEAD)

    async def run(self) -> None:
        """Serve until one side closes."""
        patience = _FIRST_HEAD_SECONDS
        while True:
            self._head_only = False
            try:
                async with asyncio.timeout(patience):
                    first = await self._event()
                if not isinstance(first, h11.Request):
                    return
                self._head_only = first.method == b"HEAD"
                async with asyncio.timeout(_REQUEST_SECONDS):
                    request = await self._request(first)
            except h11.RemoteProtocolError as error:
                await self._refuse(error.error_status_hint)
                return
            except HttpError as error:
                await self._refuse(error.status)
                return
            self._slots.moved(self._slot, waits=False)
            response = await self._answer(request, self._slot)
            await self._respond(response)
            if self._h11.our_state is not h11.DONE or self._h11.their_state is not h11.DONE:
                return
            self._slots.moved(self._slot, waits=True)
            self._h11.start_next_cycle()
            patience = _IDLE_SECONDS

    async def _event(self) -> object:
        while True:
            try:
                event = self._h11.next_event()
            except ValueError as error:
                raise HttpError(400) from error  # a number with thousands of digits
            if event is not h11.NEED_DATA:
                return event
            if self._h11.they_are_waiting_for_100_continue:
                await self._send(h11.InformationalResponse(status_code=100, headers=[]))
            self._h11.receive_data(await self._reader.read(_MAX_HEAD))

    async def _request(self, head: h11.Request) -> Request:
        headers = {k.decode("latin-1"): v.decode("latin-1") for k, v in head.headers}
        if "transfer-encoding" in headers and ("content-length" in headers or head.http_version == b"1.0"):
            # Two lengths: a proxy in front may have believed the other one, and what follows is not its request.
            raise HttpError(400)
        target = split_url(head.target.decode("latin-1"))
        body = bytearray()
        while True:
            event = await self._event()
            if isinstance(event, h11.EndOfMessage):
                break
            if not isinstance(event, h11.Data):
                raise ConnectionResetError("the request ended early")
            body += event.data
            if len(body) > _MAX_BODY:
                raise HttpError(413)
        return Request(
            method=head.method.decode("latin-1"),
            path=unquote(target.path),
            query=dict(parse_qsl(target.query)),
            headers=headers,
            body=bytes(body),
            peer=self._peer,
        )

    async def _refuse(self, status: int) -> None:
        if self._h11.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            text = f"{HTTPStatus(status).phrase}\n".encode()
            headers = [
                ("content-type", _TEXT),
                ("content-length", str(len(text))),
                ("connection", "close"),
            ]
            await self._send(h11.Response(status_code=status, headers=headers))
            if not self._head_only:
                await self._send(h11.Data(data=text))
            await self._send(h11.EndOfMessage())

    async def _respond(self, response: Response) -> None:
        headers = [
            ("content-type", response.content_type),
            ("cache-control", "no-store"),
            ("x-content-type-options", "nosniff"),
            *response.headers,
        ]
        if response.stream is None:
            headers.append(("content-length", str(len(response.body))))
        await self._send(h11.Response(status_code=response.status, headers=headers))
        if not self._head_only:
            if response.body:
                await self._send(h11.Data(data=response.body))
            if response.stream is not None:
                await self._stream(response.stream)
        await self._send(h11.EndOfMessage())

    async def _stream(self, parts: AsyncIterator[bytes]) -> None:
        """Send parts as they come; a client that says anything meanwhile, or leaves, has enough."""
        gone = asyncio.ensure_future(self._reader.read(1))
        part: asyncio.Future[bytes | None] | None = None
        try:
            while True:
                part = asyncio.ensure_future(anext(parts, None))
                await asyncio.wait({part, gone}, return_when=asyncio.FIRST_COMPLETED)
                if gone.done():
                    raise ConnectionResetError("the client has left the stream")
                data = part.result()
                if data is None:
                    return
                await self._send(h11.Data(data=data))
        finally:
            gone.cancel()
            if part is not None and part.cancel():
                with contextlib.suppress(asyncio.CancelledError):
                    await part

    async def _send(self, event: h11.Event) -> None:
        data = self._h11.send(event)
        if data:
            self._writer.write(data)
            waits = self._slot.waits
            self._slot.waits = True
            async with asyncio.timeout(_SEND_SECONDS):
                await self._writer.drain()
            self._slots.moved(self._slot, waits=waits)
