"""What the HTTP port serves: metrics, health, and the dashboard."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Sequence

from pgferry.admin.context import Context
from pgferry.observe.dashboard import Dashboard
from pgferry.observe.http import Handler, HttpError, HttpServer, Request, Response
from pgferry.observe.metrics import Metrics
from pgferry.observe.sampler import Sampler


class Web:
    """The routes, and the server behind them. `context` looks at the pooler with all rights."""

    def __init__(self, context: Context) -> None:
        self._pooler = context.pooler
        self._metrics = Metrics(context.pooler)
        self._sampler = Sampler(context.pooler)
        self._dashboard = Dashboard(context, self._sampler)
        self._sampling: asyncio.Task[None] | None = None
        self._server = HttpServer(context.pooler.log, self._route, health="/health/")
        self._routes: dict[tuple[str, str], Handler] = {
            ("GET", "/health/live"): self._live,
            ("GET", "/health/ready"): self._ready,
        }

    async def start(self, sockets: Sequence[socket.socket]) -> None:
        """Serve on these sockets from now on."""
        await self._server.start(sockets)
        self._sampling = asyncio.get_running_loop().create_task(self._sampler.run())
        for sock in sockets:
            host, port = sock.getsockname()[:2]
            self._pooler.log.log(f"http on {f'[{host}]' if ':' in host else host}:{port}")

    async def stop(self) -> None:
        """End all connections."""
        if self._sampling is not None:
            self._sampling.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._sampling
        await self._dashboard.stop()
        await self._server.stop()

    def _route(self, method: str, path: str) -> Handler | None:
        metrics = self._pooler.config.settings.metrics_path
        if metrics and (method, path) == ("GET", metrics):
            return self._scrape
        return self._routes.get((method, path)) or self._dashboard.route(method, path)

    async def _scrape(self, request: Request) -> Response:
        text, content_type = await self._metrics.exposition(request.headers.get("accept", ""))
        return Response(text, content_type=content_type)

    async def _live(self, _request: Request) -> Response:
        return Response(b"alive\n")

    async def _ready(self, _request: Request) -> Response:
        """Whether new clients should be sent here: false from the moment when it is paused or shuts down."""
        state, fleet = self._pooler.state, self._pooler.fleet
        if state.shutdown:
            raise HttpError(503, "shutting down")
        if state.paused:
            raise HttpError(503, "paused")
        if not fleet.running:
            raise HttpError(503, "starting or stopping")
        if not any(worker is not None and worker.ready.is_set() for worker in fleet.workers):
            raise HttpError(503, "no worker is ready")
        return Response(b"ready\n")
