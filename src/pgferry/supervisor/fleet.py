"""The worker processes: starting, configuring, asking, restarting after a death, and stopping them."""

import asyncio
import contextlib
import errno
import os
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Protocol

from pgferry.frames import Message
from pgferry.supervisor.channel import Channel
from pgferry.supervisor.errors import StartError, WorkerGone, WorkerRefused
from pgferry.supervisor.listeners import Listeners
from pgferry.supervisor.log import Log

WORKER_COMMAND: list[str] = [sys.executable, "-P", "-m", "pgferry.worker"]
START_SECONDS = 30.0
SILENT_SECONDS = 30.0
"""After which a worker that does not answer is killed and replaced."""
_PING_SECONDS = 5.0
_STABLE_SECONDS = 10.0
_MAX_DELAY = 5.0
_MAX_LOG_LINE = 65536
_UNFINISHED = re.compile(rb"^(?![0-9\t])", re.M)
"""Begins a line that is not the worker's own log: what an interpreter or a library printed."""

Outcome = Message | WorkerRefused | WorkerGone | TimeoutError
"""Of a question: the answer, or why there is none."""
_FAILURES = (WorkerRefused, WorkerGone, TimeoutError)
WorkerHandler = Callable[[int, Message, int | None], Awaitable[Message | None]]


class Ledger(Protocol):
    """The shared counts; what a dead worker held must be given back."""

    fd: int

    def clear_worker(self, worker: int) -> None:
        """Take everything that `worker` held out of the counts."""


class Predecessor(Protocol):
    """A process whose place we take (see handover)."""

    handover_sockets: list[socket.socket]
    statements: int


class Worker:
    """One worker process as the supervisor sees it."""

    def __init__(self, index: int, process: subprocess.Popen[bytes], log_fd: int) -> None:
        self.index = index
        self.process = process
        self.channel: Channel | None = None
        self.started = time.monotonic()
        self.ready = asyncio.Event()
        self.exited = asyncio.Event()
        self.log_fd = log_fd
        self.log_rest = b""


