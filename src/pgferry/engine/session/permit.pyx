"""Whether a statement that was classified may be sent now; what is staged around it, or said in its place."""

import re

from libc.stdint cimport uint32_t

from pgferry.engine.core.effects cimport ANYTHING, NEED_PREPARED, NEED_SEQUENCES, PREPARED
from pgferry.engine.core.enums cimport DONE, MODE_STATEMENT, STATE_IGNORE, STATE_REFUSE
from pgferry.engine.core.model cimport Client, Server
from pgferry.engine.session.announcing cimport is_due
from pgferry.engine.session.classify cimport HARMLESS, may_end_transaction, needs_of
from pgferry.engine.session.ensure cimport (
    clear_sql, ensure_named, ensure_prepared, forget_sequences, is_ensuring, lacks_sql, sequences_ready,
)
from pgferry.engine.session.parse_settings cimport settings_now
from pgferry.engine.session.staging cimport refuse, stage_in_batch
from pgferry.engine.session.start_values cimport base_again, base_script

cdef enum:
    DROPS_SQL = 3          # session.verdict.DEALLOCATE_ALL, DISCARD_ALL

DROPS_ALL = re.compile(rb"\s*(?:DISCARD\s+ALL|DEALLOCATE\s+(?:PREPARE\s+)?ALL)\s*;?\s*\0", re.IGNORECASE)


cdef int replay_start_values(Client c, Server s, bint extended) except -1:
    """Behind a RESET: it has led to the server's own values, the client's are those of its startup packet.

    In a batch they are set at once, and stand or fall with it; only DISCARD ALL stands whatever follows it, see
    replay_start_values_later(). Behind a Query they are set when that has succeeded; the client is held until then.
    """
    cdef bytes text
    cdef list tracked = []
    if c.names.reset_due is None:
        return 0
    text = base_script(c, c.names.reset_due, tracked)
    if text and extended:
        if c.names.reset_due is True:
            s.injected.reset_in_batch(s.plan.turns + 1)
        c.names.reset_is_seen_to()
        return stage_in_batch(s, text, 0, None)
    c.names.reset_is_seen_to()
    if text:
        s.injected.hold_for_start_values(text, tracked)
    return 0


cdef int replay_start_values_later(Client c, Server s) except -1:
    """A batch has failed behind its DISCARD ALL, and with it the start values: they are set when it is over."""
    cdef list tracked = []
    cdef bytes text = base_script(c, True, tracked)
    s.injected.undo_discard()
    s.injected.hold_for_start_values(text or None, tracked)
    return 0


cdef int reset_in_session(Client c, Server s) except -1:
    """Session mode: a RESET has led to the server's own values; those of the client's startup packet come back."""
    cdef bytes text = base_again(c) if c.pool.settings.session_state != STATE_IGNORE else b""
    if text:
        # PostgreSQL itself tells of the tracked parameters among them, see server.relay.on_parameter()
        s.injected.hold_for_start_values(text, [])
    return 0


cdef bint may_go(Client c, Server s, const char *text, size_t n) noexcept:
    """Whether a statement may be sent before the restore in front of it is known to have succeeded.

    If that fails the server is left in a transaction that has failed, in which nothing is carried out; except what
    ends the transaction, and what comes after that.
    """
    return s.plan.turns == 0 and not may_end_transaction(c.engine, text, n)


cdef bint ready_for(Client c, Server s, verdict, bint extended) except -1:
    """Stage what the statement needs on the server. False: sequences cannot be told apart."""
    cdef int needs = needs_of(c, s, verdict)
    if needs & NEED_PREPARED or (verdict.touch & PREPARED and not verdict.discards & DROPS_SQL):
        ensure_prepared(c, s, extended)
        if extended:
            ensure_named(c, s, verdict)
    return (not needs & NEED_SEQUENCES
            or sequences_ready(c, s, extended, verdict.touch & <uint32_t>ANYTHING == <uint32_t>ANYTHING))


cdef int ready_for_anything(Client c, Server s, bint extended) except -1:
    """A text that nobody has read, or functions that nobody knows yet: it may execute what is prepared, and read
    sequences. In a transaction nothing is prepared for it: should that fail, the transaction would.
    """
    if s.xact == b"I":
        ensure_prepared(c, s, extended)
    else:
        clear_sql(c, s)
    return forget_sequences(c, s, extended)


