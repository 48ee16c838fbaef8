"""The console as a whole: its sessions, and cancel requests for them."""

import contextlib
import socket
from collections.abc import Mapping
from typing import Any

from pgferry.admin.context import Context
from pgferry.admin.session import Session
from pgferry.supervisor.errors import CommandError
from pgferry.supervisor.operations import Operations
from pgferry.supervisor.pooler import Pooler
from pgferry.supervisor.reload import Reloader


class Console:
    """All sessions of the database `pgbouncer`."""

    def __init__(self, pooler: Pooler, operations: Operations, reloader: Reloader) -> None:
        self._pooler = pooler
        self._operations = operations
        self._reloader = reloader
        self._sessions: set[Session] = set()

    def context(self, *, admin: bool) -> Context:
        """The pooler as a session with these rights sees it."""
        return Context(self._pooler, self._operations, self._reloader, admin=admin)

    async def serve(self, sock: socket.socket, client: Mapping[str, Any]) -> None:
        """Serve one authenticated client on `sock`; `client` is the worker's `console` message."""
        sock.setblocking(False)
        session = Session(sock, self.context(admin=client.get("rights") == "admin"), client)
        self._sessions.add(session)
        self._pooler.console_sessions = len(self._sessions)
        self._pooler.stats.console["client_login_count"] += 1
        try:
            await session.run()
        finally:
            self._sessions.discard(session)
            self._pooler.console_sessions = len(self._sessions)

    async def cancel(self, client_id: int) -> None:
        """A cancel request for a console client that is an admin: ends what it waits for, or else a global PAUSE."""
        session = next((s for s in self._sessions if s.client_id == client_id), None)
        if session is None or not session.admin:
            return
        command = session.command
        # A resume may have come first: then there is nothing left to cancel.
        with contextlib.suppress(CommandError):
            if command is not None and command.verb == "WAIT_CLOSE":
                session.cancel()
            elif command is not None and command.verb == "PAUSE" and command.argument:
                await self._operations.resume(command.argument)
            elif self._pooler.state.paused:
                await self._operations.resume(None)
