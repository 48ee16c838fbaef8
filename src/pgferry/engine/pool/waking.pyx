"""Telling other workers that a place under a limit is free, so that they need not wait for their next tick.

Each worker has an eventfd, which all can write. Who waits because of a limit says so in the ledger (see sharing).
"""

import os

from pgferry.engine.core.model cimport Engine, Pool
from pgferry.engine.shared.ledger cimport Counter


cdef int place_is_free(Pool pool) except -1:
    """A server of this pool is gone: wake the workers whose clients wait for its place."""
    cdef Engine engine = pool.engine
    cdef int worker
    cdef Counter waiting
    if engine.wakes is None:
        return 0
    for worker in range(engine.workers):
        if worker == engine.index:
            continue
        for each in (pool.wanting, pool.db.wanting, pool.user.wanting):
            waiting = <Counter>each
            if waiting.of(worker) > 0:
                try:
                    os.eventfd_write(engine.wakes[worker], 1)
                except BlockingIOError:
                    pass                # it has not even read the last ones
                break
    return 0


def look_again(Engine engine):
    """A place has become free somewhere."""
    cdef Pool pool
    for item in engine.pools():
        pool = <Pool>item
        if pool.blocked:
            pool.want_servers()
