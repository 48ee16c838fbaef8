"""Prepared statements at protocol level: one table of texts for the worker, a set of numbers for each server.

Clients name statements as they like; servers know them as PGFERRY_<number>. The same text with the same parameter types
that means the same is one Statement, whichever client sends it, so a server parses it once. What it means depends on
the settings it is parsed under (ParseSettings) and on the database's DDL epoch. After DDL a client that prepares anew
gets a new Statement, and so a new plan, on every server, as on a direct connection; one that does not prepare anew
keeps the old one and sees PostgreSQL's own error.
"""

from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free

# The settings that PostgreSQL reads a text under, in lower case. Names in it are looked up by search_path, "$user"
# in it is the role, and schemas that the role may not use are left out.
NAME_SETTINGS = (b"session_authorization", b"role", b"search_path")
# How the text is cut into tokens, which is so for every statement.
LEXER_SETTINGS = (b"client_encoding", b"standard_conforming_strings", b"backslash_quote")
# What literals are read with (the types' input functions run at Parse) and, since PostgreSQL takes these functions for
# immutable, what constants are written with when the statement is planned, once for all its executions. Settings of
# extensions whose types read them are not known here.
LITERAL_SETTINGS = (b"timezone", b"timezone_abbreviations", b"datestyle", b"intervalstyle", b"transform_null_equals",
                    b"array_nulls", b"xmloption", b"lc_monetary", b"bytea_output", b"extra_float_digits",
                    b"quote_all_identifiers")
PARSE_SETTINGS = NAME_SETTINGS + LEXER_SETTINGS + LITERAL_SETTINGS

cdef enum:
    MANY = 1024             # remembered ParseSettings


cdef class ParseSettings:
    """The settings a text is parsed under."""

    def __init__(self):
        raise TypeError("made by StatementTable.settings only")


cdef class Statement:
    """One text with parameter types and what it means, and the name servers know it by."""

    def __init__(self):
        raise TypeError("made by StatementTable only")

    cdef bint still_is(self, bytes shape) except -1:
        """Whether PostgreSQL describes it as clients were told; if not, they are wrong from now on."""
        if shape == self.shape:
            return True
        self.changed = True
        return False


cdef tuple key_of(ParseSettings settings, int64_t epoch, bytes body, bytes name):
    """What two Statements that may be one have in common."""
    return (settings, epoch, body, name)


cdef dict settings_as_data(ParseSettings settings):
    """ParseSettings as data, by name: another version of pgferry may know other settings."""
    return {"database": settings.database, "user": settings.user,
            "values": {name: value for name, value in zip(PARSE_SETTINGS, settings.values) if value is not None}}


cdef list sql_as_data(dict statements):
    """The statements of SQL's PREPARE (SessionTracker.sql) as data."""
    return [[name, text, settings_as_data(settings) if settings is not None else None]
            for name, (text, settings) in (statements or {}).items()]


