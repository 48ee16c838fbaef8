"""The worker's log: complete lines for the supervisor's pipe, which never block the loop."""

import os
import time

LEVELS = {"NOISE": 2, "DEBUG": 1}
MAX_PENDING = 1024 * 1024
"""Bytes of lines kept while the pipe is full; further lines are counted and dropped."""


class WorkerLog:
    """Formats lines (COMPAT 2.11) and writes them in bulk, once a turn of the loop."""

    def __init__(self, fd: int) -> None:
        os.set_blocking(fd, False)
        self._fd = fd
        self._lines: list[str] = []
        self._unsent = b""
        self._dropped = 0
        self._second = -1
        self._stamp = ""
        self._zone = ""
        self._pid = os.getpid()
        self.verbose = 0
        self.engine: object | None = None

    def __call__(self, level: str, text: str) -> None:
        """Add a line. Levels: FATAL ERROR WARNING LOG DEBUG NOISE. Newlines in the text are made harmless."""
        if LEVELS.get(level, 0) > self.verbose:
            return
        now = time.time()
        second = int(now)
        if second != self._second:
            local = time.localtime(second)
            self._second = second
            self._stamp = time.strftime("%Y-%m-%d %H:%M:%S", local)
            self._zone = local.tm_zone
        if "\n" in text or "\r" in text:
            text = text.replace("\r", " ").replace("\n", "\n\t")
        milliseconds = int((now - second) * 1000)
        self._lines.append(f"{self._stamp}.{milliseconds:03d} {self._zone} [{self._pid}] {level} {text}\n")
        if self.engine is not None:
            self.engine.attention = True  # type: ignore[attr-defined]

    def retry(self) -> None:
        """Write what an earlier flush could not."""
        if self._unsent:
            self.flush()

    def flush(self) -> None:
        """Write what the pipe takes."""
        if self._lines:
            if len(self._unsent) > MAX_PENDING:
                self._dropped += len(self._lines)
            else:
                self._unsent += "".join(self._lines).encode("utf-8", "surrogateescape")
            self._lines.clear()
        if not self._unsent:
            return
        try:
            written = os.write(self._fd, self._unsent)
        except BlockingIOError:
            return
        except BrokenPipeError:
            self._unsent = b""
            return
        self._unsent = self._unsent[written:]
        if not self._unsent and self._dropped:
            dropped, self._dropped = self._dropped, 0
            self("WARNING", f"{dropped} log lines lost: the log could not be written fast enough")
