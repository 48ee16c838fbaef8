"""The listening connection of a database: LISTEN, barriers and conversions on it, and what becomes of notifications.

It works in the database's own bytes (see internal). The names of channels in texts of clients are in the encodings of
those; what is not ASCII PostgreSQL converts, and cuts as it cuts names. Messages are converted by PostgreSQL, too, for
those clients whose encoding is another one. Each LISTEN is a query of its own: one that fails harms nobody else.

PostgreSQL tells with a notification the process id of the server that has sent it. Clients know another one as their
own (BackendKeyData); announcing says in the order of the notifications which client uses a server.
"""

from functools import partial

from libc.string cimport memchr

from pgferry.engine.core.client_parts cimport EARLY, LISTENED, SURE
from pgferry.engine.core.database cimport Database
from pgferry.engine.core.enums cimport CL_CLOSING
from pgferry.engine.core.model cimport Client, Engine
from pgferry.engine.io.stream cimport PAUSE_NEWS
from pgferry.engine.io.sys cimport be32, put32
from pgferry.engine.services.internal_session cimport InternalSession
from pgferry.engine.session.notifications cimport Listener, Notification, flush_converted, release, send
from pgferry.engine.wire.messages cimport quote_identifier, quote_literal
from pgferry.engine.wire.messages import notice

cdef enum:
    NAMES = 4096            # remembered names
    NAME = 63               # bytes of the longest name

cdef double LOOK = 30.0     # seconds between questions which servers still exist
cdef bytes STILL_THERE = b"SELECT pid FROM pg_catalog.pg_stat_get_activity(NULL) WHERE pid IN (%b)"


cdef class ConvertedNotification(Notification):
    """A NotificationResponse, or a notice of pgferry's own."""

    def __init__(self, NotificationListener listener, bytes channel, bytes message):
        self.listener = listener
        self.channel = channel
        self.message = message
        self.plain = channel is None or message[9:].isascii()

    cdef bytes bytes_for(self, Client c):
        """The message in the client's encoding; None: PostgreSQL is asked for it, see wait()."""
        cdef bytes encoding
        if self.plain or is_same(encoding_of(c), self.listener.session.encoding):
            return self.message
        encoding = encoding_of(c)
        if self.converted is None:
            self.converted = {}
            self.waiting = []
        if encoding not in self.converted:
            self.converted[encoding] = None
            self.listener.query(self.conversion(encoding), partial(self.take_converted, encoding))
        return self.converted[encoding]

    cdef int wait(self, Client c) except -1:
        """Have the client's deferred notifications flushed when the message has been converted."""
        if c not in self.waiting:
            self.waiting.append(c)
        return 0

    def conversion(self, bytes encoding):
        """The question for channel and payload in another encoding."""
        payload = self.message[10 + len(self.channel):-1]
        parts = [b"pg_catalog.convert('\\x%b'::pg_catalog.bytea,%b,%b)" % (
            text.hex().encode(), quote_literal(self.listener.session.encoding), quote_literal(encoding))
            for text in (self.channel, payload)]
        return b"SELECT " + b",".join(parts)

    def take_converted(self, bytes encoding, list rows, error):
        """PostgreSQL has converted it, or cannot: then there is a warning in its place."""
        cdef char head[5]
        if error is None:
            channel, payload = [bytes.fromhex(value[2:].decode()) for value in rows[0]]
            body = self.message[5:9] + channel + b"\0" + payload + b"\0"
            head[0] = b"A"
            put32(head + 1, <unsigned int>(4 + len(body)))
            self.converted[encoding] = head[:5] + body
        else:
            self.converted[encoding] = notice("WARNING", error.get("C", "01000"),
                                              f"a notification is left out: {error.get('M', '?')}")
        waiting, self.waiting = self.waiting, []
        for c in waiting:
            flush_converted(<Client>c)


cdef class ListeningSession(InternalSession):
    """The connection itself."""

    def __init__(self, NotificationListener listener):
        InternalSession.__init__(self, listener.engine, listener.db, "listens for clients")
        self.listener = listener

    cdef bint is_wanted(self) except -1:
        return bool(self.listener.listeners) or bool(self.listener.blocked)

    cdef int on_up(self) except -1:
        return self.listener.on_up()

    cdef int on_lost(self, str reason) except -1:
        return self.listener.on_lost(reason)

    cdef int on_failed(self, str reason) except -1:
        return self.listener.on_failed(reason)

    cdef int on_notified(self, const char *p, size_t n) except -1:
        return self.listener.on_notified(p, n)


