# Parts of a server connection, each with one purpose.
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t

from pgferry.engine.core.session_state cimport Restore, State
from pgferry.engine.core.statements cimport ParseSettings


cdef class Probe:
    # What PostgreSQL is to be asked about the session, is being asked, and has answered.
    cdef uint32_t pending_effects    # Touch bits that statements since the last probe may have changed
    cdef set names                   # settings among them; None: none
    cdef bint any_name               # settings of any name
    cdef bint unlisted               # custom settings whose names nobody knows may be set: RESET ALL for others
    cdef uint32_t asked_effects      # pending_effects, names and any_name of the probe under way; 0: there is none
    cdef set asked_names
    cdef bint asked_any_name
    cdef list asked_order            # the names in the order they are asked for
    cdef bint guarded                # it sets time limits aside for itself
    cdef list rows                   # of a query of pgferry's own; None: nobody wants them, or they were too large
    cdef size_t rows_size            # bytes of their messages
    cdef int64_t rows_told           # how many the probe's CommandComplete says they are; -1: it has not come
    cdef int tries                   # queries of pgferry's own that a timeout has cut short, in a row

    cdef int add_names(self, object names) except -1
    cdef int begin_asking(self, uint32_t later) except -1
    cdef Py_ssize_t order_names(self, object known) except -1
    cdef list end_asking(self)
    cdef bint ask_again(self, dict failed) except -1
    cdef bint may_try_again(self, dict failed) except -1
    cdef int keep_row(self, const char *p, size_t n, size_t total) except -1
    cdef int count_rows(self, const char *tag, size_t n) except -1

    cdef inline void add(self, uint32_t effects) noexcept:
        # PostgreSQL is to be asked about these before anybody else gets the server.
        self.pending_effects |= effects

    cdef inline void add_any_name(self, uint32_t effects) noexcept:
        # So it is, and settings of any name may be among what has changed.
        self.pending_effects |= effects
        self.any_name = True

    cdef inline void expect_unlisted(self) noexcept:
        # Settings may be left whose names no probe can find out.
        self.unlisted = True

    cdef inline void all_reset(self) noexcept:
        # RESET ALL has succeeded, which empties those too.
        self.unlisted = False

    cdef inline void forget_pending(self) noexcept:
        # Nothing is to be asked about any more.
        self.pending_effects = 0
        self.names = None
        self.any_name = False

    cdef inline void wiped(self) noexcept:
        # DISCARD ALL has succeeded.
        self.forget_pending()
        self.unlisted = False
        self.tries = 0

    cdef inline void abandon(self) noexcept:
        # The client whose session the probe under way asks about is gone: its answer says nothing.
        self.rows = None
        self.asked_effects = 0

    cdef inline void end_tries(self) noexcept:
        # No timeout has struck this time.
        self.tries = 0

    cdef inline int want_rows(self) except -1:
        # The rows of the query of pgferry's own that comes next are kept.
        self.rows = []
        self.rows_size = 0
        self.rows_told = -1
        return 0

    cdef inline int expect_nothing(self) except -1:
        # There is nothing to ask for, so the answer has no rows.
        self.want_rows()
        self.rows_told = 0
        return 0

    cdef inline list take_rows(self):
        # Those that have come; None: they were too large. No others are kept.
        rows, self.rows = self.rows, None
        return rows

    cdef inline bint has_room(self, size_t size, size_t most) noexcept:
        # Whether one more row of this size may be kept; if not, none of the answer is.
        if self.rows_size + size <= most:
            return True
        self.rows = None
        return False


cdef class Replay:
    # Setting the client's parameters and state, in front of its first message.
    cdef list pending_vars           # [(index, value)] being set
    cdef Restore restore             # they are part of it; None: none, or Server.vars tells all that was reported
    cdef uint64_t reported           # which of them PostgreSQL has reported as they were sent (bit: index)
    cdef State replaying_to          # what the restore under way leads to; None: there is none
    cdef bint anew                   # that restore begins with RESET ALL
    cdef bint restoring              # the answer to a restore of state is still to come

    cdef int begin(self, Restore restore, bint anew) except -1
    cdef bint takes_report(self, Py_ssize_t index, bytes value) except -1
    cdef State finish(self)

    cdef inline void end_reports(self) noexcept:
        # Server.vars tells what was reported.
        self.restore = None

    cdef inline list take_vars(self):
        # The SETs of these parameters have succeeded; None: there were none, or that is settled.
        pending, self.pending_vars = self.pending_vars, None
        return pending


