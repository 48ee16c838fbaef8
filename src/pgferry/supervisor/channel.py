"""The control channel to a worker: framed msgpack maps, requests and answers both ways, descriptors."""

import array
import asyncio
import errno
import os
import socket
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any

from pgferry.frames import Frames, Message, packed
from pgferry.supervisor.errors import WorkerGone, WorkerRefused

Handler = Callable[[Message, int | None], Awaitable[Message | None]]
"""Gets a message of the worker and its descriptor; for a request it returns the fields of the answer.
It raises CommandError-like exceptions never: a refusal is WorkerRefused(text)."""

_NO_MEMORY = (errno.ENOBUFS, errno.ENOMEM)
"""Of the kernel, for the moment: no reason to give up a worker."""
_ANCILLARY = socket.CMSG_SPACE(16 * array.array("i").itemsize)


class Channel:
    """One end of a control socketpair, driven by the running asyncio loop."""

    def __init__(self, sock: socket.socket, handler: Handler, on_close: Callable[[], None]) -> None:
        sock.setblocking(False)
        self._sock = sock
        self._handler = handler
        self._on_close = on_close
        self._loop = asyncio.get_running_loop()
        self._frames = Frames()
        # In the order of their messages; None: it came, but this process may not have more descriptors.
        self._fds: deque[int | None] = deque()
        self._out = bytearray()
        self._next_id = 1
        self._waiting: dict[int, asyncio.Future[Message]] = {}
        self._parts: dict[int, list[Any]] = {}  # rows of answers that come in parts (`more`)
        self._tasks: set[asyncio.Task[None]] = set()
        self.closed = False
        self._loop.add_reader(sock, self._readable)

    async def request(self, op: str, timeout: float | None = None, **fields: Any) -> Message:
        """Send a request and wait for its answer (`timeout` in seconds, None = as long as it takes).

        Raises WorkerGone, WorkerRefused, TimeoutError.
        """
        if self.closed:
            raise WorkerGone("control channel closed")
        number = self._next_id
        self._next_id += 1
        future: asyncio.Future[Message] = self._loop.create_future()
        self._waiting[number] = future
        try:
            self._send({"id": number, "op": op, **fields})
            async with asyncio.timeout(timeout):
                answer = await future
        finally:
            self._waiting.pop(number, None)
            self._parts.pop(number, None)
        if not answer.get("ok"):
            raise WorkerRefused(str(answer.get("error", "unknown error")))
        return answer

    def notice(self, op: str, **fields: Any) -> None:
        """Send a message that has no answer; dropped when the worker is gone."""
        if not self.closed:
            self._send({"op": op, **fields})

    def close(self) -> None:
        """End the channel: the worker takes the end of file as the order to exit."""
        if self.closed:
            return
        self.closed = True
        self._loop.remove_reader(self._sock)
        self._loop.remove_writer(self._sock)
        self._sock.close()
        while self._fds:
            fd = self._fds.popleft()
            if fd is not None:
                os.close(fd)
        for future in self._waiting.values():
            if not future.done():
                future.set_exception(WorkerGone("worker ended"))
        self._waiting.clear()
        self._on_close()

    def _send(self, message: Message) -> None:
        empty = not self._out
        self._out += packed(message)
        if empty:
            self._flush()

    def _flush(self) -> None:
        try:
            sent = self._sock.send(self._out)
        except BlockingIOError:
            sent = 0
        except OSError as error:
            if error.errno not in _NO_MEMORY:
                self.close()
                return
            sent = 0
        del self._out[:sent]
        if self._out:
            self._loop.add_writer(self._sock, self._flush)
        else:
            self._loop.remove_writer(self._sock)

    def _readable(self) -> None:
        try:
            data, ancillary, flags, _addr = self._sock.recvmsg(262144, _ANCILLARY, socket.MSG_CMSG_CLOEXEC)
        except BlockingIOError:
            return
        except OSError as error:
            if error.errno in _NO_MEMORY:
                return
            data, ancillary, flags = b"", [], 0
        before = len(self._fds)
        for level, kind, payload in ancillary:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                fds = array.array("i")
                fds.frombytes(payload[: len(payload) - len(payload) % fds.itemsize])
                self._fds.extend(fds)
        if flags & socket.MSG_CTRUNC and len(self._fds) == before:
            self._fds.append(None)  # or the message would take the descriptor of the next one
        if not data:
            self.close()
            return
        try:
            for message in self._frames.feed(data):
                self._take(message)
                if self.closed:
                    return
        except (ValueError, KeyError, TypeError):  # nobody knows any more what it means
            self.close()

    def _take(self, message: Message) -> None:
        if "re" in message:
            number = message["re"]
            future = self._waiting.get(number)
            if future is not None and not future.done():
                if message.get("more"):
                    self._parts.setdefault(number, []).extend(message["rows"])
                    return
                if number in self._parts and message.get("ok"):
                    message["rows"] = self._parts.pop(number) + message["rows"]
                future.set_result(message)
            return
        fd = self._fds.popleft() if message.get("fd") is True and self._fds else None
        task = self._loop.create_task(self._serve(message, fd))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, message: Message, fd: int | None) -> None:
        number = message.get("id")
        try:
            answer: Message = {"ok": True, **(await self._handler(message, fd) or {})}
        except WorkerRefused as error:
            answer = {"ok": False, "error": str(error)}
        except Exception as error:  # a bug: the worker is told, or what it does would wait for ever
            self._loop.call_exception_handler(
                {"message": f"request '{message.get('op')}' of a worker", "exception": error}
            )
            answer = {"ok": False, "error": f"internal error: {type(error).__name__}: {error}"}
        if number is not None and not self.closed:
            self._send({"re": number, **answer})
