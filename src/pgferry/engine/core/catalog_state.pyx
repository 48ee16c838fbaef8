"""What is known of a database's catalog."""

from itertools import islice

from libc.stdint cimport int64_t

from pgferry.engine.core.effects cimport ASKABLE
from pgferry.engine.core.words cimport WordSet
from pgferry.engine.shared.ledger cimport Ledger

from pgferry.session.words import word_set

cdef enum:
    MOST = 4096             # verdicts of a database
    MOST_BYTES = 4 << 20    # of their texts
    LONG_TEXT = 8192        # bytes; verdicts of longer texts are not remembered

cdef double SHORTEST_INTERVAL = 1.0     # seconds between looks at the version
cdef double LONGEST_INTERVAL = 10.0
cdef double SHARE = 0.05                # part of the time that looks may take: long ones are made less often
cdef double SHORTEST_PAUSE = 0.02   # seconds between two readings, or three times what one takes
cdef double FIRST_RETRY = 0.2       # seconds from a reading that failed to the next, doubled each time
cdef double LONGEST_PAUSE = 5.0

cdef int64_t last_words_version = 0


cdef class CatalogReader:
    """Reads a database's catalog; see services.catalog_reader."""

    cdef int begin(self, bint whole) except -1:
        raise NotImplementedError

    cdef int forget(self) except -1:
        raise NotImplementedError

    cdef int ask(self, bytes text, object on_answer) except -1:
        raise NotImplementedError


cdef class CatalogState:
    """What is known of what a database may do to sessions, and how old that is."""

    def __cinit__(self, Ledger ledger, WordSet base, str name):
        self.ddl = ledger.counter("ddl", name)
        self.ddl_seen = self.ddl.total()
        self.definers = ledger.counter("definers", name)
        self.use(base, None)

    cdef int use(self, WordSet base, object knowledge) except -1:
        """Take over what is known of the functions; None: nothing yet, so any statement may do anything."""
        global last_words_version
        cdef WordSet words = base
        self.knowledge = knowledge
        if knowledge is not None and knowledge.words:
            words = word_set(knowledge.words)
        self.words = words
        self.everything = 0 if knowledge is None else knowledge.everything
        self.odd_names = knowledge is not None and knowledge.non_ascii != 0
        if knowledge is None or self.unread:
            self.everything |= ASKABLE
        self.unread = self.unread or knowledge is None
        if knowledge is not None and knowledge.reads_sequences:
            self.sequences = True
        self.verdicts = {}
        self.verdict_bytes = 0
        last_words_version += 1
        self.words_version = last_words_version
        return 0

    cdef int remember_verdict(self, bytes text, object verdict) except -1:
        """Keep a verdict; the oldest quarter makes room when there are too many."""
        if len(text) > LONG_TEXT:
            return 0
        if len(self.verdicts) >= MOST or self.verdict_bytes + len(text) > MOST_BYTES:
            for old in list(islice(self.verdicts, max(len(self.verdicts) // 4, 1))):
                del self.verdicts[old]
                self.verdict_bytes -= len(<bytes>old)
        self.verdicts[text] = verdict
        self.verdict_bytes += len(text)
        return 0

    # --- signs of change

    cdef int mark_unread(self, double now) except -1:
        """What is known of functions may be out of date from now on."""
        if not self.unread:
            self.unread = True
            self.unread_since = now
        self.everything |= ASKABLE
        return 0

    cdef int mark_stale(self, double now) except -1:
        """The same, and only reading all of it again tells."""
        self.stale = True
        return self.mark_unread(now)

    cdef int look_for_ddl(self, double now) except -1:
        """Another worker may have seen functions change."""
        cdef int seen = self.ddl.total()
        if seen != self.ddl_seen:
            self.ddl_seen = seen
            self.mark_stale(now)
        return 0

    cdef int count_ddl(self) except -1:
        """Functions may change, or have changed, here: all other workers are to see it."""
        self.ddl.take(0)
        self.ddl_seen += 1
        return 0

    cdef int begin_defining(self, object server, double now) except -1:
        """This server runs what may change functions."""
        if self.defining is None:
            self.defining = set()
        if server not in self.defining:
            self.defining.add(server)
            self.definers.take(0)
            self.look_for_ddl(now)
            self.count_ddl()
        return self.mark_unread(now)

    cdef int end_defining(self, object server) except -1:
        """All that it was sent is answered, or it is lost."""
        if self.defining is not None and server in self.defining:
            self.defining.remove(server)
            self.definers.give()
        return 0

    cdef int believe(self) except -1:
        """What is known holds again, if nothing is left that could have changed it."""
        if (self.unread and self.knowledge is not None and not self.stale and not self.scanning
                and not self.failures and not self.defining and self.definers.total() <= 0):
            self.unread = False
            self.everything = self.knowledge.everything
        return 0

    # --- readings

    cdef int begin_reading(self, bint whole, double now) except -1:
        """The catalog is being read from now on; not `whole`: its version only."""
        self.scanning = True
        if self.knowledge is None and self.readings == 0:
            self.unread_since = now
        if whole:
            self.stale = False
            self.readings += 1
        return 0

    cdef int looked_for(self, double seconds, bint timed) except -1:
        """A look at the version is over; `timed`: it has taken so long, with no login in it."""
        if timed:
            self.version_every = min(max(seconds / SHARE, SHORTEST_INTERVAL), LONGEST_INTERVAL)
        elif self.version_every == 0:
            self.version_every = SHORTEST_INTERVAL
        return 0

    cdef int is_another_version(self, double now) except -1:
        """The look has shown that it is not what is known any more."""
        self.scanning = False
        return self.mark_stale(now)

    cdef bint end_reading(self, double begun, double now) except -1:
        """All is known as it was when this reading began. Whether the one before had failed."""
        cdef bint failed = self.failures != 0
        self.scanning = False
        self.version_at = begun
        self.read_due = now + min(max(SHORTEST_PAUSE, 2 * (now - begun)), LONGEST_PAUSE)
        self.failures = 0
        self.error = None
        return failed

    cdef bint reading_failed(self, str error, double now) except -1:
        """Until it can be read functions stay unknown. Whether the one before had not failed."""
        self.scanning = False
        self.mark_stale(now)
        self.read_due = now + min(FIRST_RETRY * 2 ** min(self.failures, 10), LONGEST_PAUSE)
        self.failures += 1
        self.error = error
        return self.failures == 1

    # --- servers that wait for one

    cdef int hold(self, object server) except -1:
        """This server's client keeps it until all is known."""
        if self.held is None:
            self.held = set()
        self.held.add(server)
        return 0

    cdef int reading_to_await(self) except -1:
        """The number of the reading that shows all that has run so far; it is begun when it can be, or under way.

        What is being read is as new as all that can have been called, unless something has changed since it began. To
        read once more for each transaction of a busy client would keep its server from everybody else.
        """
        if self.scanning and not self.stale:
            return self.readings
        self.stale = self.stale or not self.scanning
        return self.readings + 1
