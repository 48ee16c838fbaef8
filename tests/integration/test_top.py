"""`pgferry top` against a real pooler, its screen driven by keys."""

import asyncio
import subprocess
import sys
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from textual.pilot import Pilot
from textual.widgets import DataTable, Static

from pgferry.client.connection import Connection
from pgferry.client.target import parse
from pgferry.embedded import Cluster
from pgferry.observe.figures import POOLS, Watch, duration
from pgferry.observe.top import Ask, Top
from support.pooler import Pooler, eventually

Make = Callable[..., Pooler]
Check = Callable[[], object]


def drive(pooler: Pooler, story: Callable[[Top, Pilot[None]], Awaitable[None]], user: str = "admin") -> Top:
    """Run the screen with a story that presses its keys."""
    target = parse(f"postgresql://{user}@127.0.0.1:{pooler.port}/pgbouncer")

    def order(text: str) -> None:
        with Connection(target, timeout=5.0) as orders:
            orders.query(text)

    async def run(console: Connection) -> Top:
        app = Top(Watch(console), order, "here", 0.3)
        async with app.run_test(size=(150, 40)) as pilot:
            await story(app, pilot)
        return app

    with Connection(target, timeout=10.0) as console:
        return asyncio.run(run(console))


async def soon(pilot: Pilot[None], check: Check, seconds: float = 15.0) -> None:
    """Let the screen go on until something holds."""
    limit = asyncio.get_running_loop().time() + seconds
    while not check():
        assert asyncio.get_running_loop().time() < limit, "it never came true"
        await pilot.pause(0.05)


def cells(app: Top, name: str) -> list[list[Any]]:
    table = app.query_one(f"#{name}", DataTable)
    return [table.get_row_at(i) for i in range(table.row_count)]


def test_pools_holders_clients_servers(make_pooler: Make, cluster: Cluster) -> None:
    pooler = make_pooler(cluster)

    async def story(app: Top, pilot: Pilot[None]) -> None:
        await soon(pilot, lambda: cells(app, "pools"))
        row = dict(zip(POOLS, cells(app, "pools")[0], strict=True))
        assert (row["database"], row["user"], row["mode"], row["in use"]) == (
            "postgres",
            "postgres",
            "transaction",
            "1",
        )
        assert row["p50"]
        assert "active" in str(app.query_one("#words", Static).render())
        await pilot.press("2")
        await soon(pilot, lambda: any("shop" in row for row in cells(app, "holders")))
        assert "idle in transaction" in cells(app, "holders")[0]
        await pilot.press("3")
        await soon(pilot, lambda: len(cells(app, "clients")) >= 2)
        await pilot.press("slash", *"shop")
        await soon(pilot, lambda: len(cells(app, "clients")) == 1)
        await pilot.press("escape")
        await soon(pilot, lambda: len(cells(app, "clients")) >= 2)
        await pilot.press("4")
        await soon(pilot, lambda: len(cells(app, "servers")) == 1)
        await pilot.press("q")

    with pooler.connect(application_name="shop", autocommit=False) as client:
        client.execute("SELECT 1")
        assert drive(pooler, story).return_code == 0


def test_commands_ask_first(make_pooler: Make, cluster: Cluster) -> None:
    pooler = make_pooler(cluster)

    def paused() -> bool:
        return bool(pooler.show("DATABASES", name="postgres")[0]["paused"])

    async def story(app: Top, pilot: Pilot[None]) -> None:
        await soon(pilot, lambda: cells(app, "pools"))
        await pilot.press("p")
        await soon(pilot, lambda: isinstance(app.screen, Ask))
        await pilot.press("n")
        await soon(pilot, lambda: not isinstance(app.screen, Ask))
        assert not paused()
        await pilot.press("p")
        await soon(pilot, lambda: isinstance(app.screen, Ask))
        await pilot.press("y")
        await soon(pilot, paused)
        await pilot.press("r")
        await soon(pilot, lambda: isinstance(app.screen, Ask))
        await pilot.press("y")
        await soon(pilot, lambda: not paused())
        await pilot.press("3", "slash", *"victim", "enter")
        await soon(pilot, lambda: len(cells(app, "clients")) == 1)
        await pilot.press("k")
        await soon(pilot, lambda: isinstance(app.screen, Ask))
        await pilot.press("y")
        await soon(pilot, lambda: pooler.show("CLIENTS", application_name="victim") == [])

    with pooler.connect(application_name="victim") as client:
        client.execute("SELECT 1")
        drive(pooler, story)


def test_a_pooler_that_goes_away_ends_it(make_pooler: Make, cluster: Cluster) -> None:
    pooler = make_pooler(cluster)

    async def story(app: Top, pilot: Pilot[None]) -> None:
        await soon(pilot, lambda: app.figures.state)
        pooler.stop()
        await soon(pilot, lambda: app.return_code is not None)

    app = drive(pooler, story)
    assert app.return_code == 1
    assert "the console has gone" in app.ended


@pytest.mark.workers(1)
def test_what_cannot_be_reached(make_pooler: Make, cluster: Cluster) -> None:
    pooler = make_pooler(cluster)
    for url, reason in (
        ("postgresql://admin@127.0.0.1:1", "refused"),
        ("nonsense", "write it as"),
        (f"postgresql://app@127.0.0.1:{pooler.port}", "not allowed"),
    ):
        done = subprocess.run(
            [sys.executable, "-m", "pgferry", "top", url], capture_output=True, text=True, timeout=60
        )
        assert (done.returncode, reason in done.stderr) == (1, True), done.stderr
    eventually(lambda: pooler.show("LISTS"))


def test_durations() -> None:
    assert [duration(us) for us in (0, 5, 1500, 25_000, 3.2e6, 6e8)] == [
        "",
        "5 us",
        "1.5 ms",
        "25 ms",
        "3.2 s",
        "10 min",
    ]
