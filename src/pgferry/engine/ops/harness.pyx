"""The engine without sockets, for tests: streams with fd -1 whose bytes come and go by function calls.

Input takes the way of received bytes (Stream.inject: held bytes, need, pause); output goes to loop.sink. The rest
shows what is private to the compiled part, and gives Python the calls that only the engine itself makes.
"""

from libc.stdint cimport int64_t, uint32_t, uint64_t

from pgferry.engine.client.login cimport new_login
from pgferry.engine.core.model cimport Client, Engine, Server
from pgferry.engine.core.plan cimport Plan
from pgferry.engine.core.statements cimport ServerStatements, Statement, StatementTable
from pgferry.engine.io.handshakes cimport start_tls
from pgferry.engine.io.stream cimport PAUSE_NEWS, PAUSE_TURN, PAUSE_WAIT, Stream, StreamList
from pgferry.engine.io.sys cimport EPOLLIN, EPOLLOUT
from pgferry.engine.pool.connections cimport ClientConnection
from pgferry.engine.server.login cimport introduce
from pgferry.engine.shared.ledger cimport Counter


# --- streams ----------------------------------------------------------------------------------------------------

def new_client(Engine engine):
    """A client that has just been accepted, on a unix socket that does not exist."""
    cdef Client c = ClientConnection(engine.loop, engine)
    c.peer.came_by_unix_socket(6432, 0, 0)
    new_login(c)
    engine.connecting.logins.append(c)
    return c


def connected(Server s):
    """The connection of a server whose host is being looked up has come about."""
    introduce(s)


def inject(Stream s, bytes data):
    """Bytes arrive. Returns how many were taken: none while the stream is paused or closed."""
    return s.inject(data, len(data))


def end(Stream s):
    """The peer has closed its end."""
    if s.closed:
        return
    s.end_is_told()
    if s.paused:
        s.left_unread(True)
        s.on_hangup()
    else:
        s.on_eof()


def ends_behind(Stream s):
    """The kernel tells that the peer has closed its end behind the bytes that come next."""
    s.end_is_told()


def writable(Stream s):
    """The kernel has room again behind a partial send."""
    s.on_event(EPOLLOUT)


def facts(Stream s):
    """What the loop knows of a stream."""
    return {
        "held": s.held.size, "held_cap": s.held.cap, "need": s.need, "unsent": s.unsent(), "blocked": s.blocked,
        "broken": s.broken, "closed": s.closed, "paused": s.paused, "queued": s.queued or s.paused & PAUSE_TURN,
    }


def server_facts(Server s):
    """What the relay knows of a server."""
    return {
        "passing": s.relay.passing, "copy_in": s.relay.copy_in, "copy_ended": s.relay.copy_ended,
        "skipping": s.relay.skipping,
        "barrier_needed": s.relay.barrier_needed, "advance_due": s.relay.advance_due, "unnamed": s.unnamed,
        "prepared": prepared(s.prepared),
    }


def leave_unlisted(Server s):
    """The client that it serves, or has served last, may have left settings there whose names nobody knows."""
    s.probe.expect_unlisted()


def client_facts(Client c):
    """What the relay knows of a client."""
    statements = c.names.statements if c.names.statements is not None else {}
    return {
        "passing": c.passing, "pending": list(c.names.undos or ()), "unnamed": c.names.unnamed,
        "waiting": bool(c.paused & (PAUSE_WAIT | PAUSE_NEWS)),
        "statements": {name: (<Statement>st).number for name, st in statements.items()},
    }


def home(Stream s):
    """The list the stream is in, or None."""
    return s.home


# --- parts ------------------------------------------------------------------------------------------------------

def plan_push(Plan plan, int kind, int flags=0, uint64_t number=0):
    """Append an entry."""
    plan.push(kind, flags, number)


def plan_pop(Plan plan):
    """Take the oldest entry out; (kind, flags, number)."""
    found = (plan.front().kind, plan.front().flags, plan.front().number)
    plan.pop()
    return found


def plan_unsettled(Plan plan):
    """Whether names depend on an earlier batch."""
    return plan.unsettled()


def plan_drop_syncs_in_copy(Plan plan):
    """Take out the Syncs that were read in copy mode; how many."""
    return plan.drop_syncs_in_copy()


def list_append(StreamList streams, Stream s):
    """Put s at the end."""
    streams.append(s)


def list_push(StreamList streams, Stream s):
    """Put s at the front."""
    streams.push(s)


