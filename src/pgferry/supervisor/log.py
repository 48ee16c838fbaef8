"""The log: PgBouncer's line format and levels, written to stderr, a file and syslog."""

import errno
import os
import time
from dataclasses import dataclass

from pgferry.supervisor.sinks import FileSink, Sink, SyslogSink, open_logfile

LEVELS = ("FATAL", "ERROR", "WARNING", "LOG", "DEBUG", "NOISE")

# A client chooses its user and database names; they must not be able to work a terminal.
_CONTROL = {code: "?" for code in (*range(32), 127) if chr(code) not in "\n\t"}


@dataclass(frozen=True, slots=True)
class Destinations:
    """Where lines go; equal values mean that only the file has to be opened again."""

    stderr: bool = True
    logfile: str = ""
    syslog: bool = False
    syslog_ident: str = "pgbouncer"
    syslog_facility: str = "daemon"


def format_line(level: str, text: str, *, pid: int, now: float) -> str:
    """`YYYY-MM-DD HH:MM:SS.mmm TZ [pid] LEVEL text`; further lines of a text begin with a tab."""
    local = time.localtime(now)
    stamp = time.strftime("%Y-%m-%d %H:%M:%S", local)
    body = text.rstrip("\n").translate(_CONTROL).replace("\n", "\n\t")
    return f"{stamp}.{int(now * 1000) % 1000:03d} {local.tm_zone} [{pid}] {level} {body}"


class Log:
    """The supervisor's log. Before `open` is called lines go straight to stderr, as at a failing start."""

    def __init__(self, verbose: int = 0, *, quiet: bool = False) -> None:
        self.verbose = verbose
        self._quiet = quiet
        self._sinks: dict[str, Sink] = {}
        self._opened = False
        self._destinations = Destinations()

    def open(self, destinations: Destinations) -> None:
        """Start writing to `destinations`, opening the log file anew each time (for log rotation).

        Raises OSError when the file cannot be opened; then nothing has changed.
        """
        self.use(destinations, self.open_file(destinations))

    @staticmethod
    def open_file(destinations: Destinations) -> Sink | None:
        """The log file of `destinations`, for `use` or to be closed. Raises OSError."""
        if not destinations.logfile:
            return None
        fd = open_logfile(destinations.logfile)
        try:
            return FileSink("file", fd, own=True)
        except RuntimeError as error:  # no thread can be started
            os.close(fd)
            raise OSError(errno.EAGAIN, str(error)) from error

    def use(self, destinations: Destinations, file: Sink | None) -> None:
        """Write to `destinations` from now on, whose log file is open already."""
        old = self._sinks.pop("file", None)
        if file is not None:
            self._sinks["file"] = file
        if old is not None:
            old.close(0.2)
        self._switch("stderr", destinations.stderr and not self._quiet)
        if not destinations.syslog or destinations != self._destinations:
            self._switch("syslog", False)
        self._destinations = destinations
        self._switch("syslog", destinations.syslog)
        self._opened = True

    def _switch(self, name: str, wanted: bool) -> None:
        if not wanted and name in self._sinks:
            self._sinks.pop(name).close(0.2)
        elif wanted and name not in self._sinks:
            d = self._destinations
            self._sinks[name] = (
                SyslogSink(d.syslog_ident, d.syslog_facility)
                if name == "syslog"
                else FileSink("stderr", 2, own=False)
            )

    def stop_stderr(self) -> None:
        """Leave stderr for good: a daemon has no terminal."""
        self._quiet = True
        self._switch("stderr", False)

    def close(self) -> None:
        """Write out what is queued; a blocked destination is given a second."""
        for sink in self._sinks.values():
            sink.close()
        self._sinks.clear()

    def copy(self, line: bytes) -> None:
        """Pass on a finished line, for example one of a worker."""
        if self._opened:
            for sink in self._sinks.values():
                sink.put(line)
        elif not self._quiet:
            os.write(2, line + b"\n")

    def write(self, level: str, text: str) -> None:
        """Write `text` at `level` (one of LEVELS)."""
        line = format_line(level, text, pid=os.getpid(), now=time.time())
        self.copy(line.encode("utf-8", "replace"))

    def fatal(self, text: str) -> None:
        """The process ends because of this; shown even with -q when there is no other destination."""
        line = format_line("FATAL", text, pid=os.getpid(), now=time.time()).encode("utf-8", "replace")
        if self._sinks:
            self.copy(line)
        else:
            os.write(2, line + b"\n")

    def error(self, text: str) -> None:
        """Something failed."""
        self.write("ERROR", text)

    def warning(self, text: str) -> None:
        """Something an operator should look at."""
        self.write("WARNING", text)

    def log(self, text: str) -> None:
        """An ordinary event."""
        self.write("LOG", text)

    def debug(self, text: str) -> None:
        """Shown from verbose 1 on."""
        if self.verbose >= 1:
            self.write("DEBUG", text)

    def noise(self, text: str) -> None:
        """Shown from verbose 2 on."""
        if self.verbose >= 2:
            self.write("NOISE", text)
