"""Keeping up with what a database's functions and relations may do to a session.

Database.knowledge is what the catalog said when it was read last (session.catalog), by a connection of pgferry's own.
Database.unread says that it may be out of date: before the first reading, from the moment that a client sends what may
define functions, triggers and the like, or calls what may do that, until the catalog has been read behind it, and
while it cannot be read. Nobody gets a server of a database before its catalog has been read, or reading has failed;
what runs while `unread` is set is taken for unknown (see unsure).

All workers count such statements in shared memory: Database.ddl grows when one is sent and when its transaction is
over, Database.definers is how many are being run. Changes made behind pgferry's back are looked for every second while
there is traffic, and once behind it, less often where the look takes long (Database.version_every). When one is found,
servers that have worked since the last look are wiped, whoever gets them next.
"""

from pgferry.engine.services.internal_session cimport InternalSession
from pgferry.engine.session.classify cimport count_for, use_knowledge
from pgferry.engine.io.loop cimport Stream, StreamList
from pgferry.engine.core.model cimport MODE_SESSION, SV_GONE, STATE_IGNORE, Database, Engine, Pool, Server
from pgferry.engine.pool.pooling cimport serve_waiting
from pgferry.engine.session.probe cimport scrub
from pgferry.engine.core.effects cimport ASKABLE
from pgferry.engine.session.unsure cimport note_definition, settle_held
from pgferry.session.catalog import SCAN_QUERY, VERSION_QUERY, Knowledge

cdef double SHORTEST_INTERVAL = 1.0     # seconds between looks at the version
cdef double LONGEST_INTERVAL = 10.0
cdef double SHARE = 0.05                # part of the time that looks may take: long ones are made less often
cdef double PATIENCE = 10.0         # seconds for which clients keep their servers until the catalog is known
cdef double SHORTEST_PAUSE = 0.02   # seconds between two readings, or three times what one takes
cdef double FIRST_RETRY = 0.2       # seconds from a reading that failed to the next, doubled each time
cdef double LONGEST_PAUSE = 5.0


cdef bint is_ready(Pool pool) noexcept:
    """Whether clients of this pool may have servers: what their statements do can be told."""
    return (pool.db.knowledge is not None or pool.session_state == STATE_IGNORE or pool.mode == MODE_SESSION
            or pool.db.catalog_failures > 0 or is_given_up(pool.db, pool.engine.loop.now))


cdef bint is_given_up(Database db, double now) noexcept:
    """Whether the catalog has been unknown for so long that nobody waits for it any more."""
    return db.unread and db.readings and now - db.unread_since > PATIENCE


# --- signs of change --------------------------------------------------------------------------------------------

cdef int mark_unread(Database db, Engine engine) except -1:
    """What is known of functions may be out of date from now on."""
    if not db.unread:
        db.unread = True
        db.unread_since = engine.loop.now
    db.everything |= ASKABLE
    return 0


cdef int look_for_ddl(Database db, Engine engine) except -1:
    """Another worker may have seen functions change."""
    cdef int seen = db.ddl.total()
    if seen != db.ddl_seen:
        db.ddl_seen = seen
        db.stale = True
        mark_unread(db, engine)
    return 0


cdef int miss_a_look(Database db, Engine engine) except -1:
    """After a time without traffic nobody knows what has become of the catalog meanwhile (is_overdue)."""
    db.stale = True
    mark_unread(db, engine)
    return keep_up(db, engine)


cdef bint ran_unseen(Server s) noexcept:
    """Whether the idle server has worked since the last look at the catalog, and was given back when it was believed to
    be known.
    """
    cdef Database db = s.pool.db
    return s.last_client != 0 and s.since >= db.version_at and (not db.unread or s.since <= db.unread_since)


cdef int forget_knowledge(Database db, Engine engine) except -1:
    """What the catalog says has to be worked out again, although it may be the same."""
    if db.catalog is not None:
        (<CatalogReader>db.catalog).rows_hash = None
        (<CatalogReader>db.catalog).forgotten = True
        db.stale = True
        mark_unread(db, engine)
    return 0


