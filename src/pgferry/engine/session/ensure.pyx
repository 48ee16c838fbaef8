"""What a statement of a client's needs on the server before it runs: its SQL-level prepared statements, sequences
that remember nobody else's values, and its own names for protocol-level statements inside its SQL.

All of it is staged in front of the client's message (staging).
"""

from libc.stdint cimport uint64_t

from pgferry.engine.core.effects cimport PREPARED
from pgferry.engine.core.enums cimport P_ENSURE
from pgferry.engine.core.model cimport Client, Server
from pgferry.engine.core.plan cimport F_SWALLOW, K_CLOSE, K_SYNC, Note, note_of_deallocates, note_of_ensured
from pgferry.engine.core.statements cimport Statement
from pgferry.engine.session.parse_settings cimport known_settings, settings_now, settings_switch
from pgferry.engine.session.preparing cimport is_here, prepare_on
from pgferry.engine.session.staging cimport end_own, framed, stage, stage_in_batch
from pgferry.engine.session.start_values cimport base_script
from pgferry.engine.wire.messages cimport do_execute, quote_identifier, quote_literal, sql_text, sql_text_in
from pgferry.session.replay import prepared_statement
from pgferry.session.verdict import (
    REWRITE_DEALLOCATE, REWRITE_EXECUTE, REWRITE_PREPARE, REWRITE_RELATION, REWRITE_RELATION_WITH_ALIAS)

cdef enum:
    INSERT = 0              # kind of an edit: its name is a text to insert


# --- prepared statements ----------------------------------------------------------------------------------------

cdef int ensure_prepared(Client c, Server s, bint extended) except -1:
    """Make the server's SQL-level prepared statements the client's own."""
    cdef dict there = clear_sql(c, s)
    if there is None:
        return 0
    for name, wanted in (c.tracker.sql or {}).items():
        if there.get(name) != wanted:
            command = prepared_statement(wanted[0], name)
            if command is not None:
                c.pool.count("replays", "prepared statement")
                if command != wanted[0]:
                    wanted = (command, wanted[1])       # what PostgreSQL will show for it from now on
                    c.tracker.keep_prepared(name, wanted)
                if not command.isascii():
                    command = do_execute(sql_text(command))
                prepare_sql(c, s, command, extended, name, wanted)
    return 0


cdef bint lacks_sql(Client c, Server s) except -1:
    """Whether the server lacks any of the client's SQL-level prepared statements."""
    return c.tracker.sql is not None and (s.sql is None
                                          or any([s.sql.get(name) != value for name, value in c.tracker.sql.items()]))


cdef int prepare_sql(Client c, Server s, bytes command, bint extended, bytes name, tuple wanted) except -1:
    """Stage a PREPARE under the settings that it was executed under at first. All of it succeeds, or nothing."""
    cdef list there, back
    there, back = settings_switch(c, s, known_settings(c, s), wanted[1], None)
    if not there:
        return ensure(s, command, extended, name, wanted)
    for text in there:
        stage_in_batch(s, text, 0, None)
    stage_in_batch(s, command, 0, ensuring(s, name, wanted))
    for text in back:
        stage_in_batch(s, text, 0, None)
    return 0 if s.plan.begun else end_own(s, P_ENSURE)


cdef dict clear_sql(Client c, Server s):
    """Take away what others have prepared by SQL, which cannot fail; returns what the server then has, None when there
    is nothing to do.
    """
    cdef dict wanted, there
    cdef Note note
    if s.xact == b"E":
        return None             # everything fails, except what needs nothing
    if c.tracker.sql is None and s.sql is None and not is_ensuring(s) or "prepared" in c.engine.omit:
        return None
    wanted = c.tracker.sql or {}
    there = dict(s.sql or {})
    for item in s.plan.notes:
        note = <Note>item
        if note.ensures:        # in front of the same message, or answered before the next one goes (must_hold)
            note.apply(there)
    for name in [name for name, value in there.items() if wanted.get(name) != value]:
        ensure_gone(s, name)
        del there[name]
    return there


cdef int ensure(Server s, bytes command, bint extended, bytes name, tuple value) except -1:
    """Stage a command; if it succeeds the server has `value` under the name, or no such statement any more."""
    return stage(s, command, extended, P_ENSURE, ensuring(s, name, value))


cdef int ensure_gone(Server s, bytes name) except -1:
    """Stage the Close of an SQL-level statement, which cannot fail as DEALLOCATE can."""
    cdef bytes message = framed(b"C", b"S" + name + b"\0")
    s.expect(K_CLOSE, F_SWALLOW, 0)
    s.plan.note(ensuring(s, name, None))
    return s.put(<const char *>message, len(message))


