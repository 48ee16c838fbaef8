"""The log: format, levels, destinations, rotation, blocked destinations."""

import os
import re
import time
from pathlib import Path

import pytest

from pgferry.supervisor.log import Destinations, Log, format_line
from pgferry.supervisor.sinks import FileSink, SyslogSink

LINE = re.compile(
    r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3} \S+ \[\d+\] (FATAL|ERROR|WARNING|LOG|DEBUG|NOISE) .*"
)


def test_format() -> None:
    line = format_line("LOG", "one\ntwo\x1b[31m\r\n", pid=7, now=1_700_000_000.0625)
    assert LINE.fullmatch(line.split("\n")[0])
    assert ".062 " in line
    assert line.endswith("[7] LOG one\n\ttwo?[31m?")


def test_levels_and_file(tmp_path: Path) -> None:
    log = Log(1, quiet=True)
    log.open(Destinations(logfile=str(tmp_path / "log")))
    log.noise("n")
    for name in ("debug", "log", "warning", "error", "fatal"):
        getattr(log, name)(f"text of {name}")
    log.copy(b"a finished line")
    log.close()
    lines = (tmp_path / "log").read_text().splitlines()
    assert all(LINE.fullmatch(line) for line in lines[:-1])
    levels = [line.split("] ")[1].split()[0] for line in lines[:-1]]
    assert levels == ["DEBUG", "LOG", "WARNING", "ERROR", "FATAL"]
    assert lines[-1] == "a finished line"


def test_rotation_and_a_file_that_cannot_be_opened(tmp_path: Path) -> None:
    log = Log(quiet=True)
    path = tmp_path / "log"
    log.open(Destinations(logfile=str(path)))
    log.log("old")
    path.rename(tmp_path / "log.1")
    log.open(Destinations(logfile=str(path)))
    log.log("new")
    with pytest.raises(OSError, match="No such file"):
        log.open(Destinations(logfile="/nowhere/at/all"))
    log.log("still here")
    log.close()
    assert "old" in (tmp_path / "log.1").read_text()
    assert [line.split("LOG ")[1] for line in path.read_text().splitlines()] == ["new", "still here"]


def test_blocked_destination_loses_lines_but_never_blocks() -> None:
    reader, writer = os.pipe()
    sink = FileSink("test", writer, own=True)
    line = b"x" * 1000
    started = time.monotonic()
    for _ in range(25_000):
        sink.put(line)
    assert time.monotonic() - started < 5
    received = b""
    end = time.monotonic() + 20
    while b"log lines were lost" not in received:
        assert time.monotonic() < end
        received = received[-200:] + os.read(reader, 1 << 20)
    sink.close()
    os.close(reader)


def test_syslog_levels(monkeypatch: pytest.MonkeyPatch) -> None:
    import syslog

    sent: list[tuple[int, str]] = []
    opened: list[tuple[object, ...]] = []
    monkeypatch.setattr(syslog, "syslog", lambda priority, text: sent.append((priority, text)))
    monkeypatch.setattr(syslog, "openlog", lambda *args: opened.append(args))
    sink = SyslogSink("pgb", "LOCAL3")
    for level in ("FATAL", "ERROR", "WARNING", "LOG", "DEBUG", "NOISE"):
        sink.put(format_line(level, f"a {level}", pid=1, now=0).encode())
    sink.close()
    assert opened == [("pgb", syslog.LOG_PID, syslog.LOG_LOCAL3)]
    assert sent == [
        (syslog.LOG_CRIT, "a FATAL"),
        (syslog.LOG_ERR, "a ERROR"),
        (syslog.LOG_WARNING, "a WARNING"),
        (syslog.LOG_INFO, "a LOG"),
    ]
