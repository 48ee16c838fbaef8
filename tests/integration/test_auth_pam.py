"""PAM with the system's own modules, for the service `pgbouncer`: right, wrong, refused accounts, modules that hang."""

import fcntl
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest

from pgferry.embedded import Cluster
from pgferry.embedded.account import Account, remove_tree
from support.clients import refusal
from support.pooler import Pooler
from support.wire import Wire, startup

SERVICE = Path("/etc/pam.d/pgbouncer")
MODULES = [
    Path(base) / "pam_exec.so"
    for base in ("/lib/x86_64-linux-gnu/security", "/lib64/security", "/usr/lib/security")
]
pytestmark = [
    pytest.mark.skipif(
        not os.access(SERVICE.parent, os.W_OK) or not any(path.exists() for path in MODULES),
        reason="needs the right to write /etc/pam.d, and PAM's modules",
    ),
    pytest.mark.workers(1),
    pytest.mark.pg(18),
]
FAILED = "FATAL 08P01 PAM authentication failed"
SECRET = "the pam password"
CHECK = """#!/bin/sh
# pam_exec gives the password on standard input, ended by a zero byte.
password=$(tr -d '\\000')
case "$PAM_USER" in
    slow) sleep 18 ;; # longer than pgferry waits; pam_exec gives it a session of its own, which nobody ends
    crash) kill -KILL $PPID ;;
esac
echo "$PAM_USER $PAM_RHOST $PAM_SERVICE" >>{seen}
echo noise
[ "$password" = "{secret}" ]
"""
Make = Callable[..., Pooler]


class Service:
    """The service file as long as the test runs."""

    def __init__(self) -> None:
        self._lock = (Path(tempfile.gettempdir()) / "pgferry-pam.lock").open("w")
        fcntl.flock(self._lock, fcntl.LOCK_EX)  # the file is the machine's
        self.before = SERVICE.read_bytes() if SERVICE.exists() else None
        self.directory = Account.choose().make_dir("pgferry-pam-")
        self.directory.chmod(0o777)
        self.seen = self.directory / "seen"
        script = self.directory / "check"
        script.write_text(CHECK.format(seen=self.seen, secret=SECRET))
        script.chmod(0o755)
        self.write(
            f"auth required pam_exec.so quiet expose_authtok {script}\naccount required pam_permit.so\n"
        )

    def write(self, text: str) -> None:
        SERVICE.write_text(text)

    def close(self) -> None:
        if self.before is None:
            SERVICE.unlink(missing_ok=True)
        else:
            SERVICE.write_bytes(self.before)
        remove_tree(self.directory)
        self._lock.close()


@pytest.fixture(autouse=True)
def service() -> Iterator[Service]:
    made = Service()
    yield made
    made.close()


@pytest.fixture
def pooler(cluster: Cluster, make_pooler: Make) -> Pooler:
    for role in ("ann", "slow", "crash"):
        cluster.sql(
            f"DO $$ BEGIN CREATE ROLE {role} LOGIN; EXCEPTION WHEN duplicate_object THEN NULL; END $$"
        )
    return make_pooler(settings={"auth_type": "pam", "auth_file": None}, ignore="No such file")


def test_right_and_wrong(pooler: Pooler, service: Service) -> None:
    assert refusal(pooler, user="ann", secret=SECRET) == "logged in"
    assert refusal(pooler, user="ann", secret="wrong") == FAILED
    assert refusal(pooler, user="ann", secret="") == "FATAL 08P01 empty password returned by client"
    assert refusal(pooler, user="", secret=SECRET) == "FATAL 08P01 no username supplied"
    assert refusal(pooler, user="../../etc/passwd", secret="x") == FAILED
    with psycopg.connect(pooler.conninfo(user="ann", password=SECRET)) as conn:
        assert conn.execute("SELECT current_user").fetchone() == ("ann",)
    assert "ann 127.0.0.1 pgbouncer" in service.seen.read_text()
    pooler.wait_log("pam_authenticate: ")
    assert SECRET not in pooler.log()


def test_the_account_is_asked_for_too(pooler: Pooler, service: Service) -> None:
    service.write("auth required pam_permit.so\naccount required pam_deny.so\n")
    assert refusal(pooler, user="ann", secret="x") == FAILED
    pooler.wait_log("pam_acct_mgmt")
    service.write("auth required pam_permit.so\naccount required pam_permit.so\n")
    assert refusal(pooler, user="ann", secret="x") == "logged in"
    service.write("auth required pam_succeed_if.so quiet user = bob\naccount required pam_permit.so\n")
    assert refusal(pooler, user="ann", secret="x") == FAILED
    service.write("auth required no_such_module.so\naccount required pam_permit.so\n")
    assert refusal(pooler, user="ann", secret="x") == FAILED


def test_a_module_that_crashes_costs_one_login(pooler: Pooler) -> None:
    assert refusal(pooler, user="crash", secret="x") == FAILED
    pooler.wait_log("pam: the helper process ended")
    assert refusal(pooler, user="ann", secret=SECRET) == "logged in"


def test_modules_that_hang_hold_up_nobody(pooler: Pooler) -> None:
    """Other logins have their answers meanwhile; the hanging ones are ended."""
    hanging = []
    for _ in range(3):
        wire = Wire((pooler.host, pooler.port), timeout=60)
        wire.send(startup("slow", "postgres"))
        assert wire.recv().body == b"\0\0\0\3"
        wire.send(b"p\0\0\0\x06x\0")
        hanging.append(wire)
    started = time.monotonic()
    assert refusal(pooler, user="ann", secret=SECRET) == "logged in"
    assert time.monotonic() - started < 10
    hanging.pop().close()  # a client that leaves meanwhile
    for wire in hanging:
        assert wire.recv().text == "PAM authentication failed"
        wire.close()
    pooler.wait_log("pam: no answer in")


def test_delays_are_bounded(pooler: Pooler, service: Service) -> None:
    service.write(
        "auth optional pam_faildelay.so delay=600000000\nauth required pam_deny.so\naccount required pam_permit.so\n"
    )
    started = time.monotonic()
    assert refusal(pooler, user="ann", secret="x") == FAILED
    assert time.monotonic() - started < 14


@pytest.mark.usefixtures("pooler")
def test_in_hba_rules(make_pooler: Make) -> None:
    pooler = make_pooler(
        hba="host all ann all pam\nlocal all all trust\nhost all all all trust\n",
        settings={"auth_type": "hba"},
    )
    assert refusal(pooler, user="ann", secret=SECRET) == "logged in"
    assert refusal(pooler, user="ann", secret="wrong") == FAILED
