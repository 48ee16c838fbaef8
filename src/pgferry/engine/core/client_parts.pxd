# Parts of a client connection, each with one purpose.
from libc.stdint cimport int64_t, uint32_t

from pgferry.engine.core.session_state cimport Restore, State
from pgferry.engine.core.statements cimport ParseSettings


cdef struct ClientTimes:
    # When what has happened.
    double connect_time              # Unix time
    double accepted                  # monotonic
    double request_time              # monotonic, of the last request's first byte
    double wait_start
    double query_start               # monotonic, 0: none is timed
    double xact_start
    double linked_at                 # monotonic, since when it has its server
    double idle_since
    double closed_at


cdef class ClientPeer:
    # Both ends of the connection, and the client's cancel key.
    cdef readonly bytes cancel_key
    cdef bytes address               # struct sockaddr as accepted; b"" for unix sockets
    cdef bytes own_address
    cdef public int peer_pid         # unix sockets
    cdef public int peer_uid
    cdef public int listen_port
    cdef public bint is_unix


cdef class SessionTracker:
    # What the client's session holds, wherever its server is.
    cdef bint vars_unchecked         # the server has not seen some of vars yet
    cdef ParseSettings parse_settings  # what its texts are parsed under, with parse_vars and parse_kept
    cdef tuple parse_vars
    cdef State parse_kept
    cdef State session_state                  # what its session holds, apart from tracked parameters
    cdef Restore restore             # what it needed last; None: nothing yet
    cdef State start                 # what its startup packet asked for
    cdef tuple start_vars            # tracked parameters as its session began
    cdef bint kept_unchecked         # no server has accepted `start` yet
    cdef bint proving                # nothing of it may be sent before its server has told that all is set
    cdef int retries                 # servers closed in a row that its restore has failed on
    # SQL-level prepared statements: name -> (text of the PREPARE, ParseSettings it was executed under; None: nobody
    # knows them, so that the statement cannot be made elsewhere). None: there are none.
    cdef dict sql
    cdef bint to_default             # session mode: a SET may be one TO DEFAULT
    # SQL-level name -> what it may have been given since the last probe, as in `sql` (text None: unknown); b"": any,
    # by code that prepares under settings that nobody knows. None: none.
    cdef dict preparing
    cdef dict asked_preparing        # the same, of the probe under way


cdef struct Pin:
    # What holds it to its server.
    uint32_t pins                    # Touch bits that hold it to its server
    double pinned_at                 # monotonic
    int64_t pinned_xacts             # transactions since
    bint pin_logged


cdef class Subscription:
    # LISTENs under way, and notifications that wait.
    cdef set awaited                 # channels of LISTENs that are not settled; None: none
    cdef set sent_listens            # those of them whose LISTEN has been sent since the last probe
    cdef set asked_listens           # the same, of the probe under way
    cdef bint chained                # COMMIT AND CHAIN has made its LISTEN count, so that what is EARLY does
    cdef list deferred                  # (hub.Notification, SURE, LISTENED or EARLY) as they came; None: none
    cdef size_t held_size            # bytes of the messages in it, at least
    cdef int early                   # those of them that are EARLY
    cdef bint barrier_passed           # ReadyForQuery is due once the inbox is settled (listening)


# What clients have that have never listened: nothing is ever put into it.
cdef Subscription NO_SUBSCRIPTION
