"""A client's messages about prepared statements: Parse, Bind, Describe and Close.

Names are looked up at once, as if everything sent before succeeds; what depends on an answer that has not come is
undone by server.errors when it fails. One case cannot be decided early: a name used in a later batch (behind a Sync)
than the unanswered one that defines it. The client is then held until the answer is there (PAUSE_STALL), which costs a
round trip and happens only to clients that pipeline that way.
"""

from libc.stdint cimport uint8_t, uint32_t
from libc.string cimport memchr

from pgferry.engine.client.forward cimport broken, expect, renamed, stall, wait_for
from pgferry.engine.client.message cimport Message
from pgferry.engine.client.understanding cimport same_unnamed
from pgferry.engine.client.using cimport aborted, ready_to_describe, use_named, use_unnamed, verify
from pgferry.engine.core.effects cimport LISTEN, NEED_PREPARED, TEMP
from pgferry.engine.core.enums cimport DONE, WAIT
from pgferry.engine.core.model cimport Client, Server
from pgferry.engine.core.plan cimport (
    F_CLIENT_OP, F_FAKE, F_SERVER_OP, F_UNNAMED, K_BIND, K_CLOSE, K_DESCRIBE_P, K_DESCRIBE_S, K_PARSE, TEXTS,
)
from pgferry.engine.core.statements cimport ParseSettings, Statement, StatementTable
from pgferry.engine.io.sys cimport put32
from pgferry.engine.session.announcing cimport announce
from pgferry.engine.session.answers cimport advance
from pgferry.engine.session.classify cimport (
    HARMLESS, classify_sql, classify_statement, is_refused, names_end, note, note_parameters, text_length,
)
from pgferry.engine.session.ensure cimport (
    bound_deallocates, ensure_prepared, forget_sql, made_by_sql, may_be_over, rewrite_sql,
)
from pgferry.engine.session.notifications cimport listens, may_listen, may_stop
from pgferry.engine.session.parse_settings cimport literals_now, settings_now
from pgferry.engine.session.permit cimport (
    drops_all, is_lacking, lacks_settings, may_do_anything, may_go, must_wait, note_default, ready_for,
    ready_for_anything, refused, refused_sequence,
)
from pgferry.engine.session.preparing cimport close_on, is_here, make_room, prepare_on
from pgferry.engine.session.staging cimport can_part
from pgferry.engine.wire.messages cimport quote_identifier

cdef enum:
    SHORT = 10001          # PostgreSQL's limit for messages that hold but a name (PQ_SMALL_MESSAGE_LIMIT) and a type
    HELD_BIND = 1 << 20    # bytes of a Bind that are waited for; names behind them count as computed


cdef int on_parse(Client c, Server s, Message *m, object verdict) except -1:
    """A Parse; outside session mode it is there as a whole, and its names are found."""
    if c.session:
        note_default(c, m.p + 5, m.have - 5)
        return expect(c, s, K_PARSE, 0, m)
    if c.tracks_state:
        if s.replay.restoring and not may_go(c, s, m.p + m.name_end + 1, m.total - m.name_end - 1):
            return stall(c)
        if verdict is not HARMLESS and verdict is not None:
            if is_refused(c, verdict):
                return refused(c, s, True, verdict)
            if verdict.rewrites and (s.plan.unsettled() or settings_now(c, s) is None):
                return stall(c)
            if verdict.needs & NEED_PREPARED:
                if may_be_over(s):
                    return stall(c)
                ensure_prepared(c, s, True)       # the columns of EXECUTE are looked up now
        if not s.plan.begun:
            ready_early(c, s, verdict)
    if m.name_end == 5 or not c.tracking:
        return parse_as_sent(c, s, m, verdict)
    return parse_named(c, s, m, verdict)


cdef int parse_as_sent(Client c, Server s, Message *m, object verdict) except -1:
    """The Parse of the unnamed statement, or of a name that servers know as it is."""
    cdef bytes message
    cdef ParseSettings settings = None
    if m.name_end == 5:
        settings = literals_now(c, s)
        if settings is None:
            return stall(c)
    message = edited_parse(c, s, m, verdict)
    if m.name_end > 5:
        if message is not None:
            return pass_edited(s, message, 0)
        return expect(c, s, K_PARSE, 0, m)
    if s.plan.unnamed == 0 and message is None and c.names.unnamed_settings is settings and (
            same_unnamed(c, m.p + 6, m.total - 6)):
        s.unnamed_is(c.names.unnamed)        # nothing to undo, and no object to make
        c.names.has_unnamed_here()
        return expect(c, s, K_PARSE, F_UNNAMED, m)
    c.names.replace_unnamed(m.p[6:m.total] if message is None else message[6:], settings)
    s.unnamed_is(c.names.unnamed)
    c.names.has_unnamed_here()
    if message is not None:
        return pass_edited(s, message, F_CLIENT_OP | F_UNNAMED)
    return expect(c, s, K_PARSE, F_CLIENT_OP | F_UNNAMED, m)


