"""Prepared statements and portals by the names that a client knows, and how to take back what fails."""

from libc.stdint cimport uint64_t
from libc.string cimport memcmp

from pgferry.engine.core.statements cimport ParseSettings, Statement, StatementTable


cdef class Undo:
    """How to take back what a message has changed, if the server refuses it."""


cdef class ClientStatements:
    """A client's statements by name, its unnamed one, and what its portals will do."""

    cdef Statement find(self, const char *name, size_t n):
        """The statement of this name; None when there is none."""
        cdef const char *last
        cdef bytes key
        cdef Statement st
        if self.last_name is not None:
            last = self.last_name
            if <size_t>len(self.last_name) == n and memcmp(last, name, n) == 0:
                return self.last_statement
        if self.statements is None:
            return None
        key = name[:n]
        st = self.statements.get(key)
        if st is not None:
            self.last_name = key
            self.last_statement = st
        return st

    cdef bytes other_name_of(self, Statement st):
        """The name by which the client has this very statement already; None: it has not."""
        if not self.statements:
            return None
        if self.names_given is None or len(self.names_given) > 2 * len(self.statements) + 64:
            self.names_given = {(<Statement>each).number: name for name, each in self.statements.items()}
        name = self.names_given.get(st.number)
        return name if name is not None and self.statements.get(name) is st else None

    cdef int name_given(self, Statement st, bytes name) except -1:
        """The statement, which has no name so far, is going to be defined under this one."""
        if self.names_given is not None:
            self.names_given[st.number] = name
        return 0

    cdef int define(self, StatementTable table, bytes name, Statement st) except -1:
        """A Parse gives the name to a statement."""
        cdef Undo undo = Undo.__new__(Undo)
        table.acquire(st)
        if self.statements is None:
            self.statements = {}
        undo.change = DEFINED
        undo.name = name
        undo.statement = st
        undo.former = self.statements.get(name)
        self.remember(undo)
        self.statements[name] = st
        self.last_name = name
        self.last_statement = st
        return 0

    cdef Statement close(self, bytes name):
        """A Close takes the name away; returns its statement, None when there is none (and nothing to undo)."""
        cdef Statement st = self.statements.pop(name, None) if self.statements is not None else None
        cdef Undo undo
        if st is not None:
            undo = Undo.__new__(Undo)
            undo.change = CLOSED
            undo.name = name
            undo.statement = st
            self.remember(undo)
            self.last_name = None
            self.last_statement = None
        return st

    cdef int parsed_again(self, bytes name, Statement st) except -1:
        """A Parse of a name that is taken; PostgreSQL will refuse it."""
        cdef Undo undo = Undo.__new__(Undo)
        undo.change = PARSED_AGAIN
        undo.name = name
        undo.statement = st
        return self.remember(undo)

    cdef int replace_unnamed(self, object body, ParseSettings settings) except -1:
        """A Parse (its body) replaces the unnamed statement; a Close or a Query (None) drops it."""
        cdef Undo undo = Undo.__new__(Undo)
        undo.change = REPLACED
        undo.unnamed = self.unnamed
        undo.unnamed_settings = self.unnamed_settings
        self.remember(undo)
        self.unnamed = body
        if body is not None:
            self.unnamed_settings = settings
            self.unnamed_version = 0
        return 0

    cdef int remember(self, Undo undo) except -1:
        if self.undos is None:
            self.undos = []
        self.undos.append(undo)
        return 0

    cdef int settle(self, StatementTable table) except -1:
        """The oldest change has succeeded."""
        if self.undos:
            return release(<Undo>self.undos.pop(0), table)
        return 0

    cdef int undo(self, StatementTable table) except -1:
        """The newest change has failed, or was skipped because one before it failed."""
        cdef Undo undo
        if not self.undos:
            return 0
        undo = <Undo>self.undos.pop()
        self.last_name = None
        self.last_statement = None
        if undo.change == DEFINED:
            if undo.former is not None:
                self.statements[undo.name] = undo.former
            elif self.statements.get(undo.name) is undo.statement:
                del self.statements[undo.name]
            table.release(undo.statement)
        elif undo.change == CLOSED:
            self.statements[undo.name] = undo.statement
        elif undo.change == REPLACED:
            self.unnamed = undo.unnamed
            self.unnamed_settings = undo.unnamed_settings
        elif undo.change == PARSED_AGAIN:
            self.last_name = undo.name              # for the text of the error
            self.last_statement = undo.statement
        return 0

    cdef list put_aside(self, int newest):
        """Take out so many of the newest changes, which belong to later batches than the one that has failed."""
        cdef list later
        if newest == 0 or not self.undos:
            return None
        later = self.undos[len(self.undos) - newest:]
        del self.undos[len(self.undos) - newest:]
        return later

    cdef int put_back(self, list later, bint unnamed_undone, object unnamed, ParseSettings settings) except -1:
        """Put them back. If the unnamed statement was taken back meanwhile, the first of them that has replaced it goes
        back to what it is now, and it is again what it was before: `unnamed`, with these settings.
        """
        cdef Undo undo
        for item in later:
            undo = <Undo>item
            if unnamed_undone and undo.change == REPLACED:
                undo.unnamed = self.unnamed
                undo.unnamed_settings = self.unnamed_settings
                self.unnamed = unnamed
                self.unnamed_settings = settings
                break
        self.undos.extend(later)
        return 0

    cdef dict before_undone(self):
        """name -> Statement as they were before the changes whose answers are still to come."""
        cdef dict found = dict(self.statements or {})
        cdef Undo undo
        for item in reversed(self.undos or ()):
            undo = <Undo>item
            if undo.change == CLOSED:
                found[undo.name] = undo.statement
            elif undo.change == DEFINED and undo.former is not None:
                found[undo.name] = undo.former
            elif undo.change == DEFINED:
                found.pop(undo.name, None)
        return found

    cdef int drop_all(self, StatementTable table) except -1:
        """A command has dropped all statements; those whose Parse is not answered were sent behind it."""
        cdef set newer = set()
        cdef Undo undo
        self.dropped = {}
        for item in self.undos or ():
            undo = <Undo>item
            if undo.change == DEFINED:
                newer.add(undo.name)
            release(undo, table)
            if undo.change == CLOSED:
                undo.change = DROPPED
            undo.former = None
        for name in [name for name in self.statements or () if name not in newer]:
            st = <Statement>self.statements.pop(name)
            self.dropped[name] = st.wire_name
            table.release(st)
        self.last_name = None
        self.last_statement = None
        return 0

    cdef int deallocated(self, StatementTable table, bytes name, uint64_t number) except -1:
        """A DEALLOCATE of this name has succeeded, which was that of statement `number`."""
        cdef Statement st = self.statements.get(name) if self.statements is not None else None
        if st is not None and st.number == number:
            del self.statements[name]
            self.last_name = None
            self.last_statement = None
            table.release(st)
        return 0

    cdef int clear(self, StatementTable table) except -1:
        """The client has gone."""
        if self is NO_STATEMENTS:
            return 0
        if self.statements is not None:
            for st in self.statements.values():
                table.release(<Statement>st)
        for undo in self.undos or ():
            release(<Undo>undo, table)
        self.statements = None
        self.undos = None
        self.last_name = None
        self.last_statement = None
        self.unnamed = None
        return 0

    cdef int restore(self, object unnamed, ParseSettings settings) noexcept:
        """The unnamed statement that another process has known of."""
        self.unnamed = unnamed
        self.unnamed_settings = settings
        return 0

    cdef int restore_statement(self, StatementTable table, bytes name, Statement st) except -1:
        """The same of a named one."""
        table.acquire(st)
        if self.statements is None:
            self.statements = {}
        self.statements[name] = st
        return 0

    cdef int bound_portal(self, bytes name, int most) except -1:
        """A portal of this name has been bound to the text; False: the client has `most` of those that matter."""
        if self.portals is None:
            self.portals = {}
        if not (self.dropping or self.reset_due is not None or self.deallocating is not None):
            self.portals.pop(name, None)
            return True
        if len(self.portals) >= most and name not in self.portals:
            return False
        self.portals[name] = (self.dropping, self.reset_due, self.deallocating)
        self.begin_text()
        return True

    cdef int take_portal(self, bytes name) except -1:
        """The portal is executed: what its text does is what is being passed on."""
        self.dropping, self.reset_due, self.deallocating = self.portals.pop(name, (False, None, None))
        if not self.portals:
            self.portals = None
        return 0


cdef int release(Undo undo, StatementTable table) except -1:
    """It will not be taken back: let go of the statement that the name was taken from."""
    if undo.change == CLOSED:
        table.release(undo.statement)
    elif undo.change == DEFINED and undo.former is not None:
        table.release(undo.former)
    return 0


NO_STATEMENTS = ClientStatements()
