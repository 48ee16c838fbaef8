"""Parts of a server connection, each with one purpose."""

from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t

from pgferry.engine.core.effects cimport UNNAMED
from pgferry.engine.core.session_state cimport PLAIN, Restore, State
from pgferry.engine.io.sys cimport be16, be32
from pgferry.engine.wire.backend cimport ends_transaction, is_standalone
from pgferry.session.settings import LIMITS

cdef enum:
    TRIES = 10                  # of a query of pgferry's own that is cut short
    KEPT_TEXT = 262144          # bytes of texts kept for a transaction
    STANDALONE_QUERIED = 1      # CurrentStatement.standalone_done: in a Query, all of which the Verdict is on
    STANDALONE_EXECUTED = 2     # in a batch

CUT_SHORT = frozenset(("57014", "55P03", "40001"))      # by a time limit of the client's, or a cancel request of its
ROLE = b"role"
AUTHORIZATION = b"session_authorization"


cdef class Probe:
    """What PostgreSQL is to be asked about the session, is being asked, and has answered."""

    cdef int add_names(self, object names) except -1:
        """Settings of these names may have changed; None: of any."""
        if names is None:
            self.any_name = True
        elif names:
            if self.names is None:
                self.names = set()
            self.names.update(names)
        return 0

    cdef int begin_asking(self, uint32_t later) except -1:
        """What is pending is asked now; the effects `later`, and with them all names, stay pending."""
        self.asked_effects = self.pending_effects & ~later
        if later:
            self.asked_names = None
            self.asked_any_name = False
            self.pending_effects = later
        else:
            self.asked_names = self.names
            self.asked_any_name = self.any_name
            self.forget_pending()
        if self.asked_names is not None:
            for name in [name for name in self.asked_names if not name.isascii()]:
                self.asked_names.discard(name)
                self.asked_effects |= UNNAMED       # in the client's encoding, which may have been another one by then
        self.guarded = self.tries != 0
        return 0

    cdef Py_ssize_t order_names(self, object known) except -1:
        """Put the names of settings to ask for in order, and return how many come first, as time limits that are set
        aside for a guarded probe once they have been asked for.

        `known`: names that are asked for, beside those that PostgreSQL lists, where any setting may have changed.
        """
        cdef list limits = []
        if self.asked_names is None:
            self.asked_names = set()
        if self.asked_any_name:
            self.asked_names.update((ROLE, AUTHORIZATION))
            self.asked_names.update(known)
        if AUTHORIZATION in self.asked_names:
            self.asked_names.add(ROLE)
        if self.guarded:
            limits = list(LIMITS) if self.asked_any_name else [*LIMITS & self.asked_names]
        self.asked_order = list(self.asked_names)
        if limits:
            self.asked_order = limits + [name for name in self.asked_order if name not in LIMITS]
        return len(limits)

    cdef list end_asking(self):
        """The probe is answered: its rows, or None when they were too large."""
        self.asked_effects = 0
        self.asked_order = None
        self.tries = 0
        return self.take_rows()

    cdef bint ask_again(self, dict failed) except -1:
        """The probe has failed: what it asked for is pending again, unless that is not worth another try.

        In the next one time limits are set aside.
        """
        if not self.may_try_again(failed):
            return False
        self.pending_effects |= self.asked_effects
        self.names = (self.names or set()) | (self.asked_names or set())
        self.any_name = self.any_name or self.asked_any_name
        self.abandon()
        return True

    cdef bint may_try_again(self, dict failed) except -1:
        """Whether a query of pgferry's own was cut short, and that not too often. `failed`: the fields of its error."""
        self.tries += 1
        return failed.get("C") in CUT_SHORT and self.tries <= TRIES

    cdef int keep_row(self, const char *p, size_t n, size_t total) except -1:
        """Remember a DataRow: p[:n] from its number of columns on. It counts as `total` bytes."""
        cdef uint16_t columns, _i
        cdef size_t pos = 2, size
        cdef list row = []
        if n < 2:
            return 0
        columns = be16(p)
        for _i in range(columns):
            if n < pos + 4:
                return 0
            size = be32(p + pos)
            pos += 4
            if size == 0xFFFFFFFF:
                row.append(None)
                continue
            if n < pos + size:
                return 0
            row.append(p[pos:pos + size])
            pos += size
        if self.rows is not None:
            self.rows.append(tuple(row))
            self.rows_size += total
        return 0

    cdef int count_rows(self, const char *tag, size_t n) except -1:
        """CommandComplete of a probe (the tag with its NUL): how many rows it had."""
        cdef bytes words = tag[:n]
        if words.startswith(b"SELECT ") and words[7:-1].isdigit():
            self.rows_told = max(self.rows_told, 0) + int(words[7:-1])
        return 0


