"""The pooler as one object: configuration, state, workers; what console, signals and metrics work with."""

import asyncio
from typing import Any

import msgspec

from pgferry.config.model import Config
from pgferry.frames import Message
from pgferry.supervisor import merge
from pgferry.supervisor.close_reasons import CloseReasons
from pgferry.supervisor.dns_lookup import Addresses, DnsLookup
from pgferry.supervisor.errors import CommandError, WorkerGone, WorkerRefused
from pgferry.supervisor.events import Events
from pgferry.supervisor.fleet import Fleet
from pgferry.supervisor.listeners import Listeners
from pgferry.supervisor.log import Log
from pgferry.supervisor.resolver import Limits, Resolver
from pgferry.supervisor.state import PoolerState
from pgferry.supervisor.state_counters import StateCounters
from pgferry.supervisor.stats import StatsKeeper
from pgferry.supervisor.times import TimesKeeper

SHOW_SECONDS = 10.0
"""A worker that does not answer for so long is left out of a result."""


class Pooler:
    """Holds the parts together. `fleet` and `listeners` are set once, while starting."""

    fleet: Fleet
    listeners: Listeners

    def __init__(self, config: Config, log: Log) -> None:
        self.config = config
        self.log = log
        self.state = PoolerState()
        self.stats = StatsKeeper()
        self.console_sessions = 0
        """How many there are now; the console counts them."""
        self.state_counters = StateCounters()
        self.times = TimesKeeper()
        self.close_reasons = CloseReasons()
        self.events = Events()
        self.resolver = Resolver(self._dns_limits, log, DnsLookup(config.settings.resolv_conf))
        self.resolver.on_change(self._name_moved)
        self.done = asyncio.Event()
        """Set when the process has to end."""
        self.grace = 5.0
        """Seconds that workers get to end by themselves; 0 = kill them."""

    def _dns_limits(self) -> Limits:
        settings = self.config.settings
        return Limits(settings.dns_max_ttl, settings.dns_nxdomain_ttl, settings.dns_zone_check_period)

    async def _name_moved(self, host: str, addresses: Addresses, gone: list[str], ttl: float) -> None:
        """Servers at addresses that a name has lost are replaced."""
        addrs = [list(item) for item in addresses]
        here = ", ".join(address for _, address in addresses)
        self.events.note(f"DNS: {host} has moved from {', '.join(gone)} to {here}", "warning")
        await self.fleet.ask_all("moved", SHOW_SECONDS, host=host, addrs=addrs, gone=gone, ttl=ttl)

    def config_message(self, *, reload: bool) -> Message:
        """The config message for a worker: everything it needs, in its present state."""
        return {
            "op": "config",
            "config": msgspec.to_builtins(self.config),
            "state": self.state.message(),
            "reload": reload,
        }

    async def show(self, what: str) -> list[dict[str, Any]]:
        """The rows of all workers for one kind of object, not merged. Raises CommandError."""
        return [row for rows in (await self.show_by_worker(what)).values() for row in rows]

    async def show_by_worker(self, what: str) -> dict[int, list[dict[str, Any]]]:
        """The rows of each worker that answers. Raises CommandError."""
        try:
            answers = await self.fleet.ask_all("show", SHOW_SECONDS, what=what)
        except WorkerRefused as error:
            raise CommandError(f"a worker could not show {what}: {error}") from error
        return {index: answer["rows"] for index, answer in answers.items()}

    async def pools(self) -> list[dict[str, Any]]:
        """Pools of all workers together."""
        return merge.pools(await self.show("pools"))

    async def databases(self) -> list[dict[str, Any]]:
        """Database entries with the connections of all workers; the state is the supervisor's own."""
        rows = merge.databases(await self.show("databases"))
        stopped = self.state.paused_dbs | self.state.killed_dbs
        for row in rows:
            row["paused"] = int(row["name"] in stopped)
            row["disabled"] = int(row["name"] in self.state.disabled_dbs)
        return rows

    async def users(self) -> list[dict[str, Any]]:
        """Users with the connections of all workers."""
        return merge.users(await self.show("users"))

    async def refresh_stats(self) -> None:
        """Ask all workers for their counters."""
        for index, rows in (await self.show_by_worker("stats")).items():
            self.stats.update(index, rows)

    async def refresh_state_counters(self) -> None:
        """Ask all workers for their counters of session state."""
        for index, rows in (await self.show_by_worker("state_counters")).items():
            self.state_counters.update(index, rows)

    async def refresh_times(self) -> None:
        """Ask all workers for their histograms."""
        for index, rows in (await self.show_by_worker("times")).items():
            self.times.update(index, rows)

    async def refresh_close_reasons(self) -> None:
        """Ask all workers why connections ended."""
        for index, rows in (await self.show_by_worker("ends")).items():
            self.close_reasons.update(index, rows)

    async def refresh(self) -> None:
        """Ask all workers for everything that is counted."""
        await self.refresh_stats()
        await self.refresh_state_counters()
        await self.refresh_times()
        await self.refresh_close_reasons()

    def retire(self, worker: int) -> None:
        """A worker has died: its counters stay in the totals."""
        self.stats.retire(worker)
        self.state_counters.retire(worker)
        self.times.retire(worker)
        if not self.done.is_set() and self.state.shutdown is None:
            self.events.note(f"worker {worker} died and is started again, its clients are cut off", "error")
        self.close_reasons.retire(worker)

    async def client_state(self, number: int) -> list[dict[str, Any]]:
        """What the client with this id of SHOW CLIENTS keeps between transactions. Raises CommandError."""
        rows: list[dict[str, Any]] = (await self.ask_owner("client_state", number))["rows"]
        return rows

    async def ask_owner(self, op: str, number: int) -> Message:
        """Ask about a client; the answer of the worker that has it. Raises CommandError if there is none."""
        answers = await asyncio.gather(
            *(self.fleet.ask(index, op, SHOW_SECONDS, client_id=number) for index in range(self.fleet.size)),
            return_exceptions=True,
        )
        for answer in answers:
            if not isinstance(answer, BaseException):
                return answer
            if not isinstance(answer, (WorkerRefused, WorkerGone, TimeoutError)):
                raise answer
        raise CommandError("client not found")

    def end(self, grace: float) -> None:
        """Let the process end; see `grace`."""
        self.grace = min(grace, self.grace)
        self.done.set()
