"""The worker's log: complete lines for the supervisor's pipe, written in bulk, which never block the loop."""

import os
import time

from pgferry.engine.sys cimport CLOCK_REALTIME, clock_gettime, timespec

cdef enum:
    MAX_PENDING = 1024 * 1024       # bytes of lines kept while the pipe is full; further ones are counted and dropped

cdef dict QUIET = {"NOISE": 2, "DEBUG": 1}


cdef class Log:
    """Formats lines (COMPAT 2.11); plumbing.run has them written a moment later."""

    def __init__(self, int fd):
        os.set_blocking(fd, False)
        self.fd = fd
        self.lines = []
        self.unsent = b""
        self.second = -1

    cpdef int write(self, str level, str text) except -1:
        """Add a line. Levels: FATAL ERROR WARNING LOG DEBUG NOISE. Newlines in the text are made harmless."""
        cdef timespec ts
        cdef int thousandths
        if level in QUIET and <int>QUIET[level] > self.verbose:
            return 0
        clock_gettime(CLOCK_REALTIME, &ts)
        if ts.tv_sec != self.second:
            local = time.localtime(ts.tv_sec)
            self.second = ts.tv_sec
            self.stamp = time.strftime("%Y-%m-%d %H:%M:%S.", local)
            self.tail = f" {local.tm_zone} [{os.getpid()}] "
        if "\n" in text or "\r" in text:
            text = text.replace("\r", " ").replace("\n", "\n\t")
        thousandths = 1000 + ts.tv_nsec // 1000000
        self.lines.append(self.stamp + str(thousandths)[1:] + self.tail + level + " " + text + "\n")
        self.waiting = True
        if level != "LOG" and level not in QUIET:
            self.urgent = True
        return 0

    def retry(self):
        """Write what an earlier flush could not."""
        if self.unsent:
            self.flush()

    def flush(self):
        """Write what the pipe takes."""
        self.waiting = self.urgent = False
        if self.lines:
            if len(self.unsent) > MAX_PENDING:
                self.dropped += len(self.lines)
            else:
                self.unsent += "".join(self.lines).encode("utf-8", "surrogateescape")
            self.lines.clear()
        if not self.unsent:
            return
        try:
            written = os.write(self.fd, self.unsent)
        except BlockingIOError:
            return
        except BrokenPipeError:
            self.unsent = b""
            return
        self.unsent = self.unsent[written:]
        if not self.unsent and self.dropped:
            dropped, self.dropped = self.dropped, 0
            self.write("WARNING", f"{dropped} log lines lost: the log could not be written fast enough")
