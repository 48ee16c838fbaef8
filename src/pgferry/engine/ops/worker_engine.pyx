"""The engine of a worker: which classes its parts are made of."""

from pgferry.engine.core.database cimport Database, User
from pgferry.engine.core.model cimport CatalogReader, Engine, Pool
from pgferry.engine.pool.server_pool cimport ServerPool
from pgferry.engine.services.catalog_reader cimport InternalCatalogReader
from pgferry.engine.services.notification_listener cimport NotificationListener
from pgferry.engine.services.replication cimport ReplicationPool


cdef class WorkerEngine(Engine):
    """Everything a worker holds."""

    cdef Pool new_pool(self, Database db, User user):
        return ServerPool(self, db, user)

    cdef Pool replication_pool(self, Database db, User user):
        cdef Pool pool = db.pools.get(("replication", user.name))
        if pool is None:
            pool = ReplicationPool(self, db, user)
            db.pools[pool.key] = pool
            self.host.configure_pool(pool)
        return pool

    cdef CatalogReader reader_of(self, Database db):
        if db.catalog.reader is None:
            db.catalog.reader_is(InternalCatalogReader(self, db))
        return db.catalog.reader

    cdef object listener_of(self, Database db):
        if db.listener is None:
            db.listener_is(NotificationListener(self, db))
        return db.listener