cdef class StatementTable:
    """All statements that a client or a server of this worker holds."""

    def __cinit__(self):
        self.by_key = {}
        self.by_number = {}
        self.known_settings = {}

    def __len__(self):
        return len(self.by_number)

    cdef ParseSettings settings(self, str database, str user, tuple values):
        """The ParseSettings of this content."""
        cdef tuple key = (database, user, values)
        cdef ParseSettings found = self.known_settings.get(key)
        if found is None:
            found = ParseSettings.__new__(ParseSettings)
            found.database = database
            found.user = user
            found.values = values
            if len(self.known_settings) >= MANY:
                self.known_settings.clear()     # only the sameness with later ones is lost
            self.known_settings[key] = found
        return found

    cdef Statement intern(self, ParseSettings settings, int64_t epoch, bytes body, bytes name):
        """The Statement of this content; made when new, with no holder yet."""
        cdef Statement st = self.by_key.get(key_of(settings, epoch, body, name))
        if st is None:
            st = self.make(settings, epoch, body, name, False)
        return st

    cdef Statement make(self, ParseSettings settings, int64_t epoch, bytes body, bytes name, bint alone):
        """A new Statement with the next number, and no holder yet."""
        cdef Statement st = Statement.__new__(Statement)
        self.last += 1
        st.number = self.last
        st.settings = settings
        st.epoch = epoch
        st.body = body
        st.name = name
        st.alone = alone
        st.wire_name = b"PGFERRY_%d\x00" % st.number
        self.by_number[st.number] = st
        if not alone:
            self.by_key.setdefault(key_of(settings, epoch, body, name), st)
        return st

    cdef Statement get(self, uint64_t number):
        return self.by_number.get(number)

    cdef int acquire(self, Statement st) except -1:
        st.refs += 1
        return 0

    cdef int release(self, Statement st) except -1:
        """One holder less; the last one takes the Statement out of the table."""
        cdef tuple key
        st.refs -= 1
        if st.refs <= 0 and self.by_number.pop(st.number, None) is not None and not st.alone:
            key = key_of(st.settings, st.epoch, st.body, st.name)
            if self.by_key.get(key) is st:
                del self.by_key[key]
        return 0

    cdef dict describe(self, Statement st):
        """The Statement as data, for another process."""
        return {"number": st.number, "settings": settings_as_data(st.settings), "epoch": st.epoch, "body": st.body,
                "name": st.name, "alone": bool(st.alone), "shape": st.shape, "changed": bool(st.changed)}

    cdef Statement take_over(self, dict about):
        """The Statement that another process has described, under the number that it has there."""
        cdef Statement st = self.by_number.get(about["number"])
        cdef uint64_t last = self.last
        if st is None:
            self.last = <uint64_t>about["number"] - 1
            st = self.make(self.described(about["settings"]), about["epoch"], about["body"], about["name"],
                           about["alone"])
            st.shape, st.changed = about["shape"], about["changed"]
            self.last = max(last, self.last)
        return st

    cdef ParseSettings described(self, dict about):
        """The ParseSettings that settings_as_data() tells of."""
        values = about["values"]
        return self.settings(about["database"], about["user"], tuple([values.get(name) for name in PARSE_SETTINGS]))

    cdef dict described_sql(self, statements):
        """What sql_as_data() tells of; None: none."""
        return {name: (text, self.described(settings) if settings is not None else None)
                for name, text, settings in statements} or None


