"""A load of many clients from one process: raw protocol over epoll, one transaction after the other.

Run as `python -m pgferry.embedded.load` with `{"host": ..., ...}` (the fields of Plan) as standard input: one JSON line
a second and one at the end. A process of its own, so that several of them use several cores.
"""

import json
import random
import select
import socket
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field

from pgferry.client import Connection, ConnectionFailed, Target
from pgferry.protocol import backend, frontend

READY_IDLE = backend.ReadyForQuery().build()
REPORT_SECONDS = 1.0
BUCKETS_PER_DOUBLING = 16


@dataclass(frozen=True, slots=True)
class Plan:
    """What to do: `clients` connections, each running one SELECT by key after the other, for `seconds`.

    A host with a leading / is the directory of a unix socket.
    """

    host: str
    port: int
    user: str
    database: str
    clients: int
    seconds: float
    rows: int


@dataclass(slots=True)
class Figures:
    """What came of it. `served` clients had an answer; `latency` counts transactions by bucket (see bucket())."""

    connected: int = 0
    served: int = 0
    refused: int = 0
    transactions: int = 0
    errors: int = 0
    seconds: float = 0.0
    reason: str = ""
    latency: dict[str, int] = field(default_factory=dict)

    def add(self, other: "Figures") -> None:
        """Join the figures of another process that ran at the same time."""
        self.connected += other.connected
        self.served += other.served
        self.refused += other.refused
        self.transactions += other.transactions
        self.errors += other.errors
        self.seconds = max(self.seconds, other.seconds)
        self.reason = self.reason or other.reason
        for key, count in other.latency.items():
            self.latency[key] = self.latency.get(key, 0) + count

    def per_second(self) -> float:
        return self.transactions / self.seconds if self.seconds else 0.0

    def percentile(self, share: float) -> float:
        """The latency in milliseconds that `share` (0 to 1) of the transactions did not exceed; 5 % exact."""
        left = share * sum(self.latency.values())
        for key in sorted(self.latency, key=int):
            left -= self.latency[key]
            if left <= 0:
                return float(2 ** (int(key) / BUCKETS_PER_DOUBLING) / 1000)
        return 0.0


def bucket(seconds: float) -> int:
    """The number of the logarithmic bucket of a latency: 16 for each doubling, from one microsecond."""
    micros = int(seconds * 1e6)
    if micros < 1:
        return 0
    doubling = micros.bit_length() - 1
    return (
        doubling * BUCKETS_PER_DOUBLING + (micros * BUCKETS_PER_DOUBLING >> doubling) - BUCKETS_PER_DOUBLING
    )


class Load:
    """Runs a Plan."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.figures = Figures()
        self._epoll = select.epoll()
        self._socks: dict[int, socket.socket] = {}
        self._began: dict[int, float] = {}
        self._tails: dict[int, bytes] = {}
        self._served: set[int] = set()
        self._queries = self.queries()
        self._counts = [0] * (BUCKETS_PER_DOUBLING * 40)

    def queries(self) -> list[bytes]:
        """The packets to choose from."""
        rows = range(1, self.plan.rows + 1)
        return [frontend.Query(f"SELECT balance FROM accounts WHERE id = {i}").build() for i in rows]

    def run(self, report: Callable[[Figures], None]) -> Figures:
        """Connect all clients, then load; report() gets the figures every second (four times if short)."""
        for _ in range(self.plan.clients):
            self._connect()
        began = time.perf_counter()
        for fd in list(self._socks):
            self._ask(fd, began)
        interval = min(REPORT_SECONDS, self.plan.seconds / 4)
        end, next_report = began + self.plan.seconds, began + interval
        while self._socks and (now := time.perf_counter()) < end:
            if now >= next_report:
                next_report += interval
                report(self._summed(now - began))
            self._step(min(next_report, end) - now)
        self._summed(time.perf_counter() - began)
        self._finish()
        return self.figures

    def _connect(self) -> None:
        """One blocking login; a refusal is counted and its reason kept."""
        try:
            sock = self.open()
        except ConnectionFailed as e:
            self._refuse(e.reason)
            return
        sock.setblocking(False)
        self._socks[sock.fileno()] = sock
        self._tails[sock.fileno()] = b""
        self._epoll.register(sock.fileno(), select.EPOLLIN)
        self.figures.connected += 1

    def open(self) -> socket.socket:
        """A connection that is logged in. Raises ConnectionFailed."""
        plan = self.plan
        target = Target(plan.host, plan.port, plan.user, plan.database, sslmode="disable", timeout=30.0)
        return Connection(target, application_name="pgferry demo").sock

    def receive(self, sock: socket.socket) -> bytes | None:
        """What has arrived: b"" at the end, None when there is nothing after all."""
        return sock.recv(8192)

    def _refuse(self, reason: str) -> None:
        self.figures.refused += 1
        self.figures.reason = self.figures.reason or reason

    def _ask(self, fd: int, now: float) -> None:
        self._began[fd] = now
        self._socks[fd].send(random.choice(self._queries))

    def _step(self, timeout: float) -> None:
        """Wait (seconds) for answers, note them, ask again."""
        for fd, _ in self._epoll.poll(timeout):
            try:
                data = self.receive(self._socks[fd])
            except OSError:
                data = b""
            if data is None:
                continue
            if not data:
                self._lose(fd)
                continue
            tail = self._tails[fd] + data
            if not tail.endswith(READY_IDLE):
                self._tails[fd] = tail
                continue
            self._tails[fd] = b""
            self._answered(fd, tail)

    def _answered(self, fd: int, answer: bytes) -> None:
        now = time.perf_counter()
        if answer[:1] == b"E":
            self.figures.errors += 1
            self.figures.reason = self.figures.reason or _error(answer)
        else:
            self.figures.transactions += 1
            self._served.add(fd)
            self._counts[bucket(now - self._began[fd])] += 1
        self._ask(fd, now)

    def _lose(self, fd: int) -> None:
        """The server closed a connection in the middle of the load."""
        self.figures.errors += 1
        tail = self._tails.pop(fd)
        self.figures.reason = self.figures.reason or _error(tail) or "connection closed"
        self._epoll.unregister(fd)
        self._socks.pop(fd).close()

    def _summed(self, seconds: float) -> Figures:
        self.figures.seconds = seconds
        self.figures.served = len(self._served)
        self.figures.latency = {str(i): n for i, n in enumerate(self._counts) if n}
        return self.figures

    def _finish(self) -> None:
        for sock in self._socks.values():
            try:
                sock.setblocking(True)
                sock.sendall(frontend.Terminate().build())
            except OSError:
                pass  # closed by the other side meanwhile
            sock.close()
        self._epoll.close()


def _error(messages: bytes) -> str:
    """The text of the first error among messages, "" without one."""
    error = backend.first_error(messages)
    return error.message if error is not None else ""


def main() -> None:
    """Run the plan that standard input gives as JSON."""

    def report(figures: Figures) -> None:
        print(json.dumps(asdict(figures)), flush=True)

    try:
        report(Load(Plan(**json.load(sys.stdin))).run(report))
    except KeyboardInterrupt:
        pass


if __name__ == "__main__":
    main()