cdef bint is_unknown(Client c) noexcept:
    """Whether functions may have changed since the catalog was read."""
    return c.db.catalog.unread


cdef bint may_do_anything(Client c, object verdict) except -1:
    """Whether a text may execute what is prepared by SQL, and read sequences, for all that is known."""
    return c.db.catalog.unread or (verdict is not HARMLESS and (verdict is None or verdict.defines))


cdef bint must_wait(Client c, Server s, object verdict) except -1:
    """Whether such a text has to wait for what was sent before, so that nothing of other clients' is there for it."""
    return (s.plan.turns != 0 and may_do_anything(c, verdict)
            and (s.last.sequence_cache_dirty or s.sql is not None or c.tracker.sql is not None))


cdef bint is_lacking(Client c, Server s, object verdict) except -1:
    """Whether something would be staged in front of this statement now: see ready_for() and ready_for_anything()."""
    cdef bint anything
    cdef int needs = 0
    if s.xact == b"E" or (verdict is HARMLESS and not c.db.catalog.unread and not s.current.notifying):
        return False
    anything = may_do_anything(c, verdict)
    if verdict is not None:
        needs = verdict.needs
    if s.last.sequence_cache_dirty and s.plan.turns == 0 and (anything or needs & NEED_SEQUENCES):
        return True
    if (s.current.notifying or verdict is None or verdict.notifies) and is_due(c, s):
        return True
    return (anything or needs & NEED_PREPARED) and not is_ensuring(s) and (c.tracker.sql or {}) != (s.sql or {})


cdef bint lacks_settings(Client c, Server s, object verdict) except -1:
    """Whether a text has to do with SQL-level prepared statements, and it is not known yet under which settings."""
    if verdict is None or verdict is HARMLESS:
        return False
    return (((verdict.needs & NEED_PREPARED and lacks_sql(c, s))
             or (verdict.touch & PREPARED and not verdict.discards & DROPS_SQL))
            and settings_now(c, s) is None)


cdef bint is_set(const char *text, size_t n) noexcept:
    """SET calls no functions, and SET TRANSACTION allows no query in front of it."""
    return n > 3 and text[0] | 32 == b"s" and text[1] | 32 == b"e" and text[2] | 32 == b"t"


cdef int refused(Client c, Server s, bint parse, verdict) except -1:
    """session_state = refuse, or statement mode."""
    cdef str mode = "statement" if c.pool.settings.mode == MODE_STATEMENT else "transaction"
    c.pool.count("refusals", verdict.reason)
    if c.pool.settings.session_state == STATE_REFUSE:
        text = (f"{verdict.reason} changes the session, which session_state = refuse does not allow "
                f"in {mode} pooling mode")
    else:
        text = f"{verdict.reason} needs a server connection of its own, which statement pooling mode does not allow"
    refuse(c, s, parse, text, "0A000")
    return DONE


cdef int refused_sequence(Client c, Server s, bint parse) except -1:
    c.pool.count("refusals", "sequence of another session")
    refuse(c, s, parse, "the server connection holds sequence values of another client as well: "
           "run the transaction again", "55000")
    return DONE


cdef int note_default(Client c, const char *text, size_t n) noexcept:
    """Session mode: from the first text with the word DEFAULT on, a SET may set a start value back."""
    if not c.tracker.to_default and (c.tracker.start is not c.engine.no_state
                                     or c.tracker.start_vars is not c.pool.endpoint.reset_vars):
        if c.engine.words.default.scan(text, n) != 0:
            c.tracker.may_set_default()
    return 0


cdef bint may_drop(const char *text, size_t n) noexcept:
    """Whether a statement may be DISCARD or DEALLOCATE."""
    cdef const char *end = text + n
    while text < end and (text[0] == b" " or text[0] == b"\n" or text[0] == b"\t" or text[0] == b"\r"):
        text += 1
    return (end - text > 3 and text[0] | 32 == b"d" and (
        (text[1] | 32 == b"i" and text[2] | 32 == b"s") or (text[1] | 32 == b"e" and text[2] | 32 == b"a")))


cdef bint drops_all(bytes body):
    """Whether the text of a Parse (all behind the name) drops all prepared statements when it is executed."""
    cdef const char *text = body
    return may_drop(text, len(body)) and DROPS_ALL.match(body) is not None
