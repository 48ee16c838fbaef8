"""Periodic maintenance, every 1/3 s: of pools, of databases, of what is shared with other workers."""

from pgferry.engine.core.database cimport Database
from pgferry.engine.core.model cimport Engine
from pgferry.engine.pool.cancel cimport check_timeouts
from pgferry.engine.services.catalog_reader cimport catalog_tick
from pgferry.engine.services.internal_session cimport internal_tick
from pgferry.engine.services.notification_listener cimport listener_tick
from pgferry.engine.services.replication cimport ask_for_room
from pgferry.engine.pool.sharing import balance
from pgferry.engine.pool.upkeep import check_logins, drop_unused, look_after_pool


def tick(Engine engine):
    """One round of upkeep. What is raised at one pool or database costs the rest of that one's only."""
    attempt(check_logins, engine, engine)
    attempt(check_cancels, engine, engine)
    for pool in engine.pools():
        attempt(look_after_pool, pool, engine)
    for db in list(engine.databases.values()):
        attempt(look_after_database, db, engine)
    attempt(share, engine, engine)
    attempt(drop_unused, engine, engine)


cdef int attempt(task, item, Engine engine) except -1:
    try:
        task(item, engine)
    except Exception as error:
        engine.loop.report(item, error)
    return 0


def check_cancels(_, Engine engine):
    """Cancel requests that take too long."""
    check_timeouts(engine)


def look_after_database(Database db, Engine engine):
    if db.listener is not None:
        listener_tick(db)
    catalog_tick(db, engine)
    if db.sessions:
        internal_tick(db)


def share(_, Engine engine):
    if engine.workers > 1:
        balance(engine)
    ask_for_room(engine)
