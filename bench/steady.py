"""A steady load of an exact number of transactions, for counting: by clients logged in before, or anew each time."""

from __future__ import annotations

import random
import socket
from collections.abc import Sequence

from pgferry.client import connect
from pgferry.protocol import frontend
from pgferry.protocol.backend import build_all
from pgferry.protocol.startup import SSLRequest, startup

from . import wire
from .server import DATABASE, TRUST_USER
from .system import BenchError

SELECT = "SELECT abalance FROM pgbench_accounts WHERE aid = "
STATEMENT = "P_0"
ROWS = 100_000
TENANT = ("SET search_path = tenant_{n}, public", "SET ROLE tenant_{n}", "SET app.tenant_id = '{n}'")
TERMINATE = frontend.Terminate().build()


def parse(name: str) -> bytes:
    """Return the Parse message of the select with one parameter."""
    return frontend.Parse(name, f"{SELECT}$1").build()


def bind_and_execute(name: str, aid: int) -> bytes:
    """Return Bind, Describe, Execute and Sync as libpq sends them for a prepared or unnamed statement."""
    bind = frontend.Bind("", name, values=(str(aid).encode(),), result_formats=(0,))
    return build_all([bind, frontend.Describe("P"), frontend.Execute(), frontend.Sync()])


class SteadyLoad:
    """Clients in lockstep: each round all of them send one transaction, then all answers are read."""

    def __init__(self, port: int, protocol: str, clients: int) -> None:
        """Log in `clients` at 127.0.0.1:`port` and prepare their statements; raises BenchError or OSError.

        Protocol `connect` makes a new connection for each transaction, as `pgbench -C` does; with `tenants` each
        client has session state of its own.
        """
        self._protocol = protocol
        self._port = port
        self._clients = clients
        self._random = random.Random(1)
        if protocol == "connect":
            self._links = []
            return
        self._links = [wire.login(port, TRUST_USER, DATABASE, timeout_s=60) for _ in range(clients)]
        if protocol == "tenants":
            for text in TENANT:
                self._exchange(
                    self._links, [frontend.Query(text.format(n=n)).build() for n in range(clients)]
                )
        if protocol == "prepared":
            self._exchange(self._links, [parse(STATEMENT) + frontend.Sync().build()] * clients)

    def run(self, transactions: int) -> int:
        """Do `transactions`, rounded up to whole rounds; returns how many were done."""
        done = 0
        while done < transactions:
            if self._protocol == "connect":
                self._visit()
            else:
                self._exchange(self._links, [self._transaction() for _ in self._links])
            done += self._clients
        return done

    def close(self) -> None:
        """Hang up."""
        for link in self._links:
            link.close()

    def _visit(self) -> None:
        """All clients connect, ask for TLS, log in, do one transaction and leave."""
        first = startup(user=TRUST_USER, database=DATABASE, application_name="pgbench").build()
        links = [connect(("127.0.0.1", self._port), 60) for _ in range(self._clients)]
        for link in links:
            link.sendall(SSLRequest().build())
        for link in links:
            if link.recv(1) != b"N":
                raise BenchError("the pooler offers TLS: it is not what is to be measured")
        self._exchange(links, [first] * len(links))
        self._exchange(links, [self._transaction() for _ in links])
        for link in links:
            link.sendall(TERMINATE)
            link.close()

    def _transaction(self) -> bytes:
        aid = self._random.randint(1, ROWS)
        if self._protocol in ("simple", "connect", "tenants"):
            return frontend.Query(f"{SELECT}{aid};").build()
        if self._protocol == "extended":
            return parse("") + bind_and_execute("", aid)
        return bind_and_execute(STATEMENT, aid)

    @staticmethod
    def _exchange(links: Sequence[socket.socket], requests: Sequence[bytes]) -> None:
        for link, request in zip(links, requests, strict=True):
            link.sendall(request)
        for link in links:
            wire.read_until_ready(link)