cdef Note ensuring(Server s, bytes name, tuple value):
    """The Note of a command of ensure()."""
    s.injected.may_hold()
    return note_of_ensured(name, value)


cdef bint is_ensuring(Server s) except -1:
    """Whether a command of ensure() is under way."""
    cdef Note note
    for item in s.plan.notes:
        note = <Note>item
        if note.ensures:
            return True
    return False


cdef int ensured(Server s, Note note, bint succeeded) except -1:
    """The entry with this Note has been answered, or was skipped."""
    cdef dict statements
    if not note.ensures:
        return 0
    if note.name is None:
        s.last.sequences_are_dirty(s.last.sequence_cache_dirty or not succeeded)
    elif succeeded:
        statements = dict(s.sql or {})
        note.apply(statements)
        s.sql_is(statements)
    return 0


cdef bytes rewrite_sql(Client c, Server s, object verdict, bytes text, bint extended):
    """The client's text with the names servers know its protocol-level statements by; the statements are brought.

    Behind each RESET in a Query of several statements stands one that sets the client's start values.
    What its DEALLOCATEs name goes to c.names.deallocating.
    """
    cdef list parts = []
    cdef int at = 0
    cdef list deallocates = []
    cdef Statement st
    for start, end, kind, name in sorted(verdict.rewrites + start_values(c, s, verdict)):
        new = None
        if kind == INSERT:
            new = name
        elif kind == REWRITE_EXECUTE or kind == REWRITE_DEALLOCATE or kind == REWRITE_PREPARE:
            st = c.names.statements.get(name) if c.names.statements is not None else None
            if st is not None and c.tracking:
                ensure_statement(c, s, st, extended)
                new = quote_identifier(st.wire_name[:-1])
            if kind == REWRITE_DEALLOCATE:
                deallocates.append((None, 0) if new is None else (name, st.number))
        elif kind == REWRITE_RELATION or kind == REWRITE_RELATION_WITH_ALIAS:
            new = own_view(c, s, extended)
            if kind == REWRITE_RELATION:
                new += b" AS pg_prepared_statements"
        if new is not None:
            parts.append(text[at:start])
            parts.append(new)
            at = end
    c.names.deallocates(deallocates or None)
    if not parts:
        return text
    parts.append(text[at:])
    return b"".join(parts)


cdef int ensure_statement(Client c, Server s, Statement st, bint extended) except -1:
    """Have the server know a statement of the protocol by name.

    In front of a Query its Parse needs a Sync of its own: if it fails, PostgreSQL skips everything up to there.
    """
    if s.xact == b"E" or is_here(c, s, st):
        return 0
    prepare_on(c, s, st, known_settings(c, s))
    if not extended and not s.plan.begun and s.plan.at(s.plan.size() - 1).kind > K_SYNC:
        end_own(s, P_ENSURE)
    return 0


cdef int ensure_named(Client c, Server s, verdict) except -1:
    """The statements of the protocol that a text names, as servers know them (ensure.edited)."""
    cdef Statement st
    for _start, _end, _kind, name in verdict.rewrites:
        if name.startswith(b"PGFERRY_") and c.names.statements is not None:
            for statement in c.names.statements.values():
                st = statement
                if st.wire_name[:-1] == name and not is_here(c, s, st):
                    prepare_on(c, s, st, known_settings(c, s))
    return 0


cdef int made_by_sql(Client c, Server s, bytes name) except -1:
    """Whether a name unknown to the protocol may be one of PREPARE: 1, and it is brought; 2: soon to be known; 3: it is
    one, but the transaction has failed, so that nothing can be brought.
    """
    cdef bint known = c.tracker.sql is not None and name in c.tracker.sql
    if known or s.probe.pending_effects & PREPARED or (c.pin.pins & PREPARED and not name.isascii()):
        if may_be_over(s) or (lacks_sql(c, s) and settings_now(c, s) is None):
            return 2
        if s.xact == b"E" and known and (s.sql is None or name not in s.sql):
            return 3
        ensure_prepared(c, s, True)
        return 1
    return 2 if s.probe.asked_effects & PREPARED else 0


cdef bint may_be_over(Server s) noexcept:
    """Whether the transaction has failed, in which nothing can be brought, and what is on its way may have ended it."""
    return s.xact == b"E" and s.plan.turns != 0


cdef int forget_sql(Client c, Server s, bytes name) except -1:
    """A Close of a statement of PREPARE; the probe will tell if it was skipped."""
    cdef Note note
    s.probe.add(PREPARED)
    c.tracker.forget_prepared(name)
    for item in s.plan.notes:
        note = <Note>item
        if note.name == name:
            note.lose()
    if s.sql is not None and name in s.sql:
        s.sql_is({key: value for key, value in s.sql.items() if key != name})
    return 0