def list_remove(StreamList streams, Stream s):
    """Take s out. Raises AssertionError when it is not there."""
    streams.remove(s)


def intern(StatementTable table, int64_t epoch, bytes body, dict values=None, bytes name=b""):
    """The Statement of a body, parsed under these settings."""
    return table.intern(table.described({"database": "d", "user": "u", "values": values or {}}), epoch, body, name)


def intern_alone(StatementTable table, bytes body):
    """A Statement of one client only."""
    return table.make(table.described({"database": "d", "user": "u", "values": {}}), 0, body, b"", True)


def describe(StatementTable table, Statement st):
    """A Statement as data."""
    return table.describe(st)


def take_over(StatementTable table, dict about):
    """The Statement that describe() told of."""
    return table.take_over(about)


def number_from(StatementTable table, uint64_t last):
    """The next new Statement has the number behind this one."""
    table.number_behind(last)


def acquire(StatementTable table, Statement st):
    """One holder more."""
    table.acquire(st)


def release(StatementTable table, Statement st):
    """One holder less."""
    table.release(st)


def known(StatementTable table, uint64_t number):
    """The Statement of this number, or None."""
    return table.get(number)


def prepared(ServerStatements statements):
    """The numbers a server has, used longest ago first."""
    cdef uint32_t i
    found = sorted([(statements.slots[i].used, statements.slots[i].number) for i in range(statements.cap)
                    if statements.slots[i].number])
    return [number for _, number in found]


def prepared_touch(ServerStatements statements, uint64_t number):
    """Mark as used now; False when it is not there."""
    return statements.touch(number)


def prepared_add(ServerStatements statements, uint64_t number):
    """Add one."""
    statements.add(number)


def prepared_discard(ServerStatements statements, uint64_t number):
    """Take one out."""
    statements.discard(number)


def prepared_oldest(ServerStatements statements):
    """The one used longest ago; 0 when there is none."""
    return statements.oldest()


def prepared_clear(ServerStatements statements):
    """Take all out."""
    statements.clear()


def prepared_fits(ServerStatements statements, uint64_t number, int64_t client, bint strains):
    """Whether it means to this client what it should."""
    return statements.fits(number, client, strains)


def prepared_renew(ServerStatements statements, uint64_t number, int64_t client, bint strains):
    """Its Close is sent, to be parsed anew for this client."""
    statements.leaves(number)
    statements.renew(number, client, strains)


def prepared_closed(ServerStatements statements, uint64_t number):
    """The Close has succeeded."""
    statements.closed(number)


def prepared_stays(ServerStatements statements, uint64_t number):
    """The Close was not carried out."""
    statements.stays(number)


def own(Counter counter):
    """This worker's part of the count."""
    return counter.own()


cdef class HookedStream(Stream):
    """A stream on a real socket whose feed() is a Python function: the loop's own behaviour under test."""

    cdef object hook
    cdef readonly list events      # "eof", "hangup", "drained", in order

    def __init__(self, loop, int fd, hook):
        self.hook = hook
        self.events = []
        self.attach(fd, EPOLLIN)

    cdef ssize_t feed(self, const char *data, size_t n) except -1:
        return self.hook(self, data[:n])

    cdef int on_eof(self) except -1:
        self.events.append("eof")
        return self.detach()

    cdef int on_hangup(self) except -1:
        self.events.append("hangup")
        return 0

    cdef int on_drained(self) except -1:
        self.events.append("drained")
        return 0

    cdef int on_secure(self) except -1:
        self.events.append("secure")
        return 0

    def secure(self, context, bint server_side, hostname=None):
        """Begin with TLS."""
        start_tls(self, context, server_side, hostname)

    def tls_failure(self):
        """Why TLS broke, None when it did not."""
        return self.tls.failure if self.tls is not None else None

    def want(self, size_t need):
        """feed() is not to be called before so many bytes are there."""
        self.need = need

    def stop(self, int why):
        """Pause for a reason."""
        self.pause(why)

    def be_first(self):
        """Its events are served before those of others."""
        self.priority = True

    def be_new(self):
        """Its events wait for their turn, as those of a client that has not logged in."""
        self.unauthenticated = True

    def go(self, int why):
        """Take the reason back."""
        self.unpause(why)

    def write(self, bytes data):
        """Send bytes, keeping what the kernel refuses."""
        self.put(data, len(data))
        self.flush()

    def close(self):
        """Close the socket."""
        self.detach()
