"""What connects the engine with the rest of a worker: plain watches, the console tunnel, the main loop."""

from libc.stdint cimport uint32_t

from pgferry.engine.ops.maintenance import tick
from pgferry.engine.core.model cimport Client, Engine
from pgferry.engine.io.loop cimport Loop
from pgferry.engine.io.stream cimport PAUSE_PEER, Reactor, Service, Stream
from pgferry.engine.io.sys cimport EPOLLIN, EPOLLOUT, monotonic
from pgferry.engine.shared.times cimport record

cdef double TICK = 1.0 / 3.0
cdef double LOG_DELAY = 0.1       # seconds a log line may wait for others, so that many go in one write


cdef class Watch(Service):
    """A descriptor that Python code reads and writes itself; callback() runs when it became ready."""

    cdef object callback

    def __init__(self, loop, int fd, callback, bint writable=False):
        self.callback = callback
        self.attach(fd, EPOLLIN | EPOLLOUT if writable else EPOLLIN)

    cdef int on_event(self, uint32_t events) except -1:
        self.callback()
        return self.served()

    def stop(self):
        """Close the descriptor."""
        self.detach()


cdef class Tunnel(Stream):
    """Our end of a console client's connection to the console in the supervisor: bytes pass as they are."""

    cdef Client client

    def __init__(self, loop, int fd, Client client):
        self.client = client
        self.attach(fd, EPOLLIN)

    cdef ssize_t feed(self, const char *data, size_t n) except -1:
        cdef Reactor loop = self.loop
        loop.out.begin(self.client)
        loop.out.emit_run(data, n)
        self.client.flush()
        if self.client.blocked:
            self.pause(PAUSE_PEER)
        return n

    cdef int on_eof(self) except -1:
        cdef Client c = self.client
        self.detach()
        c.leave_console()
        return c.close("console closed the connection")

    cdef int on_drained(self) except -1:
        return self.client.unpause(PAUSE_PEER)


def run(Engine engine, after_tick):
    """Serve until stop() is called. after_tick() runs every 1/3 s; log lines are written a moment after they came."""
    cdef Loop loop = engine.loop
    cdef double next_tick = monotonic() + TICK
    cdef double log_at = 0
    cdef int timeout
    while not loop.stopping:
        timeout = <int>(((log_at if log_at else next_tick) - loop.now) * 1000) + 1
        loop.turn(timeout if timeout > 0 and engine.background is None else 0)
        if engine.background is not None:
            guarded(engine, engine.do_background)
        if loop.now >= next_tick:
            record(engine.lag.counts[0], loop.now - next_tick)
            engine.lag.took(loop.now - next_tick)
            next_tick = loop.now + TICK
            guarded(engine, tick, engine)
            guarded(engine, after_tick)
        if not engine.log.waiting:
            log_at = 0          # a tick may have written the lines
        elif engine.log.urgent or (log_at and loop.now >= log_at):
            log_at = 0
            engine.log.flush()
        elif log_at == 0:
            log_at = loop.now + LOG_DELAY


def guarded(Engine engine, work, *arguments):
    """Call work(*arguments); an exception is told, and costs what it was about."""
    try:
        work(*arguments)
    except Exception as error:
        engine.loop.report(work, error)


def stop(Engine engine):
    """Make run() return after the present turn."""
    engine.loop.stop()
