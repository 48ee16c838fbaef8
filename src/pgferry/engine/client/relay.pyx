"""What becomes of a logged-in client's bytes: message by message, each on the same way.

client_feed() walks the messages of one received chunk. Each is admitted (may it run now?), understood (what does its
SQL do?), routed to an endpoint, given a server there if the client has none, and sent, with what has to come before it.
What the server is to get is collected in the loop's output stage and sent once at the end. A message that has to wait
stays unconsumed, and is looked at again from the start. Every message that the server will answer gets its entry in the
server's plan at the moment it is put. Messages about prepared statements go on in client.statements.
"""

from libc.stdint cimport int64_t, uint8_t, uint32_t
from libc.string cimport memcmp

from pgferry.engine.client.forward cimport expect, forward, skip, stall, wait_for
from pgferry.engine.client.message cimport Message
from pgferry.engine.client.portals cimport bound, may_matter, on_execute
from pgferry.engine.client.statements cimport on_bind, on_close, on_describe, on_parse
from pgferry.engine.client.understanding cimport INCOMPLETE, understand
from pgferry.engine.core.effects cimport LISTEN, NEED_PREPARED
from pgferry.engine.core.enums cimport CL_CLOSING, DONE, ENDED, GO, STATE_REFUSE, URGENT, WAIT
from pgferry.engine.core.model cimport Client, Engine, Server
from pgferry.engine.core.plan cimport F_CLIENT_OP, F_DROPS, F_IN_COPY, F_UNNAMED, K_COPY_END, K_QUERY, K_SYNC
from pgferry.engine.io.stream cimport PAUSE_PEER, Reactor
from pgferry.engine.io.sys cimport be32, put32
from pgferry.engine.io.turn_share cimport end_turn, turn_over
from pgferry.engine.session.announcing cimport announce
from pgferry.engine.session.classify cimport HARMLESS, is_refused, note, note_listens, note_message, note_unknown
from pgferry.engine.session.ensure cimport is_deallocating, is_ensuring, may_be_over, note_deallocated, rewrite_sql
from pgferry.engine.session.notifications cimport drop_early, listens, may_listen, may_stop
from pgferry.engine.session.parse_settings cimport settings_now
from pgferry.engine.session.permit cimport (
    is_set, lacks_settings, may_do_anything, may_drop, may_go, must_wait, note_default, ready_for, ready_for_anything,
    refused, refused_sequence, replay_start_values,
)
from pgferry.engine.session.probe cimport ask
from pgferry.engine.session.watching cimport remember_text
from pgferry.session.verdict import Verdict

UNREAD = Verdict(reason="text that is too long to be read")

cdef enum:
    MOST_OPEN = 2048       # answers that a client may have outstanding and still be read
    HEAD = 64              # bytes of a Query that tell what kind of statement it is


cdef ssize_t client_feed(Client c, const char *p, size_t n) except -1:
    """Consume what can be consumed of p[:n]; returns how many bytes."""
    cdef Reactor loop = c.loop
    cdef Engine engine = c.engine
    cdef Server s
    cdef size_t pos = 0, k
    cdef uint32_t length
    cdef Message m
    cdef int messages = 0
    loop.out.begin(c.server)
    while pos < n:
        if c.passing:
            k = min(c.passing, n - pos)
            if c.passing_on:
                loop.out.emit_run(p + pos, k)
            c.passed(k)
            pos += k
            continue
        if n - pos < 5:
            break
        length = be32(p + pos + 1)
        if length < 4 or length > engine.settings.max_packet_size:
            c.close("bad packet header", "bad packet header: '%s'" % p[pos:pos + 5].hex())
            return n
        m.p = p + pos
        m.kind = m.p[0]
        m.n = n - pos
        m.total = <size_t>length + 1
        m.have = min(m.n, m.total)
        if message(c, &m) != DONE or c.state >= CL_CLOSING:
            break
        pos += m.have
        if turn_over(c, &messages) and pos < n:
            end_turn(c)
            break
    if c.state >= CL_CLOSING:
        return n
    c.pool.stats.count_received(pos)
    s = c.server
    if s is not None:
        s.flush()
        if s.blocked:
            c.pause(PAUSE_PEER)
        elif s.status == b"I":
            s.release()
    if c.unsent():
        c.flush()
    return pos


