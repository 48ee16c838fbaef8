"""Keeping up with what a database's functions and relations may do to a session.

The first server of a database reads the catalog (session.catalog) before it serves anybody. Statements that make or
change functions, triggers and the like raise a count that all workers see; whoever sees it move takes any statement
for suspect until it has read the catalog anew. Changes made behind pgferry's back are looked for every INTERVAL.
"""

from pgferry.engine.judge cimport use_knowledge
from pgferry.engine.model cimport P_CATALOG, P_VERSION, SV_TESTED, Database, Engine, Server
from pgferry.engine.pooling cimport own_query
from pgferry.engine.touch cimport ASKABLE
from pgferry.session.catalog import SCAN_QUERY, VERSION_QUERY, understand

cdef double INTERVAL = 10.0     # seconds between looks at the version
cdef double PAUSE = 0.2         # seconds between two scans of a database


cdef int look_for_ddl(Database db) except -1:
    """Another worker may have seen functions change."""
    cdef int seen = db.ddl.total()
    if seen != db.ddl_seen:
        db.ddl_seen = seen
        db.stale = True
        db.everything |= ASKABLE
    return 0


cdef int changed(Database db) except -1:
    """A statement has changed functions or the like; called when its transaction is over."""
    db.ddl.take(0)
    return look_for_ddl(db)


cdef bint wants_scan(Server s) except -1:
    """Whether this free server is to read the catalog (or its version) now."""
    cdef Database db = s.pool.db
    cdef double now = s.loop.now
    if db.scanning:
        return False
    if db.stale or db.knowledge is None:
        return db.knowledge is None or now - db.scanned_at >= PAUSE
    return now - db.version_at >= INTERVAL


cdef int scan(Server s) except -1:
    """Stage the query that is due and set the server aside until it is answered."""
    cdef Database db = s.pool.db
    s.state = SV_TESTED
    s.since = s.loop.now
    s.pool.tested.append(s)
    s.rows = []
    s.scanning = db.scanning = True
    db.version_at = s.loop.now
    if db.stale or db.knowledge is None:
        db.stale = False
        db.scanned_at = s.loop.now
        own_query(s, SCAN_QUERY, P_CATALOG)
    else:
        own_query(s, VERSION_QUERY, P_VERSION)
    return s.flush()


cdef int scanned(Server s) except -1:
    """The catalog has been read: have worked out what it means."""
    cdef Database db = s.pool.db
    cdef Engine engine = s.pool.engine
    cdef list rows = s.rows
    s.rows = None

    def understood(knowledge, error):
        db.scanning = False
        if error is not None:
            engine.log.write("WARNING", f"catalog of {db.name} not understood: {error}")
            db.stale = True
            return
        if db.stale:
            return              # changed again meanwhile
        use_knowledge(db, engine, knowledge)

    engine.host.understand(rows, understood)
    return 0


cdef int catalog_unknown(Database db, Engine engine) except -1:
    """The catalog cannot be read: do with the texts of statements."""
    db.scanning = db.stale = False
    db.version_at = engine.loop.now
    return use_knowledge(db, engine, understand([]))


cdef int version_known(Server s) except -1:
    """The version of the catalog has been read."""
    cdef Database db = s.pool.db
    cdef list rows = s.rows
    s.rows = None
    db.scanning = False
    if db.catalog_version is not None and rows != db.catalog_version:
        look_for_ddl(db)
        db.stale = True
        db.everything |= ASKABLE
    db.catalog_version = rows
    return 0