cdef class Unsure:
    # What has run while the catalog was not known (session.unsure).
    cdef object known                # Knowledge that its transaction was classified by at first; None: nothing was
    cdef bint unsure                 # its transaction ran while the catalog was not known: asked when it is
    cdef int awaits                  # number of the reading that it has to wait for, 0: none yet
    cdef bint defined                # it has made or changed functions or the like itself
    cdef list unclassified           # texts that ran meanwhile, to be classified when it is known; None: none
    cdef size_t unclassified_size    # bytes of them
    cdef bint unclassified_lost      # there were more
    cdef bint ddl                    # functions or the like may have been changed

    cdef int keep_text(self, const char *text, size_t n) except -1
    cdef int forget(self) except -1

    cdef inline void classified_by(self, object knowledge) noexcept:
        # The first statement of a transaction is classified by this Knowledge; asked only while `known` is None.
        self.known = knowledge

    cdef inline void forget_known(self) noexcept:
        # The transaction is over, or PostgreSQL is asked what it has left: what it was classified by is no matter.
        self.known = None

    cdef inline void begin(self) noexcept:
        # What runs now runs while the catalog is not known. Which reading will tell is found at the transaction's end.
        self.unsure = True
        self.awaits = 0

    cdef inline void lose_texts(self) noexcept:
        # Something has run whose text is not kept.
        self.unclassified_lost = True

    cdef inline void define(self) noexcept:
        # The transaction makes or changes functions itself: whatever it has run, and not kept, may have called them.
        self.unclassified_lost = self.defined = True

    cdef inline void wait_for(self, int reading) noexcept:
        # The reading of the catalog that tells what has run; 0: it is found at the end of the transaction under way.
        self.awaits = reading

    cdef inline void begin_ddl(self) noexcept:
        self.ddl = True

    cdef inline void end_ddl(self) noexcept:
        # The transaction that may have changed functions is over.
        self.ddl = False


cdef class Injected:
    # What pgferry has put beside the client's own messages, and what is to follow.
    # Fields of the error to the query of pgferry's own that is ending: its ReadyForQuery is still to come, and nothing
    # else may set or clear it.
    cdef object error
    cdef bint under_way              # what client.relay.must_hold() looks at may be under way
    cdef list own_after              # numbers of the Query's statements behind which one of pgferry's own comes
    cdef int statement_index         # statements of that Query that are complete
    cdef bint in_own_result          # what comes now is the answer to pgferry's own
    cdef bint asking                 # what a text of its client's would be parsed under is being asked for
    cdef ParseSettings shown         # the answer, for the message held meanwhile; None: there is none
    cdef uint32_t shown_at           # Plan.tail by then: nothing of the client's has been sent since
    cdef bint verifying              # a statement's parameter types and columns have been asked for again
    cdef bytes described             # ParameterDescription of a Describe under way
    # Query that follows a RESET: the client's start values; b"": it has been sent; None: none is due
    cdef bytes start_values_sql
    cdef list start_values_tracked   # indexes of tracked parameters it sets
    cdef int resetting               # ReadyForQuery due up to that of a batch with start values behind RESET ALL
    cdef bint discarded              # DISCARD ALL, which no later error undoes, is complete in the present batch
    cdef dict failures               # name -> ErrorResponse of the P_ENSURE that was to bring it; None: none

    cdef bint ends_own(self) except -1
    cdef int add_failure(self, bytes name, bytes message) except -1

    cdef inline void may_hold(self) noexcept:
        # Something is under way that the client may have to be held for.
        self.under_way = True

    cdef inline void hold_no_more(self) noexcept:
        # Nothing is, except that the message that was held is still to use what was asked for it.
        self.under_way = self.shown is not None

    # --- pgferry's own statements in a Query of the client's

    cdef inline void begin_own(self, list numbers) noexcept:
        # Behind the statements with these numbers comes one of pgferry's own.
        self.own_after = numbers
        self.statement_index = 0
        self.in_own_result = False
        self.may_hold()

    cdef inline void own_failed(self) noexcept:
        # After an error nothing more is carried out of the Query.
        self.in_own_result = False

    cdef inline void end_own(self) noexcept:
        # The Query is answered.
        self.own_after = None

    # --- start values behind a RESET

    cdef inline void hold_for_start_values(self, bytes sql, list tracked) noexcept:
        # When the RESET has succeeded this Query follows, before anything else runs; None: there is nothing to set.
        self.start_values_sql = sql
        self.start_values_tracked = tracked
        self.may_hold()

    cdef inline bytes take_start_values(self):
        # The Query is sent now; the client is held until its answer.
        sql, self.start_values_sql = self.start_values_sql, b""
        return sql

    cdef inline void end_start_values(self) noexcept:
        # They are set, or the RESET has failed.
        self.start_values_sql = None

    cdef inline void reset_in_batch(self, int turns) noexcept:
        # The batch that ends with this one of the ReadyForQuery that are due has RESET ALL and start values in it.
        self.resetting = turns
        self.may_hold()

    cdef inline void discard(self) noexcept:
        # DISCARD ALL is complete, as part of such a batch or alone.
        self.discarded = self.resetting != 0

    cdef inline void undo_discard(self) noexcept:
        self.discarded = False

    cdef inline void end_turn(self) noexcept:
        # ReadyForQuery to a message of the client's own.
        self.failures = None
        self.discarded = False
        if self.resetting:
            self.resetting -= 1

    # --- questions for the sake of a message that is held

    cdef inline void begin_asking(self) noexcept:
        # What a text is parsed under.
        self.asking = True
        self.may_hold()

    cdef inline void end_asking(self) noexcept:
        self.asking = False

    cdef inline void show(self, ParseSettings settings, uint32_t tail) noexcept:
        # The answer, with Plan.tail as it is now.
        self.shown = settings
        self.shown_at = tail

    cdef inline void forget_shown(self, uint32_t tail) noexcept:
        # If something was sent since, that may have changed it.
        if self.shown_at != tail:
            self.shown = None

    cdef inline void begin_verifying(self) noexcept:
        # Whether a statement has the parameter types and columns still that its client was told.
        self.verifying = True
        self.may_hold()

    cdef inline void end_verifying(self) noexcept:
        self.verifying = False

    cdef inline void describe(self, bytes message) noexcept:
        # The ParameterDescription in front of the columns; None: it is of no statement with a name.
        self.described = message

    cdef inline bytes take_described(self):
        message, self.described = self.described, None
        return message

    # --- errors to queries of pgferry's own

    cdef inline void fail(self, dict fields) noexcept:
        self.error = fields

    cdef inline object take_error(self):
        # With its ReadyForQuery; None: it has succeeded.
        error, self.error = self.error, None
        return error


