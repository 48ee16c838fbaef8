"""`pgferry demo` from start to end, as a person at a terminal has it."""

import json
import os
import pwd
import re
import shlex
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from pgferry.embedded.guard import alive, descendants
from support.ports import take_port


@pytest.fixture
def port() -> Iterator[int]:
    with take_port() as number:
        yield number


def demo(*arguments: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-m", "pgferry", "demo", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def test_once_shows_the_proof_and_ends(port: int) -> None:
    process = demo("--once", "--port", str(port), "--clients", "120", "--seconds", "2")
    output, _ = process.communicate(timeout=90)
    assert process.returncode == 0, output
    assert "Traceback" not in output
    assert re.search(r"demo +\| demo +\| +\d+", output), output
    assert re.search(r"clients served +\| +97 of 120 +\| +120 of 120", output), output
    assert re.search(r"server connections \(most\) +\| +\d\d +\| +(1?\d|20)$", output, re.MULTILINE), output
    assert re.search(r"beside them, pgferry's own +\| +- +\| +1$", output, re.MULTILINE), output
    assert "reads PostgreSQL's catalog" in output
    rates = re.search(r"transactions/s +\| +([\d,]+) +\| +([\d,]+)", output)
    assert rates, output
    assert int(rates[2].replace(",", "")) > 500


def _a_slow_query_is_named(conn: "psycopg.Connection[Any]", doctor: list[str]) -> None:
    """What the quick start does next, with the line that the demo shows."""
    slow = threading.Thread(target=conn.execute, args=("SELECT pg_sleep(7)",))
    slow.start()
    said, limit = "", time.monotonic() + 30
    while "pg_sleep(7)" not in said and time.monotonic() < limit:
        said = subprocess.run(doctor, capture_output=True, text=True, check=False).stdout
    slow.join()
    assert re.search(r"runs\s+for\s+\S+\s+s:\s+SELECT\s+pg_sleep\(7\)", said), said


STRANGER = """
import os, socket, sys
os.setgroups([]), os.setgid(65533), os.setuid(65533)
for path in sys.argv[1:]:
    try:
        socket.socket(socket.AF_UNIX).connect(path)
        print("connected to", path)
    except PermissionError:
        pass
"""


def _it_is_for_its_account_only(conn: "psycopg.Connection[Any]", output: str, family: list[int]) -> None:
    """Who gets into the private PostgreSQL as superuser runs programs as its account."""
    postmaster = next(p for p in family if b"/postgres\0-D\0" in Path(f"/proc/{p}/cmdline").read_bytes())
    owner = pwd.getpwuid(Path(f"/proc/{postmaster}").stat().st_uid)
    data = Path(Path(f"/proc/{postmaster}/cmdline").read_bytes().split(b"\0")[2].decode())
    sockets = [data.parent / "run", Path(conn.info.host)]
    assert [stat.S_IMODE(folder.stat().st_mode) for folder in sockets] == [0o700] * 2
    server_port = (data / "postmaster.pid").read_text().splitlines()[3]
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", int(server_port)), timeout=5)
    if os.geteuid() == 0:
        assert owner.pw_name in ("pgferry-demo", "nobody")
        paths = [f"{sockets[0]}/.s.PGSQL.{server_port}", f"{sockets[1]}/.s.PGSQL.{conn.info.port}"]
        assert subprocess.run([sys.executable, "-c", STRANGER, *paths], capture_output=True).stdout == b""
    there = f"host=127.0.0.1 port={conn.info.port} user=demo dbname="
    for name in ("demo", "pgbouncer"):
        with pytest.raises(psycopg.OperationalError, match="password"):
            psycopg.connect(there + name)
    found = re.search(r"^    export PGPASSWORD=(\S+)$", output, re.MULTILINE)
    assert found, output
    psycopg.connect(f"{there}demo password={found[1]}").close()
    page = re.search(r"^    (http://127\.0\.0\.1:\d+/)$", output, re.MULTILINE)
    assert page, output
    for password, status in (("", 403), (found[1], 200)):
        assert _dashboard_says(page[1], password) == status


def _dashboard_says(page: str, password: str) -> int:
    """The status of a login as the demo's user."""
    login = json.dumps({"user": "demo", "password": password}).encode()
    request = urllib.request.Request(f"{page}api/login", login, {"content-type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=15) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code


def test_stays_until_ctrl_c_and_leaves_nothing(port: int) -> None:
    process = demo("--port", str(port), "--clients", "20", "--seconds", "1")
    assert process.stdout is not None
    output = ""
    while "Ctrl-C ends it." not in output:
        line = process.stdout.readline()
        assert line, output
        output += line
    line = re.search(r"psql -h (\S+) -p (\d+) -U (\S+) demo$", output, re.MULTILINE)
    assert line, output
    with psycopg.connect(f"host={line[1]} port={line[2]} user={line[3]} dbname=demo") as conn:
        assert conn.execute("SELECT count(*) FROM accounts").fetchone() == (10_000,)
        doctor = re.search(r"^    (.+ doctor --console \S+)$", output, re.MULTILINE)
        assert doctor, output
        _a_slow_query_is_named(conn, shlex.split(doctor[1]))
        family = descendants(process.pid)
        _it_is_for_its_account_only(conn, output, family)
    assert len(family) > 3
    os.kill(process.pid, signal.SIGINT)
    rest, _ = process.communicate(timeout=30)
    assert process.returncode == 0, rest
    assert "Traceback" not in output + rest
    limit = time.monotonic() + 5.0
    while any(alive(p) for p in family) and time.monotonic() < limit:
        time.sleep(0.05)
    assert [Path(f"/proc/{p}/cmdline").read_bytes() for p in family if alive(p)] == []


def test_takes_the_next_port_when_its_own_is_taken(port: int) -> None:
    with socket.create_server(("127.0.0.1", port)):
        process = demo("--once", "--port", str(port), "--clients", "5", "--seconds", "1")
        output, _ = process.communicate(timeout=90)
    assert process.returncode == 0, output
    assert re.search(rf"port {port} is taken, so pgferry takes {port + 1}\b", output), output