cdef class Replay:
    """Setting the client's parameters and state, in front of its first message."""

    cdef int begin(self, Restore restore, bint anew) except -1:
        """This restore is sent now; `anew`: with RESET ALL in front."""
        self.replaying_to = restore.session_state
        self.restore = restore if restore.mask else None
        self.reported = 0
        self.pending_vars = restore.pending or None
        self.restoring = restore.in_block
        self.anew = anew
        return 0

    cdef bint takes_report(self, Py_ssize_t index, bytes value) except -1:
        """Whether PostgreSQL reports what it was just sent; Server.vars then takes it with settle_reported()."""
        cdef Restore r = self.restore
        if index >= PLAIN or not r.mask >> <uint64_t>index & 1 or r.vars[index] != value:
            return False
        self.reported |= <uint64_t>1 << index
        return True

    cdef State finish(self):
        """All of it is answered: the State that the server has now; None: the restore was of none."""
        cdef State state = self.replaying_to
        self.replaying_to = None
        self.restoring = self.anew = False
        return state


cdef class Unsure:
    """What has run while the catalog was not known (session.unsure)."""

    cdef int keep_text(self, const char *text, size_t n) except -1:
        """This has run: it is classified when the catalog is known, if there is room to keep it."""
        cdef bytes kept
        if self.unclassified_size + n > KEPT_TEXT:
            self.lose_texts()
            return 0
        kept = text[:n]
        if self.unclassified is None:
            self.unclassified = []
        self.unclassified.append(kept)
        self.unclassified_size += n + 64
        return 0

    cdef int forget(self) except -1:
        """Nothing is to be settled any more."""
        self.unsure = self.unclassified_lost = self.defined = False
        self.unclassified = None
        self.unclassified_size = 0
        self.awaits = 0
        self.known = None
        return 0


cdef class Injected:
    """What pgferry has put beside the client's own messages, and what is to follow."""

    cdef bint ends_own(self) except -1:
        """A statement of the Query is complete: whether it is one that pgferry has put into the client's text."""
        if self.in_own_result:
            self.in_own_result = False
            return True
        self.in_own_result = bool(self.own_after) and self.own_after[0] == self.statement_index
        if self.in_own_result:
            self.own_after.pop(0)
        self.statement_index += 1
        return False

    cdef int add_failure(self, bytes name, bytes message) except -1:
        """What was to be known by this name could not be brought: to the statement that needs it PostgreSQL would have
        said this.
        """
        if self.failures is None:
            self.failures = {}
        self.failures[name] = message
        return 0


cdef class CurrentStatement:
    """What the statements under way may do."""

    cdef bint complete(self, bint in_query, const char *tag) except -1:
        """A CommandComplete has come, of a Query or an Execute. False: the standalone statement is not alone.

        What else is in its batch may have rolled it back, as CALL and DO can.
        """
        cdef uint8_t done = self.standalone_done
        if ends_transaction(tag) or done & STANDALONE_EXECUTED or (done and not in_query):
            return False
        if not in_query and not is_standalone(tag):
            return False
        self.standalone_done = STANDALONE_QUERIED if in_query else STANDALONE_EXECUTED
        return True

    cdef int add_local(self, object names) except -1:
        """SET LOCAL, or the like, has set these; None: any."""
        if self.local is None:
            self.local = set()
        self.local.update((b"",) if names is None else names)
        return 0


cdef class ConnectionEnds:
    """Both ends of the connection, and how a cancel request reaches it."""

    cdef int restore(self, object about) except -1:
        """What another process has known of it."""
        cdef object address = about["address"]
        self.cancel_key = about["key"]
        self.address = (about["family"], tuple(address) if isinstance(address, list) else address)
        self.host = about["host"]
        self.peer_addr, self.peer_port = about["peer"]
        self.own_addr, self.own_port = about["own"]
        self.connect_time, self.created = about["connected"], about["created"]
        return 0


cdef class LoginParameters:
    """What PostgreSQL has told at login."""
