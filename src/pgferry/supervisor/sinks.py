"""Log destinations (stderr, file, syslog), each with its own thread: a blocked one holds up nobody."""

import os
import re
import syslog
import threading
from collections import deque
from collections.abc import Callable

_LEVEL = re.compile(rb"^\S+ \S+ \S+ \[\d+\] ([A-Z]+) (.*)", re.S)
_BETWEEN = re.compile(rb"\n(?!\t)")
_PRIORITIES = {
    "FATAL": syslog.LOG_CRIT,
    "ERROR": syslog.LOG_ERR,
    "WARNING": syslog.LOG_WARNING,
    "LOG": syslog.LOG_INFO,
}
_FACILITIES = {
    "auth": syslog.LOG_AUTH,
    "authpriv": getattr(syslog, "LOG_AUTHPRIV", syslog.LOG_AUTH),
    "daemon": syslog.LOG_DAEMON,
    "user": syslog.LOG_USER,
    **{f"local{n}": getattr(syslog, f"LOG_LOCAL{n}") for n in range(8)},
}


class Sink:
    """A destination with a bounded queue of lines and a thread that empties it.

    When the destination blocks and the queue is full (`limit` bytes), lines are dropped and counted; the count
    is written once the destination takes lines again. `put` never blocks.
    """

    def __init__(self, name: str, write: Callable[[bytes], None], *, limit: int = 4 * 1024 * 1024) -> None:
        self._write = write
        self._limit = limit
        self._lines: deque[bytes] = deque()
        self._queued = 0
        self._lost = 0
        self._closing = False
        self._wake = threading.Condition()
        self._thread = threading.Thread(target=self._run, name=f"log-{name}", daemon=True)
        self._thread.start()

    def put(self, line: bytes) -> None:
        """Queue a finished line, or several, without the last newline."""
        with self._wake:
            if self._queued + len(line) > self._limit:
                self._lost += 1 + line.count(b"\n")
                return
            self._queued += len(line)
            self._lines.append(line)
            self._wake.notify()

    def close(self, timeout: float = 1.0) -> None:
        """Write what is queued, waiting at most `timeout` seconds for a slow destination."""
        with self._wake:
            self._closing = True
            self._wake.notify()
        self._thread.join(timeout)

    def _run(self) -> None:
        while True:
            with self._wake:
                while not self._lines and not self._closing:
                    self._wake.wait()
                if not self._lines:
                    return
                batch = list(self._lines)
                self._lines.clear()
                self._queued = 0
                lost, self._lost = self._lost, 0
            if lost:
                batch.append(b"%d log lines were lost: the destination was blocked" % lost)
            try:
                self._write(b"\n".join(batch))
            except OSError:
                # Full disk, closed terminal: there is no place to report it, and the pooler must go on.
                continue


class FileSink(Sink):
    """Lines appended to an open descriptor; owns the descriptor when `own` is true."""

    def __init__(self, name: str, fd: int, *, own: bool) -> None:
        self._fd = fd
        self._own = own
        super().__init__(name, self._write_lines)

    def _write_lines(self, lines: bytes) -> None:
        data = lines + b"\n"
        while data:
            data = data[os.write(self._fd, data) :]

    def close(self, timeout: float = 1.0) -> None:
        super().close(timeout)
        # A thread still stuck in write() keeps its descriptor: closing it could hand the number to a socket.
        if self._own and not self._thread.is_alive():
            os.close(self._fd)


class SyslogSink(Sink):
    """Lines of level LOG and above to syslog, without the time stamp, which syslog adds itself."""

    def __init__(self, ident: str, facility: str) -> None:
        syslog.openlog(ident, syslog.LOG_PID, _FACILITIES.get(facility.lower(), syslog.LOG_DAEMON))
        super().__init__("syslog", self._write_lines)

    def _write_lines(self, lines: bytes) -> None:
        # A line that begins with a tab belongs to the one before it.
        for line in _BETWEEN.split(lines):
            self._write_line(line)

    def _write_line(self, line: bytes) -> None:
        match = _LEVEL.match(line)
        level, text = (match[1].decode(), match[2]) if match else ("LOG", line)
        if level in _PRIORITIES:
            syslog.syslog(_PRIORITIES[level], text.decode("utf-8", "replace").replace("\0", ""))


def open_logfile(path: str) -> int:
    """Open `path` for appending, made if missing. Raises OSError."""
    return os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o640)
