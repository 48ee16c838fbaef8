"""Notifications in transaction mode: one listening server connection for each database.

A client's LISTEN runs in its own transaction on whichever server it has, so that PostgreSQL judges it; what counts
afterwards is what a probe finds (Client.kept.channels). Before it is sent, this connection listens to the channel as
well; from then on the client's notifications come from here, in the order of commits. Those that arrive while the
LISTEN is not yet known to have succeeded are kept aside; before it is sent, this connection has answered a query, so
that what was committed earlier is not taken for something that came after it. A client that listens and notifies has
its ReadyForQuery held back until this connection has answered an empty query sent behind the commit: as on a direct
connection it then has its own notifications already. This connection and the client's server are read in any order,
so what comes for a client that has a server stays in its inbox until it is known whether the client still listens.
A client that does not wait for answers is held where it would otherwise change what it listens to too early (settled(),
may_stop()).
"""

from pgferry.engine.internal cimport InternalSession, SessionOwner
from pgferry.engine.loop cimport PAUSE_STALL, PAUSE_WAIT
from pgferry.engine.messages import notice
from pgferry.engine.messages cimport quote_identifier
from pgferry.engine.model cimport CL_CLOSING, Client, Database, Engine, Server
from pgferry.engine.pooling cimport close_client
from pgferry.engine.probe cimport ask
from pgferry.engine.touch cimport LISTEN

from libc.stdint cimport uint32_t
from libc.string cimport memchr

cdef enum:
    MOST_UNREAD = 1 << 24       # bytes of notifications a client may leave unread

cdef bytes READY = b"Z\0\0\0\5I"


cdef class Hub(SessionOwner):
    """The listening connection of a database in this worker."""

    def __init__(self, Engine engine, Database db):
        self.engine = engine
        self.db = db
        self.session = InternalSession(engine, db, "listens for clients", self)
        self.listeners = {}
        self.live = set()
        self.asked = []
        self.blocked = set()
        self.due = {}
        self.fences = []

    cdef bint wants_session(self) except -1:
        return bool(self.listeners) or bool(self.blocked)

    cdef int session_up(self) except -1:
        """The connection is up: listen to everything that clients listen to."""
        channels = [channel for channel, group in self.listeners.items() if group]
        if channels or self.blocked:
            listen(self, channels)      # its answer wakes who waits, to ask again if need be
        return 0

    def answered_query(self, rows, error):
        """A query on the connection is answered, or never will be."""
        cdef Client c
        if not self.session.up:
            return
        channels = self.asked.pop(0)
        self.answered += 1
        if error is not None:
            self.session.close("LISTEN failed on the listening connection")
            return
        if channels is None:
            release(<Client>self.fences.pop(0))
            return
        self.live.update(channels)
        if self.lost:
            self.lost = False
            tell(self, "notifications arrive again; those of the meantime are lost")
        blocked, self.blocked = self.blocked, set()
        for item in blocked:
            c = <Client>item
            if c.state < CL_CLOSING:
                c.unpause(PAUSE_WAIT)

    cdef int session_lost(self, str reason) except -1:
        self.live.clear()
        self.asked = []
        self.answered = self.sent
        fences, self.fences = self.fences, []
        for c in fences:
            release(<Client>c)
        if not self.lost and any(self.listeners.values()):
            self.lost = True
            self.engine.log.write("WARNING", f"{self.db.name}: the connection that listens for clients is lost: {reason}")
            tell(self, "the server connection that carries notifications was lost: some may be missing")
        return 0

    cdef int session_failed(self, str reason) except -1:
        blocked, self.blocked = self.blocked, set()
        for c in blocked:
            close_client(<Client>c, "cannot listen", f"no server connection to listen on: {reason}", "08006")
        return 0

    cdef int session_notified(self, const char *p, size_t n) except -1:
        """A NotificationResponse: to everybody who listens to its channel."""
        cdef Client c
        cdef const char *nul
        cdef bytes channel, message
        if n < 10:
            return 0
        nul = <const char *>memchr(p + 9, 0, n - 9)
        if nul == NULL:
            return 0
        channel = p[9:nul - p]
        group = self.listeners.get(channel)
        if not group:
            return 0
        message = p[:n]
        for item in list(group):
            c = <Client>item
            if c.awaited is not None and channel in c.awaited:
                c.early.append((channel, message))
                hold(c, len(message))
            elif channel in c.kept.channels:
                send(c, channel, message)
        return 0


