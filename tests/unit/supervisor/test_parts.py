"""The supervisor's parts by themselves: channel, resolver, statistics, merging, state."""

import array
import asyncio
import os
import socket
import struct
from typing import Any

import msgspec
import pytest

from pgferry.frames import Message
from pgferry.supervisor import merge
from pgferry.supervisor.channel import Channel
from pgferry.supervisor.errors import WorkerGone, WorkerRefused
from pgferry.supervisor.state import PoolerState
from pgferry.supervisor.state_counters import StateCounters
from pgferry.supervisor.stats import COUNTERS, StatsKeeper, averages, zero


def frame(message: dict[str, Any]) -> bytes:
    body = msgspec.msgpack.encode(message)
    return struct.pack("!I", len(body)) + body


def read_frame(sock: socket.socket) -> dict[str, Any]:
    size = struct.unpack("!I", sock.recv(4, socket.MSG_WAITALL))[0]
    message: dict[str, Any] = msgspec.msgpack.decode(sock.recv(size, socket.MSG_WAITALL))
    return message


class Ends:
    """A channel and the plain socket at its other end."""

    def __init__(self) -> None:
        ours, self.worker = socket.socketpair()
        self.taken: list[tuple[Message, int | None]] = []
        self.closed = False
        self.channel = Channel(ours, self.handle, self.on_close)

    def on_close(self) -> None:
        self.closed = True

    async def handle(self, message: Message, fd: int | None) -> Message | None:
        self.taken.append((message, fd))
        if message["op"] == "bad":
            raise WorkerRefused("no")
        if message["op"] == "bug":
            raise KeyError("name")
        return {"echo": message["op"]}

    async def read(self) -> dict[str, Any]:
        return await asyncio.to_thread(read_frame, self.worker)


def test_requests_both_ways_and_in_pieces() -> None:
    async def run() -> None:
        ends = Ends()
        first = asyncio.ensure_future(ends.channel.request("one"))
        second = asyncio.ensure_future(ends.channel.request("two"))
        asked = [await ends.read(), await ends.read()]
        assert [message["op"] for message in asked] == ["one", "two"]
        answers = frame({"re": asked[1]["id"], "ok": True, "x": 2}) + frame(
            {"re": asked[0]["id"], "ok": False}
        )
        for byte in answers + frame({"id": 5, "op": "hello"}):
            ends.worker.send(bytes([byte]))
            await asyncio.sleep(0)
        assert (await second)["x"] == 2
        with pytest.raises(WorkerRefused, match="unknown error"):
            await first
        assert await ends.read() == {"re": 5, "ok": True, "echo": "hello"}
        shown = asyncio.ensure_future(ends.channel.request("show"))
        number = (await ends.read())["id"]
        for rows, more in (([1, 2], True), ([3], True), ([], False)):
            ends.worker.send(frame({"re": number, "ok": True, "rows": rows, "more": more}))
        assert (await shown)["rows"] == [1, 2, 3]
        ends.worker.send(frame({"id": 6, "op": "bad"}))
        assert await ends.read() == {"re": 6, "ok": False, "error": "no"}
        bugs: list[object] = []
        asyncio.get_running_loop().set_exception_handler(
            lambda _loop, context: bugs.append(context["exception"])
        )
        ends.worker.send(frame({"id": 7, "op": "bug"}) + frame({"id": 8, "op": "hello"}))
        answers = [await ends.read(), await ends.read()]
        assert answers[0] == {"re": 7, "ok": False, "error": "internal error: KeyError: 'name'"}
        assert answers[1]["ok"] and [type(bug) for bug in bugs] == [KeyError]
        ends.worker.close()
        ends.channel.close()

    asyncio.run(run())


def test_descriptors_go_to_their_messages() -> None:
    async def run() -> None:
        ends = Ends()
        read_end, write_end = os.pipe()
        for number in (1, 2):
            data = frame({"op": f"take{number}", "fd": True})
            rights = array.array("i", [write_end])
            ends.worker.sendmsg([data[:4]], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)])
            ends.worker.sendall(data[4:] + frame({"op": "plain"}))
        os.close(write_end)
        while len(ends.taken) < 4:
            await asyncio.sleep(0.001)
        assert [message["op"] for message, _fd in ends.taken] == ["take1", "plain", "take2", "plain"]
        fds = [fd for _message, fd in ends.taken]
        assert fds[1] is fds[3] is None
        for fd in (fds[0], fds[2]):
            assert fd is not None
            assert not os.get_inheritable(fd)
            os.write(fd, b"x")
            os.close(fd)
        assert os.read(read_end, 10) == b"xx"
        os.close(read_end)
        ends.channel.close()

    asyncio.run(run())