cdef tuple start_values(Client c, Server s, object verdict):
    """What rewrite_sql() has to insert; the server's answers to it are dropped (Injected.ends_own)."""
    cdef list found = [], numbers = []
    for end, number, names in verdict.resets_at:
        text = base_script(c, True if names is None else names, [])
        if text:
            found.append((end, end, INSERT, b";" + text))
            numbers.append(number)
    if found:
        c.names.reset_is_seen_to()
        s.injected.begin_own(numbers)
    return tuple(found)


cdef bytes own_view(Client c, Server s, bint extended):
    """A subquery that shows of pg_prepared_statements what is the client's, by its own names."""
    cdef list names = []
    cdef Statement st
    if c.tracking:
        for name, statement in (c.names.statements or {}).items():
            st = statement
            ensure_statement(c, s, st, extended)
            names.append(b"(" + quote_literal(st.wire_name[:-1]) + b","
                         + sql_text_in(name, b"pg_catalog.pg_client_encoding()") + b")")
    names.append(b"(NULL::pg_catalog.text,NULL::pg_catalog.text)")
    columns = (b"p.statement,p.prepare_time,p.parameter_types,"
               + (b"p.result_types," if s.login_parameters.version >= 16 else b"") + b"p.from_sql"
               + (b",p.generic_plans,p.custom_plans" if s.login_parameters.version >= 14 else b""))
    return (b"(SELECT CASE WHEN p.from_sql THEN p.name ELSE m.own END AS name," + columns
            + b" FROM pg_catalog.pg_prepared_statement() p LEFT JOIN (VALUES " + b",".join(names)
            + b") m(ours,own) ON m.ours OPERATOR(pg_catalog.=) p.name"
            + b" WHERE p.from_sql OR m.own IS NOT NULL)")


cdef bint note_deallocated(Client c, Server s) except -1:
    """The entry pushed last is of the text with c.names.deallocating, or of the portal bound last that has it.

    Whether names depend on its answer: the client is held until that has come (client.relay.must_hold).
    """
    cdef Note note
    if c.names.deallocating is None:
        return False
    note = note_of_deallocates(c.names.deallocating)
    c.names.deallocates(None)
    if not any([name for name, _number in note.deallocates]):
        return False
    s.plan.note(note)
    s.injected.may_hold()
    return True


cdef bint is_deallocating(Server s) except -1:
    """Whether a DEALLOCATE of a protocol-level statement is under way."""
    cdef Note note
    for item in s.plan.notes:
        note = <Note>item
        if note.deallocates:
            return True
    return False


cdef list bound_deallocates(Client c, object verdict):
    """What the DEALLOCATE names that was bound: its text has names as servers know them; None: none."""
    cdef list found = []
    cdef Statement st
    for _start, _end, kind, name in verdict.rewrites:
        if kind == REWRITE_DEALLOCATE:
            found.append((None, 0))
            for own, statement in (c.names.statements or {}).items():
                st = statement
                if st.wire_name[:-1] == name:
                    found[-1] = (own, st.number)
    return found or None


cdef int on_deallocated(Client c, Server s) except -1:
    """A DEALLOCATE of one statement has succeeded: it is of the oldest entry."""
    cdef Note note = s.plan.front_note()
    if note is None or not note.deallocates:
        return 0
    name, number = note.deallocates.pop(0)
    if name is None:
        return 0
    s.prepared.discard(<uint64_t>number)
    return c.names.deallocated(c.engine.table, name, <uint64_t>number)


# --- sequences --------------------------------------------------------------------------------------------------

cdef bint sequences_ready(Client c, Server s, bint extended, bint unread) except -1:
    """Whether currval and lastval can be answered here; what other clients left is discarded if that still can be.

    `unread`: nobody knows whether they will be called, so that rather the client's own values are lost as well.
    """
    c.db.catalog.uses_sequences()
    if s.last.sequence_cache_dirty and s.xact != b"E":
        if s.plan.turns or (c.turns_here and s.xact != b"I" and not unread):
            return False        # this transaction may have called nextval itself: it cannot be told apart any more
    forget_sequences(c, s, extended)
    return True


cdef int forget_sequences(Client c, Server s, bint extended) except -1:
    """Discard what other clients' sequences have left."""
    if s.last.sequence_cache_dirty and s.xact != b"E" and s.plan.turns == 0:
        s.last.sequences_are_dirty(False)       # unless it fails
        ensure(s, b"DISCARD SEQUENCES", extended, None, None)
    return 0