cdef int pass_edited(Server s, bytes message, uint8_t flags) except -1:
    s.put(<const char *>message, len(message))
    s.expect(K_PARSE, flags, 0)
    return DONE


cdef int parse_named(Client c, Server s, Message *m, object verdict) except -1:
    """The Parse of a statement with a name, which servers know by another."""
    cdef bytes name = m.p[5:m.name_end], edited
    cdef Statement st
    cdef ParseSettings present
    cdef Message own = m[0]
    cdef int made
    if s.plan.unsettled():
        return stall(c)
    present = settings_now(c, s)
    if present is None:
        return stall(c)
    st = c.names.find(m.p + 5, m.name_end - 5)
    made = made_by_sql(c, s, name) if c.tracks_state and st is None else 0
    if made == 2:
        return stall(c)
    edited = edited_parse(c, s, m, verdict)
    if edited is not None:
        own.p = edited
        own.n = own.have = own.total = len(edited)
    if st is not None and not s.plan.drops:
        # A second Parse of a name is an error in PostgreSQL; let it say so, in its own transaction.
        if not is_here(c, s, st):
            prepare_on(c, s, st, present)
        c.names.parsed_again(name, st)
        s.expect(K_PARSE, F_CLIENT_OP, 0)
        renamed(c, &own, 5, m.name_end, st.wire_name)
    elif made and (name in (c.tracker.sql or ()) or name in (c.tracker.preparing or ())):
        expect(c, s, K_PARSE, 0, &own)         # an error, which PostgreSQL will say
    else:
        define(c, s, name, &own, verdict, present)
    if edited is not None:
        c.loop.out.settle()             # it does not outlive this function
    return DONE


cdef int ready_early(Client c, Server s, verdict) except -1:
    """As a rule a statement is bound right behind its Parse: what it needs then comes in front of the batch."""
    if may_do_anything(c, verdict) and s.plan.turns == 0:
        ready_for_anything(c, s, True)
    if verdict is None or verdict is HARMLESS:
        return 0
    ready_for(c, s, verdict, True)      # if sequences cannot be told apart, the Bind is refused
    if verdict.notifies:
        announce(c, s, True)
    return 0


cdef bytes edited_parse(Client c, Server s, Message *m, object verdict):
    """A Parse whose text names the client's statements, with their names on the server; None: this one does not.

    The statement is kept, and shared, in this form; what it needs is seen to at every Bind.
    """
    cdef const char *nul
    cdef size_t text_end
    cdef bytes text
    cdef char size[4]
    if verdict is None or not verdict.rewrites:
        return None
    nul = <const char *>memchr(m.p + m.name_end + 1, 0, m.total - m.name_end - 1)
    text_end = nul - m.p
    text = rewrite_sql(c, s, verdict, m.p[m.name_end + 1:text_end], True)
    c.names.deallocates(None)             # each Bind of it says so
    put32(size, <uint32_t>(m.total - 1 + len(text) - (text_end - m.name_end - 1)))
    return b"P" + size[:4] + m.p[5:m.name_end + 1] + text + m.p[text_end:m.total]


cdef int define(Client c, Server s, bytes name, Message *m, object verdict, ParseSettings present) except -1:
    """A new name of the client: forward its Parse, or answer it when the server knows the text already."""
    cdef bytes body = m.p[m.name_end + 1:m.total]
    cdef StatementTable table = c.engine.table
    cdef Statement st
    cdef bint there
    if verdict is not None and verdict.needs & NEED_PREPARED:
        # Its columns are those of what it executes, as that was when it was parsed: nobody else's business.
        st = table.make(present, c.db.epoch, body, b"", True)
    else:
        st = table.intern(present, c.db.epoch, body, b"")
        if st.refs and c.names.other_name_of(st) is not None:
            # Two names of one client for one text: apart, so that an error text can be given the right name.
            st = table.intern(present, c.db.epoch, body, name)
        else:
            c.names.name_given(st, name)
    there = is_here(c, s, st)
    c.names.define(table, name, st)
    c.pool.stats.count_client_parse()
    if there and not s.plan.drops:
        if (s.plan.turns == 0 and s.xact != b"E"
                and not (s.probe.pending_effects | s.probe.asked_effects | c.pin.pins) & <uint32_t>TEMP):
            s.plan.push(K_PARSE, F_FAKE | F_CLIENT_OP, st.number)
            return advance(s, False)
        # In a transaction that has failed, or may have, this Parse is an error: let PostgreSQL decide. And the
        # statement was prepared before there was a temporary object that its text may now mean.
        close_on(c, s, st.number)
        there = False
    if not there:
        make_room(c, s)
        s.prepared.add(st.number)
    s.expect(K_PARSE, F_CLIENT_OP | F_SERVER_OP, st.number)
    c.pool.stats.count_server_parse()
    return renamed(c, m, 5, m.name_end, st.wire_name)


