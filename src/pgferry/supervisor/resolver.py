"""Names to addresses for the workers: getaddrinfo in threads, cached for dns_max_ttl or dns_nxdomain_ttl."""

import asyncio
import socket
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from pgferry.supervisor.errors import WorkerRefused

_MAX_NAMES = 10_000


@dataclass(slots=True)
class _Entry:
    addresses: list[tuple[int, str]]
    error: str | None
    expires: float


class Resolver:
    """The cache; one look-up of a name at a time, shared by all who ask for it meanwhile."""

    def __init__(
        self,
        max_ttl: Callable[[], float],
        failed_ttl: Callable[[], float],
        lookup: Callable[..., Any] = socket.getaddrinfo,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._max_ttl = max_ttl
        self._failed_ttl = failed_ttl
        self._lookup = lookup
        self._clock = clock
        self._cache: dict[str, _Entry] = {}
        self._running: dict[str, asyncio.Task[_Entry]] = {}
        # A pool of its own: a dead name server must not use up the threads that reloads need.
        self._pool = ThreadPoolExecutor(max_workers=4, thread_name_prefix="dns")

    async def resolve(self, host: str) -> dict[str, Any]:
        """The answer to a worker's `resolve`: addrs [[family, address], ...] and ttl in seconds.

        Raises WorkerRefused with the resolver's text when the name has no address.
        """
        entry = self._cache.get(host)
        if entry is None or entry.expires <= self._clock():
            task = self._running.get(host)
            if task is None:
                task = asyncio.get_running_loop().create_task(self._fetch(host))
                self._running[host] = task
                task.add_done_callback(lambda _task: self._running.pop(host, None))
            entry = await asyncio.shield(task)
        if entry.error is not None:
            raise WorkerRefused(entry.error)
        return {
            "addrs": [list(item) for item in entry.addresses],
            "ttl": max(0.0, entry.expires - self._clock()),
        }

    async def _fetch(self, host: str) -> _Entry:
        loop = asyncio.get_running_loop()
        addresses: list[tuple[int, str]] = []
        error: str | None = None
        try:
            found = await loop.run_in_executor(self._pool, self._ask, host)
            for family, _type, _proto, _canon, address in found:
                item = (int(family), str(address[0]))
                if item not in addresses:
                    addresses.append(item)
        except (OSError, UnicodeError) as reason:
            error = getattr(reason, "strerror", None) or str(reason)
        if not addresses and error is None:
            error = "no address found"
        ttl = self._failed_ttl() if error else self._max_ttl()
        entry = _Entry(addresses, error, self._clock() + ttl)
        self._trim()
        self._cache[host] = entry
        return entry

    def _ask(self, host: str) -> Any:
        return self._lookup(host, None, type=socket.SOCK_STREAM)

    def _trim(self) -> None:
        if len(self._cache) < _MAX_NAMES:
            return
        now = self._clock()
        self._cache = {name: entry for name, entry in self._cache.items() if entry.expires > now}

    def rows(self) -> list[tuple[str, int, str]]:
        """Name, seconds left, addresses separated by commas: SHOW DNS_HOSTS."""
        now = self._clock()
        return [
            (
                name,
                max(0, int(entry.expires - now)),
                ",".join(address for _family, address in entry.addresses),
            )
            for name, entry in sorted(self._cache.items())
        ]

    @property
    def pending(self) -> int:
        """Look-ups that are running."""
        return len(self._running)

    def close(self) -> None:
        """Let the threads end; a look-up that hangs does not hold up the exit."""
        self._pool.shutdown(wait=False, cancel_futures=True)
