"""Users and databases, and who has used a server."""

from libc.stdint cimport int64_t

from pgferry.engine.core.catalog_state cimport CatalogState
from pgferry.engine.core.effects cimport ASKABLE
from pgferry.engine.core.stats cimport Stats
from pgferry.engine.core.words cimport WordSet
from pgferry.engine.shared.ledger cimport Ledger

from pgferry.session.words import word_set

cdef int64_t last_words_version = 0


cdef class User:
    """A user name with its secret and its limits."""

    def __init__(self, Ledger ledger, str name):
        self.name = name
        self.clients = ledger.counter("user-clients", name)
        self.servers = ledger.counter("user-servers", name)
        self.wanting = ledger.counter("user-wanting", name)


cdef class Database:
    """An entry of [databases], or one made from `*`."""

    def __init__(self, Ledger ledger, WordSet base, double now, str name):
        self.catalog = CatalogState()
        self.name = name
        self.pools = {}
        self.found = {}
        self.former = Stats()
        self.clients = ledger.counter("db-clients", name)
        self.servers = ledger.counter("db-servers", name)
        self.wanting = ledger.counter("db-wanting", name)
        self.used_at = now
        self.sessions = []
        self.listening = ledger.counter("listening", name)
        self.listener_epoch = ledger.counter("hubs", name)
        self.catalog.ddl = ledger.counter("ddl", name)
        self.catalog.ddl_seen = self.catalog.ddl.total()
        self.catalog.definers = ledger.counter("definers", name)
        self.use_knowledge(base, None)

    cdef int use_knowledge(self, WordSet base, object knowledge) except -1:
        """Take over what is known of the functions; None: nothing yet, so any statement may do anything."""
        global last_words_version
        cdef WordSet words = base
        self.catalog.knowledge = knowledge
        if knowledge is not None and knowledge.words:
            words = word_set(knowledge.words)
        self.catalog.words = words
        self.catalog.everything = 0 if knowledge is None else knowledge.everything
        self.catalog.odd_names = knowledge is not None and knowledge.non_ascii != 0
        if knowledge is None or self.catalog.unread:
            self.catalog.everything |= ASKABLE
        self.catalog.unread = self.catalog.unread or knowledge is None
        if knowledge is not None and knowledge.reads_sequences:
            self.catalog.sequences = True
        self.catalog.verdicts = {}
        self.catalog.verdict_bytes = 0
        last_words_version += 1
        self.catalog.words_version = last_words_version
        return 0


cdef class LastUse:
    """Who has used a server, and what that may have left."""
