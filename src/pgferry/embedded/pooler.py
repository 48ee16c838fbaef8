"""A pgferry process for demo and tests: started as an unprivileged account where that is possible."""

import functools
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from signal import SIGKILL, SIGQUIT, Signals

from pgferry.client import Address, connect
from pgferry.embedded.account import Account
from pgferry.embedded.errors import EmbeddedError
from pgferry.embedded.guard import Guarded, alive, descendants, start_time

ALLOW_ROOT = "PGFERRY_ALLOW_ROOT"
SOURCE = Path(__file__).resolve().parents[2]


class PoolerProcess:
    """`pgferry CONF` as a child: start(), stop(); all of it ends with the calling process.

    `program` is what to run instead of this interpreter's pgferry (a PgBouncer to compare with).
    Methods raise EmbeddedError.
    """

    def __init__(
        self,
        config: Path,
        log: Path,
        *,
        environment: Mapping[str, str] | None = None,
        program: Sequence[str] = (),
    ) -> None:
        self.account = Account.choose() if program else runner()
        self._argv = [*(program or (sys.executable, "-m", "pgferry")), str(config)]
        self.config = config
        self.log_file = log
        self._extra = dict(environment or {})
        self._guard: Guarded | None = None

    @property
    def pid(self) -> int | None:
        """The supervisor, None when it does not run."""
        return self._guard.pid if self._guard is not None and self._guard.returncode() is None else None

    @property
    def returncode(self) -> int | None:
        """The supervisor's exit status (negative: signal), None while it runs or was never started."""
        return self._guard.returncode() if self._guard is not None else None

    def workers(self) -> list[int]:
        """The process ids below the supervisor."""
        return descendants(self.pid) if self.pid is not None else []

    def cpu_seconds(self) -> float:
        """Processor time that the supervisor and its workers have used so far."""
        pids = [self.pid, *self.workers()] if self.pid is not None else []
        return sum(_cpu_ticks(p) for p in pids if p is not None) / os.sysconf("SC_CLK_TCK")

    def log(self) -> str:
        """What it printed so far."""
        return self.log_file.read_text(errors="replace") if self.log_file.exists() else ""

    def start(self, accepts: Callable[[], bool], timeout: float = 30.0) -> None:
        """Start it and wait (seconds) until accepts() is true."""
        self._guard = Guarded(
            self.account,
            self._argv,
            log=self.log_file,
            cwd=self.config.parent,
            env=_environment() | self._extra,
        )
        limit = time.monotonic() + timeout
        while not accepts():
            status = self._guard.returncode()
            if status is not None or time.monotonic() > limit:
                why = f"ended with status {status}" if status is not None else "does not accept connections"
                self.stop(SIGKILL)
                raise EmbeddedError(f"pgferry {why}:\n{self.log().strip()}")
            time.sleep(0.02)

    def send(self, which: Signals) -> None:
        """Send a signal to the supervisor."""
        if self.pid is not None:
            os.kill(self.pid, which)

    def wait(self, timeout: float = 30.0) -> int:
        """Wait (seconds) until it has ended by itself; its exit status."""
        if self._guard is None:
            raise EmbeddedError("pgferry was never started.")
        limit = time.monotonic() + timeout
        while (status := self._guard.returncode()) is None:
            if time.monotonic() > limit:
                raise EmbeddedError(f"pgferry still runs after {timeout:g} s.")
            time.sleep(0.02)
        self._guard.release()
        return status

    def stop(self, how: Signals = SIGQUIT, timeout: float = 10.0) -> int | None:
        """Signal it and wait; its exit status, None when it never ran. Raises when a part of it survives."""
        if self._guard is None:
            return None
        family = {p: start_time(p) for p in self.workers()}
        if self._guard.end(how, timeout) is None:
            self._guard.end(SIGKILL, timeout)
            raise EmbeddedError(f"pgferry did not end {timeout:g} s after {how.name} and was killed.")
        limit = time.monotonic() + 5.0
        while left := [p for p, t in family.items() if alive(p) and start_time(p) == t]:
            if time.monotonic() > limit:
                for pid in left:
                    os.kill(pid, SIGKILL)
                raise EmbeddedError(f"Workers of pgferry outlived it: {left}.")
            time.sleep(0.01)
        return self._guard.returncode()


@functools.cache
def runner() -> Account:
    """Who pgferry runs as: the caller; for root an unprivileged account that can read this interpreter.

    An interpreter below root's home cannot be read by others; then root itself runs it.
    """
    account = Account.choose()
    if account.switched and not account.can_run([sys.executable, "-c", "import pgferry.config"]):
        return Account.caller()
    return account


def accepts(address: Address) -> bool:
    """Whether somebody listens there."""
    try:
        connect(address, 5.0).close()
    except OSError:
        return False
    return True


def _environment() -> dict[str, str]:
    """The caller's, sanitizers' settings included; PGFERRY_ALLOW_ROOT only where root has to run it.

    PYTHONPATH makes the child import the same pgferry as this process, from any directory.
    """
    kept = {k: v for k, v in os.environ.items() if k != ALLOW_ROOT}
    root = os.geteuid() == 0 and not runner().switched
    kept["PYTHONPATH"] = ":".join(filter(None, (str(SOURCE), os.environ.get("PYTHONPATH", ""))))
    return kept | {"PYTHONUNBUFFERED": "1"} | ({ALLOW_ROOT: "1"} if root else {})


def _cpu_ticks(pid: int) -> int:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0
    return int(fields[11]) + int(fields[12])
