"""The load of `pgferry bench`: real logins, TLS, any query; one connection kept, or a new one for each query.

Run as `python -m pgferry.compare.load` with the fields of Plan as JSON on standard input, output as in embedded.load.
"""

import json
import random
import socket
import ssl
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from pgferry.client import ClientError, Connection, Target
from pgferry.embedded import load as simple
from pgferry.embedded.load import BUCKETS_PER_DOUBLING, REPORT_SECONDS, Figures, bucket
from pgferry.protocol import frontend

APPLICATION = "pgferry bench"


@dataclass(frozen=True, slots=True)
class Plan:
    """`clients` run one of `queries` after the other for `seconds`; `fresh`: each on a connection of its own.

    `target` has the fields of client.Target, `options` is what direct connections set at login.
    """

    target: dict[str, Any]
    clients: int
    seconds: float
    queries: list[str]
    fresh: bool = False
    options: str = ""

    def connect(self) -> Connection:
        """A new connection, logged in. Raises ConnectionFailed."""
        target = Target(**self.target)
        return Connection(target, application_name=APPLICATION, timeout=30.0, options=self.options)


class Kept(simple.Load):
    """Each client keeps its connection."""

    def __init__(self, plan: Plan) -> None:
        self.bench = plan
        super().__init__(simple.Plan("", 0, "", "", plan.clients, plan.seconds, 0))

    def queries(self) -> list[bytes]:
        return [frontend.Query(query).build() for query in self.bench.queries]

    def open(self) -> socket.socket:
        return self.bench.connect().sock

    def receive(self, sock: socket.socket) -> bytes | None:
        if not isinstance(sock, ssl.SSLSocket):
            return sock.recv(65536)
        try:
            data = sock.recv(65536)
            while sock.pending():
                data += sock.recv(65536)
        except ssl.SSLWantReadError:
            return None
        return data


class Fresh:
    """Each query has a connection of its own: a thread for each client."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.figures = Figures()
        self._lock = threading.Lock()
        self._counts = [0] * (BUCKETS_PER_DOUBLING * 40)

    def run(self, report: Callable[[Figures], None]) -> Figures:
        """Until the time is over; report() gets the figures every second."""
        began = time.perf_counter()
        end = began + self.plan.seconds
        threads = [
            threading.Thread(target=self._client, args=(end,), daemon=True) for _ in range(self.plan.clients)
        ]
        for thread in threads:
            thread.start()
        while (left := end - time.perf_counter()) > 0:
            time.sleep(min(left, REPORT_SECONDS))
            report(self._summed(time.perf_counter() - began))
        for thread in threads:
            thread.join(5.0)
        return self._summed(time.perf_counter() - began)

    def _client(self, end: float) -> None:
        served = False
        while (began := time.perf_counter()) < end:
            try:
                with self.plan.connect() as connection:
                    connection.query(random.choice(self.plan.queries))
            except (ClientError, OSError) as e:
                with self._lock:
                    self.figures.errors += 1
                    self.figures.reason = self.figures.reason or str(e)
                time.sleep(0.05)  # not as fast as possible against a server that refuses
                continue
            with self._lock:
                self.figures.transactions += 1
                self.figures.connected += not served
                self.figures.served += not served
                self._counts[bucket(time.perf_counter() - began)] += 1
            served = True

    def _summed(self, seconds: float) -> Figures:
        with self._lock:
            self.figures.seconds = seconds
            self.figures.latency = {str(i): n for i, n in enumerate(self._counts) if n}
            return self.figures


def main() -> None:
    """Run the plan that standard input gives."""

    def report(figures: Figures) -> None:
        print(json.dumps(asdict(figures)), flush=True)

    plan = Plan(**json.load(sys.stdin))
    try:
        report(Fresh(plan).run(report) if plan.fresh else Kept(plan).run(report))
    except KeyboardInterrupt:
        pass


if __name__ == "__main__":
    main()
