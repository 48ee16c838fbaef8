# The settings a client's texts are parsed under, and statements that are prepared under those of an earlier time.
from libc.stdint cimport uint32_t

from pgferry.engine.core.effects cimport SETTINGS, UNNAMED, UNREADABLE
from pgferry.engine.core.model cimport Client, Pool, Server
from pgferry.engine.core.statements cimport ParseSettings

cdef enum:
    MAY_CHANGE = SETTINGS | UNNAMED | UNREADABLE


cdef inline bint may_differ(Server s) noexcept:
    # Whether statements since the last probe may have changed settings of any kind: see doubted().
    return ((s.probe.pending_effects | s.probe.asked_effects) & <uint32_t>MAY_CHANGE
            or s.current.standalone_set is not None
            or s.current.local is not None)


cdef inline bint is_settled(Client c, Server s) noexcept:
    # Whether SessionTracker.parse_settings holds.
    return c.tracker.has_parsed_under(c.vars) and not may_differ(s)


cdef ParseSettings settings_of(Pool pool, tuple tracked, dict settings)
cdef ParseSettings settled_settings(Client c)
cdef ParseSettings settings_now(Client c, Server s)
cdef ParseSettings literals_now(Client c, Server s)
cdef ParseSettings known_settings(Client c, Server s)
cdef bint strains(Client c, Server s, ParseSettings settings) except -1
cdef bint settings_shown(Server s) except -1
cdef list settings_switch(Client c, Server s, ParseSettings present, ParseSettings then, bytes body)