cdef class NotificationListener(Listener):
    """The listening connection of a database in this worker."""

    def __init__(self, Engine engine, Database db):
        self.engine = engine
        self.db = db
        self.session = ListeningSession(self)
        self.listeners = {}
        self.live = set()
        self.asking = set()
        self.refused = set()
        self.names = {}
        self.blocked = set()
        self.due = {}
        self.barriers = []
        self.senders = {}

    # --- what is sent

    cdef int query(self, bytes text, object on_answer) except -1:
        """Send a query; when the connection is not up, on_answer(rows, error) will get an error."""
        self.sent += 1
        return self.session.query(text, partial(self.take_answer, on_answer))

    def take_answer(self, on_answer, list rows, error):
        """A query is answered, or never will be."""
        self.answered += 1
        on_answer(rows, error)

    cdef int barrier(self) except -1:
        """Wake who waits when everything that was committed before has come."""
        return self.query(b"", self.passed)

    cdef int notify_barrier(self, Client c) except -1:
        """Have listening.release() called when everything that was committed before has come."""
        self.barriers.append(c)
        return self.query(b"", self.passed_notify_barrier)

    cdef int listen(self, channels) except -1:
        """LISTEN to these channels; their clients wait in `blocked`, if they do."""
        cdef list missing = [channel for channel in channels if channel not in self.asking]
        if not self.session.up:
            return self.session.connect()
        for channel in missing:
            self.asking.add(channel)
            self.query(b"LISTEN " + quote_identifier(channel) + b";", partial(self.listened, channel))
        return 0

    def passed(self, rows, error):
        """A barrier is answered."""
        if self.session.up:
            self.wake()

    def passed_notify_barrier(self, rows, error):
        """A fence is answered; when the connection is lost there is nothing more to wait for."""
        release(<Client>self.barriers.pop(0))

    def listened(self, channel, rows, error):
        """A LISTEN is answered."""
        self.asking.discard(channel)
        if not self.session.up:
            return
        if error is None:
            self.live.add(channel)
        else:
            self.refused.add(channel)
            for c in list(self.listeners.get(channel, ())):
                # found by a probe: PostgreSQL has accepted it there
                if channel in (<Client>c).tracker.session_state.channels:
                    (<Client>c).close("cannot listen", f"no server connection can listen: {error.get('M', '?')}",
                                      error.get("C", "08006"))
        self.wake()

    # --- clients that wait

    cdef int wait(self, Client c) except -1:
        """Hold the client until the next answer on this connection; closed if there will be none.

        It may lose its server meanwhile, and what it waits for then is not for this connection to say: see PAUSE_NEWS.
        """
        self.blocked.add(c)
        c.pause(PAUSE_NEWS)
        if not self.session.up:
            return self.session.connect()
        return 0

    cdef int wake(self) except -1:
        """Let those go on that wait: they look again whether they may."""
        cdef set blocked = self.blocked
        self.blocked = set()
        for c in blocked:
            if (<Client>c).state < CL_CLOSING:
                (<Client>c).unpause(PAUSE_NEWS)
        return 0

    cdef list channels_of(self, Client c, tuple names):
        """The channels that a text in the client's encoding names. None: PostgreSQL has to be asked."""
        cdef list found = []
        cdef bint known = True
        cdef bytes encoding
        for name in names:
            if name.isascii():
                found.append(name[:NAME])
                continue
            encoding = encoding_of(c)
            if (encoding, name) in self.names:
                channel = self.names[(encoding, name)]
                if channel is not None:
                    found.append(channel)
                continue
            known = False
            if self.session.up:
                self.query(b"SELECT pg_catalog.convert_from('\\x%b'::pg_catalog.bytea,%b)::pg_catalog.name" % (
                    name.hex().encode(), quote_literal(encoding)), partial(self.named, (encoding, name)))
        return found if known else None

    def named(self, key, rows, error):
        """PostgreSQL has converted the name of a channel; what it cannot convert it would not accept either."""
        if not self.session.up:
            return
        if len(self.names) >= NAMES:
            self.names.clear()
        self.names[key] = rows[0][0] if error is None else None
        self.wake()

    # --- the connection

    cdef bint is_up(self) noexcept:
        return self.session.up

    cdef int on_up(self) except -1:
        """The connection is up: listen to everything that clients listen to."""
        self.looked_at = self.engine.loop.now
        self.query(b"LISTEN " + quote_identifier(self.engine.announcements), self.hears_announcements)
        self.listen([channel for channel, group in self.listeners.items() if group])
        if self.lost:
            self.query(b"", self.arrive_again)
        return 0

    def hears_announcements(self, rows, error):
        """What was announced before is not known here."""
        if self.session.up:
            self.db.listener_epoch.take(0)
            self.wake()

    def arrive_again(self, rows, error):
        """Everything is listened to again."""
        if self.session.up:
            self.lost = False
            self.tell("notifications arrive again; those of the meantime are lost")

    cdef int on_lost(self, str reason) except -1:
        self.live.clear()
        self.asking.clear()
        self.senders.clear()
        self.names.clear()
        if not self.lost and any(self.listeners.values()):
            self.lost = True
            self.engine.log.write("WARNING", f"{self.db.name}: connection that listens for clients lost: {reason}")
            self.tell("the server connection that carries notifications was lost: some may be missing")
        return 0

    cdef int on_failed(self, str reason) except -1:
        blocked, self.blocked = self.blocked, set()
        for c in blocked:
            (<Client>c).close("cannot listen", f"no server connection to listen on: {reason}", "08006")
        return 0

    cdef int on_notified(self, const char *p, size_t n) except -1:
        """To everybody who listens to its channel."""
        cdef Client c
        cdef Notification item
        cdef const char *nul = <const char *>memchr(p + 9, 0, n - 9) if n > 10 else NULL
        cdef bytes channel, message, sender
        if nul == NULL:
            return 0
        channel = p[9:nul - p]
        if channel == self.engine.announcements:
            return self.announced(be32(p + 5), nul[1:p + n - 1 - nul])
        group = self.listeners.get(channel)
        if not group:
            return 0
        message = p[:n]
        sender = self.senders.get(be32(p + 5))
        if sender is not None:
            message = message[:5] + sender + message[9:]
        item = ConvertedNotification(self, channel, message)
        for entry in list(group):
            c = <Client>entry
            if channel in c.tracker.session_state.channels:
                send(c, item, LISTENED)
            elif c.subscription.awaited is not None and channel in c.subscription.awaited:
                send(c, item, EARLY)
        return 0

    cdef int tell(self, str text) except -1:
        """A warning to every client that listens."""
        cdef Notification item = ConvertedNotification(self, None, notice("WARNING", "01000", text))
        for c in {c for group in self.listeners.values() for c in group}:
            send(<Client>c, item, SURE)
        return 0

    # --- who has sent it

    cdef int announced(self, unsigned int pid, bytes payload) except -1:
        """What this server sends from now on is of the client that this says (announcing)."""
        cdef char raw[4]
        if len(payload) > 10 or not payload.isdigit():
            return 0
        put32(raw, <unsigned int>(int(payload) & 0xFFFFFFFF))
        self.senders[pid] = raw[:4]
        return 0

    def still_there(self, asked, rows, error):
        """These servers exist; the process ids of the others may soon be somebody else's."""
        if error is None and self.session.up:
            for pid in asked - {int(row[0]) for row in rows}:
                self.senders.pop(pid, None)

    cdef int tick(self) except -1:
        """Let go of channels nobody listens to, and of servers that have gone."""
        cdef double now = self.engine.loop.now
        unused = [channel for channel, group in self.listeners.items() if not group]
        for channel in unused:
            del self.listeners[channel]
        self.db.listening.put(1 if self.listeners else 0)
        self.refused.clear()
        if not self.session.up:
            return 0
        for channel in unused:
            if channel in self.live:
                self.live.discard(channel)
                self.query(b"UNLISTEN " + quote_identifier(channel) + b";", nothing)
        if self.senders and now - self.looked_at > LOOK:
            self.looked_at = now
            asked = set(self.senders)
            self.query(STILL_THERE % b",".join([b"%d" % pid for pid in asked]), partial(self.still_there, asked))
        return 0


def nothing(rows, error):
    """Nobody waits for this answer."""


cdef bytes encoding_of(Client c):
    """The client's client_encoding, as far as its session is known to have it; b"" when PostgreSQL does not tell."""
    return c.vars[0] or b""


cdef bint is_same(bytes one, bytes other):
    """Whether what is in one encoding is the same in the other; False also when that is not certain."""
    if one == other or not one or not other:
        return True
    one = one.upper().replace(b"-", b"").replace(b"_", b"")
    other = other.upper().replace(b"-", b"").replace(b"_", b"")
    return one == other or one == b"SQLASCII" or other == b"SQLASCII"


cdef int listener_tick(Database db) except -1:
    """Upkeep."""
    return (<NotificationListener>db.listener).tick()
