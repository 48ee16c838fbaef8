"""A new configuration for a running pooler: RELOAD all or nothing, and SET of one value."""

import asyncio
import contextlib
from collections.abc import Coroutine
from typing import Any, TypeVar

import msgspec

from pgferry.config import Config, ConfigError, Settings, load, settings_by_name, with_overrides
from pgferry.config.load import TLS_KEPT, with_new_users
from pgferry.config.problems import nearest_name
from pgferry.supervisor.errors import CommandError, WorkerGone, WorkerRefused
from pgferry.supervisor.log import Destinations, Log
from pgferry.supervisor.pooler import Pooler

_SECONDS = 30.0
"""For the answer of a worker to a new configuration."""
_RESTORE_SECONDS = 10.0
"""For its answer to the configuration of before, when others have not taken the new one."""
T = TypeVar("T")
_FAILED = "RELOAD failed, see logs for additional details"


def destinations(settings: Settings, *, stderr: bool) -> Destinations:
    """Where the log goes according to `settings`."""
    return Destinations(
        stderr=stderr,
        logfile=settings.logfile or "",
        syslog=settings.syslog,
        syslog_ident=settings.syslog_ident,
        syslog_facility=settings.syslog_facility,
    )


def with_verbosity(config: Config, verbose: int) -> Config:
    """`config`, at least as talkative as the command line's -v asked for."""
    level = max(config.settings.verbose or 0, verbose)
    return msgspec.structs.replace(config, settings=msgspec.structs.replace(config.settings, verbose=level))


def log_warnings(config: Config, log: Log) -> None:
    """Write the findings that did not stop the load."""
    for problem in config.warnings:
        log.warning(str(problem))