cdef class CurrentStatement:
    # What the statements under way may do.
    cdef bint noted                  # what the present message may do to the session is noted
    cdef object standalone_set       # Verdict of a statement under way whose success tells all; None: there is none
    cdef uint8_t standalone_done     # its CommandComplete has come: STANDALONE_QUERIED or STANDALONE_EXECUTED
    cdef set local                   # settings set until the end of the transaction; b"" for any; None: none
    cdef bint notify_barrier         # its client may have notified: see session.notifications.hold_ready()
    cdef bint notifying              # what is being sent to it may notify

    cdef bint complete(self, bint in_query, const char *tag) except -1
    cdef int add_local(self, object names) except -1

    cdef inline void begin(self, bint noted) noexcept:
        # A message that runs SQL goes to the server; `noted`: what it may do to the session is no matter.
        self.noted = noted

    cdef inline void note(self) noexcept:
        # What the message may do is noted.
        self.noted = True

    cdef inline void begin_standalone(self, object verdict) noexcept:
        # A lone SET or the like: its success will tell what it has done, nobody has to be asked.
        self.standalone_set = verdict
        self.standalone_done = 0

    cdef inline object take_standalone(self):
        # Its Verdict; it is settled, or counts as any other statement from now on.
        verdict, self.standalone_set = self.standalone_set, None
        return verdict

    cdef inline void end_transaction(self) noexcept:
        # What SET LOCAL has set is over.
        self.local = None

    cdef inline void may_notify(self) noexcept:
        # What is being sent may be, or call, a NOTIFY.
        self.notify_barrier = self.notifying = True

    cdef inline void may_have_notified(self) noexcept:
        # What was sent before may have been one.
        self.notify_barrier = True

    cdef inline void announced(self) noexcept:
        # In front of what may notify stands which client the server works for, or that is not needed any more.
        self.notifying = False

    cdef inline void pass_barrier(self) noexcept:
        # The client's own notifications come in front of its ReadyForQuery, see session.notifications.hold_ready().
        self.notify_barrier = False


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

    cdef int restore(self, object about) except -1

    cdef inline int begin(self, double now, double unix_time) noexcept:
        # It is to be made.
        self.created = now
        self.connect_time = unix_time
        return 0

    cdef inline int begin_again(self, double now) noexcept:
        # With another address: the time to connect begins anew.
        self.created = now
        return 0

    cdef inline int host_is(self, str host, int port) noexcept:
        # An entry of the host list is tried; its addresses are not known yet.
        self.host = host
        self.peer_addr = None
        self.peer_port = port
        return 0

    cdef inline int address_is(self, object address, str peer_addr) noexcept:
        # Where it is connected to: (family, sockaddr), and as people read it.
        self.address = address
        self.peer_addr = peer_addr
        return 0

    cdef inline int own_end_is(self, str own_addr, int own_port) noexcept:
        self.own_addr = own_addr
        self.own_port = own_port
        return 0

    cdef inline int cancel_key_is(self, bytes key) noexcept:
        # BackendKeyData.
        self.cancel_key = key
        return 0


cdef class LoginParameters:
    # What PostgreSQL has told at login.
    cdef tuple reset_vars            # vars in front of connect_query
    cdef bytes untracked              # ParameterStatus messages of the others, until the login is complete
    cdef readonly int version        # of PostgreSQL: 15; 0: not known

    cdef inline int told(self, bytes untracked, int version) noexcept:
        # What has come with its login.
        self.untracked = untracked
        self.version = version
        return 0

    cdef inline int before_connect_query(self, tuple values) noexcept:
        # Tracked parameters before connect_query runs.
        self.reset_vars = values
        return 0

    cdef inline int end_login(self) noexcept:
        # Its pool has what its clients are greeted with.
        self.untracked = None
        return 0
