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

from pgferry.engine.core.database cimport Database
from pgferry.engine.core.enums cimport MODE_SESSION, STATE_IGNORE, SV_GONE
from pgferry.engine.core.model cimport CatalogReader, Engine, Pool, Server
from pgferry.engine.session.unsure cimport note_definition

cdef double PATIENCE = 10.0         # seconds for which clients keep their servers until the catalog is known


cdef bint is_ready(Pool pool) noexcept:
    """Whether clients of this pool may have servers: what their statements do can be told."""
    return (pool.db.catalog.knowledge is not None or pool.settings.session_state == STATE_IGNORE
            or pool.settings.mode == MODE_SESSION
            or pool.db.catalog.failures > 0 or is_given_up(pool.db, pool.engine.loop.now))


cdef bint is_given_up(Database db, double now) noexcept:
    """Whether the catalog has been unknown for so long that nobody waits for it any more."""
    return db.catalog.unread and db.catalog.readings and now - db.catalog.unread_since > PATIENCE


# --- signs of change --------------------------------------------------------------------------------------------

cdef int miss_a_look(Database db, Engine engine) except -1:
    """After a time without traffic nobody knows what has become of the catalog meanwhile (is_overdue)."""
    db.catalog.mark_stale(engine.loop.now)
    return keep_up(db, engine)


cdef bint ran_unseen(Server s) noexcept:
    """Whether the idle server has worked since the last look at the catalog, and was given back when it was believed to
    be known.
    """
    cdef Database db = s.pool.db
    return s.last.last_client != 0 and s.since >= db.catalog.version_at and (not db.catalog.unread
                                                                             or s.since <= db.catalog.unread_since)


cdef int forget_knowledge(Database db, Engine engine) except -1:
    """What the catalog says has to be worked out again, although it may be the same."""
    if db.catalog.reader is not None:
        db.catalog.reader.forget()
        db.catalog.mark_stale(engine.loop.now)
    return 0


cdef int begin_defining(Server s, bint surely) except -1:
    """The server runs, or has run, what may make or change functions and the like.

    `surely`: a command tag says so. Else the catalog is read only if its version is another one.
    """
    cdef Database db = s.pool.db
    cdef Engine engine = s.pool.engine
    if "ddl" in engine.omit:
        return 0
    s.unsure.begin_ddl()
    if surely:
        engine.reader_of(db).certain.add(s)
    db.catalog.begin_defining(s, engine.loop.now)
    return note_definition(s)


cdef int end_defining(Server s) except -1:
    """The server has answered all that it was sent, or is lost. Within a transaction nobody else sees a change yet."""
    cdef Database db = s.pool.db
    cdef CatalogReader reader = db.catalog.reader
    if s.xact == b"I" or s.state == SV_GONE:
        s.unsure.end_ddl()
        if reader is not None and s in reader.certain:
            reader.certain.remove(s)
            reader.definitions.take(0)
        db.catalog.look_for_ddl(s.loop.now)
        db.catalog.count_ddl()
        db.catalog.mark_stale(s.loop.now)
    db.catalog.end_defining(s)
    db.catalog.believe()
    return keep_up(db, s.pool.engine) if db.catalog.reader is not None else 0


cdef int keep_up(Database db, Engine engine) except -1:
    """Read the catalog, or its version, if that is due."""
    cdef double now = engine.loop.now
    if db.catalog.scanning:
        return 0
    if db.catalog.stale or db.catalog.knowledge is None:
        if now < db.catalog.read_due:
            return 0
        return engine.reader_of(db).begin(True)
    if now - db.catalog.version_at >= db.catalog.version_every and now >= db.catalog.read_due:
        return engine.reader_of(db).begin(False)
    return 0


cdef int doubt_session(Server s) except -1:
    """What the server's session holds is to be asked for at the end of the transaction, whatever that does."""
    if s.unsure.known is None:
        s.unsure.classified_by(s.pool.db.catalog.knowledge)
    return 0