class Reloader:
    """Changes the configuration of `pooler`, one change at a time."""

    def __init__(self, pooler: Pooler, *, verbose: int, stderr: bool) -> None:
        self._pooler = pooler
        self._verbose = verbose
        self._stderr = stderr
        self._lock = asyncio.Lock()
        self._tasks: set[asyncio.Task[Any]] = set()

    async def _whole(self, change: Coroutine[Any, Any, T]) -> T:
        """Carry out a change to its end, even if whoever asked for it gives up: half of one is none."""
        task = asyncio.get_running_loop().create_task(change)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        task.add_done_callback(lambda done: done.cancelled() or done.exception())  # seen, whoever waits
        return await asyncio.shield(task)

    async def reload(self) -> None:
        """Read the file again and put it into effect everywhere, or change nothing.

        The log file is opened again in any case: who has moved it away will soon remove it.
        Raises CommandError (F0000) with all problems as its detail; they are in the log, too.
        """
        await self._whole(self._reload())

    async def _reload(self) -> None:
        async with self._lock:
            pooler = self._pooler
            old = pooler.config
            with contextlib.suppress(OSError):  # tried again below, and reported there
                pooler.log.open(destinations(old.settings, stderr=self._stderr))
            new = with_verbosity(await self._load(old), self._verbose)
            log_to = destinations(new.settings, stderr=self._stderr)
            try:
                logfile = pooler.log.open_file(log_to)
            except OSError as error:
                raise self._failure(
                    [f"cannot open logfile '{new.settings.logfile}': {error.strerror}"]
                ) from error
            try:
                await self._apply(new, old)
            except BaseException:
                if logfile is not None:
                    logfile.close()
                raise
            pooler.log.use(log_to, logfile)
            log_warnings(new, pooler.log)
            pooler.state.forget_missing(lambda name: new.autodb is not None or name in new.databases)
            pooler.listeners.defer_accept(new.settings.tcp_defer_accept)
            pooler.events.note("configuration reloaded")

    async def _load(self, old: Config) -> Config:
        path = old.settings.conffile or old.path
        if not path:
            # Made from a URL: there is nothing to read, but log file and auth caches are renewed.
            return old
        try:
            return await asyncio.to_thread(load, path, previous=old)
        except ConfigError as error:
            raise self._failure([str(problem) for problem in error.problems]) from error

    def _failure(self, problems: list[str]) -> CommandError:
        for problem in problems:
            self._pooler.log.error(f"reload: {problem}")
        self._pooler.log.error("reload failed, the configuration is unchanged")
        self._pooler.events.note(f"reload failed: {problems[0] if problems else ''}", "error")
        return CommandError(_FAILED, "F0000", "\n".join(problems))

    async def _apply(self, new: Config, old: Config) -> None:
        """Give `new` to all workers; unless all have taken it, all get `old` back. Raises CommandError."""
        problems = await self._distribute(new, _SECONDS)
        if problems:
            for problem in await self._distribute(old, _RESTORE_SECONDS):
                self._pooler.log.error(f"not back to the configuration of before: {problem}")
            raise self._failure(problems)
        self._pooler.log.verbose = new.settings.verbose or 0

    async def _distribute(self, config: Config, seconds: float) -> list[str]:
        """Make `config` that of the pooler and of every worker; the reasons why some have not taken it."""
        # Set first: a worker that starts meanwhile is configured with it.
        self._pooler.config = config
        answers = await self._pooler.fleet.ask_each(
            timeout=seconds, **self._pooler.config_message(reload=True)
        )
        problems = []
        for index, answer in answers.items():
            if isinstance(answer, WorkerRefused):
                problems.append(f"worker {index} refused the configuration: {answer}")
            elif isinstance(answer, TimeoutError):
                # It gets all its messages in order: if it ever goes on, it ends with the last one.
                problems.append(f"worker {index} did not answer within {seconds:g} s")
            elif isinstance(answer, WorkerGone):
                # No reason to go back: its successor begins with this configuration.
                self._pooler.log.warning(f"worker {index} ended while it was given the configuration")
        return problems

    async def renew_users(self) -> None:
        """Read auth_file again, which has changed; everything else stays as it is."""
        await self._whole(self._renew_users())

    async def _renew_users(self) -> None:
        async with self._lock:
            old = self._pooler.config
            new = await asyncio.to_thread(with_new_users, old)
            if new is old:
                return
            self._pooler.log.log(f"{old.settings.auth_file} has changed, users are read again")
            log_warnings(new, self._pooler.log)
            # The answer is in the log.
            with contextlib.suppress(CommandError):
                await self._apply(new, old)

    async def set_value(self, key: str, text: str) -> str | None:
        """SET: one setting until the next reload. Returns a remark for the operator, if there is one.

        Raises CommandError for an unknown name, a bad value, and for what only the file may say. Settings only used
        at start change nothing.
        """
        setting = settings_by_name.get(key)
        if setting is None:
            nearest = nearest_name(key, settings_by_name)
            hint = f" (did you mean {nearest}?)" if nearest else ""
            raise CommandError("SET failed", detail=f"there is no setting {key}{hint}")
        if setting.file_only:
            raise CommandError(
                f"{key} can only be changed in the configuration file",
                "55P02",
                "It decides what pgferry's account opens, runs or believes, which is not for the console to say.",
            )
        return await self._whole(self._set_value(key, text, reload=setting.reload))

    async def _set_value(self, key: str, text: str, *, reload: bool) -> str | None:
        async with self._lock:
            old = self._pooler.config
            try:
                new = await asyncio.to_thread(with_overrides, old, {key: text})
            except ConfigError as error:
                raise CommandError("SET failed", detail="\n".join(map(str, error.problems))) from error
            if not reload:
                return f"{key} is only used at start; the running value stays"
            await self._apply(new, old)
        faults = [str(problem) for problem in new.warnings if TLS_KEPT in problem.message]
        if "_tls" in key and faults:
            self._pooler.log.error(faults[-1])
            return "TLS settings could not be applied, still using old configuration"
        return None
