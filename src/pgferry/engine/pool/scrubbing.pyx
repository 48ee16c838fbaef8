"""Scrubbing a server between two clients whatever is known of its session (setting scrub).

Reading statements keeps applications from accidents; it is no wall between people who do not trust each other. So a
server that has served one login user is wiped with DISCARD ALL before a client of another one gets it. That is done
when the server is handed out, not when it is given back: one that returns to the same user costs nothing. The client
waits for the answer; what it needs of session state is brought behind it, to a session that is as new.
"""

from pgferry.engine.core.enums cimport CL_WAITING, P_SCRUB, SCRUB_ON_USER_CHANGE, STATE_IGNORE, SV_TESTED
from pgferry.engine.core.model cimport Client, Pool, Server
from pgferry.engine.core.plan cimport F_SWALLOW, K_QUERY
from pgferry.engine.io.stream cimport PAUSE_PEER, PAUSE_WAIT
from pgferry.engine.session.catalog cimport doubt_session, ran_unseen
from pgferry.engine.session.replay cimport replay_state
from pgferry.engine.session.wipe cimport scrubbed


cdef str scrub_due(Client c, Server s, bint overdue):
    """Why the idle server has to be wiped before it serves this client; None: it has not. `overdue`: nobody has looked
    at the catalog in time.
    """
    if overdue and ran_unseen(s):
        if s.last.last_client != c.id:
            return "catalog not looked at since"
        doubt_session(s)        # what is left there is the client's own
    if not needs_scrub(c, s) or "users" in c.engine.omit:
        return None
    return "another user" if s.pool.settings.scrub == SCRUB_ON_USER_CHANGE else "another client"


cdef int begin_scrub(Client c, Server s) except -1:
    """Wipe the server that was just linked to this client; the client goes on when that is answered."""
    s.last.scrub_begins()
    c.pause(PAUSE_WAIT)
    s.query(b"DISCARD ALL", P_SCRUB)
    text = s.pool.db.conf.connect_query
    # else what it sets is part of the state that is brought
    if text and s.pool.settings.session_state == STATE_IGNORE:
        s.query(text.encode("utf-8", "surrogateescape"), P_SCRUB)
    return s.flush()


cdef int scrub_answered(Server s, dict failed) except -1:
    """A query of begin_scrub() is answered (`failed`: fields of its error).

    With the last answer the client gets the server as new; with an error, another one.
    """
    cdef Client c = s.client
    if failed is not None:
        return lose_scrubbed(s, "reset query failed")
    if s.plan.size():
        return 0
    scrubbed(s)
    if c is None:
        return s.make_available() if s.is_clean() else s.close("server was not ready")
    s.last.user_is(c.user)
    replay_state(c, s, False)
    if s.plan.size() and c.tracker.proving:
        return 0                # restoring lets it go on
    return c.unpause(PAUSE_WAIT)


cdef int lose_scrubbed(Server s, str reason) except -1:
    """The server could not be scrubbed, which is not its next client's fault: that one is served before all others."""
    cdef Client c = s.client
    cdef Pool pool = s.pool
    if c is not None:
        c.unlink(s)
        c.enter(CL_WAITING)
        pool.waiting.push(c)
        c.unpause(PAUSE_PEER)
    s.close(reason)
    return pool.serve_waiting()


cdef bint scrubs_only(Server s) noexcept:
    """Whether the server owes the answers to begin_scrub() and nothing else; its client may leave without harm then."""
    return (s.last.scrubbing and s.plan.size() and s.plan.front().kind == K_QUERY
            and s.plan.front().flags & F_SWALLOW and s.plan.front().number == P_SCRUB)


cdef int finish_alone(Server s) except -1:
    """The client has left while its server was scrubbed for it."""
    return s.enter(SV_TESTED)
