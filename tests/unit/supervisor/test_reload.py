"""RELOAD is all or nothing: workers that refuse, hang or die meanwhile, and operators who give up waiting."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pgferry.config import Config, load
from pgferry.frames import Message
from pgferry.supervisor.errors import CommandError, WorkerGone, WorkerRefused
from pgferry.supervisor.log import Destinations, Log
from pgferry.supervisor.pooler import Pooler
from pgferry.supervisor.reload import Reloader


class FakeFleet:
    """Two workers; what each answers to a configuration, by its max_client_conn."""

    size = 2

    def __init__(self) -> None:
        self.answers: dict[tuple[int, int], Exception] = {}
        self.told: list[int] = []
        self.limits: list[float | None] = []
        self.reached = asyncio.Event()
        self.go_on = asyncio.Event()
        self.go_on.set()

    async def ask_each(
        self, op: str, timeout: float | None, **fields: Any
    ) -> dict[int, Message | WorkerRefused | WorkerGone | TimeoutError]:
        assert op == "config"
        self.told.append(fields["config"]["settings"]["max_client_conn"])
        self.limits.append(timeout)
        self.reached.set()
        await self.go_on.wait()
        return {n: self.answers.get((n, self.told[-1]), {"ok": True}) for n in range(self.size)}  # type: ignore[misc]


class Running:
    """A pooler without processes: its configuration file, its log and its fleet."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.file = directory / "pgbouncer.ini"
        self.write(100)
        self.log = Log(quiet=True)
        self.pooler = Pooler(self.load(), self.log)
        self.fleet = FakeFleet()
        self.pooler.fleet = self.fleet  # type: ignore[assignment]
        self.deferred: list[bool] = []
        self.pooler.listeners = self  # type: ignore[assignment]
        self.log.open(Destinations(stderr=False, logfile=str(directory / "log")))
        self.reloader = Reloader(self.pooler, verbose=0, stderr=False)

    def load(self) -> Config:
        return load(str(self.file))

    def write(self, limit: int, log: str = "log", extra: str = "") -> None:
        self.file.write_text(
            "[databases]\nshop = host=127.0.0.1\n[pgbouncer]\n"
            f"listen_addr = 127.0.0.1\nmax_client_conn = {limit}\nlogfile = {self.directory / log}\n{extra}"
        )

    def defer_accept(self, on: bool) -> None:
        self.deferred.append(on)

    @property
    def limit(self) -> int:
        return self.pooler.config.settings.max_client_conn

    def text(self, log: str = "log") -> str:
        self.log.close()  # all lines are written
        path = self.directory / log
        return path.read_text() if path.exists() else ""


def run(tmp_path: Path, work: Callable[[Running], Any]) -> None:
    async def main() -> None:
        running = Running(tmp_path)
        try:
            await work(running)
        finally:
            running.log.close()
            running.pooler.resolver.close()

    asyncio.run(main())


FAILURES = [
    (WorkerRefused("bad key"), "worker 1 refused the configuration: bad key"),
    (TimeoutError(), "worker 1 did not answer within 30 s"),
]


@pytest.mark.parametrize(("failure", "text"), FAILURES, ids=["refused", "silent"])
def test_nothing_has_changed_when_one_worker_has_not_taken_it(
    tmp_path: Path, failure: Exception, text: str
) -> None:
    async def work(running: Running) -> None:
        running.write(200, "other", "verbose = 2\ntcp_defer_accept = 0\n")
        running.fleet.answers[1, 200] = failure
        with pytest.raises(CommandError, match="RELOAD failed") as caught:
            await running.reloader.reload()
        assert caught.value.detail == text
        assert running.fleet.told == [200, 100]
        assert None not in running.fleet.limits
        assert running.limit == 100
        assert running.log.verbose == 0
        assert running.deferred == []
        assert not any("configuration reloaded" in str(event) for event in running.pooler.events.since(0))
        assert f"reload: {text}" in running.text()
        assert running.text("other") == ""

    run(tmp_path, work)


