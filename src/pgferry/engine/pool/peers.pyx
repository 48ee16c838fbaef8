"""Cancel requests for clients of other poolers behind the same address: passed on to the peer that has the client.

A key says whose client it is: bytes 1 and 2 are the peer id, low byte first; the low two bits of byte 7 count the
hops that are left, so that peers with wrong entries do not pass a request round for ever. All of it is
PgBouncer's, byte for byte: the two may be peers of each other. As with PostgreSQL itself the connection to the
peer stays open until the request is carried out, and so does the connection of whoever asked.
"""

import socket

from pgferry.engine.wire.address import as_address, unix_address

from libc.stdint cimport int64_t

from pgferry.engine.core.model cimport Engine
from pgferry.engine.pool.cancel cimport Request
from pgferry.engine.shared.ledger cimport Counter

cdef enum:
    HOPS = 3

TTL_EXHAUSTED = "failed to forward cancel request because its TTL was exhausted"
NO_PEER = "could not find peer to forward request to"


cdef class Peer:
    """Another pooler of the group, and the requests for it."""

    cdef readonly Engine engine
    cdef readonly int id
    cdef readonly str host
    cdef readonly int port
    cdef readonly int size           # requests under way at the same time, 0: no limit
    cdef readonly list waiting
    cdef readonly set sent
    cdef Counter places              # over all workers
    cdef readonly bint used          # a request was for it: it is shown in PEER_POOLS from then on
    cdef bint starting

    def __init__(self, Engine engine, int id):
        self.engine = engine
        self.id = id
        self.waiting = []
        self.sent = set()
        self.places = engine.ledger.counter("peer", str(id))

    cdef int start_waiting(self) except -1:
        """Send what waits, oldest first, as far as there is a place."""
        cdef Forward forward
        if self.starting:
            return 0            # called by the finish() of one that could not be sent: the loop below goes on
        self.starting = True
        try:
            while self.waiting and self.places.take(self.size):
                forward = self.waiting.pop(0)
                self.sent.add(forward)
                forward.start()
        finally:
            self.starting = False
        return 0

    def counts(self):
        """(connected and sent, waiting, connecting): SHOW PEER_POOLS."""
        connecting = sum([not (<Forward>forward).sent for forward in self.sent])
        return len(self.sent) - connecting, len(self.waiting), connecting


cdef class Forward(Request):
    """A request on its way to a peer."""

    cdef Peer peer
    cdef bytes key
    cdef int64_t id
    cdef list targets            # (family, address) not yet tried

    def __init__(self, loop, Peer peer, bytes key, done):
        Request.__init__(self, loop, done)
        self.peer = peer
        self.key = key
        self.id = peer.engine.new_id()

    cdef bytes key_to_send(self):
        return self.key

    cdef int start(self) except -1:
        cdef Peer peer = self.peer
        path = unix_address(peer.host, peer.port)
        literal = None if path is not None else as_address(peer.host, peer.port)
        if path is not None or literal is not None:
            return self.try_next([(socket.AF_UNIX, path) if path is not None else literal])

        def resolved(addresses, error):
            if self.closed or self.fd >= 0:
                return
            if not addresses:
                self.failed(f"DNS lookup failed: {error}")
            else:
                self.try_next([as_address(address, peer.port) for _, address in addresses])

        peer.engine.host.resolve(peer.host, resolved)
        return 0

    cdef int try_next(self, list targets) except -1:
        why = "no address"
        while targets:
            family, address = targets.pop(0)
            try:
                self.targets = targets
                return self.connect_to(family, address)
            except OSError as error:
                why = error.strerror
        self.targets = []
        return self.failed(why)

    cdef int failed(self, str why) except -1:
        cdef Forward again
        if self.connecting and self.targets:
            # A stream has one descriptor in its life: the next address gets another one.
            again = Forward(self.loop, self.peer, self.key, self.done)
            again.asked = self.asked
            self.done = lambda: None
            self.peer.engine.cancel_keys.cancels.add(again)
            self.peer.places.take(0)
            self.peer.sent.add(again)
            targets = self.targets
            self.finish()
            return again.try_next(targets)
        self.log_about("WARNING", f"failed cancel request: {why}")
        return self.finish()

    cdef int finish(self) except -1:
        cdef Peer peer = self.peer
        if self.closed:
            return 0
        self.detach()
        peer.engine.cancel_keys.cancels.discard(self)
        if self in peer.sent:
            peer.sent.discard(self)
            peer.places.give()
        else:
            peer.waiting.remove(self)
        if self.sent and peer.engine.settings.log_connections:
            self.log_about("LOG", "successfully sent cancel request")
        self.done()
        return peer.start_waiting()

    cdef int late(self) except -1:
        self.log_about("LOG", "closing because: cancel_wait_timeout")
        return self.finish()

    cdef int log_about(self, str level, str text) except -1:
        cdef Peer peer = self.peer
        host = f"[{peer.host}]" if ":" in peer.host else "unix" if peer.host[:1] in "/@" else peer.host
        peer.engine.log.write(level, f"S-0x{self.id:x}: peer-{peer.id}@{host}:{peer.port} {text}")
        return 0


def configure(Engine engine, int own_id, wanted):
    """Take over peer_id and [peers]; `wanted` gives (id, host, port, size). Requests under way go on."""
    cdef Peer peer
    cdef dict former = engine.cancel_keys.peers, peers = {}
    for number, host, port, size in wanted:
        peer = former.get(number) or Peer(engine, number)
        peer.host, peer.port, peer.size = host, port, size
        peers[number] = peer
    engine.cancel_keys.peers_are(own_id, peers)


def destination(Engine engine, bytes key):
    """The id of the peer whose client this key names; 0 when it is our own, or there are no peers."""
    cdef int number
    if engine.cancel_keys.peer_id == 0 or len(key) != 8 or key in engine.cancel_keys.by_key:
        return 0
    number = key[1] | key[2] << 8
    return 0 if number == engine.cancel_keys.peer_id else number


def own_key(Engine engine, bytes key):
    """The key as we gave it to our client, whatever hops the request has behind it."""
    if engine.cancel_keys.peer_id == 0 or len(key) != 8 or key in engine.cancel_keys.by_key:
        return key
    return key[:7] + bytes([key[7] | HOPS])


def forward(Engine engine, bytes key, int number, done):
    """Pass a request on; done() when that is over. Returns why it cannot be passed on, or None."""
    cdef Peer peer = engine.cancel_keys.peers.get(number)
    cdef Forward request
    if key[7] & HOPS == 0:
        return TTL_EXHAUSTED
    if peer is None:
        return NO_PEER
    peer.used = True
    request = Forward(engine.loop, peer, key[:7] + bytes([key[7] - 1]), done)
    engine.cancel_keys.cancels.add(request)
    peer.waiting.append(request)
    peer.start_waiting()
    return None


def start_waiting(Engine engine):
    """Every tick: places that other workers have given back are ours to take."""
    for peer in engine.cancel_keys.peers.values():
        (<Peer>peer).start_waiting()


def pools(Engine engine):
    """Rows of SHOW PEER_POOLS."""
    rows = []
    for number, peer in engine.cancel_keys.peers.items():
        if not peer.used:
            continue
        active, waiting, connecting = peer.counts()
        rows.append({"peer_id": number, "cl_active_cancel_req": active + connecting, "cl_waiting_cancel_req": waiting,
                     "sv_active_cancel": active, "sv_login": connecting})
    return rows