def test_end_of_the_worker_fails_what_waits() -> None:
    async def run() -> None:
        ends = Ends()
        pending = asyncio.ensure_future(ends.channel.request("pause"))
        await asyncio.sleep(0)
        ends.worker.close()
        with pytest.raises(WorkerGone):
            await pending
        assert ends.closed
        with pytest.raises(WorkerGone):
            await ends.channel.request("again")

    asyncio.run(run())


def test_large_messages_and_timeouts() -> None:
    async def run() -> None:
        ends = Ends()
        reader = asyncio.ensure_future(ends.read())
        asked = asyncio.ensure_future(ends.channel.request("config", data=b"x" * 5_000_000))
        message = await reader
        assert len(message["data"]) == 5_000_000
        ends.worker.sendall(frame({"re": message["id"], "ok": True}))
        await asked
        with pytest.raises(TimeoutError):
            await ends.channel.request("slow", 0.01)
        ends.worker.sendall(struct.pack("!I", 0xFFFFFFFF))
        while not ends.closed:
            await asyncio.sleep(0.001)

    asyncio.run(run())


def stats_row(**counters: int) -> dict[str, Any]:
    return {"database": "d", **zero(), **counters}


def test_averages() -> None:
    now = {**zero(), "xact_count": 20, "query_count": 30, "xact_time": 1000, "query_time": 60, "wait_time": 7}
    before = {**zero(), "xact_count": 10, "query_count": 50, "xact_time": 500}
    result = averages(now, before, 2.0)
    assert result["xact_count"] == 5
    assert result["xact_time"] == 50
    assert result["query_count"] == 0
    assert result["query_time"] == 0
    assert result["wait_time"] == 0
    assert averages(now, before, 0.0)["xact_count"] == 0
    assert set(result) == set(COUNTERS)


def test_statistics_over_periods_and_deaths() -> None:
    now = [0.0]
    keeper = StatsKeeper(lambda: now[0])
    keeper.update(0, [stats_row(query_count=100, query_time=1000)])
    keeper.update(1, [stats_row(query_count=20)])
    now[0] = 10.0
    assert keeper.databases()["d"]["query_count"] == 120
    assert keeper.averages()["d"]["query_count"] == 12
    assert "12 queries/s" in keeper.snapshot()
    keeper.retire(0)
    keeper.update(0, [stats_row(query_count=5)])
    assert keeper.databases()["d"]["query_count"] == 125
    now[0] = 15.0
    # Over the time since the snapshot before last, which is the start.
    assert keeper.averages()["d"]["query_count"] == 8
    assert "1 queries/s" in keeper.snapshot()
    now[0] = 16.0
    assert keeper.averages()["d"]["query_count"] == 0
    assert keeper.total_averages()["query_count"] == 0
    assert list(keeper.databases()) == ["d", "pgbouncer"]


def test_merging() -> None:
    rows = [
        {"database": "b", "user": "u", "cl_active": 1, "maxwait_us": 5, "pool_mode": "session"},
        {"database": "a", "user": "u", "cl_active": 1, "maxwait_us": 0, "pool_mode": "session"},
        {"database": "b", "user": "u", "cl_active": 2, "maxwait_us": 9, "pool_mode": "session"},
    ]
    merged = merge.pools(rows)
    assert [(row["database"], row["cl_active"], row["maxwait_us"]) for row in merged] == [
        ("a", 1, 0),
        ("b", 3, 9),
    ]
    assert rows[0]["cl_active"] == 1
    assert merge.totals([{"a": 1, "x": "y"}, {"a": 2, "b": 3}]) == {"a": 3, "b": 3}
    assert merge.memory([]) == []


def test_state_forgets_removed_databases() -> None:
    state = PoolerState(paused_dbs={"a", "b"}, disabled_dbs={"b"}, killed_dbs={"c"})
    state.forget_missing(lambda name: name == "a")
    assert state.message() == {
        "paused": False,
        "paused_dbs": ["a"],
        "disabled_dbs": [],
        "suspended": False,
        "killed_dbs": [],
    }


def state_row(reason: str, count: int, database: str = "shop") -> dict[str, Any]:
    return {"database": database, "user": "u", "counter": "pins", "reason": reason, "count": count}


def test_state_counters_survive_a_worker() -> None:
    counters = StateCounters()
    counters.update(0, [state_row("LOAD", 2), state_row("LISTEN", 1)])
    counters.update(1, [state_row("LOAD", 3), state_row("LOAD", 4, "bank")])
    assert counters.rows() == [state_row("LOAD", 4, "bank"), state_row("LISTEN", 1), state_row("LOAD", 5)]
    counters.retire(0)
    counters.retire(7)
    assert counters.rows()[-1] == state_row("LOAD", 5)
    counters.update(0, [state_row("LOAD", 1)])
    assert counters.rows()[-1] == state_row("LOAD", 6)
    counters.retire(0)
    assert counters.rows()[1:] == [state_row("LISTEN", 1), state_row("LOAD", 6)]
