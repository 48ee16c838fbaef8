"""Entry of a worker process: `python -m pgferry.worker`, started by the supervisor only."""

import argparse
import contextlib
import gc
import os
import signal
import socket
import sys

from pgferry.auth.scram import SaltSource
from pgferry.engine.io.log import Log
from pgferry.engine.io.loop import Loop
from pgferry.engine.ops import handover, worker_loop
from pgferry.engine.ops.listener import ListenSocket
from pgferry.engine.ops.worker_engine import WorkerEngine
from pgferry.engine.ops.worker_loop import Watch
from pgferry.engine.pool import peers, waking
from pgferry.engine.shared.ledger import Ledger
from pgferry.worker import shared_port
from pgferry.worker.catalog_analysis import CatalogAnalysis
from pgferry.worker.control import Control
from pgferry.worker.engine_services import EngineServices
from pgferry.worker.handover import HandoverListener
from pgferry.worker.requests import Requests
from pgferry.worker.slow import SlowWork


def fd_list(text: str) -> list[int]:
    """Descriptors separated by commas; empty text is none."""
    return [int(part) for part in text.split(",") if part]


def arguments() -> argparse.Namespace:
    """The descriptors and numbers the supervisor gives."""
    parser = argparse.ArgumentParser(prog="pgferry.worker")
    for name in ("index", "workers", "control-fd", "log-fd", "ledger-fd"):
        parser.add_argument(f"--{name}", type=int, required=True)
    for name in ("handover-fd", "first-statement"):
        parser.add_argument(f"--{name}", type=int, default=-1)
    for name in ("tcp-fds", "unix-fds", "wake-fds"):
        parser.add_argument(f"--{name}", type=fd_list, default=[])
    return parser.parse_args()


class Worker:
    """Puts the parts together and runs them."""

    def __init__(self, args: argparse.Namespace) -> None:
        self._args = args
        self._log = Log(args.log_fd)
        self._loop = Loop()
        ledger = Ledger(args.ledger_fd, args.workers, args.index)
        self._services = EngineServices(SaltSource(ledger.secret))
        self._engine = WorkerEngine(self._loop, ledger, args.index, args.workers, self._services, self._log)
        self._services.engine = self._engine
        if args.workers > 1:
            self._engine.wakes = args.wake_fds
            self._woken = Watch(self._loop, os.dup(args.wake_fds[args.index]), self._wake)
        self._services.slow = SlowWork(self._loop)
        self._services.catalog_analysis = CatalogAnalysis(self._loop)
        self._requests = Requests(self._engine, self._services, self._listen)
        self._requests.on_stop_listening(self._stop_tcp, self._leave_listeners)
        self._control = Control(self._loop, args.control_fd, self._requests.handle, self._lost)
        self._services.control = self._control
        if args.first_statement > 0:
            handover.number_from(self._engine, args.first_statement)
        if args.handover_fd >= 0:
            self._services.handover_listener = HandoverListener(self._engine, args.handover_fd)
        self._tcp: list[ListenSocket] = []
        self._unix: list[ListenSocket] = []
        self._close_tcp_at = float("inf")

    def run(self) -> None:
        """Serve until the supervisor closes the control channel."""
        worker_loop.run(self._engine, self._after_tick)
        self._log.flush()

    def _listen(self) -> None:
        """The first configuration is in effect: accept clients."""
        port = self._services.config.settings.listen_port
        for fd in self._args.tcp_fds:
            with socket.socket(fileno=fd) as sock:
                self._services.set_tcp_options(sock)
                sock.setblocking(False)
                sock.detach()
            self._tcp.append(ListenSocket(self._loop, self._engine, fd, False, port))
        for fd in self._args.unix_fds:
            with socket.socket(fileno=fd) as sock:
                sock.setblocking(False)
                sock.detach()
            self._unix.append(ListenSocket(self._loop, self._engine, fd, True, port))
        # What exists now lives as long as the process: the collector need not look at it again.
        gc.collect()
        gc.freeze()
        gc.set_threshold(20_000, 50, 100)
        self._control.notice("ready")

    def _stop_tcp(self) -> None:
        if self._services.config.settings.so_reuseport:
            for listener in self._tcp:
                shared_port.prepare(listener.fd, self._args.workers)
            self._close_tcp_at = self._loop.now + shared_port.LINGER_SECONDS
        else:
            self._close_tcp()

    def _leave_listeners(self) -> None:
        """Another process goes on with the same sockets."""
        for listener in self._tcp + self._unix:
            listener.stop()
        self._tcp.clear()
        self._unix.clear()

    def _close_tcp(self) -> None:
        for listener in self._tcp:
            shared_port.undo(listener.fd)
            listener.stop()
        self._tcp.clear()

    def _after_tick(self) -> None:
        if self._tcp and self._loop.now > self._close_tcp_at:
            self._close_tcp()
        self._requests.check_waits()
        self._control.expire()
        peers.start_waiting(self._engine)
        for listener in self._tcp + self._unix:
            listener.retry()
        self._log.retry()

    def _wake(self) -> None:
        """Another worker has a place less."""
        with contextlib.suppress(BlockingIOError):
            os.eventfd_read(self._args.wake_fds[self._args.index])
        waking.look_again(self._engine)

    def _lost(self) -> None:
        """The supervisor is gone: so are we, without waiting for clients."""
        worker_loop.stop(self._engine)


def main() -> int:
    """Run a worker. Signals of a terminal or an operator are the supervisor's business."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, signal.SIG_IGN)
    Worker(arguments()).run()
    return 0


if __name__ == "__main__":
    sys.exit(main())
