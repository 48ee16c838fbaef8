"""The worker's end of the control channel: framed msgpack maps, requests and answers both ways."""

import array
import errno
import os
import socket
from collections.abc import Callable
from typing import Any

from pgferry.engine.io.loop import Loop
from pgferry.engine.ops.worker_loop import Watch
from pgferry.frames import Frames, Message, packed

Answer = Callable[[Message], None]

PATIENCE = 120.0
"""Seconds that the supervisor has for a request of ours."""


_FOR_THE_MOMENT = (errno.ENOBUFS, errno.ENOMEM, errno.ETOOMANYREFS)
"""No memory, or too many descriptors on their way: sent again at the next tick."""


class Refusal(Exception):
    """A request cannot be done; the text goes back to whoever asked."""


class Control:
    """Reads requests of the supervisor and sends our own. `on_lost` runs when the supervisor is gone."""

    def __init__(
        self, loop: Loop, fd: int, handler: Callable[[Message, Answer], None], on_lost: Callable[[], None]
    ) -> None:
        self._loop = loop
        self._sock = socket.socket(fileno=os.dup(fd))
        self._sock.setblocking(False)
        self._handler = handler
        self._on_lost = on_lost
        self._frames = Frames()
        self._out: list[tuple[bytes, int | None]] = []
        self._waiting: dict[int, tuple[float, Answer]] = {}  # by number, oldest first: when it is too late
        self._next_id = 1
        self._watch = Watch(loop, fd, self._run, True)

    def request(self, op: str, done: Answer, **fields: Any) -> None:
        """Ask the supervisor; done(answer) runs on the loop, after PATIENCE at the latest: {"ok": False, "error"}."""
        number = self._next_id
        self._next_id += 1
        self._waiting[number] = (self._loop.now + PATIENCE, done)
        self._send({"id": number, "op": op, **fields})

    def notice(self, op: str, fd: int | None = None, **fields: Any) -> None:
        """Tell the supervisor something; a descriptor handed over is closed here."""
        if fd is not None:
            fields["fd"] = True
        self._send({"op": op, **fields}, fd)

    def expire(self) -> None:
        """Give up on requests that were not answered in time; runs now and then."""
        late = [number for number, (limit, _) in self._waiting.items() if limit < self._loop.now]
        for number in late:
            self._finish(number, {"ok": False, "error": f"not answered within {PATIENCE:g} s"})

        self._flush()

    def _drop(self) -> None:
        """The supervisor is gone, and nobody hears what was to be sent."""
        for _, fd in self._out:
            if fd is not None:
                os.close(fd)
        self._out.clear()

    def _finish(self, number: int, answer: Message) -> None:
        _, done = self._waiting.pop(number, (0.0, None))
        if done is not None:
            try:
                done(answer)
            except Exception as error:  # costs what it was for: others' answers are read all the same
                self._loop.report(done, error)

    def _run(self) -> None:
        self._flush()
        while True:
            try:
                data = self._sock.recv(262144)
            except BlockingIOError:
                return
            except OSError:
                data = b""
            if not data:
                self._watch.stop()
                self._on_lost()
                return
            try:
                for message in self._frames.feed(data):
                    self._take(message)
            except ValueError as error:  # nobody knows any more where a message begins
                self._loop.report(self, error)
                self._watch.stop()
                self._on_lost()
                return

    def _take(self, message: Message) -> None:
        if "re" in message:
            self._finish(message["re"], message)
            return
        number = message.get("id")
        answered = number is None

        def reply(fields: Message) -> None:
            nonlocal answered
            if not answered:
                self._send({"re": number, **fields})
                answered = not fields.get("more")

        try:
            self._handler(message, lambda fields: reply({"ok": True, **fields}))
        except Refusal as refusal:
            reply({"ok": False, "error": str(refusal)})
        except Exception as error:  # a bug, or no memory: whoever asked is told, and others are served
            self._loop.report(self._handler, error)
            reply({"ok": False, "error": f"internal error: {type(error).__name__}: {error}"})

    def _send(self, message: Message, fd: int | None = None) -> None:
        self._out.append((packed(message), fd))
        self._flush()

    def _flush(self) -> None:
        while self._out:
            data, fd = self._out[0]
            rights = [] if fd is None else [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [fd]))]
            try:
                sent = self._sock.sendmsg([data], rights)
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno in _FOR_THE_MOMENT:
                    return
                self._drop()
                return
            if fd is not None:
                os.close(fd)
            if sent == len(data):
                self._out.pop(0)
            else:
                self._out[0] = (data[sent:], None)
