"""Passwords in the arguments are overwritten where ps reads them."""

import json
import os
import subprocess
import sys

import pytest

from pgferry.cli.hide import masked


@pytest.mark.parametrize(
    ("argument", "shown"),
    [
        ("postgresql://alice:secret@h:5432/d", "postgresql://alice:******@h:5432/d"),
        ("--url=postgresql://alice:secret@h/d", "--url=postgresql://alice:******@h/d"),
        ("postgres://alice:s:e@c/t@h/d", "postgres://alice:*******@h/d"),
        ("postgresql://:secret@h/d", "postgresql://:******@h/d"),
        (
            "postgresql://h/d?password=secret&sslmode=require",
            "postgresql://h/d?password=******&sslmode=require",
        ),
        ("host=h password=secret user=u", "host=h password=****** user=u"),
        ("postgresql://alice@h:5432/d", "postgresql://alice@h:5432/d"),
        ("postgresql://h:5432/d", "postgresql://h:5432/d"),
        ("/etc/pgferry.ini", "/etc/pgferry.ini"),
    ],
)
def test_what_is_hidden(argument: str, shown: str) -> None:
    for before, after in ((b"run\0", b"\0-v\0"), (b"", b"\0")):
        assert masked(before + argument.encode() + after) == before + shown.encode() + after


def test_a_process_hides_its_own() -> None:
    program = (
        "import json, sys; from pgferry.cli.hide import hide_passwords; "
        "print(json.dumps([hide_passwords(), open('/proc/self/cmdline').read(), sys.argv[1:]]))"
    )
    arguments = ["run", "--url", "postgresql://alice:sécret@h/d", "-v"]
    done = subprocess.run([sys.executable, "-c", program, *arguments], stdout=subprocess.PIPE, check=True)
    hidden, shown, seen = json.loads(done.stdout)
    assert hidden
    assert shown.endswith("run\0--url\0postgresql://alice:*******@h/d\0-v\0")
    assert seen == arguments, "the program itself still has them"


@pytest.mark.parametrize("command", ["run", "doctor", "bench", "top", "advise"])
def test_every_command_does(command: str) -> None:
    """The hiding comes before everything that a command does: its module is not even loaded then."""
    program = (
        "import sys, pgferry.cli.main as main\n"
        "def stop(name):\n"
        "    print(open('/proc/self/cmdline').read()); sys.stdout.flush(); import os; os._exit(0)\n"
        "main.load_command = stop\n"
        "main.main()\n"
    )
    url = "postgresql://alice:hunter2@127.0.0.1/d"
    done = subprocess.run(
        [sys.executable, "-c", program, command, url],
        stdout=subprocess.PIPE,
        check=True,
        env=dict(os.environ),
    )
    assert b"alice:*******@" in done.stdout
    assert b"hunter2" not in done.stdout
