"""The worker's log: complete lines for the supervisor's pipe, written in bulk, which never block the loop."""

import os
import time

from libc.errno cimport EAGAIN, EINTR, EPIPE, errno
from libc.string cimport memchr

from pgferry.engine.io.sys cimport CLOCK_REALTIME, clock_gettime, timespec, write as write_fd
from pgferry.engine.io.text cimport Text

cdef enum:
    MANY = 32 * 1024                # bytes of new lines that are written at once, not a moment later: half a pipe
    MAX_PENDING = 1024 * 1024       # bytes kept while the pipe is full; further lines are counted and dropped

cdef dict QUIET = {"NOISE": 2, "DEBUG": 1}


cdef class Log:
    """Formats lines (COMPAT 2.11); worker_loop.run has them written a moment later."""

    def __init__(self, int fd):
        os.set_blocking(fd, False)
        self.fd = fd
        self.text = Text()
        self.second = -1

    @property
    def lines(self):
        """The lines that are not yet written."""
        return self.text.data[:self.begun].decode("utf-8", "surrogateescape").splitlines(keepends=True)

    cdef bint wants(self, str level) except -1:
        """Whether lines of this level are kept. Levels: FATAL ERROR WARNING LOG DEBUG NOISE."""
        return level == "LOG" or level not in QUIET or <int>QUIET[level] <= self.verbose

    cdef Text begin(self, str level):
        """Begin a line of a level that wants() lets through: what is put behind it is the line, until end()."""
        cdef timespec ts
        cdef char digits[3]
        cdef int thousandths
        cdef Text text = self.text
        clock_gettime(CLOCK_REALTIME, &ts)
        if ts.tv_sec != self.second:
            local = time.localtime(ts.tv_sec)
            self.second = ts.tv_sec
            self.stamp = time.strftime("%Y-%m-%d %H:%M:%S.", local).encode()
            self.tail = f" {local.tm_zone} [{os.getpid()}] ".encode("utf-8", "surrogateescape")
        text.cut(self.begun)                # a line that was never ended is forgotten
        text.raw(self.stamp, len(self.stamp))
        thousandths = ts.tv_nsec // 1000000
        digits[0] = <char>(48 + thousandths // 100)
        digits[1] = <char>(48 + thousandths // 10 % 10)
        digits[2] = <char>(48 + thousandths % 10)
        text.raw(digits, 3)
        text.raw(self.tail, len(self.tail))
        text.put(level)
        text.raw(b" ", 1)
        self.level = level
        return text

    cdef int end(self) except -1:
        """The line is complete. Newlines in it are made harmless."""
        cdef Text text = self.text
        cdef char *line = text.data + self.begun
        cdef size_t n = text.size - self.begun
        cdef bytes clean
        if self.begun > MAX_PENDING:
            text.cut(self.begun)
            self.dropped += 1
            return 0
        if memchr(line, b"\n", n) != NULL or memchr(line, b"\r", n) != NULL:
            clean = line[:n].replace(b"\r", b" ").replace(b"\n", b"\n\t")
            text.cut(self.begun)
            text.raw(clean, len(clean))
        text.raw(b"\n", 1)
        self.begun = text.size
        self.waiting = True
        if self.level != "LOG" and self.level not in QUIET or self.begun > self.left + MANY:
            self.urgent = True
        return 0

    cpdef int write(self, str level, str text) except -1:
        """Add a line."""
        if self.wants(level):
            self.begin(level).put(text)
            self.end()
        return 0

    def retry(self):
        """Write what an earlier flush could not."""
        if self.begun:
            self.flush()

    def flush(self):
        """Write what the pipe takes."""
        cdef ssize_t written
        self.waiting = self.urgent = False
        self.text.cut(self.begun)
        if not self.begun:
            return
        while True:
            written = write_fd(self.fd, self.text.data, self.begun)
            if written >= 0 or errno != EINTR:
                break
        if written < 0:
            if errno == EAGAIN:
                return self.leave()
            if errno != EPIPE:
                raise OSError(errno, os.strerror(errno))
            written = self.begun
        self.text.drop(written)
        self.begun = self.text.size
        self.leave()
        if not self.begun and self.dropped:
            dropped, self.dropped = self.dropped, 0
            self.write("WARNING", f"{dropped} log lines lost: the log could not be written fast enough")

    cdef leave(self):
        """What the pipe did not take is tried again a moment later."""
        self.left = self.begun
        self.waiting = self.begun > 0