class Fleet:
    """All workers. `first_config` gives the config message of a new one; `handler` serves what workers ask."""

    def __init__(
        self,
        listeners: Listeners,
        ledger: Ledger,
        log: Log,
        handler: WorkerHandler,
        first_config: Callable[[], Message],
        on_death: Callable[[int], None],
    ) -> None:
        self._listeners = listeners
        self._ledger = ledger
        self._log = log
        self._handler = handler
        self._first_config = first_config
        self._on_death = on_death
        self.workers: list[Worker | None] = [None] * len(listeners.tcp)
        self._failures = [0] * len(listeners.tcp)
        self._tasks: set[asyncio.Task[None]] = set()
        # By index; with them workers wake each other.
        self._wakes = [os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC) for _ in self.workers]
        self._running = False
        self.stopping = False
        self.predecessor: Predecessor | None = None
        """Who has the clients and servers that our first workers are to take over."""
        self.restarts = 0
        """Workers started after a death."""
        self.draining = False
        """A shutdown is under way: a worker that dies now had nothing left to do and is not replaced."""

    @property
    def running(self) -> bool:
        """Whether all workers have been up once and are not being stopped."""
        return self._running and not self.stopping

    @property
    def size(self) -> int:
        """Number of workers that should be there."""
        return len(self.workers)

    async def start(self, timeout: float = START_SECONDS) -> None:
        """Start all workers and wait until they listen. Raises StartError when one dies or takes too long."""
        try:
            workers = [self._spawn(index) for index in range(self.size)]
        except OSError as error:
            raise StartError(f"a worker could not be started: {error}") from error
        ready = [asyncio.ensure_future(worker.ready.wait()) for worker in workers]
        deaths = [asyncio.ensure_future(worker.exited.wait()) for worker in workers]
        everybody = asyncio.ensure_future(asyncio.gather(*ready))
        waits: list[asyncio.Future[Any]] = [everybody, *deaths]
        try:
            await asyncio.wait(waits, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
            dead = next((w for w in workers if w.exited.is_set()), None)
            if dead is not None:
                raise StartError(
                    f"worker {dead.index} could not start ({_exit_text(dead.process.returncode)})"
                )
            if not everybody.done():
                raise StartError(f"workers did not start within {timeout:g} s")
        finally:
            for task in waits:
                task.cancel()
            # Their outcome does not matter, but a cancelled future that nobody looks at is reported as a bug.
            await asyncio.gather(*waits, return_exceptions=True)
        self._running = True

    def _spawn(self, index: int) -> Worker:
        """Start the worker of this index. Raises OSError; then nothing is left of it."""
        with contextlib.ExitStack() as kept, contextlib.ExitStack() as given:
            ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
            kept.callback(ours.close)
            given.callback(theirs.close)
            log_read, log_write = os.pipe()
            kept.callback(os.close, log_read)
            given.callback(os.close, log_write)
            worker = Worker(index, self._start_process(index, theirs.fileno(), log_write), log_read)
            try:
                self._watch(worker, ours)
            except BaseException:
                # Nobody would notice its end.
                asyncio.get_running_loop().remove_reader(log_read)
                worker.process.kill()
                worker.process.wait()
                raise
            kept.pop_all()
        self.workers[index] = worker
        self._task(self._configure(worker))
        return worker

    def _start_process(self, index: int, control: int, log_fd: int) -> subprocess.Popen[bytes]:
        tcp = [sock.fileno() for sock in self._listeners.tcp[index]]
        unix = [sock.fileno() for sock in self._listeners.unix]
        arguments = {
            "--index": index,
            "--workers": self.size,
            "--control-fd": control,
            "--log-fd": log_fd,
            "--ledger-fd": self._ledger.fd,
            "--tcp-fds": ",".join(map(str, tcp)),
            "--unix-fds": ",".join(map(str, unix)),
            "--wake-fds": ",".join(map(str, self._wakes)),
        }
        handover: list[int] = []
        if self.predecessor is not None and not self._running:
            handover.append(self.predecessor.handover_sockets[index].fileno())
            arguments |= {"--handover-fd": handover[0], "--first-statement": self.predecessor.statements}
        command = WORKER_COMMAND + [str(part) for pair in arguments.items() for part in pair]
        # A process group of its own keeps a terminal's Ctrl-C away: only we decide when workers end.
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=log_fd,
            stderr=log_fd,
            pass_fds=[control, log_fd, self._ledger.fd, *tcp, *unix, *self._wakes, *handover],
            process_group=0,
        )

    def _watch(self, worker: Worker, control: socket.socket) -> None:
        """Hear the worker's messages, its log and its end. Raises OSError."""
        loop = asyncio.get_running_loop()

        def wait() -> None:
            worker.process.wait()
            try:
                loop.call_soon_threadsafe(self._ended, worker)
            except RuntimeError:
                # The loop is closed: the supervisor is at its end and nobody counts workers any more.
                return

        async def serve(message: Message, fd: int | None) -> Message | None:
            if message.get("op") == "ready":
                worker.ready.set()
                return None
            return await self._handler(worker.index, message, fd)

        def closed() -> None:
            # A worker that closes its channel but goes on would serve clients that nobody can control.
            loop.call_later(2.0, self._kill, worker)

        os.set_blocking(worker.log_fd, False)
        loop.add_reader(worker.log_fd, self._read_log, worker)
        channel = Channel(control, serve, closed)
        try:
            threading.Thread(target=wait, name=f"wait-worker-{worker.index}", daemon=True).start()
        except RuntimeError as error:
            channel.close()
            raise OSError(errno.EAGAIN, str(error)) from error
        worker.channel = channel

    async def watch(self) -> None:
        """Kill workers that do not answer any more, for as long as this runs: each is started anew.

        One that hangs (a bug, a debugger, a stopped process) keeps its clients, and its share of the new ones.
        """
        silent_since: dict[Worker, float] = {}
        while True:
            await asyncio.sleep(_PING_SECONDS)
            if not self.running:
                silent_since.clear()
                continue
            silent = {self.workers[index] for index in await self.silent(_PING_SECONDS)}
            now = time.monotonic()
            silent_since = {w: silent_since.get(w, now - _PING_SECONDS) for w in silent if w is not None}
            for worker, since in silent_since.items():
                if now - since >= SILENT_SECONDS:
                    self._log.error(
                        f"worker {worker.index} (pid {worker.process.pid}) has not answered for"
                        f" {now - since:.0f} s: it is killed"
                    )
                    self._kill(worker)

    async def _configure(self, worker: Worker) -> None:
        assert worker.channel is not None
        try:
            # Without a limit: one that does not answer is killed by `start` or `watch`.
            await worker.channel.request(**self._first_config())
        except WorkerRefused as error:
            self._log.error(f"worker {worker.index} refused the configuration: {error}")
            self._kill(worker)
        except WorkerGone:
            return

    def _read_log(self, worker: Worker) -> None:
        try:
            data = os.read(worker.log_fd, 262144)
        except BlockingIOError:
            return
        if not data:
            self._close_log(worker)
            return
        finished, newline, worker.log_rest = (worker.log_rest + data).rpartition(b"\n")
        if newline:
            if _UNFINISHED.search(finished) is None:
                self._log.copy(finished)
            else:
                for line in finished.split(b"\n"):
                    self._copy_line(worker, line)
        if len(worker.log_rest) > _MAX_LOG_LINE:
            self._copy_line(worker, worker.log_rest)
            worker.log_rest = b""

    def _copy_line(self, worker: Worker, line: bytes) -> None:
        """Finished lines as they are; anything else is what a dying interpreter printed."""
        if line[:1].isdigit() or line[:1] == b"\t":
            self._log.copy(line)
        elif line:
            self._log.error(f"worker {worker.index}: {line.decode('utf-8', 'replace')}")

    def _close_log(self, worker: Worker) -> None:
        if worker.log_fd < 0:
            return
        asyncio.get_running_loop().remove_reader(worker.log_fd)
        os.close(worker.log_fd)
        worker.log_fd = -1
        if worker.log_rest:
            self._copy_line(worker, worker.log_rest)
            worker.log_rest = b""

    def _ended(self, worker: Worker) -> None:
        """The process is gone: give back what it held and start another one, unless all is to end."""
        if worker.log_fd >= 0:
            self._read_log(worker)
        self._close_log(worker)
        if worker.channel is not None:
            worker.channel.close()
        worker.exited.set()
        self._on_death(worker.index)
        self._ledger.clear_worker(worker.index)
        if self.stopping or self.draining or not self._running:
            return
        how = _exit_text(worker.process.returncode)
        lived = time.monotonic() - worker.started
        self._failures[worker.index] = 0 if lived > _STABLE_SECONDS else self._failures[worker.index] + 1
        delay = min(0.1 * 2 ** self._failures[worker.index] - 0.1, _MAX_DELAY)
        self._log.error(
            f"worker {worker.index} (pid {worker.process.pid}) died: {how}, after {lived:.1f} s; "
            f"restarting in {delay:.1f} s"
        )
        self._task(self._restart(worker.index, delay))

    async def _restart(self, index: int, delay: float) -> None:
        await asyncio.sleep(delay)
        if self.stopping or self.draining:
            return
        try:
            worker = self._spawn(index)
        except OSError as error:
            self._log.error(f"worker {index} could not be started: {error}")
            self._task(self._restart(index, _MAX_DELAY))
            return
        self.restarts += 1
        self._log.log(f"worker {index} restarted (pid {worker.process.pid})")

    def _task(self, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _kill(self, worker: Worker) -> None:
        if worker.process.poll() is None:
            worker.process.kill()

    async def ask(self, index: int, op: str, timeout: float | None = None, **fields: Any) -> Message:
        """Ask one worker. Raises WorkerGone, WorkerRefused, TimeoutError."""
        worker = self.workers[index] if 0 <= index < self.size else None
        if worker is None or worker.channel is None:
            raise WorkerGone(f"there is no worker {index}")
        return await worker.channel.request(op, timeout, **fields)

    async def silent(self, seconds: float) -> list[int]:
        """The workers that live and do not answer within so many seconds."""
        answers = await asyncio.gather(
            *(self.ask(index, "ping", seconds) for index in range(self.size)), return_exceptions=True
        )
        return [index for index, answer in enumerate(answers) if isinstance(answer, TimeoutError)]

    async def ask_each(self, op: str, timeout: float | None, **fields: Any) -> dict[int, Outcome]:
        """Ask all workers that are there at once: what each has answered, or why it has not."""
        there = [
            w.index for w in self.workers if w is not None and w.channel is not None and not w.channel.closed
        ]
        answers = await asyncio.gather(
            *(self.ask(index, op, timeout, **fields) for index in there), return_exceptions=True
        )
        found: dict[int, Outcome] = {}
        for index, answer in zip(there, answers, strict=True):
            if isinstance(answer, BaseException) and not isinstance(answer, _FAILURES):
                raise answer
            found[index] = answer
        return found

    async def ask_all(self, op: str, timeout: float | None = None, **fields: Any) -> dict[int, Message]:
        """Ask all workers at once; dead ones and ones that do not answer in time are left out.

        Raises the WorkerRefused of the first worker that refused, after all have answered.
        """
        good: dict[int, Message] = {}
        refused: WorkerRefused | None = None
        for index, answer in (await self.ask_each(op, timeout, **fields)).items():
            if isinstance(answer, WorkerRefused):
                refused = refused or answer
            elif isinstance(answer, TimeoutError):
                self._log.warning(f"worker {index} did not answer '{op}' within {timeout} s")
            elif not isinstance(answer, WorkerGone):
                good[index] = answer
        if refused is not None:
            raise refused
        return good

    async def stop(self, grace: float) -> None:
        """End all workers: close their channels, kill after `grace` seconds (0 = at once)."""
        self.stopping = True
        for task in list(self._tasks):
            task.cancel()
        alive = [worker for worker in self.workers if worker is not None and not worker.exited.is_set()]
        for worker in alive:
            if grace <= 0:
                self._kill(worker)
            elif worker.channel is not None:
                worker.channel.close()
        await self._wait_exit(alive, grace if grace > 0 else 2.0)
        for worker in alive:
            self._kill(worker)
        await self._wait_exit(alive, 2.0)

    @staticmethod
    async def _wait_exit(workers: Sequence[Worker], seconds: float) -> None:
        waits = [asyncio.ensure_future(w.exited.wait()) for w in workers if not w.exited.is_set()]
        if waits:
            _done, late = await asyncio.wait(waits, timeout=seconds)
            for wait in late:
                wait.cancel()


def _exit_text(code: int | None) -> str:
    if code is None:
        return "unknown end"
    return f"signal {-code}" if code < 0 else f"exit code {code}"
