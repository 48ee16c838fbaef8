"""Reading what a database's functions and relations may do to a session, by a connection of pgferry's own.

When it is due is said by session.catalog.
"""

from pgferry.engine.core.database cimport Database
from pgferry.engine.core.enums cimport MODE_SESSION, STATE_IGNORE
from pgferry.engine.core.model cimport CatalogReader, Engine, Pool, Server
from pgferry.engine.io.stream cimport Stream, StreamList
from pgferry.engine.services.internal_session cimport InternalSession
from pgferry.engine.session.catalog cimport doubt_session, is_given_up, keep_up, ran_unseen
from pgferry.engine.session.settling cimport settle_held
from pgferry.engine.session.wipe cimport scrub
from pgferry.session.catalog import SCAN_QUERY, VERSION_QUERY, Knowledge


cdef int catalog_tick(Database db, Engine engine) except -1:
    """Upkeep: readings that are due without anybody's traffic; an end to waiting for them."""
    if db.catalog.reader is None:
        return 0
    if not db.catalog.unread:
        return keep_up(db, engine) if has_worked(db) else 0
    if engine.workers > 1:
        db.catalog.look_for_ddl(engine.loop.now)
    db.catalog.believe()    # what other workers have begun may be over
    if has_clients(db):     # else the next one's statements have it read
        keep_up(db, engine)
    if is_given_up(db, engine.loop.now):
        settle_held(db, -1)
        for pool in list(db.pools.values()):
            (<Pool>pool).serve_waiting()
    return 0


cdef bint has_worked(Database db) except -1:
    """Whether a server has run a client's statements since the last look at the catalog."""
    cdef Pool pool
    for item in db.pools.values():
        pool = <Pool>item
        if pool.settings.session_state == STATE_IGNORE or pool.settings.mode == MODE_SESSION:
            continue
        if pool.endpoint.active.count or has_unseen(pool.endpoint.idle, db) or has_unseen(pool.endpoint.used, db):
            return True
    return False


cdef bint has_unseen(StreamList free, Database db) noexcept:
    """Whether one of these has (ran_unseen); those that came back last are at the tail, new ones among them."""
    cdef Stream at = free.tail
    while at is not None and (<Server>at).since >= db.catalog.version_at:
        if ran_unseen(<Server>at):
            return True
        at = at.prev
    return False


cdef bint has_clients(Database db) except -1:
    """Whether a client of this worker is there for whom the catalog ought to be known."""
    cdef Pool pool
    for item in db.pools.values():
        pool = <Pool>item
        if pool.clients.count or pool.waiting.count or pool.logging_in.count:
            return True
    return False


cdef int doubt_sessions(Database db) except -1:
    """Functions may have changed behind pgferry's back: what has run since the last look at the catalog may have left
    in its session what nobody has asked for. Idle servers are wiped, the others asked when they are given back.
    """
    cdef Pool pool
    cdef Server s
    for item in db.pools.values():
        pool = <Pool>item
        if pool.settings.session_state == STATE_IGNORE or pool.settings.mode == MODE_SESSION:
            continue
        for free in (pool.endpoint.idle, pool.endpoint.used):
            for each in list((<StreamList>free).items()):
                s = <Server>each
                if ran_unseen(s):
                    pool.count("scrubs", "functions changed from outside")
                    scrub(s)
        for each in pool.endpoint.active.items():
            doubt_session(<Server>each)
    return 0


cdef class InternalCatalogReader(CatalogReader):
    """Reads a database's catalog and takes over what it says."""

    def __init__(self, Engine engine, Database db):
        self.engine = engine
        self.db = db
        self.session = InternalSession(engine, db, "catalog")
        self.certain = set()
        self.definitions = engine.ledger.counter("definitions", db.name)

    cdef int forget(self) except -1:
        self.rows_hash = None
        self.forgotten = True
        return 0

    cdef int ask(self, bytes text, object on_answer) except -1:
        return self.session.query(text, on_answer)

    cdef int begin(self, bint whole) except -1:
        self.begun = self.engine.loop.now
        self.timed = self.session.up        # else it is the login that takes the time
        self.db.catalog.begin_reading(whole, self.begun)
        if whole:
            self.forgotten = False
            self.definitions_due = self.definitions.total()
        self.session.query(VERSION_QUERY, self.whole_due if whole else self.version_known)
        return 0

    def version_known(self, rows, error):
        """The version of the catalog, looked at for its own sake."""
        self.took()
        if error is not None:
            self.failed(error)
        elif rows != self.db.catalog.version:
            doubt_sessions(self.db)
            self.db.catalog.is_another_version(self.engine.loop.now)
            self.begin(True)
        else:
            self.ended()

    def whole_due(self, rows, error):
        """The version that what is read now has at least."""
        self.took()
        if error is not None:
            self.failed(error)
            return
        if (self.rows_hash is not None and rows == self.db.catalog.version
                and self.definitions_due == self.definitions_read):
            self.ended()
            return
        self.version = rows
        self.session.query(SCAN_QUERY, self.scanned)

    cdef int took(self) except -1:
        """The version has been asked for."""
        return self.db.catalog.looked_for(self.engine.loop.now - self.begun, self.timed)

    def scanned(self, rows, error):
        """The catalog has been read: have worked out what it means."""
        if error is not None:
            self.failed(error)
            return
        self.found_hash = hash(tuple(rows))
        if self.found_hash == self.rows_hash:
            self.taken_over()
        else:
            if self.db.catalog.knowledge is not None and not self.forgotten:
                doubt_sessions(self.db)
            self.engine.host.analyze_catalog(rows, self.engine.settings.harmless_functions, self.understood)

    def understood(self, knowledge, error):
        if error is not None:
            self.failed({"M": f"not understood: {error}"})
            return
        self.rows_hash = None if self.forgotten else self.found_hash
        self.db.catalog.use(self.engine.words.base, knowledge)
        self.taken_over()

    cdef int taken_over(self) except -1:
        """What has been read is what is known."""
        self.db.catalog.version_is(self.version)
        self.definitions_read = self.definitions_due
        return self.ended()

    cdef int ended(self) except -1:
        """All is known as it was when this reading began."""
        cdef Database db = self.db
        if db.catalog.end_reading(self.begun, self.engine.loop.now):
            self.engine.log.write("LOG", f"{db.name}: the catalog can be read again")
        if self.engine.workers > 1:
            db.catalog.look_for_ddl(self.engine.loop.now)
        db.catalog.believe()
        db.catalog.can_be_read(self.begun)
        settle_held(db, db.catalog.readings)
        for pool in list(db.pools.values()):
            (<Pool>pool).serve_waiting()
        return 0

    cdef int failed(self, dict error) except -1:
        """Until it can be read functions stay unknown: see Database.unread."""
        cdef Database db = self.db
        if "catalog" in self.engine.omit:
            db.catalog.use(self.engine.words.base, Knowledge())
            return self.ended()
        cdef bint first = db.catalog.reading_failed(error.get("M", "?"), self.engine.loop.now)
        if self.session.pool is not None:
            self.session.pool.count("catalog_failures", db.catalog.error)
        if first:
            self.engine.log.write("WARNING", f"{db.name}: the catalog cannot be read, so that what statements do to "
                                  f"sessions is not known: {db.catalog.error}")
            for pool in list(db.pools.values()):
                (<Pool>pool).serve_waiting()
        return 0