def test_a_worker_that_ends_meanwhile_is_no_reason_to_go_back(tmp_path: Path) -> None:
    """Its successor begins with the new configuration."""

    async def work(running: Running) -> None:
        running.write(200)
        running.fleet.answers[1, 200] = WorkerGone("worker ended")
        await running.reloader.reload()
        assert running.fleet.told == [200]
        assert running.limit == 200
        assert "worker 1 ended while it was given the configuration" in running.text()

    run(tmp_path, work)


def test_a_worker_that_does_not_take_its_old_configuration_either_is_named(tmp_path: Path) -> None:
    async def work(running: Running) -> None:
        running.write(200)
        running.fleet.answers = {(1, 200): WorkerRefused("bad key"), (0, 100): WorkerRefused("worse")}
        with pytest.raises(CommandError):
            await running.reloader.reload()
        assert running.limit == 100
        log = running.text()
        assert "worker 1 refused the configuration: bad key" in log
        assert "not back to the configuration of before: worker 0 refused the configuration: worse" in log

    run(tmp_path, work)


def test_other_destinations_of_the_log_only_after_all_have_agreed(tmp_path: Path) -> None:
    async def work(running: Running) -> None:
        running.write(200, "other", "verbose = 1\n")
        await running.reloader.reload()
        running.log.log("here")
        assert running.limit == 200
        assert running.log.verbose == 1
        assert running.deferred == [True]
        assert "here" in running.text("other")

    run(tmp_path, work)


def test_a_log_file_that_cannot_be_opened_stops_the_reload_before_any_worker_hears_of_it(
    tmp_path: Path,
) -> None:
    async def work(running: Running) -> None:
        running.write(200, "nowhere/log")
        with pytest.raises(CommandError) as caught:
            await running.reloader.reload()
        assert "cannot open logfile" in str(caught.value.detail)
        assert running.fleet.told == []
        assert running.limit == 100
        assert "reload failed" in running.text()

    run(tmp_path, work)


@pytest.mark.parametrize("refused", [False, True])
def test_the_log_file_is_opened_again_even_if_the_reload_fails(tmp_path: Path, refused: bool) -> None:
    """Whoever has moved it away will soon remove it."""

    async def work(running: Running) -> None:
        if refused:
            running.fleet.answers[0, 200] = WorkerRefused("no")
            running.write(200)
        else:
            running.file.write_text("[nonsense\n")
        (tmp_path / "log").rename(tmp_path / "log.1")
        with pytest.raises(CommandError):
            await running.reloader.reload()
        assert "reload failed" in running.text()

    run(tmp_path, work)


@pytest.mark.parametrize("refused", [False, True])
def test_an_operator_who_cancels_reload_leaves_nothing_half_done(tmp_path: Path, refused: bool) -> None:
    async def work(running: Running) -> None:
        running.write(200)
        if refused:
            running.fleet.answers[1, 200] = WorkerRefused("no")
        running.fleet.go_on.clear()
        reload = asyncio.ensure_future(running.reloader.reload())
        await running.fleet.reached.wait()
        reload.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reload
        running.fleet.go_on.set()
        running.fleet.reached.clear()
        running.fleet.answers.pop((1, 201), None)
        running.write(201)
        await running.reloader.reload()  # waits for the one before
        assert running.fleet.told == ([200, 100, 201] if refused else [200, 201])
        assert running.limit == 201

    run(tmp_path, work)


def test_set_is_taken_back_from_all(tmp_path: Path) -> None:
    async def work(running: Running) -> None:
        running.fleet.answers[0, 300] = TimeoutError()
        with pytest.raises(CommandError):
            await running.reloader.set_value("max_client_conn", "300")
        assert running.fleet.told == [300, 100]
        assert running.limit == 100

    run(tmp_path, work)
