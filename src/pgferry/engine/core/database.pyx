"""Users and databases, and who has used a server."""

from pgferry.engine.core.catalog_state cimport CatalogState
from pgferry.engine.core.stats cimport Stats
from pgferry.engine.core.words cimport WordSet
from pgferry.engine.shared.ledger cimport Ledger


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
        self.catalog = CatalogState(ledger, base, name)
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


cdef class LastUse:
    """Who has used a server, and what that may have left."""
