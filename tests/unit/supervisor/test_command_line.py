"""The command line: PgBouncer's flags, subcommands, exit codes, and imports that stay light."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from pgferry.cli.main import COMMANDS, load_command
from pgferry.cli.run import _listen


def pgferry(*arguments: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "pgferry", *arguments],
        capture_output=True,
        text=True,
        timeout=30,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), **environment},
    )


@pytest.mark.parametrize("flag", ["-V", "--version"])
def test_version(flag: str) -> None:
    result = pgferry(flag)
    lines = result.stdout.splitlines()
    assert result.returncode == 0
    assert lines[0].startswith("pgferry ")
    assert lines[1] == "compatible with PgBouncer 1.25.2"


@pytest.mark.parametrize("flag", ["-h", "--help"])
def test_help(flag: str) -> None:
    result = pgferry(flag)
    assert result.returncode == 0
    assert result.stderr == ""
    for text in ("--daemon", "--quiet", "--user", "--verbose", "--version", "pgferry check"):
        assert text in result.stdout


@pytest.mark.parametrize("arguments", [(), ("a.ini", "b.ini"), ("--nonsense", "a.ini"), ("-x",), ("-u",)])
def test_wrong_use(arguments: tuple[str, ...]) -> None:
    result = pgferry(*arguments)
    assert result.returncode == 1
    assert result.stdout == ""
    assert "Try 'pgferry --help'" in result.stderr


def test_reboot_needs_a_unix_socket(tmp_path: Path) -> None:
    conf = tmp_path / "a.ini"
    conf.write_text("[databases]\n[pgbouncer]\nlisten_addr = 127.0.0.1\nunix_socket_dir =\n")
    result = pgferry("-R", str(conf), PGFERRY_ALLOW_ROOT="1")
    assert result.returncode == 1
    assert "FATAL -R needs unix_socket_dir" in result.stderr


def test_missing_file() -> None:
    result = pgferry("/no/such.ini")
    assert result.returncode == 1
    assert "FATAL cannot load config file '/no/such.ini'" in result.stderr


@pytest.mark.parametrize("name", COMMANDS)
def test_subcommands(name: str) -> None:
    assert load_command(name).name == name
    assert pgferry(name, "--help").returncode == 0


def test_run_without_url() -> None:
    result = pgferry("run", DATABASE_URL="")
    assert result.returncode == 2
    assert "DATABASE_URL" in result.stderr


def test_run_with_a_bad_url_keeps_the_password_secret() -> None:
    result = pgferry("run", "--url", "postgresql://u:hunter2@h:port/db")
    assert result.returncode == 1
    assert "hunter2" not in result.stderr + result.stdout


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0.0.0.0:7000", ("0.0.0.0", "7000")),
        (":7000", ("*", "7000")),
        ("7000", ("127.0.0.1", "7000")),
        ("[::1]:7000", ("::1", "7000")),
        ("somewhere", ("somewhere", "6432")),
    ],
)
def test_listen(text: str, expected: tuple[str, str]) -> None:
    assert _listen(text) == {"listen_addr": expected[0], "listen_port": expected[1]}


def test_the_command_line_imports_little() -> None:
    code = (
        "import sys, pgferry.cli.main as _\n"
        "print(','.join(m for m in sys.modules if m.startswith(('pgferry', 'asyncio'))))"
    )
    result = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert set(result.stdout.strip().split(",")) == {
        "pgferry",
        "pgferry.cli",
        "pgferry.cli.hide",
        "pgferry.cli.main",
    }