cdef int begin_defining(Server s, bint surely) except -1:
    """The server runs, or has run, what may make or change functions and the like.

    `surely`: a command tag says so. Else the catalog is read only if its version is another one.
    """
    cdef Database db = s.pool.db
    cdef Engine engine = s.pool.engine
    if "ddl" in engine.omit:
        return 0
    s.ddl = True
    if surely:
        reader_of(db, engine).certain.add(s)
    if db.defining is None:
        db.defining = set()
    if s not in db.defining:
        db.defining.add(s)
        db.definers.take(0)
        look_for_ddl(db, engine)
        db.ddl.take(0)
        db.ddl_seen += 1
    mark_unread(db, engine)
    return note_definition(s)


cdef int end_defining(Server s) except -1:
    """The server has answered all that it was sent, or is lost. Within a transaction nobody else sees a change yet."""
    cdef Database db = s.pool.db
    cdef CatalogReader reader = <CatalogReader>db.catalog
    if s.xact == b"I" or s.state == SV_GONE:
        s.ddl = False
        if reader is not None and s in reader.certain:
            reader.certain.remove(s)
            reader.definitions.take(0)
        look_for_ddl(db, s.pool.engine)
        db.ddl.take(0)
        db.ddl_seen += 1
        db.stale = True
        mark_unread(db, s.pool.engine)
    if db.defining is not None and s in db.defining:
        db.defining.remove(s)
        db.definers.give()
    believe(db)
    return keep_up(db, s.pool.engine) if db.catalog is not None else 0


cdef int believe(Database db) except -1:
    """What is known holds again, if nothing is left that could have changed it."""
    if (db.unread and db.knowledge is not None and not db.stale and not db.scanning and not db.catalog_failures
            and not db.defining and db.definers.total() <= 0):
        db.unread = False
        db.everything = db.knowledge.everything
    return 0


# --- reading ----------------------------------------------------------------------------------------------------

cdef int keep_up(Database db, Engine engine) except -1:
    """Read the catalog, or its version, if that is due."""
    cdef double now = engine.loop.now
    if db.scanning:
        return 0
    if db.stale or db.knowledge is None:
        if now < db.read_due:
            return 0
        return reader_of(db, engine).begin(True)
    if now - db.version_at >= db.version_every and now >= db.read_due:
        return reader_of(db, engine).begin(False)
    return 0


cdef CatalogReader reader_of(Database db, Engine engine):
    if db.catalog is None:
        db.catalog = CatalogReader(engine, db)
    return <CatalogReader>db.catalog


cdef int catalog_tick(Database db, Engine engine) except -1:
    """Upkeep: readings that are due without anybody's traffic; an end to waiting for them."""
    if db.catalog is None:
        return 0
    if not db.unread:
        return keep_up(db, engine) if has_worked(db) else 0
    if engine.workers > 1:
        look_for_ddl(db, engine)
    believe(db)             # what other workers have begun may be over
    if has_clients(db):     # else the next one's statements have it read
        keep_up(db, engine)
    if is_given_up(db, engine.loop.now):
        settle_held(db, -1)
        for pool in list(db.pools.values()):
            serve_waiting(<Pool>pool)
    return 0


cdef bint has_worked(Database db) except -1:
    """Whether a server has run a client's statements since the last look at the catalog."""
    cdef Pool pool
    for item in db.pools.values():
        pool = <Pool>item
        if pool.session_state == STATE_IGNORE or pool.mode == MODE_SESSION:
            continue
        if pool.active.count or has_unseen(pool.idle, db) or has_unseen(pool.used, db):
            return True
    return False


cdef bint has_unseen(StreamList free, Database db) noexcept:
    """Whether one of these has (ran_unseen); those that came back last are at the tail, new ones among them."""
    cdef Stream at = free.tail
    while at is not None and (<Server>at).since >= db.version_at:
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
        if pool.session_state == STATE_IGNORE or pool.mode == MODE_SESSION:
            continue
        for free in (pool.idle, pool.used):
            for each in list((<StreamList>free).items()):
                s = <Server>each
                if ran_unseen(s):
                    count_for(pool, "scrubs", "functions changed from outside")
                    scrub(s)
        for each in pool.active.items():
            doubt_session(<Server>each)
    return 0


cdef int doubt_session(Server s) except -1:
    """What the server's session holds is to be asked for at the end of the transaction, whatever that does."""
    if s.known is None:
        s.known = s.pool.db.knowledge
    return 0


