# Whose leavings a server may hold when it is handed out, and wiping them first (setting scrub).
from pgferry.engine.core.enums cimport SCRUB_ALWAYS, SCRUB_ON_USER_CHANGE
from pgferry.engine.core.model cimport Client, Server


cdef inline bint needs_scrub(Client c, Server s) noexcept:
    """Whether the server has to be scrubbed before it serves this client."""
    if s.last.last_user is c.user or s.last.last_user is None:
        return (s.last.last_user is not None and s.pool.settings.scrub == SCRUB_ALWAYS and s.last.last_client != c.id)
    return s.pool.settings.scrub >= SCRUB_ON_USER_CHANGE


cdef str scrub_due(Client c, Server s, bint overdue)
cdef int begin_scrub(Client c, Server s) except -1
cdef int scrub_answered(Server s, dict failed) except -1
cdef int lose_scrubbed(Server s, str reason) except -1
cdef bint scrubs_only(Server s) noexcept
cdef int finish_alone(Server s) except -1
