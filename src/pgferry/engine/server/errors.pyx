"""ErrorResponse of a server: forwarded, kept or replaced; what PostgreSQL skips after it leaves the plan, undone."""

import struct

from libc.stdint cimport uint32_t
from libc.string cimport memchr

from pgferry.engine.core.enums cimport (
    CLOSED, DROP, PASS, PUT, P_ANNOUNCE, P_ENSURE, P_INTERNAL, P_LOOKUP, P_START_VALUES,
)
from pgferry.engine.core.model cimport Client, Server
from pgferry.engine.core.plan cimport (
    F_CLIENT_OP, F_NOTED, F_SERVER_OP, F_SWALLOW, F_UNNAMED, K_BIND, K_DESCRIBE_S, K_EXECUTE, K_PARSE, K_QUERY, K_SYNC,
    SHOWS, Entry, Note,
)
from pgferry.engine.core.statements cimport ParseSettings, Statement
from pgferry.engine.session.ensure cimport ensured
from pgferry.engine.session.pending_effects cimport demote_standalone
from pgferry.engine.session.permit cimport replay_start_values_later
from pgferry.engine.wire.messages cimport error_fields

cdef bytes SEQUENCE_HINT = (
    b"HIn transaction pooling mode the next transaction may run on another server connection: use RETURNING, or "
    b"nextval and currval in one transaction.\0\0")


cdef int on_error(Server s, Entry *front, const char *p, size_t n, size_t total) except? -1:
    """ErrorResponse: forwarded, except to a query of ours; what it makes PostgreSQL skip leaves the plan."""
    cdef Client c = s.client
    cdef dict fields = error_fields(p + 5, n - 5) if n == total else {}
    cdef str code = fields.get("C", "")
    cdef bint own
    if c is None and (front == NULL or not front.flags & F_SWALLOW):
        s.close("idle server got an error: " + fields.get("M", "?"))
        return CLOSED
    if front == NULL:
        s.close_when_free(None)     # the server speaks for itself: it is about to end the connection
        if c.session or c.pin.pins or c.passing or s.probe.pending_effects or s.relay.skipping or not s.is_clean():
            return PASS
        s.close_when_free("idle server got an error: " + fields.get("M", "?"))
        return DROP                 # the client has had its answer, and needs this server no more
    if s.current.standalone_set is not None:
        # rolled back as a rule; but DISCARD ALL is not, when a later one of its batch fails
        demote_standalone(s)
    if s.injected.start_values_sql and s.plan.size() == 1 and front.kind == K_QUERY:
        # the RESET has not succeeded; in a batch it may have, before the Sync is here
        s.injected.end_start_values()
    s.injected.own_failed()
    if front.kind == K_QUERY:
        if front.flags & F_SWALLOW:
            s.injected.fail(fields)
            own_query_failed(s, front.number, fields, p[:n])
            return DROP
        end_copy(s)
        if own_error(s, c, front, fields, p, n) == PUT:
            return PUT
        return rename_in_error(s, c, p[5:n]) if names_ours(c, p, n, total) else PASS
    if front.kind == K_SYNC:
        return PASS
    if code == "0A000" and "cached plan" in fields.get("M", ""):
        # DDL that did not pass through here: whoever prepares anew must get a new plan.
        s.pool.db.ddl_ran()
    end_copy(s)
    instead = own_error(s, c, front, fields, p, n)
    own = front.flags & F_SWALLOW
    drop_batch(s, p[:n] if own else None)
    if s.injected.discarded and c is not None:
        replay_start_values_later(c, s)
    if instead == PUT:
        return PUT
    if own and s.plan.head != s.plan.tail and s.plan.front().flags & F_SWALLOW:
        # In front of the client's message (staging.end_own).
        s.injected.fail(fields)
        return DROP
    return rename_in_error(s, c, p[5:n]) if names_ours(c, p, n, total) else PASS


cdef bint names_ours(Client c, const char *p, size_t n, size_t total) noexcept:
    """Whether an error text may hold a name that pgferry has given."""
    return c is not None and n == total and memchr(p, b"_", n) != NULL and b"PGFERRY_" in p[:n]


cdef int own_query_failed(Server s, uint32_t purpose, dict fields, bytes message) except -1:
    """An error to a query of pgferry's own."""
    cdef Note note
    if purpose == P_ENSURE:
        note = s.plan.front_note()
        if note is not None and note.name is not None:
            s.injected.add_failure(note.name, message)
        return 0
    if purpose == P_LOOKUP or purpose == P_ANNOUNCE or purpose == P_INTERNAL or (purpose == P_START_VALUES
                                                                                 and s.xact == b"E"):
        return 0
    s.pool.engine.log_about(s, "WARNING", f"query of pgferry's own failed: {fields.get('M', '?')}")
    return 0


cdef bytes own_name(Entry *entry, Note note):
    """The name that an entry of pgferry's own was to give something; b"" is that of the unnamed statement."""
    if note is not None and note.ensures:
        return note.name
    if entry.kind != K_PARSE or entry.number == 0 and not entry.flags & F_UNNAMED:
        return None
    return b"" if entry.flags & F_UNNAMED else b"PGFERRY_%d" % entry.number