cdef int on_bind(Client c, Server s, Message *m, object verdict) except -1:
    """A Bind; outside session mode its names are there, and found."""
    if c.session:
        return expect(c, s, K_BIND, 0, m)
    c.names.begin_text()
    if m.name_at == m.name_end:
        return bind_unnamed(c, s, m, verdict)
    if not c.tracking:
        return expect(c, s, K_BIND, 0, m)
    if s.plan.unsettled():
        return stall(c)
    return bind_named(c, s, m, verdict, c.names.find(m.p + m.name_at, m.name_end - m.name_at))


cdef int bind_unnamed(Client c, Server s, Message *m, object verdict) except -1:
    """A Bind of the unnamed statement."""
    if s.replay.restoring and c.names.unnamed is not None and not c.names.unnamed_here and not may_go(
            c, s, <const char *><bytes>c.names.unnamed, len(<bytes>c.names.unnamed)):
        return stall(c)
    if c.tracks_state and (lacks_names(c, verdict, m) or not may_bind(c, s, verdict)):
        return WAIT
    if not use_unnamed(c, s):
        return stall(c)
    c.names.drops_all(c.names.unnamed is not None and drops_all(c.names.unnamed))
    if c.tracks_state:
        note_bind(c, s, verdict, c.names.unnamed or b"", m)
    return expect(c, s, K_BIND, 0, m)


cdef int bind_named(Client c, Server s, Message *m, object verdict, Statement st) except -1:
    """A Bind of a statement with a name; None: the client has sent no Parse for it."""
    cdef ParseSettings present = None       # where the server lacks the statement
    if st is None:
        return bind_unknown(c, s, m)
    if not is_here(c, s, st):
        present = settings_now(c, s)
        if present is None:
            return stall(c)
        if st.shape is not None:
            return verify(c, s, st, present, m)
        if present is not st.settings and not can_part(s):
            return stall(c)
    c.pool.stats.count_bind()
    if c.tracks_state:
        if s.replay.restoring and not may_go(c, s, <const char *>st.body, len(st.body)):
            return stall(c)
        if lacks_names(c, verdict, m) or not may_bind(c, s, verdict):
            return WAIT
        note_bind(c, s, verdict, st.body, m)
    c.names.drops_all(drops_all(st.body))
    return use_named(c, s, st, present, K_BIND, m, m.name_at, m.name_end)


cdef int bind_unknown(Client c, Server s, Message *m) except -1:
    """A Bind of a name that no Parse has defined: PREPARE may have done so, or nothing."""
    cdef int made = 0
    cdef bytes text
    c.pool.stats.count_bind()
    if c.tracks_state and not s.plan.drops:
        made = made_by_sql(c, s, m.p[m.name_at:m.name_end])
    if made == 2:
        return stall(c)
    if made == 3:
        return aborted(c, s, m)
    if made:
        text = b"EXECUTE " + quote_identifier(m.p[m.name_at:m.name_end])
        note_bind(c, s, classify_sql(c, text, len(text)), text, m)
        return expect(c, s, K_BIND, 0, m)
    if c.tracks_state:
        note(c, s, HARMLESS, m.p, 0)        # PostgreSQL will say that there is no such statement
    return use_named(c, s, None, None, K_BIND, m, m.name_at, m.name_end)


cdef bint lacks_names(Client c, verdict, Message *m) except -1:
    """Whether the Bind has to be waited for, because a name of a setting is among its parameters and not there yet."""
    cdef size_t start = m.name_end + 1, needed
    if m.have == m.total or verdict is None or not verdict.params or m.have >= HELD_BIND:
        return False
    needed = start + names_end(verdict, m.p + start, m.have - start)
    if needed <= m.have or needed > HELD_BIND or "pieces" in c.engine.omit:
        return False
    wait_for(c, min(m.total, max(needed, m.have + 1)))
    return True


