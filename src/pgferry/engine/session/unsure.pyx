"""Noting transactions of which nobody could tell what they did, because the catalog was not known (see catalog).

Such a transaction is `unsure`. When it is over its client keeps the server (HELD, which is shown as a pin) until a
reading that began after its end is there; only then PostgreSQL is asked, for everything and by all names that are now
known. Its texts are kept and classified again: a function that computes the name of a setting pins, as always. Of texts
that were not kept it is assumed that they called whatever is new in the catalog since they were classified.

If the catalog cannot be read for a while nobody is held any more: such a transaction counts as code that cannot be read
(UNREADABLE).
"""

from pgferry.engine.core.database cimport Database
from pgferry.engine.core.effects cimport ASKABLE
from pgferry.engine.core.model cimport Client, Server
from pgferry.engine.session.pending_effects cimport demote_standalone


cdef int note_unsure(Client c, Server s, const char *text, size_t n) except -1:
    """This text runs while the catalog is not known."""
    begin_unsure(s)
    return s.unsure.keep_text(text, n)


cdef int begin_unsure(Server s) except -1:
    s.unsure.begin()
    if s.current.standalone_set is not None:
        demote_standalone(s)
    s.probe.add_any_name(ASKABLE)
    s.current.may_have_notified()
    return 0


cdef int note_definition(Server s) except -1:
    """The transaction under way defines functions and the like: whatever it has run or will run may have called it."""
    if s.client is None or not s.client.tracks_state:
        return 0
    begin_unsure(s)
    s.unsure.define()
    if s.client.reason is None:
        s.client.because("unknown functions")
    return 0


cdef int note_outdated(Client c, Server s) except -1:
    """The transaction that is over was classified by what was known before the catalog changed."""
    begin_unsure(s)
    s.unsure.lose_texts()
    if c.reason is None:
        c.because("unknown functions")
    return 0


cdef int forget_unsure(Server s) except -1:
    """Nothing is to be settled any more."""
    cdef Database db = s.pool.db
    s.unsure.forget()
    if db.catalog.held is not None:
        db.catalog.held.discard(s)
    return 0
