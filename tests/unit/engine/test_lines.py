"""The worker's log lines: their form, and what happens when nobody reads them."""

import fcntl
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from pgferry.engine.io.log import Log
from support.rig import Rig

HEAD = rf"^\d{{4}}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{{3}} \S+ \[{os.getpid()}\] "


@dataclass
class Pipe:
    """A log and the end of the pipe that the supervisor would read."""

    log: Log
    reader: int

    def read(self) -> bytes:
        try:
            return os.read(self.reader, 1 << 20)
        except BlockingIOError:
            return b""


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    reader, writer = os.pipe()
    os.set_blocking(reader, False)
    yield Pipe(Log(writer), reader)
    os.close(reader)
    os.close(writer)


def test_a_line(pipe: Pipe) -> None:
    pipe.log.write("LOG", "text")
    pipe.log.write("WARNING", "caf\u00e9 \udcff")
    assert re.match(HEAD + "LOG text\n$", pipe.log.lines[0])
    pipe.log.flush()
    first, second = pipe.read().splitlines(keepends=True)
    assert re.match(HEAD.encode() + b"LOG text\n$", first)
    assert second.endswith(b"WARNING caf\xc3\xa9 \xff\n")
    assert not pipe.log.lines and not pipe.log.waiting


def test_newlines_do_not_make_lines(pipe: Pipe) -> None:
    pipe.log.write("LOG", "one\nLOG two\r\nthree")
    pipe.log.flush()
    assert pipe.read().endswith(b"LOG one\n\tLOG two \n\tthree\n")


@pytest.mark.parametrize(("verbose", "told"), [(0, []), (1, ["DEBUG"]), (2, ["DEBUG", "NOISE"])])
def test_quiet_levels(pipe: Pipe, verbose: int, told: list[str]) -> None:
    pipe.log.verbose = verbose
    for level in ("DEBUG", "NOISE"):
        pipe.log.write(level, "text")
    assert [line.split()[-2] for line in pipe.log.lines] == told


def test_a_full_pipe(pipe: Pipe) -> None:
    """Lines wait up to a limit; what is lost beyond it is counted and told when there is room again."""
    size = fcntl.fcntl(pipe.reader, fcntl.F_GETPIPE_SZ)
    text = "x" * 1000
    for _ in range(3000):
        pipe.log.write("LOG", text)
        pipe.log.flush()
    got = bytearray()
    while data := pipe.read():
        got += data
        pipe.log.retry()
    lines = got.decode().splitlines()
    lost = re.search(r"WARNING (\d+) log lines lost", lines[-1])
    assert lost and len(lines) - 1 + int(lost[1]) == 3000
    assert all(line.endswith(text) for line in lines[:-1])
    assert size < len(got) < 3 << 20


def test_a_reader_that_is_gone(pipe: Pipe) -> None:
    os.close(pipe.reader)
    pipe.log.write("LOG", "text")
    pipe.log.flush()
    assert not pipe.log.lines
    pipe.reader = os.open(os.devnull, os.O_RDONLY)


def test_the_name_of_a_client() -> None:
    rig = Rig(settings={"log_connections": True, "log_disconnections": True})
    try:
        client = rig.login()
        rig.log.retry()
        rig.feed(client, b"X\0\0\0\4")
        assert re.match(
            HEAD
            + r"LOG C-0x[0-9a-f]+: db/app@unix\(0\):6432 closing because: client close request \(age=0s\)\n$",
            rig.log.lines[0],
        )
    finally:
        rig.close()
