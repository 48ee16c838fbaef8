"""From the command line to a running supervisor, in PgBouncer's order; a failure is one FATAL line."""

import asyncio
import contextlib
import os
import socket
from collections.abc import Callable
from dataclasses import dataclass

from pgferry.config import ConfigError, load
from pgferry.config.global_settings import Settings
from pgferry.config.model import Config
from pgferry.supervisor import pidfile, process, systemd
from pgferry.supervisor.errors import StartError
from pgferry.supervisor.handover import Taken, take_over
from pgferry.supervisor.listeners import Listeners, ListenPlan, adopt, open_http, open_listeners
from pgferry.supervisor.log import Log
from pgferry.supervisor.pooler import Pooler
from pgferry.supervisor.reload import destinations, log_warnings, with_verbosity
from pgferry.supervisor.supervisor import Manage, Supervisor


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """The command line. `config` comes instead of `path` when there is no file."""

    path: str = ""
    config: Config | None = None
    daemon: bool = False
    quiet: bool = False
    user: str | None = None
    verbose: int = 0
    reboot: bool = False
    """Take the place of the process that runs with this configuration."""


class SharedLedger:
    """The ledger in shared memory: one descriptor for all workers, one view for the supervisor."""

    def __init__(self, workers: int) -> None:
        # Compiled, and not needed to report a bad configuration.
        from pgferry.engine.shared import ledger

        self.fd: int = ledger.create(workers)
        self._view = ledger.Ledger(self.fd, workers, 0)

    def clear_worker(self, worker: int) -> None:
        """Take everything that `worker` held out of the counts."""
        self._view.clear_worker(worker)


def run(options: Options, manage: Manage) -> int:
    """Run pgferry to its end and return the exit status: 0 after a normal end, 1 when it could not start.

    `manage` makes what operators are served with.
    """
    log = Log(options.verbose, quiet=options.quiet)
    try:
        _run(options, manage, log)
    except StartError as error:
        log.fatal(str(error))
        return 1
    finally:
        log.close()
    return 0


def _run(options: Options, manage: Manage, log: Log) -> None:
    config = with_verbosity(_load(options, log), options.verbose)
    settings = config.settings
    log.verbose = settings.verbose or 0
    # Before the daemon's forks: the environment names the process that they are for.
    passed = systemd.passed_sockets()
    user = options.user or settings.user
    if user:
        process.switch_user(user)
    process.refuse_root()
    if options.reboot and passed:
        raise StartError("-R cannot be used with socket activation")
    note = pidfile.check(settings.pidfile) if settings.pidfile and not options.reboot else None
    if options.daemon and not settings.pidfile:
        raise StartError("daemon needs pidfile configured")
    # Before there are threads and a loop: neither survives a fork.
    leave_terminal: Callable[[], None] = process.daemonize() if options.daemon else lambda: None
    try:
        log.open(destinations(settings, stderr=True))
    except OSError as error:
        raise StartError(f"cannot open logfile '{settings.logfile}': {error.strerror}") from error
    log_warnings(config, log)
    if note:
        log.log(note)
    _log_limits(settings, log)
    taken = _take_over(settings, log) if options.reboot else None
    if settings.pidfile and taken is None:
        pidfile.write(settings.pidfile)
    try:
        with contextlib.ExitStack() as open_sockets:
            http = taken.http_for(settings.http_listen) if taken is not None else None
            if http is None:
                http = open_http(settings.http_listen)
            for sock in http:
                open_sockets.callback(sock.close)
            if taken is not None:
                listeners = taken.listeners
            else:
                listeners = (
                    adopt(passed, settings.workers, log) if passed else open_listeners(_plan(settings), log)
                )
            open_sockets.callback(listeners.close)
            asyncio.run(_supervise(options, manage, config, log, listeners, http, leave_terminal, taken))
    finally:
        if settings.pidfile:
            pidfile.remove(settings.pidfile)


def _take_over(settings: Settings, log: Log) -> Taken | None:
    """The sockets of the running process; None when there is none, then this is a normal start."""
    taken = take_over(settings.unix_socket_dir, settings.listen_port, settings.workers, log)
    if taken is not None:
        taken.open_handover_sockets(settings.workers)
    elif settings.pidfile and (note := pidfile.check(settings.pidfile)):
        log.log(note)
    return taken


async def _supervise(
    options: Options,
    manage: Manage,
    config: Config,
    log: Log,
    listeners: Listeners,
    http: list[socket.socket],
    leave_terminal: Callable[[], None],
    taken: Taken | None,
) -> None:
    def up() -> None:
        if taken is not None:
            # From here on the socket file and the pid file are ours. The pid file first: the other process
            # removes it at its end, if it is still its own.
            if config.settings.pidfile:
                pidfile.replace(config.settings.pidfile)
            try:
                taken.go()
            except StartError:
                if config.settings.pidfile:
                    pidfile.replace(config.settings.pidfile, taken.pid)
                raise
            systemd.notify(f"MAINPID={os.getpid()}")
        if options.daemon:
            log.stop_stderr()
        leave_terminal()

    try:
        supervisor = Supervisor(
            Pooler(config, log),
            listeners,
            SharedLedger(config.settings.workers),
            manage,
            verbose=options.verbose,
            stderr=not options.daemon,
            http=http,
            on_up=up,
            predecessor=taken,
        )
    except OSError as error:  # no descriptors, no shared memory
        raise StartError(f"cannot start: {error}") from error
    await supervisor.run()


def _load(options: Options, log: Log) -> Config:
    if options.config is not None:
        return options.config
    try:
        return load(options.path)
    except ConfigError as error:
        for problem in error.problems:
            log.error(str(problem))
        raise StartError(f"cannot load config file '{options.path}'") from error


def _plan(settings: Settings) -> ListenPlan:
    return ListenPlan(
        addresses=settings.listen_addr,
        port=settings.listen_port,
        backlog=settings.listen_backlog,
        unix_dir=settings.unix_socket_dir,
        unix_mode=settings.unix_socket_mode,
        unix_group=settings.unix_socket_group,
        reuseport=settings.so_reuseport,
        defer_accept=settings.tcp_defer_accept,
        workers=settings.workers,
    )


def _log_limits(settings: Settings, log: Log) -> None:
    with contextlib.suppress(OSError):
        soft, hard = process.raise_descriptor_limit()
        log.log(
            f"kernel file descriptor limit: {soft} (hard: {hard}); "
            f"max_client_conn: {settings.max_client_conn}, pid {os.getpid()}"
        )


__all__ = ["Options", "run"]
