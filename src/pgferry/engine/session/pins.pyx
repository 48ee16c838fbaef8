"""Pins: what holds a client to its server, because it cannot be brought to another one."""

from libc.stdint cimport uint32_t

from pgferry.engine.core.effects cimport CURSORS, FOREVER, HELD, LARGE, LOCKS, PREPARED, TEMP, UNNAMED
from pgferry.engine.core.enums cimport MODE_STATEMENT
from pgferry.engine.core.model cimport Client, Pool, Server

PIN_NAMES = ((TEMP, "temporary objects"), (LOCKS, "advisory locks"), (CURSORS, "holdable cursors"),
             (FOREVER, "state that cannot be asked for"), (UNNAMED, "a setting of unknown name"),
             (LARGE, "more than 1 MB of settings or prepared statements"),
             (PREPARED, "prepared statements that cannot be made elsewhere"), (HELD, "catalog being read"))


cdef int pin(Client c, Server s, uint32_t found) except -1:
    """Hold the client to its server as long as the session has what cannot move. May close the client."""
    cdef Pool pool = c.pool
    for bit, name in ((TEMP, "temp"), (LOCKS, "locks"), (CURSORS, "cursors")):
        if name in c.engine.omit:
            found &= ~<uint32_t>bit
    if found == c.pin.pins:
        return 0
    if found == 0:
        return unpin(c)
    if c.pin.pins & ~<uint32_t>HELD == 0:
        if pool.settings.mode == MODE_STATEMENT or not pool.pins.take(pool.settings.max_pinned):
            c.pins_are(found)
            why = f"max_pinned = {pool.settings.max_pinned}"
            if pool.settings.mode == MODE_STATEMENT:
                why = "statement pooling mode"
            text = f"session state would pin one more server connection ({why}): {pin_reasons(c)}, by {c.reason}"
            c.pins_are(0)
            s.probe.add(found)          # for the scrub
            c.pool.count("pins_refused", c.reason or "")
            return c.close("max_pinned", text, "53400")
        c.begin_pin()
    for bit, name in PIN_NAMES:
        if found & ~c.pin.pins & <uint32_t>bit:
            c.pool.count("pins", name)
    return c.pins_are(found)


cdef int unpin(Client c) except -1:
    cdef bint counted = c.pin.pins & ~<uint32_t>HELD != 0
    c.pins_are(0)
    if counted:
        c.pool.pins.give()
    return 0


cdef int unhold(Client c) except -1:
    """The client keeps its server for the catalog's sake no longer; other pins stay."""
    c.pins_are(c.pin.pins & ~<uint32_t>HELD)
    return 0


cdef str pin_reasons(Client c):
    """Why the client is pinned, for people."""
    return ", ".join([name for bit, name in PIN_NAMES if c.pin.pins & <uint32_t>bit])