cdef int own_error(Server s, Client c, Entry *front, dict fields, const char *p, size_t n) except? -1:
    """Put an error of ours in the place of PostgreSQL's where that is the truth: PUT if so, PASS to forward it."""
    cdef bytes instead = None
    cdef bytes body
    cdef Note note = s.plan.front_note()
    if note is not None and note.refusal is not None:
        instead = note.refusal
    elif s.injected.failures is not None and fields.get("C") == "26000":
        for name, message in s.injected.failures.items():
            if b'"' + name + b'"' in p[:n] or (name == b"" and is_unnamed(front) and b'"' not in p[:n]):
                instead = message
    elif fields.get("C") == "55000" and c is not None and c.tracks_state and c.former_server != s.id and (
            "currval" in fields.get("M", "") or "lastval" in fields.get("M", "")):
        body = p[5:n - 1] + SEQUENCE_HINT
        instead = b"E" + struct.pack("!I", len(body) + 4) + body
    if instead is None:
        return PASS
    s.loop.out.emit(<const char *>instead, len(instead))
    return PUT


cdef bint is_unnamed(Entry *front) noexcept:
    """Whether an entry may be about the unnamed statement."""
    return (front.kind == K_BIND or front.kind == K_DESCRIBE_S) and front.number == 0


cdef int drop_batch(Server s, bytes message) except -1:
    """Take out what PostgreSQL skips after an error: everything before the next Sync, newest undone first.

    `message`: the error, if it is one to a command of pgferry's own.
    """
    cdef uint32_t n = s.plan.size(), count = 0, i, _i
    while count < n and s.plan.at(count).kind != K_SYNC:
        count += 1
    # Client operations of later batches, if any, are newer in client.names.undos: none are open (relay: stall),
    # except unnamed ones, which are put aside while the failed ones are undone.
    cdef Client c = s.client
    cdef object unnamed = c.names.unnamed if c is not None else None
    cdef object unnamed_there = s.unnamed
    cdef ParseSettings unnamed_settings = c.names.unnamed_settings if c is not None else None
    cdef bint unnamed_undone = False
    cdef list later = put_aside(s, count)
    cdef Py_ssize_t noted = 0
    cdef Note note
    for i in range(count):
        note = None
        if s.plan.at(i).flags & F_NOTED:
            note = s.plan.notes[noted]
            noted += 1
            ensured(s, note, False)
        if message is not None and s.plan.at(i).flags & F_SWALLOW:
            name = own_name(s.plan.at(i), note)
            if name is not None:
                s.injected.add_failure(name, message)
        if s.plan.at(i).kind == K_DESCRIBE_S and s.plan.at(i).flags & F_SWALLOW:
            s.injected.end_verifying()
        elif s.plan.at(i).kind == K_EXECUTE and s.plan.at(i).flags & F_SWALLOW and s.plan.at(i).number == SHOWS:
            s.injected.end_asking()
    for i in range(count, 0, -1):
        unnamed_undone |= s.plan.at(i - 1).flags & F_UNNAMED and s.plan.at(i - 1).flags & F_CLIENT_OP
        undo(s, s.plan.at(i - 1))
    if c is not None and s.plan.front().kind == K_PARSE and s.plan.front().flags & (F_UNNAMED | F_SWALLOW) == F_UNNAMED:
        c.names.lose_unnamed()            # PostgreSQL drops the former one before it looks at the new one
    for _i in range(count):
        s.plan.pop()
    if s.plan.unnamed:
        s.unnamed_is(unnamed_there)     # a later Parse or Close is on its way
    if later:
        c.names.put_back(later, unnamed_undone, unnamed, unnamed_settings)
    if count == n:
        s.relay.skips(True)
    return 0


cdef list put_aside(Server s, uint32_t start):
    """Take the client's open operations that belong to entries from `start` on out of client.names.undos."""
    cdef uint32_t i
    cdef int newer = 0
    cdef Client c = s.client
    if c is None:
        return None
    for i in range(start, s.plan.size()):
        if s.plan.at(i).flags & F_CLIENT_OP:
            newer += 1
    return c.names.put_aside(newer)


cdef int rename_in_error(Server s, Client c, bytes body) except? -1:
    """Put the client's own name for a statement into an error text that names ours."""
    cdef dict names = {b'"PGFERRY_0_': b'"'}
    cdef bytes message
    for name, st in c.names.before_undone().items():
        names[b'"' + (<Statement>st).wire_name[:-1] + b'"'] = b'"' + name + b'"'
    for name, wire_name in (c.names.dropped or {}).items():
        names.setdefault(b'"' + <bytes>wire_name[:-1] + b'"', b'"' + name + b'"')
    if c.names.last_name is not None:
        names.setdefault(b'"' + c.names.last_statement.wire_name[:-1] + b'"', b'"' + c.names.last_name + b'"')
    for own_after, theirs in names.items():
        body = body.replace(own_after, theirs)
    message = b"E" + struct.pack("!I", len(body) + 4) + body
    s.loop.out.emit(<const char *>message, len(message))
    return PUT


cdef int undo(Server s, Entry *entry) except -1:
    """This entry failed, or was skipped because one before it failed."""
    cdef Client c = s.client
    if entry.flags & F_SERVER_OP:
        if entry.kind == K_PARSE:
            s.prepared.discard(entry.number)
        else:
            s.prepared.stays(entry.number)
    if entry.flags & F_UNNAMED:
        s.unnamed_is(None)
    if entry.flags & F_CLIENT_OP and c is not None:
        c.names.undo(c.engine.table)        # newest first, see on_error
    return 0


cdef int end_copy(Server s) except -1:
    """COPY failed. Whether PostgreSQL had read the Syncs sent before cannot be told: a barrier will show."""
    if s.relay.copy_in:
        s.relay.end_copy()
        if s.plan.drop_syncs_in_copy():
            s.relay.barrier_is_needed(True)
    return 0
