"""A TCP proxy that does to a connection what bad networks do: cut, stall, split, delay, refuse, swallow."""

import socket
import struct
import threading
import time
from contextlib import suppress

from pgferry.client import Address, connect

TO_SERVER, TO_CLIENT = "to server", "to client"
DIRECTIONS = (TO_SERVER, TO_CLIENT)


class FaultProxy:
    """Listens on 127.0.0.1:`port` and forwards to `target`; use it in a with statement.

    Every fault holds for connections that exist and those to come, until it is taken back.
    """

    def __init__(self, target: Address, host: str = "127.0.0.1", port: int = 0) -> None:
        self.target = target
        self._listener = socket.create_server((host, port), backlog=512)
        self.port: int = self._listener.getsockname()[1]
        self.host = host
        self.accepted = 0  # connections so far
        self.seen = dict.fromkeys(DIRECTIONS, 0)  # bytes forwarded so far
        self._refuse = False
        self._chunk = 0
        self._delay = 0.0
        self._budget: dict[str, int | None] = dict.fromkeys(DIRECTIONS)
        self._flow = {d: threading.Event() for d in DIRECTIONS}
        for event in self._flow.values():
            event.set()
        self._pairs: list[tuple[socket.socket, socket.socket]] = []
        self._lock = threading.Lock()
        self._closed = False
        self._new = threading.Event()
        self._new.set()
        threading.Thread(target=self._accept, daemon=True).start()

    # --- faults

    def cut(self, *, reset: bool = False) -> None:
        """Close every connection on both sides, in order or with a TCP reset."""
        with self._lock:
            pairs, self._pairs = self._pairs, []
        for pair in pairs:
            for sock in pair:
                _shut(sock, reset)

    def cut_after(self, size: int, direction: str = TO_CLIENT) -> None:
        """Cut all connections once so many more bytes went in that direction."""
        self._budget[direction] = size

    def stall(self, direction: str | None = None) -> None:
        """Forward nothing more (both ways, or one); the connections stay."""
        for each in [direction] if direction else DIRECTIONS:
            self._flow[each].clear()

    def resume(self) -> None:
        """Take every fault back; what was stalled goes on."""
        self._refuse, self._chunk, self._delay = False, 0, 0.0
        self.release_new()
        self._budget = dict.fromkeys(DIRECTIONS)
        for event in self._flow.values():
            event.set()

    def split(self, size: int = 1) -> None:
        """Forward in pieces of so many bytes, each in a packet of its own."""
        self._chunk = size

    def delay(self, seconds: float) -> None:
        """Hold every piece back for so long."""
        self._delay = seconds

    def refuse(self) -> None:
        """Close new connections at once."""
        self._refuse = True

    def hold_new(self) -> None:
        """Accept connections to come and do nothing with them yet; those that exist go on."""
        self._new.clear()

    def release_new(self) -> None:
        """Serve the held ones and the next."""
        self._new.set()

    def close(self) -> None:
        """Stop listening and cut everything."""
        self._closed = True
        _shut(self._listener, reset=False)
        self.resume()
        self.cut()

    @property
    def open(self) -> int:
        """Connections that are open now."""
        with self._lock:
            return len(self._pairs)

    def __enter__(self) -> "FaultProxy":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # --- how

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            self.accepted += 1
            if self._refuse or self._closed:
                _shut(client, reset=True)
                continue
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        self._new.wait()
        try:
            server = connect(self.target, 10.0)
        except OSError:
            _shut(client, reset=True)
            return
        server.settimeout(None)
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        pair = (client, server)
        with self._lock:
            self._pairs.append(pair)
        threading.Thread(target=self._pump, args=(server, client, TO_CLIENT, pair), daemon=True).start()
        self._pump(client, server, TO_SERVER, pair)

    def _pump(
        self,
        source: socket.socket,
        sink: socket.socket,
        direction: str,
        pair: tuple[socket.socket, socket.socket],
    ) -> None:
        try:
            while self._forward(source, sink, direction):
                pass
        except OSError:
            pass  # cut, or one side is gone: the end below is the same
        with self._lock:
            ours = pair in self._pairs  # else cut() closes them, perhaps with a reset
            if ours:
                self._pairs.remove(pair)
        if ours:
            for sock in pair:
                _shut(sock, reset=False)

    def _forward(self, source: socket.socket, sink: socket.socket, direction: str) -> bool:
        """Read once and pass it on, faults applied; False at the end of the stream."""
        data = source.recv(65536)
        while data:
            self._flow[direction].wait()
            if self._delay:
                time.sleep(self._delay)
            size = self._chunk or len(data)
            budget = self._budget[direction]
            if budget is not None and budget < size:
                size = budget
            sink.sendall(data[:size])
            self.seen[direction] += size
            if budget is not None:
                self._budget[direction] = budget - size
                if budget == size:
                    self._budget[direction] = None
                    self.cut()
                    return False
            data = data[size:]
            if not data:
                return True
        return False


def _shut(sock: socket.socket, reset: bool) -> None:
    """Close for good, also under a thread that reads from it."""
    with suppress(OSError):
        if reset:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            sock.shutdown(socket.SHUT_RD)  # says nothing to the peer, ends a recv() under way
        else:
            sock.shutdown(socket.SHUT_RDWR)
    sock.close()
