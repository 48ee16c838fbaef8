"""Names to addresses for the workers: a cache with the answers' TTL, zones watched by their serial, news of changes."""

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from pgferry.supervisor.dns_lookup import Addresses, DnsLookup, NoAnswer, NoName
from pgferry.supervisor.errors import WorkerRefused
from pgferry.supervisor.log import Log

_MAX_NAMES = 10_000
_FORGET_SECONDS = 3600.0
"""A name that no worker has asked for since is not kept fresh any more."""

OnChange = Callable[[str, Addresses, list[str], float], Awaitable[None]]
"""Gets a name, its new addresses, those that it has lost, and for how many seconds that holds."""


@dataclass(frozen=True, slots=True)
class Limits:
    """The settings, as they are now: dns_max_ttl, dns_nxdomain_ttl, dns_zone_check_period."""

    max_ttl: float
    failed_ttl: float
    zone_period: float


@dataclass(slots=True)
class _Entry:
    addresses: Addresses
    error: str | None
    expires: float
    asked: float = 0.0


@dataclass(slots=True)
class _Zone:
    serial: int | None = None
    names: set[str] = field(default_factory=set)


class Resolver:
    """The cache; one look-up of a name at a time, shared by all who ask for it meanwhile."""

    def __init__(
        self,
        limits: Callable[[], Limits],
        log: Log,
        lookup: DnsLookup | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._limits = limits
        self._log = log
        self._lookup = lookup or DnsLookup()
        self._clock = clock
        self._cache: dict[str, _Entry] = {}
        self._zones: dict[str, _Zone] = {}
        self._running: dict[str, asyncio.Task[_Entry]] = {}
        self._on_change: OnChange | None = None
        self._next_zone_check = 0.0

    def on_change(self, action: OnChange) -> None:
        """Set who wants to know when a name has lost an address."""
        self._on_change = action

    async def resolve(self, host: str) -> dict[str, Any]:
        """The answer to a worker's `resolve`: addrs [[family, address], ...] and ttl in seconds.

        Raises WorkerRefused with the reason when the name has no address.
        """
        entry = self._cache.get(host)
        if entry is None or entry.expires <= self._clock():
            entry = await self._fresh(host)
        entry.asked = self._clock()
        if entry.error is not None:
            raise WorkerRefused(entry.error)
        return {
            "addrs": [list(item) for item in entry.addresses],
            "ttl": max(0.0, entry.expires - self._clock()),
        }

    async def run(self) -> None:
        """Keep the names in use fresh and watch their zones, for ever."""
        while True:
            await asyncio.sleep(0.5)
            now = self._clock()
            stale = [
                name
                for name, entry in self._cache.items()
                if entry.expires <= now and entry.error is None and now - entry.asked < _FORGET_SECONDS
            ]
            await asyncio.gather(*(self._fresh(name) for name in stale))
            period = self._limits().zone_period
            if period > 0 and now >= self._next_zone_check:
                self._next_zone_check = now + period
                await self._check_zones()

    def forget(self) -> None:
        """RECONNECT: what is asked next is asked anew."""
        for entry in self._cache.values():
            entry.expires = 0.0

    async def _fresh(self, host: str) -> _Entry:
        task = self._running.get(host)
        # One that has just ended tells what was asked before: it may be in the way until the loop's next turn.
        if task is None or task.done():
            task = asyncio.get_running_loop().create_task(self._fetch(host))
            self._running[host] = task
            task.add_done_callback(lambda done: self._ended(host, done))
        return await asyncio.shield(task)

    def _ended(self, host: str, task: asyncio.Task[_Entry]) -> None:
        if self._running.get(host) is task:
            del self._running[host]

    async def _fetch(self, host: str) -> _Entry:
        limits, former = self._limits(), self._cache.get(host)
        entry: _Entry
        try:
            found = await self._lookup.addresses(host)
        except NoName as error:
            entry = _Entry([], str(error), self._clock() + limits.failed_ttl)
        except NoAnswer as error:
            if former is not None and former.addresses:
                # A name server that is down says nothing about the database: what was true is the best guess.
                self._log.warning(f"DNS: {host}: {error}; its last known addresses stay in use")
                former.expires = self._clock() + limits.failed_ttl
                return former
            entry = _Entry([], str(error), self._clock() + limits.failed_ttl)
        else:
            ttl = limits.max_ttl if found.ttl is None else min(found.ttl, limits.max_ttl)
            entry = _Entry(found.addresses, None, self._clock() + ttl)
        self._keep(host, entry, former)
        if former is not None and entry.addresses:
            await self._tell(host, former, entry)
        return entry

    def _keep(self, host: str, entry: _Entry, former: _Entry | None) -> None:
        if former is not None:
            entry.asked = former.asked
        if len(self._cache) >= _MAX_NAMES:
            now = self._clock()
            self._cache = {name: known for name, known in self._cache.items() if known.expires > now}
        self._cache[host] = entry
        zone = host.rstrip(".").partition(".")[2]
        if zone:
            self._zones.setdefault(zone, _Zone()).names.add(host)

    async def _tell(self, host: str, former: _Entry, entry: _Entry) -> None:
        gone = [address for family, address in former.addresses if (family, address) not in entry.addresses]
        if not gone:
            return
        have = ",".join(address for _, address in entry.addresses)
        self._log.log(f"DNS: {host} has moved from {','.join(gone)} to {have}")
        if self._on_change is not None:
            await self._on_change(host, entry.addresses, gone, max(0.0, entry.expires - self._clock()))

    async def _check_zones(self) -> None:
        """Ask for the names of a zone anew when its serial number has changed."""
        for name, zone in list(self._zones.items()):
            zone.names &= self._cache.keys()
            if not zone.names:
                del self._zones[name]
                continue
            serial = await self._lookup.serial(name)
            if serial is None:
                continue
            if zone.serial is not None and serial != zone.serial:
                self._log.log(f"DNS: zone {name} has changed, serial {zone.serial} is now {serial}")
                await asyncio.gather(*(self._fresh(host) for host in zone.names))
            zone.serial = serial

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

    def zones(self) -> list[tuple[str, int, int]]:
        """Name, serial, number of names: SHOW DNS_ZONES. Zones are known when they are checked."""
        if self._limits().zone_period <= 0:
            return []
        return [(name, zone.serial or 0, len(zone.names)) for name, zone in sorted(self._zones.items())]

    @property
    def pending(self) -> int:
        """Look-ups that are running."""
        return len(self._running)

    def close(self) -> None:
        """Give up what is running."""
        for task in list(self._running.values()):
            with contextlib.suppress(RuntimeError):
                task.cancel()
        self._lookup.close()
