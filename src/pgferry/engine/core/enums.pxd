# Kinds and states of what the engine has, and why pgferry sends what it sends.


cpdef enum Mode:
    MODE_SESSION = 0
    MODE_TRANSACTION = 1
    MODE_STATEMENT = 2


cpdef enum ClientState:
    CL_LOGIN = 0      # not yet logged in (or waiting for its pool's first server login)
    CL_IDLE = 1       # logged in, without a server
    CL_WAITING = 2    # in pool.waiting
    CL_ACTIVE = 3     # linked to a server
    CL_CLOSING = 4    # only unsent bytes are left
    CL_GONE = 5


cpdef enum ServerState:
    SV_LOGIN = 0      # connecting or logging in (pool.fresh)
    SV_IDLE = 1       # pool.idle
    SV_USED = 2       # idle for longer than server_check_delay (pool.used)
    SV_TESTED = 3     # running a reset, check or barrier query (pool.tested)
    SV_ACTIVE = 4     # linked to a client (pool.active)
    SV_BEING_CANCELED = 5   # free, but a cancel request may still be on its way to it (pool.being_canceled)
    SV_GONE = 6
    SV_INTERNAL = 7   # a connection of pgferry's own (pool.internals)


cpdef enum Purpose:
    # Why pgferry sent a query of its own: the number of a swallowed K_QUERY entry.
    P_VARS = 1        # the client's tracked parameters
    P_RESET = 2       # server_reset_query
    P_CHECK = 3       # server_check_query
    P_CONNECT = 4     # connect_query
    P_BARRIER = 5     # an empty query that shows where the answers to a failed COPY end
    P_PROBE = 6       # what the session holds now
    P_START_VALUES = 7        # the client's start-up values, behind its RESET
    P_ENSURE = 8      # what a statement of the client's needs: SQL-level prepared statements, no foreign sequences
    P_INTERNAL = 11   # of an InternalSession
    P_LOOKUP = 12     # auth_query
    P_SCRUB = 13      # DISCARD ALL in front of a client of another user
    P_START = 14      # what connect_query has left (connect_state)
    P_LIMITS = 15     # time limits of the client that has left it are taken off
    P_ANNOUNCE = 16   # which client uses the server (announcing)


cpdef enum Policy:
    # session_state: what becomes of statements that change the session, outside session mode.
    STATE_TRACK = 0
    STATE_REFUSE = 1
    STATE_IGNORE = 2


cpdef enum Scrub:
    # scrub: between whom a server is wiped, whatever is known of its session.
    SCRUB_WHEN_NEEDED = 0
    SCRUB_ON_USER_CHANGE = 1
    SCRUB_ALWAYS = 2


cdef enum:
    # Server.copy_in
    COPY_IN = 1
    COPY_BOTH = 2


cpdef enum Replication:
    # What the startup parameter `replication` asks for.
    REPL_NONE = 0
    REPL_LOGICAL = 1      # `database`: SQL is understood, too
    REPL_PHYSICAL = 2


cpdef enum PoolKind:
    POOL_CLIENTS = 0
    POOL_LOOKUPS = 1      # of auth_query (services.auth_query)
    POOL_REPLICATION = 2  # of replication connections (services.replication)


cdef enum Fate:
    # Of a message of the server.
    CLOSED = -2         # it was the end of the server
    DROP = 0            # the client does not get it,
    PASS = 1            # it does,
    PUT = 2             # or has already, in whatever form


cdef enum Outcome:
    # Of a step in serving a client's message.
    GO = 0                # on to the next step
    WAIT = 1              # it is held, or more of it must come first: it will be looked at again
    DONE = 2              # it is dealt with; what of it is still to come is passed on, or dropped, by itself
    ENDED = 3             # the client is being closed


cpdef enum Shutdown:
    # Engine.shutdown
    RUNNING = 0
    WAIT_FOR_SERVERS = 1
    WAIT_FOR_CLIENTS = 2
    DRAINING = 3          # see pool.draining: until half of the time is over,
    URGENT = 4            # and after that
