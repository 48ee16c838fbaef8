# Parts of a server connection, each with one purpose.
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t

from pgferry.engine.core.session_state cimport Restore, State
from pgferry.engine.core.statements cimport ParseSettings


cdef class Probe:
    # What PostgreSQL is to be asked about the session, is being asked, and has answered.
    cdef uint32_t pending_effects            # Touch bits that statements since the last probe may have changed
    cdef set names                   # settings among them; None: none
    cdef bint any_name               # settings of any name
    cdef bint unlisted               # custom settings whose names nobody knows may be set: RESET ALL for others
    cdef uint32_t asked_effects            # the same three, of the probe under way
    cdef set asked_names
    cdef bint asked_any_name
    cdef list asked_order            # the names in the order they are asked for
    cdef bint guarded                # it sets time limits aside for itself
    cdef list rows                   # of a query of pgferry's own; None: nobody wants them, or they were too large
    cdef size_t rows_size            # bytes of their messages
    cdef int64_t rows_told           # how many its CommandComplete says they are; -1: it has not come
    cdef int tries                   # probes cut short by a timeout, in a row


cdef class Replay:
    # Setting the client's parameters and state, in front of its first message.
    cdef list pending_vars           # [(index, value)] being set
    cdef Restore restore             # they are part of it; None: none, or Server.vars tells all that was reported
    cdef uint64_t reported           # which of them PostgreSQL has reported as they were sent (bit: index)
    cdef State replaying_to              # what the restore under way leads to; None: there is none
    cdef bint anew                   # that restore begins with RESET ALL
    cdef bint restoring              # the answer to a restore of state is still to come


cdef class Unsure:
    # What has run while the catalog was not known (session.unsure).
    cdef object known                # Knowledge that its transaction was judged by at first; None: nothing was
    cdef bint unsure                 # its transaction ran while the catalog was not known: asked when it is
    cdef int awaits                  # number of the reading that it has to wait for, 0: none yet
    cdef bint defined                # it has made or changed functions or the like itself
    cdef list unclassified               # texts that ran meanwhile, to be judged when it is known; None: none
    cdef size_t unclassified_size        # bytes of them
    cdef bint unclassified_lost          # there were more
    cdef bint ddl                    # functions or the like may have been changed


cdef class Injected:
    # What pgferry has put beside the client's own messages, and what is to follow.
    # Fields of the error to the query of pgferry's own that is ending: its ReadyForQuery is still to come, and nothing
    # else may set or clear it.
    cdef public object error
    cdef bint under_way                # what client_relay.must_hold() looks at may be under way
    cdef list own_after                   # numbers of the query's statements behind which one of pgferry's own comes
    cdef int statement_index               # statements of that query that are complete
    cdef bint asking                 # what a text of its client's would be parsed under is being asked for
    cdef ParseSettings shown         # the answer, for the message held meanwhile; None: there is none
    cdef uint32_t shown_at           # Plan.tail by then: nothing of the client's has been sent since
    cdef bint verifying              # a statement's parameter types and columns have been asked for again
    cdef bytes described             # ParameterDescription of a Describe under way
    cdef bint in_own_result               # what comes now is the answer to pgferry's own
    cdef bytes start_values_sql              # query that follows a RESET: the client's start values; None: none due
    cdef list start_values_tracked           # indexes of tracked parameters it sets
    cdef int resetting               # ReadyForQuery due up to that of a batch with start values behind RESET ALL
    cdef bint discarded              # DISCARD ALL, which no later error undoes, is complete in the present batch
    cdef dict failures               # name -> ErrorResponse of the P_ENSURE that was to bring it; None: none


cdef class CurrentStatement:
    # What the statements under way may do.
    cdef bint noted                  # what the present message may do to the session is noted
    cdef object standalone_set                 # Verdict of a statement under way whose success tells all
    cdef uint8_t standalone_done           # its CommandComplete has come, see server_relay
    cdef set local                   # settings set until the end of the transaction; b"" for any; None: none
    cdef bint notify_barrier                  # its client has notified
    cdef bint notifying              # what is being sent to it may notify


cdef class ConnectionEnds:
    # Both ends of the connection, and how a cancel request reaches it.
    cdef public bytes cancel_key     # process id and secret, as sent
    cdef public object address       # (family, sockaddr) for cancel requests
    cdef public str host             # the entry of the host list it came from
    cdef public str peer_addr
    cdef public int peer_port
    cdef public str own_addr
    cdef public int own_port
    cdef public double connect_time  # Unix time
    cdef public double created       # monotonic


cdef class LoginParameters:
    # What PostgreSQL has told at login.
    cdef tuple reset_vars            # vars in front of connect_query
    cdef bytes untracked              # ParameterStatus messages of the others, until the login is complete
    cdef readonly int version        # of PostgreSQL: 15; 0: not known