cdef ssize_t tunnel_feed(Client c, const char *p, size_t n) except -1:
    """A console client: its bytes go to the console as they are."""
    cdef Reactor loop = c.loop
    loop.out.begin(c.tunnel)
    loop.out.emit_run(p, n)
    c.tunnel.flush()
    if c.tunnel.blocked:
        c.pause(PAUSE_PEER)
    elif n == 5 and memcmp(p, b"X\0\0\0\4", 5) == 0:
        c.close("client close request")
    return n


cdef int message(Client c, Message *m) except -1:
    """Serve one message: an Outcome."""
    cdef Server s = c.server
    cdef object verdict
    cdef int64_t version
    cdef int outcome = admit(c, s, m)
    if outcome != GO:
        return outcome
    if s is None:
        c.adopt_mode()
    verdict = understand(c, m)
    if verdict is INCOMPLETE:
        return WAIT if c.state < CL_CLOSING else ENDED
    if s is None:
        version = c.db.catalog.words_version
        outcome = c.acquire(verdict)
        if outcome != GO:
            return outcome
        s = c.server
        c.loop.out.begin(s)
        if c.db.catalog.words_version != version:
            verdict = understand(c, m)
        if s.injected.under_way and must_hold(s):
            return stall(c)
    return send(c, s, m, verdict)


cdef inline int admit(Client c, Server s, Message *m) except -1:
    """Whether the message may run now: GO, or what becomes of it instead."""
    cdef char kind = m.kind
    if not is_request(kind):
        return other_message(c, s, m)
    if s is not None and s.probe.pending_effects & LISTEN and listens(c) and not is_settled(c, s):
        return stall(c) if c.state < CL_CLOSING else ENDED
    if c.times.query_start == 0 and not begin_request(c, s):
        return ENDED
    if c.engine.settings.statement_text_length and (kind == b"Q" or kind == b"P" or kind == b"B"):
        remember_text(c, kind, m.p, m.have)
    if kind == b"Q" and c.engine.settings.disable_pqexec and c.pool.main_pool is None:
        c.close("PQexec disallowed", "PQexec disallowed")
        return ENDED
    if s is None:
        return GO
    if s.plan.size() > MOST_OPEN and not s.relay.copy_in:
        return crowded(c)
    if s.injected.under_way and must_hold(s):
        return stall(c)
    if s.relay.skipping and kind != b"S":
        return skip(c, m)              # PostgreSQL ignores everything between an error and the next Sync
    return GO


cdef int other_message(Client c, Server s, Message *m) except -1:
    """What is not sent by a client that asks for something: Terminate, copy data, what nobody knows."""
    if m.kind == b"X":
        if s is not None:
            s.flush()      # what came before it in the same packet is carried out all the same
        c.close("client close request")
        return ENDED
    if m.kind == b"d" or m.kind == b"c" or m.kind == b"f":
        return copy_message(c, s, m)
    c.close("unknown pkt", "unknown pkt")
    return ENDED


cdef inline bint begin_request(Client c, Server s) except -1:
    """Count a new request, and a new transaction if it begins one. False: there are none any more."""
    cdef double now = c.loop.now
    c.begin_request(now)
    if c.subscription.early and s is not None and not s.probe.asked_effects and not c.subscription.chained:
        drop_early(c)
    c.pool.stats.count_query()
    if c.times.xact_start == 0:
        if c.engine.phase.shutdown == URGENT:
            c.close("pooler is shutting down", "terminating connection due to administrator command", "57P01")
            return False
        c.begin_transaction(now)
        c.pool.stats.count_transaction()
    return True


