"""A child process that ends with its parent, whatever ends the parent."""

import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path

from pgferry.embedded.account import Account

# The watcher is a shell that waits for the end of a pipe which only the parent holds open. It works
# from any thread of the parent, which PR_SET_PDEATHSIG does not: that fires when the *thread* ends.
# $1 pid to end, $2 its start time, $3 signal, $4 directory to remove or "".
_WATCH = r"""
read _
started() {
  { IFS= read -r s < "/proc/$1/stat"; } 2>/dev/null || return
  set -- ${s##*)}
  case $1 in [ZX]) ;; *) shift 19; echo "$1" ;; esac
}
if [ "$(started "$1")" = "$2" ]; then
  kill -"$3" "$1" 2>/dev/null
  n=0
  while [ "$(started "$1")" = "$2" ] && [ $n -lt 100 ]; do n=$((n + 1)); sleep 0.1; done
  [ $n -lt 100 ] || kill -KILL "$1" 2>/dev/null
fi
[ -z "$4" ] || rm -rf -- "$4"
"""


class Guarded:
    """A process of an account, and the watcher that ends it when this interpreter is gone.

    `orphan_signal` is sent to the process and `orphan_dir` removed in that case only.
    """

    def __init__(
        self,
        account: Account,
        argv: Sequence[str],
        *,
        log: Path,
        cwd: Path,
        env: dict[str, str] | None = None,
        orphan_signal: signal.Signals = signal.SIGQUIT,
        orphan_dir: Path | None = None,
    ) -> None:
        with log.open("ab") as sink:
            self.process = account.popen(argv, cwd=cwd, env=env, stdout=sink.fileno())
        account.own(log)
        name = orphan_signal.name.removeprefix("SIG")
        started = start_time(self.process.pid)
        watch = [
            "/bin/sh",
            "-c",
            _WATCH,
            "sh",
            str(self.process.pid),
            str(started),
            name,
            str(orphan_dir or ""),
        ]
        self._watcher = account.popen(watch, env={"PATH": "/usr/bin:/bin"}, stdin=subprocess.PIPE)

    @property
    def pid(self) -> int:
        return self.process.pid

    def returncode(self) -> int | None:
        """The exit status (negative: signal), None while it runs."""
        return self.process.poll()

    def end(self, how: signal.Signals, timeout: float) -> int | None:
        """Send a signal and wait; None when it still runs after `timeout` seconds."""
        if self.process.poll() is None:
            self.process.send_signal(how)
        try:
            self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            return None
        self.release()
        return self.process.returncode

    def release(self) -> None:
        """Send the watcher home; call it when the process has ended or should live on."""
        if self._watcher.poll() is None:
            self._watcher.kill()
        self._watcher.wait()
        if self._watcher.stdin is not None:
            self._watcher.stdin.close()


def start_time(pid: int) -> int:
    """When a process started, in clock ticks since boot (proc(5), field 22), 0 when it is gone."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return 0
    return int(text.rpartition(")")[2].split()[19])


def children(pid: int) -> list[int]:
    """The direct children of a process (those of its main thread, which is all of PostgreSQL's)."""
    try:
        return [int(p) for p in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def descendants(pid: int) -> list[int]:
    """Children, their children and so on."""
    found = children(pid)
    for child in list(found):
        found += descendants(child)
    return found


def alive(pid: int) -> bool:
    """Whether a process exists and is no zombie."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return text.rpartition(")")[2].split()[0] not in "ZX"
