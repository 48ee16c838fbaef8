"""What operators look at and give commands to: the admin console, the HTTP port, pushed metrics."""

from __future__ import annotations

import socket
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pgferry.admin.server import Console
from pgferry.supervisor.operations import Operations
from pgferry.supervisor.pooler import Pooler
from pgferry.supervisor.reload import Reloader

if TYPE_CHECKING:
    from pgferry.observe.web import Web


class Management:
    """All of it for one pooler. What only HTTP or metrics need is loaded when they are configured."""

    def __init__(self, pooler: Pooler, operations: Operations, reloader: Reloader) -> None:
        self._pooler = pooler
        self._console = Console(pooler, operations, reloader)
        self._web: Web | None = None

    async def serve_console(self, sock: socket.socket, client: Mapping[str, Any]) -> None:
        """Serve one authenticated client of the console."""
        await self._console.serve(sock, client)

    async def cancel_console(self, client_id: int) -> None:
        """Act on a cancel request of a console client."""
        await self._console.cancel(client_id)

    async def open_http(self, sockets: Sequence[socket.socket]) -> None:
        """Serve metrics, health and the dashboard."""
        from pgferry.observe.web import Web

        self._web = Web(self._console.context(admin=True))
        await self._web.start(sockets)

    async def close_http(self) -> None:
        """End all HTTP connections."""
        if self._web is not None:
            await self._web.stop()
            self._web = None

    async def push_metrics(self) -> None:
        """Send metrics to the OpenTelemetry collector, if one is configured."""
        settings = self._pooler.config.settings
        if not settings.otlp_endpoint:
            return
        try:
            from pgferry.observe.otlp import Pusher
        except ImportError:
            self._pooler.log.error("otlp_endpoint needs more packages: pip install 'pgferry[otel]'")
            return
        from pgferry.observe.metrics import Metrics

        interval = max(0.1, settings.otlp_interval)
        await Pusher(Metrics(self._pooler), self._pooler.log, settings.otlp_endpoint, interval).run()