cdef inline int send(Client c, Server s, Message *m, object verdict) except -1:
    """Send a message that is admitted and understood, with what has to come before it."""
    if m.kind == b"Q" or m.kind == b"B" or m.kind == b"F":
        return running_message(c, s, m, verdict)
    if m.kind == b"P":
        return on_parse(c, s, m, verdict)
    if m.kind == b"D":
        return on_describe(c, s, m)
    if m.kind == b"E":
        return on_execute(c, s, m)
    if m.kind == b"S":
        return on_sync(c, s, m)
    if m.kind == b"C":
        return on_close(c, s, m)
    return forward(c, m)               # Flush: nothing answers it


cdef bint is_settled(Client c, Server s) except -1:
    """Whether it is known what the client listens to. False: it waits until what it sent before is answered.

    Outside of a transaction a LISTEN or UNLISTEN counts before the next statement begins, also in a pipeline.
    """
    if s.plan.turns and not s.relay.copy_in:
        return False
    if s.plan.size() == 0 and s.status == b"I":
        ask(c, s)
        return s.plan.size() == 0 and s.client is c
    return True


cdef int crowded(Client c) except -1:
    """Hold a client that has sent very much without waiting for answers, and have the server send those it keeps."""
    c.loop.out.emit(b"H\0\0\0\4", 5)
    return stall(c)


cdef int running_message(Client c, Server s, Message *m, object verdict) except -1:
    """A message that runs SQL, or says what the next Execute will run."""
    cdef int outcome
    s.current.begin(not c.tracks_state)
    if m.kind == b"Q":
        outcome = on_query(c, s, m, verdict)
    elif m.kind == b"B":
        outcome = on_bind(c, s, m, verdict)
        if outcome == DONE and may_matter(c):
            outcome = bound(c, m)
    else:
        outcome = on_function_call(c, s, m)
    if outcome == DONE and not s.current.noted:
        note_message(c, s)
    return outcome


cdef int on_function_call(Client c, Server s, Message *m) except -1:
    if c.tracks_state:
        if m.have < min(m.total, <size_t>9):
            return wait_for(c, min(m.total, <size_t>9))
        if s.replay.restoring:
            return stall(c)
        if m.total >= 9 and is_large_object_function(be32(m.p + 5)):
            note(c, s, HARMLESS, m.p, 0)
        else:
            ready_for_anything(c, s, False)
            note_unknown(c, s, "function call")
            announce(c, s, False)
    s.unnamed_is(None)
    c.names.sync()
    return expect(c, s, K_QUERY, 0, m)


cdef bint is_large_object_function(uint32_t oid) noexcept:
    """lo_open, lo_close, loread, lowrite, lo_lseek, lo_creat, lo_tell, lo_unlink, lo_truncate, lo_create, and those for
    64 bits: what drivers call by number.
    """
    return (952 <= oid <= 958) or oid == 964 or oid == 1004 or oid == 715 or (3170 <= oid <= 3172)


cdef bint must_hold(Server s) except -1:
    """Whether what was sent before has to be answered first."""
    if s.injected.own_after is not None or s.injected.verifying or s.injected.asking or is_deallocating(s):
        return True
    if s.injected.start_values_sql is not None:
        # Its batch has to end first, and the client may not have sent the Sync yet; then it is on its way (b"").
        return s.plan.turns != 0 or not s.injected.start_values_sql
    s.injected.forget_shown(s.plan.tail)
    if s.injected.resetting or is_ensuring(s):
        return s.plan.turns != 0
    s.injected.hold_no_more()
    return False


cdef inline bint is_request(char kind) noexcept:
    return (kind == b"Q" or kind == b"P" or kind == b"B" or kind == b"D" or kind == b"E" or kind == b"S"
            or kind == b"C" or kind == b"F" or kind == b"H")


