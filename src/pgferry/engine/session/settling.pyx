"""Servers that wait until the catalog is known, because of what ran on them (see unsure), and the end of that."""

from libc.stdint cimport uint32_t

from pgferry.engine.core.database cimport Database
from pgferry.engine.core.effects cimport ASKABLE, CANNOT_ASK, FOREVER, HELD, UNNAMED, UNREADABLE
from pgferry.engine.core.model cimport Client, Server
from pgferry.engine.session.catalog cimport is_given_up, keep_up
from pgferry.engine.session.classify cimport classify_sql, note_inner
from pgferry.engine.session.pins cimport unhold
from pgferry.engine.session.unsure cimport forget_unsure


cdef bint hold(Client c, Server s) except -1:
    """Whether the client has to keep its server until the catalog is known, now that its transaction is over."""
    cdef Database db = c.db
    if not db.catalog.unread or is_given_up(db, c.loop.now):
        return False
    if s.unsure.awaits == 0:
        s.unsure.wait_for(db.catalog.reading_to_await())
    db.catalog.hold(s)
    if not c.pin.pins & HELD:
        if c.pin.pins == 0:
            c.begin_pin()
        c.pins_are(c.pin.pins | HELD)
        c.pool.count("holds", c.reason or "")
    keep_up(db, c.engine)
    return c.pin.pins & HELD != 0


cdef int settle_unsure(Client c, Server s) except -1:
    """Now it can be told what the server has to be asked; or nobody waits for that any more."""
    cdef Database db = c.db
    cdef list texts = s.unsure.unclassified or []
    cdef object known = s.unsure.known
    cdef bint lost = s.unsure.unclassified_lost, defined = s.unsure.defined
    cdef bytes text
    forget_unsure(s)
    unhold(c)
    s.probe.add_any_name(ASKABLE)
    if is_given_up(db, c.loop.now):
        s.probe.add(UNREADABLE)
    for text in texts:
        note_inner(c, s, classify_sql(c, text, len(text)))
    if lost:
        may_have_called(s, news(known, db.catalog.knowledge))
    s.current.announced()               # what may have notified has been sent long ago
    if defined:
        s.probe.expect_unlisted()     # what was made may be gone again, and with it the names of the settings it knew
    return 0


cdef int may_have_called(Server s, uint32_t bits) except -1:
    """What is new in the catalog may have run here, and some of it cannot be asked for: it is given up.

    Pinning everybody who was at work while somebody defined a function would use up the pool.
    """
    if bits & FOREVER:
        s.close_when_free("state that cannot be asked for may be left")
    if bits & (UNNAMED | UNREADABLE):
        s.probe.add(UNREADABLE)
    return 0


cdef uint32_t news(object before, object now) except? 0xFFFFFFFF:
    """What cannot be asked for among what the catalog's words mean `now` and did not mean `before`."""
    cdef uint32_t found = 0
    cdef dict old = {} if before is None else before.words
    if now is None or now is before:
        return 0
    for word, bits in now.words.items():
        found |= <uint32_t>(bits & ~old.get(word, 0)) & <uint32_t>(CANNOT_ASK | UNREADABLE)
    return found


cdef int settle_held(Database db, int reading) except -1:
    """Ask the servers that have waited for this reading of the catalog (-1: for any) what they hold."""
    cdef Server s
    cdef Client c
    if not db.catalog.held:
        return 0
    for item in list(db.catalog.held):
        s = <Server>item
        c = s.client
        if reading >= 0 and s.unsure.awaits > reading:
            continue
        db.catalog.held.discard(s)
        if c is None or not s.unsure.unsure:
            continue
        unhold(c)
        if s.unsure.awaits and s.is_clean() and c.times.xact_start == 0:
            settle_unsure(c, s)
            s.release()
        else:
            s.unsure.wait_for(0)       # its next transaction has begun, at whose end it is looked at again
    return 0