cdef class ServerStatements:
    """A hash set of statement numbers with the time of last use (open addressing, linear probing)."""

    def __cinit__(self, StatementTable table):
        self.table = table

    def __dealloc__(self):
        free(self.slots)

    def __len__(self):
        return self.count

    cdef bint touch(self, uint64_t number) noexcept:
        """Mark as used now; False when the server does not have it."""
        cdef uint32_t i
        if self.count == 0:
            return False
        i = (<uint32_t>number * 2654435761u) & (self.cap - 1)
        while self.slots[i].number:
            if self.slots[i].number == number:
                self.tick += 1
                self.slots[i].used = self.tick
                return True
            i = (i + 1) & (self.cap - 1)
        return False

    cdef int place(self, uint64_t number, uint64_t used) noexcept:
        cdef uint32_t i = (<uint32_t>number * 2654435761u) & (self.cap - 1)
        while self.slots[i].number:
            i = (i + 1) & (self.cap - 1)
        self.slots[i].number = number
        self.slots[i].used = used
        return 0

    cdef int resize(self, uint32_t cap) except -1:
        cdef Slot *old = self.slots
        cdef uint32_t n = self.cap, i
        self.slots = <Slot *>calloc(cap, sizeof(Slot))
        if self.slots == NULL:
            self.slots = old
            raise MemoryError()
        self.cap = cap
        for i in range(n):
            if old[i].number:
                self.place(old[i].number, old[i].used)
        free(old)
        return 0

    cdef int add(self, uint64_t number) except -1:
        """Add a statement that the server does not have yet."""
        cdef Statement st = self.table.get(number)
        if st is None or self.touch(number):
            return 0
        if (self.count + 1) * 2 > self.cap:
            self.resize(self.cap * 2 if self.cap else 16)
        self.tick += 1
        self.place(number, self.tick)
        self.count += 1
        return self.table.acquire(st)

    cdef int discard(self, uint64_t number) except -1:
        """The server does not have it (any more)."""
        if self.leaves(number):
            self.closed(number)
        return 0

    cdef int closed(self, uint64_t number) except -1:
        """A statement that leaves() took out is gone from the server: nobody holds it for its sake."""
        cdef Statement st = self.table.get(number)
        if self.strained is not None and number in self.strained:
            self.renewed(number)
        if st is not None:
            self.table.release(st)
        return 0

    cdef int stays(self, uint64_t number) except -1:
        """The Close of a statement that leaves() took out was not carried out."""
        cdef Statement st = self.table.get(number)
        self.add(number)
        if self.strained is not None and isinstance(self.strained.get(number), tuple):
            self.strained[number] = 0
        if st is not None:
            self.table.release(st)
        return 0

    cdef bint fits(self, uint64_t number, int64_t client, bint strains) except -1:
        """Whether a statement that is here means to this client what it should; `strains`: the client has others
        now than it was parsed under.
        """
        cdef object of = self.strained.get(number) if self.strained is not None else None
        if isinstance(of, tuple):
            of, again = of
            if strains and of == client and not again:
                self.strained[number] = (of, True)
        elif of is None and strains:
            of = client
            if self.strained is None:
                self.strained = {}
            self.strained[number] = of
        return of is None or of == client

    cdef int restore_strained(self, object numbers) except -1:
        """Another process has used these under other settings, for clients that nobody knows here."""
        if numbers:
            self.strained = dict.fromkeys(numbers, 0)
        return 0

    cdef int renew(self, uint64_t number, int64_t client, bint strains) except -1:
        """The statement is about to be closed, and parsed anew for this client."""
        self.strained[number] = (client, strains)
        return 0

    cdef int renewed(self, uint64_t number) except -1:
        """It is closed: what is here now is as it was parsed, unless its client strains it again."""
        of = self.strained[number]
        if isinstance(of, tuple) and of[1]:
            self.strained[number] = of[0]
        else:
            del self.strained[number]
            if not self.strained:
                self.strained = None
        return 0

    cdef bint leaves(self, uint64_t number) noexcept:
        """Take a statement out that is being closed; it is held until closed() or stays(). False: it is not here."""
        cdef uint32_t i, j, home
        if not self.touch(number):
            return False
        i = (<uint32_t>number * 2654435761u) & (self.cap - 1)
        while self.slots[i].number != number:
            i = (i + 1) & (self.cap - 1)
        # Close the gap, so that probing needs no tombstones.
        j = i
        while True:
            self.slots[i].number = 0
            while True:
                j = (j + 1) & (self.cap - 1)
                if self.slots[j].number == 0:
                    self.count -= 1
                    return True
                home = (<uint32_t>self.slots[j].number * 2654435761u) & (self.cap - 1)
                # Move j back unless its home lies cyclically in (i, j].
                if ((j - home) & (self.cap - 1)) >= ((j - i) & (self.cap - 1)):
                    break
            self.slots[i] = self.slots[j]
            i = j

    cdef uint64_t oldest(self) noexcept:
        """The statement whose last use lies longest back; 0 when there is none."""
        cdef uint32_t i
        cdef uint64_t used = 0, found = 0
        for i in range(self.cap):
            if self.slots[i].number and (found == 0 or self.slots[i].used < used):
                found = self.slots[i].number
                used = self.slots[i].used
        return found

    cdef int clear(self) except -1:
        """The server has none any more."""
        cdef uint32_t i
        cdef Statement st
        for i in range(self.cap):
            if self.slots[i].number:
                st = self.table.get(self.slots[i].number)
                if st is not None:
                    self.table.release(st)
        free(self.slots)
        self.slots = NULL
        self.cap = self.count = 0
        self.strained = None
        return 0
