# Prepared statements and portals by the names that a client knows.
from libc.stdint cimport int64_t, uint8_t, uint64_t

from pgferry.engine.core.statements cimport ParseSettings, Statement, StatementTable


cdef enum Change:
    # What a message whose answer is still to come has changed already.
    DEFINED = 0       # a Parse has given `name` to `statement`; until then it was that of `former`, or nobody's (None)
    CLOSED = 1        # a Close has taken `name` from `statement`
    REPLACED = 2      # the unnamed statement; before it was `unnamed`, parsed under `unnamed_settings`
    PARSED_AGAIN = 3  # nothing: a Parse of a name that `statement` has, which is an error
    DROPPED = 4       # nothing any more: all statements were dropped behind the Close


cdef class Undo:
    # How to take back what an entry of the plan with F_CLIENT_OP has changed, if the server refuses it.
    cdef uint8_t change             # a Change
    cdef bytes name
    cdef Statement statement
    cdef Statement former
    cdef object unnamed
    cdef ParseSettings unnamed_settings


cdef class ClientStatements:
    # Names change at once, as if all that was sent succeeds; undos has how to take that back.
    cdef readonly dict statements    # name -> Statement; None: there are none
    cdef dict names_given            # a Statement's number -> name in `statements`, if it is still there; or None
    cdef dict dropped                # name -> wire name of statements it has just dropped all together
    cdef readonly list undos         # of the plan's entries with F_CLIENT_OP, oldest first; None: there are none
    cdef bytes last_name             # the name looked up last, and its Statement
    cdef Statement last_statement
    cdef readonly object unnamed     # Parse body of its unnamed statement, or None
    cdef ParseSettings unnamed_settings  # it was parsed under
    cdef bint unnamed_here           # parsed in the present batch
    cdef object unnamed_verdict      # of its unnamed statement, classified with words_version unnamed_version
    cdef int64_t unnamed_version
    # What the Execute of the text or portal that is being passed on will do, if it succeeds:
    cdef bint dropping               # all prepared statements are dropped
    cdef object reset_due            # names of settings that are set back; True: all; None: none
    cdef list deallocating           # what it deallocates, see Note.deallocates; None: nothing
    cdef dict portals                # name -> these three of portals that are bound, if there are any of them; or None

    cdef Statement find(self, const char *name, size_t n)
    cdef bytes other_name_of(self, Statement st)
    cdef int define(self, StatementTable table, bytes name, Statement st) except -1
    cdef int name_given(self, Statement st, bytes name) except -1
    cdef Statement close(self, bytes name)
    cdef int parsed_again(self, bytes name, Statement st) except -1
    cdef int replace_unnamed(self, object body, ParseSettings settings) except -1
    cdef int remember(self, Undo undo) except -1
    cdef int settle(self, StatementTable table) except -1
    cdef int undo(self, StatementTable table) except -1
    cdef list put_aside(self, int newest)
    cdef int put_back(self, list later, bint unnamed_undone, object unnamed, ParseSettings settings) except -1
    cdef dict before_undone(self)
    cdef int drop_all(self, StatementTable table) except -1
    cdef int deallocated(self, StatementTable table, bytes name, uint64_t number) except -1
    cdef int clear(self, StatementTable table) except -1
    cdef int restore(self, object unnamed, ParseSettings settings) noexcept
    cdef int restore_statement(self, StatementTable table, bytes name, Statement st) except -1
    cdef int bound_portal(self, bytes name, int most) except -1
    cdef int take_portal(self, bytes name) except -1

    cdef inline int sync(self) noexcept:
        # The batch is over, or it is a Query: the unnamed statement is no longer one that it has parsed.
        self.unnamed_here = False
        return 0

    cdef inline int has_unnamed_here(self) noexcept:
        # The server has the unnamed statement from now on, in this batch.
        self.unnamed_here = True
        return 0

    cdef inline int lose_unnamed(self) noexcept:
        # PostgreSQL has dropped it, and nothing brings it back.
        self.unnamed = None
        return 0

    cdef inline int unnamed_is(self, object verdict, int64_t version) noexcept:
        # Its Verdict; version 0: it holds for this time only.
        self.unnamed_verdict = verdict
        self.unnamed_version = version
        return 0

    cdef inline int begin_text(self) noexcept:
        # Another text is being passed on.
        self.dropping = False
        self.reset_due = self.deallocating = None
        return 0

    cdef inline int drops_all(self, bint dropping) noexcept:
        self.dropping = dropping
        return 0

    cdef inline int deallocates(self, list deallocating) noexcept:
        self.deallocating = deallocating
        return 0

    cdef inline int will_reset(self, tuple names) except -1:
        # The text sets these settings back as well; None: all.
        if names is None:
            self.reset_due = True
        elif names and self.reset_due is not True:
            self.reset_due = (self.reset_due or ()) + names
        return 0

    cdef inline int reset_is_seen_to(self) noexcept:
        self.reset_due = None
        return 0

    cdef inline int linked(self) noexcept:
        # With a server, which knows no portals of it.
        self.portals = None
        return 0

    cdef inline int turn_over(self) noexcept:
        # Its server goes back.
        self.dropped = None
        return 0


# What clients have that have not had a server yet: nothing is ever put into it.
cdef ClientStatements NO_STATEMENTS