cdef int hold_query(Client c, Server s, Message *m, object verdict) except -1:
    """Whether a Query may go to the server now (GO), has to wait, or is answered in another way.

    What it needs on the server is staged.
    """
    if must_wait(c, s, verdict):
        return stall(c)
    if verdict is HARMLESS:
        return GO
    if verdict is None:
        return refuse_unread(c, s, m) if c.pool.settings.session_state == STATE_REFUSE else GO
    if is_refused(c, verdict):
        return refused(c, s, False, verdict)
    if lacks_settings(c, s, verdict):
        return stall(c)
    if verdict.rewrites and (s.plan.unsettled() or settings_now(c, s) is None):
        return stall(c)
    if verdict.needs & NEED_PREPARED and may_be_over(s):
        return stall(c)
    if verdict.touch & LISTEN and listens(c) and not may_stop(c, s, bool(verdict.listens)):
        return WAIT
    if verdict.listens and not may_listen(c, verdict.listens):
        return WAIT
    if not ready_for(c, s, verdict, False):
        if verdict.listens:
            note_listens(c, s, verdict)     # awaited since may_listen(): the server is asked
        return refused_sequence(c, s, False)
    return GO


cdef int on_query(Client c, Server s, Message *m, object verdict) except -1:
    cdef uint8_t flags = 0
    cdef int outcome
    if c.tracks_state:
        if s.replay.restoring and not may_go(c, s, m.p + 5, m.have - 5):
            return stall(c)
        outcome = hold_query(c, s, m, verdict)
        if outcome != GO:
            return outcome
        if may_do_anything(c, verdict) and not is_set(m.p + 5, m.have - 5):
            ready_for_anything(c, s, False)
        note(c, s, verdict, m.p + 5, m.have - 5 - (m.have == m.total and m.total > 5))
    elif m.have < min(m.total, <size_t>HEAD) and c.tracking:
        return wait_for(c, min(m.total, <size_t>HEAD))
    if c.session:
        note_default(c, m.p + 5, m.have - 5)
    else:
        s.unnamed_is(None)             # PostgreSQL drops the unnamed statement at every simple query
        c.names.sync()
        if c.names.unnamed is not None or s.plan.unnamed:
            c.names.replace_unnamed(None, None)
            flags = F_CLIENT_OP | F_UNNAMED
        if c.tracking and may_drop(m.p + 5, m.have - 5):
            flags |= F_DROPS           # what depends on names waits for the answer
    if s.current.notifying:
        announce(c, s, False)
    if verdict is HARMLESS or verdict is None:
        return expect(c, s, K_QUERY, flags, m)
    return classified_query(c, s, m, verdict, flags)


cdef int refuse_unread(Client c, Server s, Message *m) except -1:
    """session_state = refuse, and a text that is too long to be read."""
    refused(c, s, False, UNREAD)
    return skip(c, m)


cdef int classified_query(Client c, Server s, Message *m, object verdict, uint8_t flags) except -1:
    """Pass a Query on that touches the session or needs something of it; it is there as a whole."""
    cdef bytes text
    cdef char head[5]
    if not verdict.rewrites and not verdict.resets_at:
        expect(c, s, K_QUERY, flags, m)
    else:
        text = rewrite_sql(c, s, verdict, m.p[5:m.total], False)
        s.expect(K_QUERY, flags, 0)
        note_deallocated(c, s)
        head[0] = b"Q"
        put32(head + 1, <uint32_t>(4 + len(text)))
        c.loop.out.emit(head, 5)
        c.loop.out.emit(<const char *>text, len(text))
    replay_start_values(c, s, False)
    return DONE


cdef int on_sync(Client c, Server s, Message *m) except -1:
    c.names.sync()
    s.relay.skips(False)
    return expect(c, s, K_SYNC, F_IN_COPY if s.relay.copy_in and not s.relay.copy_ended else 0, m)


cdef int copy_message(Client c, Server s, Message *m) except -1:
    """CopyData, CopyDone, CopyFail. Without a COPY under way they are what a failed one left behind: dropped."""
    if s is None or s.relay.skipping or (s.plan.size() == 0 and not s.relay.copy_in):
        return skip(c, m)
    if m.kind != b"d" and not s.relay.client_ends_copy():
        s.plan.push(K_COPY_END, 0, 0)
    return forward(c, m)
