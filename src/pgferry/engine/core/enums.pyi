"""What Python sees of kinds and states."""

from enum import IntEnum

class PoolKind(IntEnum):
    POOL_CLIENTS = 0
    POOL_LOOKUPS = 1
    POOL_REPLICATION = 2

class Shutdown(IntEnum):
    RUNNING = 0
    WAIT_FOR_SERVERS = 1
    WAIT_FOR_CLIENTS = 2
    DRAINING = 3
    URGENT = 4
