"""Life under a service manager, without one: a notify socket of our own, sockets that are passed on."""

import contextlib
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from signal import SIGHUP, SIGKILL, SIGSTOP, SIGTERM

import psycopg
import pytest

from pgferry.embedded import Cluster, take_port
from support.pooler import Pooler, eventually

MakePooler = Callable[..., Pooler]
pytestmark = [pytest.mark.usefixtures("cluster"), pytest.mark.workers(1)]

# Becomes pgferry with the listening sockets where a service manager puts them.
ACTIVATOR = """
import os, sys
fds = [int(fd) for fd in sys.argv[1].split(",")]
for place, fd in enumerate([os.dup(fd) for fd in fds], 50):
    os.dup2(fd, place)
for number in range(len(fds)):
    os.dup2(50 + number, 3 + number)
    os.set_inheritable(3 + number, True)
os.environ |= {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": str(len(fds)), "LISTEN_FDNAMES": "a:b"}
os.execv(sys.executable, [sys.executable, "-m", "pgferry", sys.argv[2]])
"""


class Manager:
    """A notify socket and what came in on it."""

    def __init__(self, path: Path) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.sock.bind(str(path))
        path.chmod(0o777)
        self.environment = {"NOTIFY_SOCKET": str(path)}

    def wait(self, start: str) -> str:
        """The next message that begins so; those before it are thrown away."""
        self.sock.settimeout(10)
        while True:
            text = self.sock.recv(65536).decode()
            if text.startswith(start):
                return text

    def silent(self, start: str, seconds: float) -> bool:
        """Whether no such message comes for so long."""
        limit = time.monotonic() + seconds
        while (left := limit - time.monotonic()) > 0:
            self.sock.settimeout(left)
            with contextlib.suppress(TimeoutError):
                if self.sock.recv(65536).decode().startswith(start):
                    return False
        return True


@pytest.fixture
def manager() -> Iterator[Manager]:
    # Not below pytest's folder: other accounts cannot enter that.
    path = Path(f"/tmp/pgferry-notify-{os.getpid()}-{time.monotonic_ns()}")
    made = Manager(path)
    yield made
    made.sock.close()
    path.unlink()


def test_notifications(make_pooler: MakePooler, manager: Manager) -> None:
    settings = {"stats_period": 1}
    pooler = make_pooler(environment=manager.environment, settings=settings)
    manager.wait("READY=1")
    assert re.match(r"STATUS=stats: \d+ xacts/s", manager.wait("STATUS="))
    before = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
    pooler.signal(SIGHUP)
    reloading = manager.wait("RELOADING=1")
    [stamp] = re.findall(r"^MONOTONIC_USEC=(\d+)$", reloading, re.M)
    assert before <= int(stamp) <= time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
    manager.wait("READY=1")
    with pooler.connect() as conn:
        pooler.signal(SIGTERM)
        manager.wait("STOPPING=1")
        assert conn.execute("SELECT 1").fetchone() == (1,)
    assert pooler.wait() == 0


def test_failed_reload_ends_too(make_pooler: MakePooler, manager: Manager) -> None:
    """A service manager that is told of a reload must be told of its end."""
    pooler = make_pooler(environment=manager.environment)
    manager.wait("READY=1")
    pooler.set({"pool_mode": "wrong"}, reload=False)
    pooler.signal(SIGHUP)
    manager.wait("RELOADING=1")
    manager.wait("READY=1")


@pytest.mark.workers(2)
def test_watchdog(make_pooler: MakePooler, manager: Manager) -> None:
    """The heartbeat stops while a worker hangs, and only then."""
    environment = {**manager.environment, "WATCHDOG_USEC": "1200000"}
    pooler = make_pooler(environment=environment, ignore="died: signal 9")
    for _ in range(3):
        manager.wait("WATCHDOG=1")
    worker = pooler.worker_pids[0]
    os.kill(worker, SIGSTOP)
    manager.silent("WATCHDOG=1", 0.7)  # one may have been on its way
    assert manager.silent("WATCHDOG=1", 1.5)
    pooler.wait_log("worker [01] does not answer: the watchdog is not told")
    os.kill(worker, SIGKILL)
    manager.wait("WATCHDOG=1")


@pytest.mark.parametrize("count", [1, 2], ids=["w1", "w2"])
def test_socket_activation(cluster: Cluster, tmp_path: Path, count: int) -> None:
    """Passed sockets take the place of listen_addr and unix_socket_dir; they outlive us."""
    with take_port() as port, take_port() as unused, contextlib.ExitStack() as stack:
        tcp, unix = stack.enter_context(socket.socket()), stack.enter_context(socket.socket(socket.AF_UNIX))
        tcp.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        tcp.bind(("127.0.0.1", port))
        path = tmp_path / f".s.PGSQL.{port}"
        unix.bind(str(path))
        for sock in (tcp, unix):
            sock.listen(100)
        conf = tmp_path / "conf.ini"
        conf.write_text(
            f"[databases]\n* = host=127.0.0.1 port={cluster.port}\n[pgbouncer]\nworkers = {count}\n"
            f"listen_addr = 127.0.0.1\nlisten_port = {unused}\nunix_socket_dir = /nowhere\n"
            f"auth_type = trust\nauth_file = {tmp_path / 'users'}\nadmin_users = postgres\n"
        )
        (tmp_path / "users").write_text('"postgres" ""\n')
        source = str(Path(sys.modules["pgferry"].__file__ or "").parents[1])
        for _turn in range(2):
            process = subprocess.Popen(
                [sys.executable, "-c", ACTIVATOR, f"{tcp.fileno()},{unix.fileno()}", str(conf)],
                pass_fds=[tcp.fileno(), unix.fileno()],
                stderr=subprocess.PIPE,
                text=True,
                env={**os.environ, "PGFERRY_ALLOW_ROOT": "1", "PYTHONPATH": source},
            )
            try:
                # No waiting: the connection lies in the backlog of a socket that listens already.
                for host in ("127.0.0.1", str(tmp_path)):
                    where = f"host={host} port={port} user=postgres dbname=postgres connect_timeout=20"
                    with psycopg.connect(where) as conn:
                        assert conn.execute("SELECT 1").fetchone() == (1,)
                with socket.socket() as nobody:
                    assert nobody.connect_ex(("127.0.0.1", unused)) != 0
                process.send_signal(SIGTERM)
                assert process.wait(10) == 0
            finally:
                process.kill()
                log = process.communicate()[1]
            assert "socket passed by the service manager" in log
            assert path.exists()


def test_foreign_listen_pid_is_ignored(make_pooler: MakePooler) -> None:
    """Variables meant for the process that started us."""
    pooler = make_pooler(environment={"LISTEN_PID": "1", "LISTEN_FDS": "3"})
    eventually(lambda: "process up" in pooler.log())
    assert "passed" not in pooler.log()