# --- clients ----------------------------------------------------------------------------------------------------

cdef bint listens(Client c) except -1:
    """Whether the client listens, or may be listening soon."""
    return c.awaited is not None or bool(c.kept.channels)


cdef bint may_listen(Client c, tuple channels) except -1:
    """Whether a LISTEN may be sent. False: the client waits until this connection listens too, and is up to date."""
    cdef Database db = c.db
    cdef Hub hub
    cdef list missing
    cdef bint new
    if db.hub is None:
        db.hub = Hub(c.engine, db)
    hub = db.hub
    for channel in channels:
        hub.listeners.setdefault(channel, set()).add(c)
    missing = [channel for channel in channels if channel not in hub.live]
    new = not (c.kept.channels | (c.awaited or frozenset())).issuperset(channels)
    if not missing and (not new or 0 < hub.due.get(c, 0) <= hub.answered):
        hub.due.pop(c, None)
        if c.awaited is None:
            c.awaited = set()
            c.early = []
        c.awaited.update(channels)
        return True
    hub.blocked.add(c)
    c.pause(PAUSE_WAIT)
    if new and c not in hub.due:
        hub.due[c] = hub.sent + 1
        if hub.session.up:
            listen(hub, missing)
            return False
    connect_or_ask(hub, missing)
    return False


cdef bint settled(Client c, Server s) except -1:
    """Whether it is known what the client listens to. False: it waits until what it sent before is answered.

    Outside of a transaction a LISTEN or UNLISTEN counts before the next statement begins, also in a pipeline.
    """
    if s.plan.turns and not s.copy_in:
        return False
    if s.plan.size() == 0 and s.status == b"I":
        ask(c, s)
        return s.plan.size() == 0 and s.client is c
    return True


cdef bint may_stop(Client c, Server s, bint also_listens) except -1:
    """Whether a statement that may end a LISTEN may be sent. False: the client waits.

    What it sent before is answered first, and what was committed meanwhile has come for it (unless the statement
    listens as well: then may_listen() sees to that), for nobody looks for it afterwards.
    """
    cdef Hub hub = c.db.hub
    if (s.plan.turns and not s.copy_in) or s.asked & <uint32_t>LISTEN:
        c.pause(PAUSE_STALL)
        return False
    if s.xact != b"I":
        return True
    if hub is not None and hub.session.up and not also_listens:
        if c not in hub.due:
            hub.due[c] = hub.sent + 1
            query(hub, b"", [])
        if hub.due[c] > hub.answered:
            hub.blocked.add(c)
            c.pause(PAUSE_WAIT)
            return False
    if hub is not None and not also_listens:
        hub.due.pop(c, None)        # also when the connection was lost meanwhile: the next wait is for a query of its own
    if c.inbox is not None:
        flush_inbox(c)
    return True


cdef int take_channels(Client c, frozenset channels) except -1:
    """A probe has told which channels the client listens to."""
    cdef Hub hub = c.db.hub
    cdef set settled = c.asked_listens or set()     # awaited until now; other LISTENs are still under way
    cdef set before
    cdef list early = c.early or []
    if c.sent_listens is not None:
        settled = settled - c.sent_listens
    before = settled | c.kept.channels
    c.asked_listens = None
    if c.awaited is not None:
        c.awaited -= settled
        c.early = [item for item in early if item[0] in c.awaited]
        if not c.awaited:
            c.awaited = c.early = None
            c.chained = False
    if hub is None:
        if not channels:
            return 0
        hub = c.db.hub = Hub(c.engine, c.db)
    for channel in before - channels:
        group = hub.listeners.get(channel)
        if group is not None and (c.awaited is None or channel not in c.awaited):
            group.discard(c)
    for channel in channels:
        hub.listeners.setdefault(channel, set()).add(c)
    missing = [channel for channel in channels if channel not in hub.live]
    if missing:
        connect_or_ask(hub, missing)        # a LISTEN inside a function: nobody could see it come
    inbox = [item for item in c.inbox or () if item[0] is None or item[0] in channels]
    inbox += [item for item in early if item[0] in settled and item[0] in channels]
    c.inbox = inbox or None         # maybe_release() comes next
    return 0


