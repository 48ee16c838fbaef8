"""A new configuration for a running pooler: RELOAD all or nothing, and SET of one value."""

import asyncio
import contextlib

import msgspec

from pgferry.config import Config, ConfigError, Settings, load, settings_by_name, with_overrides
from pgferry.config.load import TLS_KEPT, with_new_users
from pgferry.config.problems import nearest_name
from pgferry.supervisor.errors import CommandError, WorkerRefused
from pgferry.supervisor.log import Destinations, Log
from pgferry.supervisor.pooler import Pooler

_SECONDS = 30.0
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

    async def reload(self) -> None:
        """Read the file again and put it into effect everywhere, or change nothing.

        Raises CommandError (F0000) with all problems as its detail; they are in the log, too.
        """
        async with self._lock:
            pooler = self._pooler
            old = pooler.config
            new = await self._load(old)
            new = with_verbosity(new, self._verbose)
            try:
                pooler.log.open(destinations(new.settings, stderr=self._stderr))
            except OSError as error:
                raise self._failure(
                    [f"cannot open logfile '{new.settings.logfile}': {error.strerror}"]
                ) from error
            log_warnings(new, pooler.log)
            await self._apply(new, old)
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
        """Give `new` to all workers; when one refuses, all get `old` back. Raises CommandError."""
        pooler = self._pooler
        try:
            await self._distribute(new)
        except WorkerRefused as error:
            with contextlib.suppress(OSError):  # else the new destinations are better than none
                pooler.log.open(destinations(old.settings, stderr=self._stderr))
            try:
                await self._distribute(old)
            except WorkerRefused as second:
                pooler.log.error(f"a worker refused its old configuration: {second}")
            raise self._failure([str(error)]) from error
        pooler.log.verbose = new.settings.verbose or 0

    async def _distribute(self, config: Config) -> None:
        # Set first: a worker that starts meanwhile is greeted with it.
        self._pooler.config = config
        await self._pooler.fleet.ask_all(timeout=_SECONDS, **self._pooler.config_message(reload=True))

    async def renew_users(self) -> None:
        """Read auth_file again, which has changed; everything else stays as it is."""
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
        async with self._lock:
            old = self._pooler.config
            try:
                new = await asyncio.to_thread(with_overrides, old, {key: text})
            except ConfigError as error:
                raise CommandError("SET failed", detail="\n".join(map(str, error.problems))) from error
            if not setting.reload:
                return f"{key} is only used at start; the running value stays"
            await self._apply(new, old)
        faults = [str(problem) for problem in new.warnings if TLS_KEPT in problem.message]
        if "_tls" in key and faults:
            self._pooler.log.error(faults[-1])
            return "TLS settings could not be applied, still using old configuration"
        return None
