"""`pgferry advise`: what it measures of a running pgferry, and the command."""

import json
import os
import subprocess
import sys
import threading
import xml.etree.ElementTree as ET
from collections.abc import Callable
from pathlib import Path

import pytest

from pgferry.advise.measure import measure
from pgferry.client import Connection
from pgferry.client.target import parse
from support.pooler import Pooler

pytestmark = [pytest.mark.workers(1), pytest.mark.pg(15)]


def advise(*arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "pgferry", "advise", *arguments],
        capture_output=True,
        text=True,
        timeout=90,
        env=dict(os.environ),
    )


@pytest.mark.usefixtures("cluster")
def test_what_is_measured(make_pooler: Callable[..., Pooler]) -> None:
    """Transactions of at least 20 ms: their number, their time and the pool's size are found."""
    pooler = make_pooler(settings={"default_pool_size": 7})
    end = threading.Event()
    done: list[int] = []

    def work() -> None:
        with pooler.connect() as connection:
            while not end.is_set():
                connection.execute("SELECT pg_sleep(0.02)")
                done.append(1)

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    try:
        target = parse(f"postgresql://stats@127.0.0.1:{pooler.port}/pgbouncer")
        with Connection(target) as console:
            (load,) = measure(console, 1.5)
        answer = advise("--console", str_url(pooler), "--interval", "1", "--json")
    finally:
        end.set()
        for thread in threads:
            thread.join(20)
    assert load.name == "postgres"
    assert load.holding.mean >= 0.01  # a transaction counts at its begin and its time at its end
    assert 0 < load.busy <= 3.5
    assert load.size == 7
    (told,) = json.loads(answer.stdout)["loads"]
    assert told["now"] == 7
    assert told["mean"] >= 0.01


def str_url(pooler: Pooler) -> str:
    return f"postgresql://stats@127.0.0.1:{pooler.port}"


def test_nothing_to_measure(pooler: Pooler) -> None:
    answer = advise("--console", str_url(pooler), "--interval", "0.2")
    assert answer.returncode == 1
    assert "no transaction was seen" in answer.stderr


def test_given_loads(tmp_path: Path) -> None:
    picture = tmp_path / "plot.svg"
    answer = advise(
        "--load", "shop=200/50ms/300ms@12", "--load", "reports=2/1s", "--cores", "4",
        "--what-if", "traffic=1.5 pods=40x50", "--budget", "60", "--svg", str(picture),
    )  # fmt: skip
    assert answer.returncode == 0, answer.stderr
    for text in (
        "300.0/s x 50 ms = 15.00 servers",
        "recommended",
        "now",
        "█",
        "2,000 clients",
        "4 cores",
        "60 connections",
    ):
        assert text in answer.stdout, text
    assert ET.parse(picture).getroot().tag.endswith("svg")


@pytest.mark.parametrize(
    "arguments",
    [(), ("--load", "x"), ("--load", "1/1ms", "--what-if", "y=1"), ("--load", "1/1ms", "--max-wait", "z")],
)
def test_wrong_options(arguments: tuple[str, ...]) -> None:
    assert advise(*arguments).returncode == 2


def test_a_pool_that_is_too_small_or_too_large() -> None:
    assert "is saturated" in advise("--load", "a=300/10ms@3").stdout
    assert "larger than needed" in advise("--load", "a=10/10ms@50").stdout


def test_a_budget_that_is_too_small() -> None:
    answer = advise("--load", "a=100/1s", "--budget", "50")
    assert answer.returncode == 1
    assert "101 connections are needed" in answer.stderr