cdef class CatalogReader:
    """Reads a database's catalog and takes over what it says."""

    def __init__(self, Engine engine, Database db):
        self.engine = engine
        self.db = db
        self.session = InternalSession(engine, db, "catalog")
        self.certain = set()
        self.definitions = engine.ledger.counter("definitions", db.name)

    cdef int begin(self, bint whole) except -1:
        self.db.scanning = True
        self.begun = self.engine.loop.now
        self.timed = self.session.up        # else it is the login that takes the time
        if self.db.knowledge is None and self.db.readings == 0:
            self.db.unread_since = self.begun
        if whole:
            self.db.stale = self.forgotten = False
            self.db.readings += 1
            self.definitions_due = self.definitions.total()
        self.session.query(VERSION_QUERY, self.whole_due if whole else self.version_known)
        return 0

    def version_known(self, rows, error):
        """The version of the catalog, looked at for its own sake."""
        self.took()
        if error is not None:
            self.failed(error)
        elif rows != self.db.catalog_version:
            doubt_sessions(self.db)
            self.db.scanning = False
            self.db.stale = True
            mark_unread(self.db, self.engine)
            self.begin(True)
        else:
            self.ended()

    def whole_due(self, rows, error):
        """The version that what is read now has at least."""
        self.took()
        if error is not None:
            self.failed(error)
            return
        if (self.rows_hash is not None and rows == self.db.catalog_version
                and self.definitions_due == self.definitions_read):
            self.ended()
            return
        self.version = rows
        self.session.query(SCAN_QUERY, self.scanned)

    cdef int took(self) except -1:
        """The version has been asked for."""
        cdef double seconds = self.engine.loop.now - self.begun
        if self.timed:
            self.db.version_every = min(max(seconds / SHARE, SHORTEST_INTERVAL), LONGEST_INTERVAL)
        elif self.db.version_every == 0:
            self.db.version_every = SHORTEST_INTERVAL
        return 0

    def scanned(self, rows, error):
        """The catalog has been read: have worked out what it means."""
        if error is not None:
            self.failed(error)
            return
        self.found_hash = hash(tuple(rows))
        if self.found_hash == self.rows_hash:
            self.taken_over()
        else:
            if self.db.knowledge is not None and not self.forgotten:
                doubt_sessions(self.db)
            self.engine.host.understand(rows, self.engine.harmless_functions, self.understood)

    def understood(self, knowledge, error):
        if error is not None:
            self.failed({"M": f"not understood: {error}"})
            return
        self.rows_hash = None if self.forgotten else self.found_hash
        use_knowledge(self.db, self.engine, knowledge)
        self.taken_over()

    cdef int taken_over(self) except -1:
        """What has been read is what is known."""
        self.db.catalog_version = self.version
        self.definitions_read = self.definitions_due
        return self.ended()

    cdef int ended(self) except -1:
        """All is known as it was when this reading began."""
        cdef Database db = self.db
        cdef double now = self.engine.loop.now
        db.scanning = False
        db.version_at = self.begun
        db.read_due = now + min(max(SHORTEST_PAUSE, 2 * (now - self.begun)), LONGEST_PAUSE)
        if db.catalog_failures:
            db.catalog_failures = 0
            db.catalog_error = None
            self.engine.log.write("LOG", f"{db.name}: the catalog can be read again")
        if self.engine.workers > 1:
            look_for_ddl(db, self.engine)
        believe(db)
        if db.unread:
            db.unread_since = self.begun    # it can be read, and will be again: PATIENCE begins anew
        settle_held(db, db.readings)
        for pool in list(db.pools.values()):
            serve_waiting(<Pool>pool)
        return 0

    cdef int failed(self, dict error) except -1:
        """Until it can be read functions stay unknown: see Database.unread."""
        cdef Database db = self.db
        if "catalog" in self.engine.omit:
            use_knowledge(db, self.engine, Knowledge())
            return self.ended()
        db.scanning = False
        db.stale = True
        mark_unread(db, self.engine)
        db.read_due = self.engine.loop.now + min(FIRST_RETRY * 2 ** min(db.catalog_failures, 10), LONGEST_PAUSE)
        db.catalog_failures += 1
        db.catalog_error = error.get("M", "?")
        count_for(self.session.pool, "catalog_failures", db.catalog_error)
        if db.catalog_failures == 1:
            self.engine.log.write("WARNING", f"{db.name}: the catalog cannot be read, so that what statements do to "
                                  f"sessions is not known: {db.catalog_error}")
            for pool in list(db.pools.values()):
                serve_waiting(<Pool>pool)
        return 0