cdef bint may_bind(Client c, Server s, verdict) except -1:
    """Whether a Bind may go on; False: the client is held."""
    if (must_wait(c, s, verdict) or lacks_settings(c, s, verdict)
            or (s.plan.begun == TEXTS and is_lacking(c, s, verdict) and not can_part(s))):
        stall(c)
        return False
    if verdict is None or verdict is HARMLESS:
        return True
    if verdict.needs & NEED_PREPARED and may_be_over(s):
        stall(c)
        return False
    if verdict.touch & LISTEN and listens(c) and not may_stop(c, s, bool(verdict.listens)):
        return False
    return not verdict.listens or may_listen(c, verdict.listens)


cdef int note_bind(Client c, Server s, verdict, bytes body, Message *m) except -1:
    """Note what the statement behind a Bind may do; `body`: its text, and what a Parse has behind that."""
    cdef const char *text = body
    if may_do_anything(c, verdict) and s.plan.turns == 0:
        ready_for_anything(c, s, True)
    note(c, s, verdict, text, text_length(text, len(body)))
    if verdict is None or verdict is HARMLESS:
        return 0
    if s.current.notifying:
        announce(c, s, True)
    if verdict.rewrites:
        c.names.deallocates(bound_deallocates(c, verdict))
    if verdict.params:
        note_parameters(c, s, verdict, body, m.p + m.name_end + 1, m.have - m.name_end - 1)
    if not ready_for(c, s, verdict, True):
        refused_sequence(c, s, True)     # PostgreSQL skips the rest of the batch
    return 0


cdef int on_describe(Client c, Server s, Message *m) except -1:
    cdef const char *nul
    cdef Statement st
    cdef ParseSettings present = None
    cdef int made
    if m.have < min(m.total, <size_t>6):
        return wait_for(c, min(m.total, <size_t>6))
    if m.total < 7 or m.total > SHORT or (m.p[5] != b"S" and m.p[5] != b"P"):
        return broken(c, "Describe")
    if m.p[5] == b"P":
        return expect(c, s, K_DESCRIBE_P, 0, m)
    if c.session:
        return expect(c, s, K_DESCRIBE_S, 0, m)
    if m.have < m.total:
        return wait_for(c, m.total)
    nul = <const char *>memchr(m.p + 6, 0, m.total - 6)
    if nul == NULL:
        return broken(c, "Describe")
    if nul == m.p + 6:
        if not use_unnamed(c, s):
            return stall(c)
        return expect(c, s, K_DESCRIBE_S, 0, m)
    if not c.tracking:
        return expect(c, s, K_DESCRIBE_S, 0, m)
    if s.plan.unsettled():
        return stall(c)
    st = c.names.find(m.p + 6, nul - m.p - 6)
    if st is not None and not is_here(c, s, st):
        present = settings_now(c, s)
        if present is None:
            return stall(c)
        if st.shape is not None:
            return verify(c, s, st, present, m)
    if c.tracks_state and st is not None:
        ready_to_describe(c, s, classify_statement(c, st))
    elif c.tracks_state:
        made = made_by_sql(c, s, m.p[6:nul - m.p])
        if made == 3:
            return aborted(c, s, m)
        if made:
            return stall(c) if made == 2 else expect(c, s, K_DESCRIBE_S, 0, m)
    return use_named(c, s, st, present, K_DESCRIBE_S, m, 6, nul - m.p)


cdef int on_close(Client c, Server s, Message *m) except -1:
    cdef const char *nul
    cdef int made
    cdef bytes name
    cdef Statement st
    if c.session:
        return expect(c, s, K_CLOSE, 0, m)
    if m.total < 7 or m.total > SHORT:
        return broken(c, "Close")
    if m.have < m.total:
        return wait_for(c, m.total)
    if m.p[5] != b"S" and m.p[5] != b"P":
        return broken(c, "Close")
    nul = <const char *>memchr(m.p + 6, 0, m.total - 6)
    if nul == NULL:
        return broken(c, "Close")
    if m.p[5] == b"P":
        return expect(c, s, K_CLOSE, 0, m)
    if nul == m.p + 6:
        c.names.replace_unnamed(None, None)
        c.names.has_unnamed_here()
        s.unnamed_is(None)
        return expect(c, s, K_CLOSE, F_CLIENT_OP | F_UNNAMED, m)
    if not c.tracking:
        return expect(c, s, K_CLOSE, 0, m)
    if s.plan.unsettled():
        return stall(c)
    name = m.p[6:nul - m.p]
    st = c.names.close(name)
    made = made_by_sql(c, s, name) if c.tracks_state and st is None else 0
    if made == 2:
        return stall(c)
    if made:
        forget_sql(c, s, name)
        return expect(c, s, K_CLOSE, 0, m)
    if st is None:
        s.plan.push(K_CLOSE, F_FAKE, 0)
    else:
        s.plan.push(K_CLOSE, F_FAKE | F_CLIENT_OP, 0)
    advance(s, False)
    return DONE
