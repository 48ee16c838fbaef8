"""`pgferry check` and the generated settings page."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from pgferry.cli.check import WITHOUT_USERS, check, command
from unit.config.config_files import MINIMAL, Loader

ROOT = Path(__file__).resolve().parents[3]


def test_good_file(ini: Loader, capsys: pytest.CaptureFixture[str]) -> None:
    ini.write(MINIMAL + "[databases]\na = host=h\n* = host=h\n")
    assert check(str(ini.path)) == 0
    assert capsys.readouterr().out == "configuration OK: 1 database, any other database through *, 1 user\n"


def test_warnings_are_printed(ini: Loader, capsys: pytest.CaptureFixture[str]) -> None:
    ini.write(MINIMAL + "job_name = x\n")
    assert check(str(ini.path)) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith(f"warning: {ini.path}:3: job_name: ")
    assert lines[1] == "configuration OK: 0 databases, 1 user, 1 warning"


def test_bad_file(ini: Loader) -> None:
    ini.write("[pgbouncer]\npool_mod = session\nlog_stats = yes\n")
    result = CliRunner().invoke(command, [str(ini.path)])
    assert result.exit_code == 1
    assert result.output.splitlines() == [
        f"{ini.path}:2: pool_mod: unknown parameter (did you mean pool_mode?)",
        f"{ini.path}:3: log_stats: invalid value 'yes' (expected 0 or 1; did you mean 1?)",
        f"{ini.path}: 2 problems",
    ]


def test_users_that_cannot_be_read(ini: Loader, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    users = tmp_path / "others.txt"
    ini.write(f"[pgbouncer]\nlisten_addr = 127.0.0.1\nauth_file = {users}\njob_name = x\n")
    assert check(str(ini.path)) == WITHOUT_USERS == 3
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith(f"warning: {ini.path}:4: job_name: ")
    assert lines[1:] == [
        f"{users}: auth_file: cannot read the user file: No such file or directory",
        f"{ini.path}: 1 problem; pgferry starts all the same, as PgBouncer does",
    ]
    users.write_text('"one" "x"\n"two" broken\n')
    assert check(str(ini.path)) == WITHOUT_USERS
    assert f"{users}:2: auth_file: broken auth file" in capsys.readouterr().out
    users.write_text('"one" "x"\n')
    assert check(str(ini.path)) == 0


def test_the_settings_page_is_up_to_date() -> None:
    tool = ROOT / "tools" / "gen_settings_doc.py"
    result = subprocess.run(
        [sys.executable, str(tool), "--check"], capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