cdef int stop_listening(Client c) except -1:
    """The client has left."""
    cdef Hub hub = c.db.hub if c.db is not None else None
    if hub is not None and (c.kept.channels or c.awaited is not None):
        for channel in set(c.kept.channels) | (c.awaited or set()):
            group = hub.listeners.get(channel)
            if group is not None:
                group.discard(c)
        hub.blocked.discard(c)
    if hub is not None and hub.due.pop(c, None) is not None:
        hub.blocked.discard(c)
        for group in hub.listeners.values():
            group.discard(c)        # what it wants to listen to is not noted anywhere else yet
    c.awaited = c.sent_listens = c.asked_listens = None
    c.early = c.inbox = None
    c.fence_passed = False
    return 0


cdef int send(Client c, bytes channel, bytes message) except -1:
    """Give a client a notification (channel None: a notice), now or when its transaction is over and asked about."""
    if c.state >= CL_CLOSING:
        return 0
    if c.inbox is None:
        c.inbox = []
    c.inbox.append((channel, message))
    if not hold(c, len(message)):
        return 0
    if c.server is None or (c.pins and c.xact_start == 0 and c.server.plan.size() == 0):
        flush_inbox(c)
    elif len(c.inbox) > 65536:
        close_client(c, "too many notifications in a transaction", "too many notifications in a transaction")
    return 0


cdef bint hold(Client c, size_t size) except -1:
    """Count a notification that is kept for a client; False: the client is closed, there are too many."""
    c.held_size += size
    if c.held_size > MOST_UNREAD:       # or some of them are not kept any more
        c.held_size = sum([len(<bytes>message) for _channel, message in (c.early or []) + (c.inbox or [])])
    if c.held_size <= MOST_UNREAD:
        return True
    close_client(c, "too many notifications in a transaction", "too many notifications in a transaction")
    return False


cdef int flush_inbox(Client c) except -1:
    """Give a client what has come for it meanwhile, and the ReadyForQuery that was held back."""
    cdef bytes messages
    if c.inbox:
        messages = b"".join([message for _channel, message in c.inbox])
        c.inbox = None
        c.put(messages, len(messages))
        c.flush()
        if c.unsent() > MOST_UNREAD:
            return close_client(c, "notifications left unread", "notifications left unread")
    if c.fence_passed:
        c.fence_passed = False
        c.put(READY, 6)
        c.flush()
        return c.unpause(PAUSE_WAIT)
    return 0


cdef bint hold_ready(Client c) except -1:
    """Hold back the ReadyForQuery of a client that listens and has notified. False: there is nothing to wait for."""
    cdef Hub hub = c.db.hub
    if hub is None or not hub.session.up or not (c.kept.channels or c.awaited is not None):
        return False
    hub.fences.append(c)
    c.pause(PAUSE_WAIT)
    query(hub, b"", None)
    return True


cdef int release(Client c) except -1:
    """The fence is passed: what came before it goes first.

    While PostgreSQL is asked what the client still listens to, that waits for maybe_release().
    """
    if c.state >= CL_CLOSING:
        return 0
    c.fence_passed = True
    if c.server is not None and c.server.asked & <uint32_t>LISTEN:
        return 0
    return flush_inbox(c)


# --- the connection ---------------------------------------------------------------------------------------------

cdef int connect_or_ask(Hub hub, list channels) except -1:
    if hub.session.up:
        waited_for = [channel for group in hub.asked if group is not None for channel in group]
        channels = [channel for channel in channels if channel not in waited_for]
        if channels:
            listen(hub, channels)
        return 0
    return hub.session.connect()


cdef int listen(Hub hub, list channels) except -1:
    return query(hub, b"".join([b"LISTEN " + quote_identifier(channel) + b";" for channel in channels]), channels)


cdef int query(Hub hub, bytes text, list channels) except -1:
    hub.asked.append(channels)
    hub.sent += 1
    return hub.session.query(text, hub.answered_query)


cdef int tell(Hub hub, str text) except -1:
    """A warning to every client that listens."""
    cdef bytes message = notice("WARNING", "01000", text)
    for c in {c for group in hub.listeners.values() for c in group}:
        send(<Client>c, None, message)
    return 0


cdef int hub_tick(Database db) except -1:
    """Upkeep: let go of channels nobody listens to."""
    cdef Hub hub = db.hub
    unused = [channel for channel, group in hub.listeners.items() if not group]
    for channel in unused:
        del hub.listeners[channel]
    if not hub.session.up:
        return 0
    gone = [channel for channel in unused if channel in hub.live]
    if gone:
        hub.live.difference_update(gone)
        query(hub, b"".join([b"UNLISTEN " + quote_identifier(channel) + b";" for channel in gone]), [])
    return 0
