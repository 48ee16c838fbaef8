"""A pgferry with fake workers as a process of its own: started, signalled, asked, ended."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psycopg

from support.ports import take_port

SCRIPT = Path(__file__).with_name("pgferry_with_fake_workers.py")
SECONDS = 20.0


class Running:
    """`pgferry CONFIG` in `directory`; settings given as keywords replace the usual ones."""

    def __init__(self, directory: Path, socket_dir: str, **settings: object) -> None:
        self.directory = directory
        self.port_lock = take_port()
        self.port = self.port_lock.port
        self.logfile = directory / "log"
        self.pidfile = directory / "pid"
        self.settings: dict[str, object] = {
            "listen_addr": "127.0.0.1",
            "listen_port": self.port,
            "unix_socket_dir": socket_dir,
            "auth_type": "any",
            "admin_users": "boss",
            "logfile": self.logfile,
            "pidfile": self.pidfile,
            **settings,
        }
        self.databases = "shop = user=u\nbusy = user=u\nauto = user=u\n"
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def config(self) -> Path:
        return self.directory / "pgbouncer.ini"

    def write_config(self, extra: str = "", **changes: object) -> None:
        self.settings |= changes
        lines = [f"{name} = {value}" for name, value in self.settings.items()]
        self.config.write_text(
            f"[databases]\n{self.databases}[pgbouncer]\n" + "\n".join(lines) + "\n" + extra
        )

    def start(self, *arguments: str, wait: bool = True, **environment: str) -> "Running":
        self.write_config()
        self.process = subprocess.Popen(
            [sys.executable, str(SCRIPT), *arguments, str(self.config)],
            stderr=subprocess.PIPE,
            env={
                **os.environ,
                "PGFERRY_ALLOW_ROOT": "1",
                "PYTHONPATH": os.pathsep.join(sys.path),
                **environment,
            },
        )
        if wait:
            self.wait_log("process up")
        return self

    def log(self) -> str:
        return self.logfile.read_text() if self.logfile.exists() else ""

    def wait_log(self, text: str, count: int = 1) -> None:
        end = time.monotonic() + SECONDS
        while self.log().count(text) < count:
            assert time.monotonic() < end, f"{text!r} is not in the log:\n{self.log()}"
            assert self.process is None or self.process.poll() is None or text in self.log(), self.log()
            time.sleep(0.02)

    def signal(self, number: signal.Signals) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    def wait_exit(self) -> int:
        assert self.process is not None
        return self.process.wait(SECONDS)

    def stderr(self) -> str:
        assert self.process is not None
        assert self.process.stderr is not None
        return self.process.stderr.read().decode()

    def worker_pids(self) -> list[int]:
        """Process ids of the workers by index, taken from their log lines."""
        lines = [line for line in self.log().splitlines() if line.endswith(": started")]
        lines.sort(key=lambda line: line.rsplit("worker", 1)[1])
        return [int(line.split("[")[1].split("]")[0]) for line in lines]

    def console(self, user: str = "boss") -> "psycopg.Connection[tuple[object, ...]]":
        text = (
            f"host=127.0.0.1 port={self.port} dbname=pgbouncer user={user} sslmode=disable connect_timeout=10"
        )
        return psycopg.connect(text, autocommit=True)

    def end(self) -> None:
        self.port_lock.release()
        if self.process is None:
            return
        if "-d" in self.process.args and self.pidfile.exists():
            os.kill(int(self.pidfile.read_text()), signal.SIGKILL)
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(SECONDS)
        assert self.process.stderr is not None
        self.process.stderr.close()


def alive(pid: int) -> bool:
    """Whether a process is there and not a zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def wait_gone(pids: list[int]) -> None:
    """Wait until none of the processes is there."""
    end = time.monotonic() + SECONDS
    while any(alive(pid) for pid in pids):
        assert time.monotonic() < end, f"still there: {[pid for pid in pids if alive(pid)]}"
        time.sleep(0.02)
