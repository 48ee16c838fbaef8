# session.verdict's Touch and Need, as numbers for the engine (session.classify compares them when it is loaded).

cdef enum:
    SETTINGS = 1
    PREPARED = 2
    LISTEN = 4
    TEMP = 8
    LOCKS = 16
    CURSORS = 32
    FOREVER = 64
    UNNAMED = 128
    UNREADABLE = 256
    LOCAL = 512
    LARGE = 1024            # of Pin.pins only: more than may be kept of a session and moved with it
    HELD = 2048             # in Pin.pins only: the catalog is being read (unsure)
    ASKABLE = 63            # what a probe can ask for
    PINNING = 120           # what keeps a server with its client: TEMP, LOCKS, CURSORS, FOREVER
    ANYTHING = 191          # all but FOREVER: SQL that cannot be read beforehand
    CANNOT_ASK = 192        # FOREVER, UNNAMED; such state is lost with its server
    ALL_BITS = 255
    DEFINES = 33554432      # of words and Database.everything: it may change what texts call or set off
    NEED_PREPARED = 1
    NEED_SEQUENCES = 2
