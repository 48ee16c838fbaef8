"""What a client is told when its login is complete: AuthenticationOk, parameters, the cancel key."""

from pgferry.engine.core.model cimport Client, Engine, Pool, Server
from pgferry.engine.io.sys cimport put32
from pgferry.engine.wire.messages cimport parameter_status

cdef enum:
    SHORT_KEY = 8                # protocol 3.0: process id and secret
    LONG_KEY = 36                # protocol 3.2
    HOPS = 3                     # the low bits of byte 7: how often peers may pass it on

AUTH_OK = b"R\0\0\0\x08\0\0\0\0"


cdef class Greeting:
    """The part that is the same for every client of a pool that asks for the same values."""


cdef Greeting greet(Pool pool, dict values, Greeting known):
    """The greeting of a client with these tracked values; `known`, the last one for them, if it still holds."""
    cdef Engine engine = pool.engine
    cdef Greeting found
    cdef list wanted
    if known is not None and known.of is pool.endpoint.greeting_version:
        return known
    found = Greeting.__new__(Greeting)
    found.of = pool.endpoint.greeting_version
    found.vars = pool.endpoint.base_vars
    if values:
        wanted = list(pool.endpoint.base_vars)
        for index, value in values.items():
            canonical = pool.endpoint.canonical_values.get((index, value))
            if canonical is None:
                canonical = value
                if wanted[index] != value and engine.parameters.names[index] != "application_name":
                    found.unchecked = True
            wanted[index] = canonical
        found.vars = engine.same_vars(tuple(wanted))
    found.text = AUTH_OK + pool.endpoint.server_parameters + tracked_status(engine, found.vars)
    return found


cdef Greeting greet_as(Server s, bytes untracked):
    """The greeting of a client that has this server to itself: what the server has reported."""
    cdef Greeting found = Greeting.__new__(Greeting)
    found.vars = s.vars
    found.text = AUTH_OK + untracked + tracked_status(s.pool.engine, s.vars)
    return found


cdef bytes tracked_status(Engine engine, tuple values):
    """ParameterStatus messages of the tracked parameters."""
    return b"".join([parameter_status(name.encode(), value)
                     for name, value in zip(engine.parameters.names, values) if value is not None])


cdef int new_key(Client c, bint long_key) except -1:
    """Give the client a fresh cancel key.

    Among peers, bytes 1 and 2 are the peer id and the low two bits of byte 7 the hops that are left, as PgBouncer
    has it; byte 3 tells the workers of one pgferry whose client it is. Protocol 3.2 gives 32 bytes of secret, 3.0
    four; among peers it is always four, because a PgBouncer takes no others.
    """
    cdef Engine engine = c.engine
    cdef bytes key
    cdef char raw[LONG_KEY]
    cdef int size = LONG_KEY if long_key and engine.cancel_keys.peer_id == 0 else SHORT_KEY
    while True:
        engine.cancel_keys.put_random(raw, size)
        raw[0] &= 0x7F
        raw[3] = <char>engine.index
        if engine.cancel_keys.peer_id > 0:
            raw[1] = <char>(engine.cancel_keys.peer_id & 0xFF)
            raw[2] = <char>(engine.cancel_keys.peer_id >> 8)
            raw[7] |= HOPS
        key = raw[:size]
        if key not in engine.cancel_keys.by_key:
            break
    engine.cancel_keys.by_key[key] = c
    c.peer.cancel_key_is(key)
    return 0


cdef int put_key(Client c) except -1:
    """BackendKeyData."""
    cdef char head[5]
    cdef int n = len(c.peer.cancel_key)
    head[0] = b"K"
    put32(head + 1, n + 4)
    c.put(head, 5)
    return c.put(c.peer.cancel_key, n)
