"""The worker's end of the control channel: framed msgpack maps, requests and answers both ways."""

import array
import os
import socket
from collections.abc import Callable
from typing import Any

from pgferry.engine.loop import Loop
from pgferry.engine.plumbing import Watch
from pgferry.frames import Frames, Message, packed

Answer = Callable[[Message], None]


class Refusal(Exception):
    """A request cannot be done; the text goes back to whoever asked."""


class Control:
    """Reads requests of the supervisor and sends our own. `on_lost` runs when the supervisor is gone."""

    def __init__(
        self, loop: Loop, fd: int, handler: Callable[[Message, Answer], None], on_lost: Callable[[], None]
    ) -> None:
        self._sock = socket.socket(fileno=os.dup(fd))
        self._sock.setblocking(False)
        self._handler = handler
        self._on_lost = on_lost
        self._frames = Frames()
        self._out: list[tuple[bytes, int | None]] = []
        self._waiting: dict[int, Answer] = {}
        self._next_id = 1
        self._watch = Watch(loop, fd, self._run, True)

    def request(self, op: str, done: Answer, **fields: Any) -> None:
        """Ask the supervisor; done(answer) runs on the loop."""
        number = self._next_id
        self._next_id += 1
        self._waiting[number] = done
        self._send({"id": number, "op": op, **fields})

    def notice(self, op: str, fd: int | None = None, **fields: Any) -> None:
        """Tell the supervisor something; a descriptor handed over is closed here."""
        if fd is not None:
            fields["fd"] = True
        self._send({"op": op, **fields}, fd)

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
            for message in self._frames.feed(data):
                self._take(message)

    def _take(self, message: Message) -> None:
        if "re" in message:
            done = self._waiting.pop(message["re"], None)
            if done is not None:
                done(message)
            return
        number = message.get("id")

        def answer(fields: Message) -> None:
            if number is not None:
                self._send({"re": number, "ok": True, **fields})

        try:
            self._handler(message, answer)
        except Refusal as refusal:
            if number is not None:
                self._send({"re": number, "ok": False, "error": str(refusal)})

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
            except OSError:
                self._out.clear()
                return
            if fd is not None:
                os.close(fd)
            if sent == len(data):
                self._out.pop(0)
            else:
                self._out[0] = (data[sent:], None)
