"""The system refuses descriptors, processes, threads or memory: nothing is left open, and nobody else is hurt."""

import array
import asyncio
import contextlib
import dataclasses
import errno
import os
import resource
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from pgferry.frames import Message, packed
from pgferry.supervisor import fleet as fleets
from pgferry.supervisor import handover, listeners, process
from pgferry.supervisor.channel import Channel
from pgferry.supervisor.errors import CommandError, StartError, WorkerGone, WorkerRefused
from pgferry.supervisor.fleet import Fleet
from pgferry.supervisor.listeners import Listeners, ListenPlan
from pgferry.supervisor.log import Destinations, Log

FULL = OSError(errno.EMFILE, "Too many open files")
NO_MEMORY = OSError(errno.ENOMEM, "Cannot allocate memory")


def descriptors() -> set[Path]:
    found = set(Path("/proc/self/fd").iterdir())
    return {each for each in found if each.is_symlink()}  # without that of the directory itself


@contextlib.contextmanager
def nothing_left() -> Iterator[None]:
    before = descriptors()
    yield
    assert descriptors() <= before


class Ledger:
    fd = 1

    def __init__(self) -> None:
        self.cleared: list[int] = []

    def clear_worker(self, worker: int) -> None:
        self.cleared.append(worker)


class Lines:
    """A log that keeps its lines."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def log(self, text: str) -> None:
        self.lines.append(text)

    error = warning = log

    def copy(self, line: bytes) -> None:
        self.lines.append(line.decode())


def make_fleet(workers: int, log: Any) -> Fleet:
    async def handler(_index: int, _message: Message, _fd: int | None) -> Message | None:
        return None

    return Fleet(
        Listeners(tcp=[[] for _ in range(workers)]),
        Ledger(),
        log,
        handler,
        lambda: {"op": "config"},
        lambda _i: None,
    )


SLEEPER = [sys.executable, "-c", "import time; time.sleep(60)"]


def fail(
    monkeypatch: pytest.MonkeyPatch, where: object, name: str, error: BaseException, after: int = 0
) -> None:
    """The call fails each time after so many."""
    real, calls = getattr(where, name), [0]

    def call(*arguments: Any, **more: Any) -> Any:
        calls[0] += 1
        if calls[0] > after:
            raise error
        return real(*arguments, **more)

    monkeypatch.setattr(where, name, call)


CALLS = [
    (socket, "socketpair", FULL),
    (os, "pipe", FULL),
    (subprocess, "Popen", NO_MEMORY),
    (os, "set_blocking", FULL),
    (fleets, "Channel", NO_MEMORY),
    (threading.Thread, "start", RuntimeError("can't start new thread")),
]


@pytest.mark.parametrize(("where", "name", "error"), CALLS, ids=[name for _, name, _ in CALLS])
def test_a_worker_that_cannot_be_started_leaves_nothing(
    monkeypatch: pytest.MonkeyPatch, where: object, name: str, error: BaseException
) -> None:
    monkeypatch.setattr(fleets, "WORKER_COMMAND", SLEEPER)
    started: list[subprocess.Popen[bytes]] = []
    popen = subprocess.Popen

    def start(*arguments: Any, **more: Any) -> Any:
        started.append(popen(*arguments, **more))
        return started[-1]

    monkeypatch.setattr(subprocess, "Popen", start)

    async def main() -> None:
        fleet = make_fleet(1, Lines())
        with nothing_left(), monkeypatch.context() as patch:
            fail(patch, where, name, error)
            with pytest.raises(StartError, match="could not be started"):
                await fleet.start()
        assert fleet.workers == [None]

    asyncio.run(main())
    assert all(each.returncode is not None for each in started)  # killed, and no zombie


def test_a_worker_that_cannot_be_started_again_is_tried_later(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fleets, "WORKER_COMMAND", SLEEPER)
    monkeypatch.setattr(fleets, "_MAX_DELAY", 0.05)

    async def main() -> None:
        log = Lines()
        fleet = make_fleet(2, log)
        starting = asyncio.ensure_future(fleet.start())
        await asyncio.sleep(0)
        first = list(fleet.workers)
        for worker in first:
            assert worker is not None
            worker.ready.set()
        await starting
        with monkeypatch.context() as patch:
            fail(patch, threading.Thread, "start", RuntimeError("can't start new thread"))
            first[0].process.kill()  # type: ignore[union-attr]
            async with asyncio.timeout(10):
                while not any("could not be started" in line for line in log.lines):
                    await asyncio.sleep(0.01)
        async with asyncio.timeout(10):
            while fleet.restarts == 0:
                await asyncio.sleep(0.01)
        assert fleet.workers[0] is not first[0]
        assert fleet.workers[1] is first[1]
        await fleet.stop(0)

    asyncio.run(main())


def test_each_worker_has_its_own_outcome() -> None:
    """One that is gone, refuses or is silent does not keep the answers of the others from coming."""

    async def main() -> None:
        log = Lines()
        fleet = make_fleet(5, log)
        others: list[socket.socket] = []

        async def nothing(_message: Message, _fd: int | None) -> Message | None:
            return None

        for index in range(4):
            ours, theirs = socket.socketpair()
            others.append(theirs)
            worker = fleets.Worker(index, None, -1)  # type: ignore[arg-type]
            worker.channel = Channel(ours, nothing, lambda: None)
            fleet.workers[index] = worker

        def answer(index: int, **fields: Any) -> None:
            size = int.from_bytes(others[index].recv(4), "big")
            number = msgspec.msgpack.decode(others[index].recv(size))["id"]
            others[index].sendall(packed({"re": number, **fields}))
            # A second answer to the same request says nothing to anybody.
            others[index].sendall(packed({"re": number, "ok": False, "error": "twice"}))

        asked = asyncio.ensure_future(fleet.ask_each("config", 0.3))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        answer(0, ok=True, x=1)
        answer(1, ok=False, error="no")
        others[2].close()
        found = await asked
        assert found[0]["x"] == 1  # type: ignore[index]
        assert isinstance(found[1], WorkerRefused)
        assert isinstance(found[2], WorkerGone)
        assert isinstance(found[3], TimeoutError)
        assert 4 not in found  # it was not there
        asked = asyncio.ensure_future(fleet.ask_each("config", 0.05))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        answer(0, ok=True, x=2)
        assert (await asked)[0]["x"] == 2  # type: ignore[index]
        for worker in fleet.workers:
            if worker is not None and worker.channel is not None:
                worker.channel.close()
        for sock in others:
            sock.close()

    asyncio.run(main())


def test_a_descriptor_that_does_not_fit_is_not_replaced_by_the_next_one() -> None:
    """Or a client of the console would be served with the rights of another."""

    async def main() -> None:
        ours, theirs = socket.socketpair()
        taken: list[tuple[str, int | None]] = []

        async def take(message: Message, fd: int | None) -> Message | None:
            taken.append((message["op"], fd))
            return None

        channel = Channel(ours, take, lambda: None)
        read_end, write_end = os.pipe()
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [write_end]))]
        first, second = packed({"op": "first", "fd": True}), packed({"op": "second", "fd": True})
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        free = os.dup(0)
        os.close(free)
        theirs.sendmsg([first[:3]], rights)
        resource.setrlimit(resource.RLIMIT_NOFILE, (free, hard))
        try:
            channel._readable()
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        theirs.sendall(first[3:])
        theirs.sendmsg([second], rights)
        async with asyncio.timeout(5):
            while len(taken) < 2:
                await asyncio.sleep(0.01)
        assert taken[0] == ("first", None)
        assert taken[1][0] == "second"
        fd = taken[1][1]
        assert fd is not None
        channel.close()
        for each in (fd, read_end, write_end):
            os.close(each)
        theirs.close()

    asyncio.run(main())


def test_a_channel_without_memory_for_the_moment_goes_on() -> None:
    async def main() -> None:
        ours, theirs = socket.socketpair()
        failures = [OSError(errno.ENOBUFS, "No buffer space available"), NO_MEMORY]

        class Sock:
            """Fails at first."""

            def __getattr__(self, name: str) -> Any:
                return getattr(ours, name)

            def send(self, data: bytes) -> int:
                if failures:
                    raise failures.pop()
                return ours.send(data)

        async def nothing(_message: Message, _fd: int | None) -> Message | None:
            return None

        channel = Channel(Sock(), nothing, lambda: None)  # type: ignore[arg-type]
        asked = asyncio.ensure_future(channel.request("one", 5))
        size = int.from_bytes(await asyncio.to_thread(theirs.recv, 4), "big")
        number = msgspec.msgpack.decode(theirs.recv(size))["id"]
        theirs.sendall(packed({"re": number, "ok": True}))
        assert (await asked)["ok"]
        assert not failures
        channel.close()
        theirs.close()

    asyncio.run(main())


def test_an_answer_that_nobody_understands_ends_the_channel() -> None:
    async def main() -> None:
        ours, theirs = socket.socketpair()

        async def nothing(_message: Message, _fd: int | None) -> Message | None:
            return None

        channel = Channel(ours, nothing, lambda: None)
        asked = asyncio.ensure_future(channel.request("show", 5))
        await asyncio.sleep(0)
        theirs.sendall(packed({"re": 1, "ok": True, "more": True}))
        with pytest.raises(WorkerGone):
            await asked
        theirs.close()

    asyncio.run(main())


@pytest.mark.parametrize(("name", "after"), [("fork", 0), ("fork", 1), ("pipe", 0), ("open", 0)])
def test_a_daemon_that_cannot_be_made(monkeypatch: pytest.MonkeyPatch, name: str, after: int) -> None:
    calls = [0]

    def fork() -> int:
        calls[0] += 1
        return 0  # as in the child

    monkeypatch.setattr(os, "fork", fork)
    monkeypatch.setattr(os, "setsid", lambda: None)
    fail(monkeypatch, os, name, OSError(errno.EAGAIN, "Resource temporarily unavailable"), after)
    with pytest.raises(StartError, match="cannot become a daemon: Resource"):
        process.daemonize()


PLAN = ListenPlan(
    addresses=["127.0.0.1"],
    port=0,
    backlog=1,
    unix_dir="",
    unix_mode=0o700,
    unix_group="",
    reuseport=False,
    defer_accept=False,
    workers=1,
)


@pytest.mark.parametrize("unix", [False, True])
def test_no_descriptors_for_listeners(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, unix: bool) -> None:
    plan = dataclasses.replace(PLAN, unix_dir=str(tmp_path) if unix else "")
    fail(monkeypatch, socket, "socket", FULL, after=1 if unix else 0)
    with nothing_left(), pytest.raises(StartError):
        listeners.open_listeners(plan, Lines())  # type: ignore[arg-type]


def test_no_descriptor_and_no_thread_for_the_log(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    log = Log(quiet=True)
    log.open(Destinations(stderr=False, logfile=str(tmp_path / "log")))
    with nothing_left(), monkeypatch.context() as patch:
        fail(patch, threading.Thread, "start", RuntimeError("can't start new thread"))
        with pytest.raises(OSError, match="can't start new thread"):
            log.open(Destinations(stderr=False, logfile=str(tmp_path / "other")))
    log.log("still here")
    log.close()
    assert "still here" in (tmp_path / "log").read_text()


# --- online upgrade


def header(**more: Any) -> bytes:
    fields = {"workers": 1, "tcp": [1], "unix": 0, "unix_path": None, "pid": 1, "statements": 3, **more}
    return msgspec.msgpack.encode(fields)


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (header(workers=2), "has workers = 2, not 1"),
        (header(tcp=[2]), "not all sockets have come"),
        (b"rubbish", "sends something else"),
        (msgspec.msgpack.encode({"workers": 1}), "sends something else"),
    ],
    ids=["workers", "missing", "rubbish", "fields"],
)
def test_what_the_old_process_sends_is_no_use(data: bytes, text: str) -> None:
    ours, theirs = socket.socketpair()
    with socket.socket() as sock:
        with nothing_left():
            socket.send_fds(theirs, [data], [sock.fileno()])
            with pytest.raises(StartError, match=text):
                handover._receive(ours, 1)
        socket.send_fds(theirs, [header()], [sock.fileno()])
        taken = handover._receive(ours, 1)
        assert [len(group) for group in taken.listeners.tcp] == [1]
        taken.close()
    theirs.close()


def test_an_old_process_that_sends_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handover, "_SECONDS", 0.1)
    ours, theirs = socket.socketpair()
    with pytest.raises(StartError, match="nothing came"):
        handover._receive(ours, 1)
    ours.close()
    theirs.close()


def test_an_old_process_that_waits_no_more() -> None:
    ours, theirs = socket.socketpair()
    taken = handover.Taken(ours, Listeners(), [], 0, 77)
    with nothing_left():
        taken.open_handover_sockets(2)
        theirs.close()
        with pytest.raises(StartError, match="pid 77 does not wait any more"):
            taken.go()


def test_not_enough_descriptors_for_the_new_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    ours, theirs = socket.socketpair()
    taken = handover.Taken(ours, Listeners(tcp=[[socket.socket()]]), [socket.socket()], 0, 77)
    fail(monkeypatch, handover, "_abstract_listener", FULL, after=1)
    with pytest.raises(StartError, match="Too many open files"):
        taken.open_handover_sockets(2)
    assert theirs.recv(1) == b""  # the old process hears of it
    assert taken.listeners.tcp == [[]]
    theirs.close()


class OldFleet:
    """Two workers, asked for their last statement."""

    def __init__(self) -> None:
        self.second: Any = {"number": 7}
        self.asked = 0

    async def ask_each(self, _op: str, timeout: float | None) -> dict[int, Any]:
        assert timeout is not None
        self.asked += 1
        await asyncio.sleep(0)
        return {0: {"number": 5}, 1: self.second}


def old_process(fleet: OldFleet, log: Lines) -> handover.Handover:
    pooler = SimpleNamespace(
        log=log, state=SimpleNamespace(shutdown=None), fleet=fleet, listeners=Listeners(tcp=[[], []])
    )

    async def stop_web() -> None:
        return None

    return handover.Handover(pooler, [], stop_web)  # type: ignore[arg-type]


def test_a_silent_worker_refuses_the_upgrade_and_another_try_is_possible(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(handover, "_GO_SECONDS", 0.2)

    async def main() -> None:
        fleet, log = OldFleet(), Lines()
        old = old_process(fleet, log)
        with handover._abstract_listener() as listener:
            name = os.fsdecode(listener.getsockname()[1:])
            for failure, text in (
                (TimeoutError(), "worker 1 does not answer"),
                (WorkerRefused("no memory"), "no memory"),
            ):
                fleet.second = failure
                with nothing_left(), pytest.raises(CommandError, match=text):
                    await old.begin(name)
                listener.accept()[0].close()
            fleet.second = {"number": 7}
            outcomes = await asyncio.gather(old.begin(name), old.begin(name), return_exceptions=True)
            # One at a time: the second one was not even connected.
            assert outcomes[0] is None
            assert isinstance(outcomes[1], CommandError)
            new, _ = listener.accept()
            taken = msgspec.msgpack.decode(socket.recv_fds(new, 65536, 10)[0])
            assert taken["statements"] == 7
            # The new process hangs before it says that it is ready.
            async with asyncio.timeout(5):
                while not any("was not ready within 0.2 s; going on as before" in line for line in log.lines):
                    await asyncio.sleep(0.02)
            new.close()
            await old.begin(name)
            new, _ = listener.accept()
            new.sendall(b"\xc1")
            async with asyncio.timeout(5):
                while sum("going on as before" in line for line in log.lines) < 2:
                    await asyncio.sleep(0.02)
            new.close()

    asyncio.run(main())
