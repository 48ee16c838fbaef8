"""What becomes of a logged-in client's bytes: each message is judged at its head, then passed in bulk.

client_feed() walks the messages of one received chunk. Whatever the server is to get is collected in the loop's
stage and sent once at the end. A message that needs a server when none is free stays unconsumed; the client is
paused and goes on with it when a server is linked. Every message that the server will answer gets its entry in
the server's plan at the moment it is staged.

Names of prepared statements are looked up at once, as if everything sent before succeeds; what depends on an
answer that has not come is undone by server_relay when it fails. One case cannot be decided early: a name used
in a later batch (behind a Sync) than the unanswered one that defines it. The client is then held until the
answer is there (PAUSE_STALL), which costs a round trip and happens only to clients that pipeline that way.
"""

import re

from libc.stdint cimport uint8_t, uint32_t
from libc.string cimport memchr, memcmp

from pgferry.engine.ensure cimport (
    bring_named, bring_sql, edited, forget_sequences, forget_sql, made_by_sql, refuse, sequences_ready, stage,
)
from pgferry.engine.judge cimport (
    count, is_refused, judge, judge_statement, judge_unnamed, may_end_transaction, needs_of, note,
    note_parameters, note_unread,
)
from pgferry.engine.listening cimport may_listen
from pgferry.engine.loop cimport PAUSE_PEER, PAUSE_STALL, PAUSE_WAIT, Loop
from pgferry.engine.messages cimport plan_changed
from pgferry.engine.model cimport CL_CLOSING, MODE_STATEMENT, STATE_REFUSE, Client, Engine, Server
from pgferry.engine.plan cimport (
    F_CLIENT_OP, F_DROPS, F_FAKE, F_IN_COPY, F_REFUSED, F_SERVER_OP, F_SWALLOW, F_UNNAMED, K_BIND, K_CLOSE, K_COPY_END,
    K_DESCRIBE_P,
    K_DESCRIBE_S, K_EXECUTE, K_PARSE, K_QUERY, K_SYNC,
)
from pgferry.engine.draining cimport URGENT, refuse_next
from pgferry.engine.pooling cimport acquire, close_client, maybe_release
from pgferry.engine.prepared cimport Statement
from pgferry.engine.server_relay cimport advance
from pgferry.engine.state cimport base_script
from pgferry.engine.sys cimport be32, put32
from pgferry.engine.watching cimport remember_text

cdef enum:
    UNKNOWN = 0            # no Statement has this number: a server's answer to it is "does not exist"
    SHORT = 10001          # PostgreSQL's limit for messages that hold but a name (PQ_SMALL_MESSAGE_LIMIT) and a type
    HEAD = 64              # bytes of a Query that tell what kind of statement it is
    READABLE = 131072      # bytes; longer texts are not judged: the server is asked for everything
    PREPARED = 2           # session.verdict.Touch
    TEMP = 8
    ASKABLE = 63
    ANYTHING = 191         # all of Touch but FOREVER: SQL that cannot be read beforehand
    DROPS_SQL = 3          # session.verdict.DEALLOCATE_ALL, DISCARD_ALL
    NEED_PREPARED = 1      # session.verdict.Need
    NEED_SEQUENCES = 2
    NAME_STEP = 4096       # names are looked for in steps of this many bytes


DROPS_ALL = re.compile(rb"\s*(?:DISCARD\s+ALL|DEALLOCATE\s+(?:PREPARE\s+)?ALL)\s*;?\s*\0", re.IGNORECASE)


cdef ssize_t client_feed(Client c, const char *p, size_t n) except -1:
    """Consume what can be consumed of p[:n]; returns how many bytes."""
    cdef Loop loop = c.loop
    cdef Engine engine = c.engine
    cdef Server s
    cdef size_t pos = 0, k
    cdef uint32_t length
    loop.stage_len = loop.run_len = 0
    while pos < n:
        if c.passing:
            k = min(c.passing, n - pos)
            if c.passing_on:
                loop.emit_run(p + pos, k)
            c.passing -= k
            pos += k
            continue
        if n - pos < 5:
            break
        length = be32(p + pos + 1)
        if length < 4 or length > engine.max_packet_size:
            close_client(c, "bad packet header", "bad packet header: '%s'" % p[pos:pos + 5].hex())
            return n
        k = message(c, p + pos, n - pos, <size_t>length + 1)
        if c.state >= CL_CLOSING:
            return n
        if k == 0:
            break
        pos += k
    c.pool.stats.received += pos
    s = c.server
    if s is not None:
        loop.deliver(s)
        if s.blocked:
            c.pause(PAUSE_PEER)
        elif s.status == b"I":
            maybe_release(s)
    if c.out_tail != c.out_head:
        c.flush()
    return pos


cdef ssize_t tunnel_feed(Client c, const char *p, size_t n) except -1:
    """A console client: its bytes go to the console as they are."""
    cdef Loop loop = c.loop
    loop.stage_len = loop.run_len = 0
    loop.emit_run(p, n)
    loop.deliver(c.tunnel)
    if c.tunnel.blocked:
        c.pause(PAUSE_PEER)
    elif n == 5 and memcmp(p, b"X\0\0\0\4", 5) == 0:
        close_client(c, "client close request")
    return n


cdef size_t message(Client c, const char *p, size_t n, size_t total) except? 0:
    """Judge one message of which n bytes are there; returns the bytes consumed, 0 when it must wait."""
    cdef char kind = p[0]
    cdef Server s = c.server
    cdef double now = c.loop.now
    if kind == b"X":
        if s is not None:
            c.loop.deliver(s)      # what came before it in the same packet is carried out all the same
        close_client(c, "client close request")
        return 0
    if kind == b"d" or kind == b"c" or kind == b"f":
        return copy_message(c, s, kind, p, n, total)
    if not is_request(kind):
        close_client(c, "unknown pkt", "unknown pkt")
        return 0
    if c.query_start == 0:
        c.query_start = c.request_time = now
        if c.awaited is not None and s is not None and not s.asked and not c.chained:
            c.early.clear()         # committed before this client's LISTEN can have been
        c.pool.stats.query_count += 1
        if c.xact_start == 0:
            if c.engine.shutdown == URGENT:
                return refuse_next(c)
            c.xact_start = now
            c.pool.stats.xact_count += 1
    if c.engine.text_length and (kind == b"Q" or kind == b"P" or kind == b"B"):
        remember_text(c, kind, p, min(n, total))
    if kind == b"Q" and c.engine.disable_pqexec and c.pool.ordinary is None:
        close_client(c, "PQexec disallowed", "PQexec disallowed")
        return 0
    if s is None:
        if not acquire(c) or c.paused & PAUSE_WAIT:
            return 0
        s = c.server
    if s.careful and must_hold(s):
        return stall(c)
    if s.skipping and kind != b"S":
        return skip(c, n, total)       # PostgreSQL ignores everything between an error and the next Sync
    if kind == b"Q":
        return on_query(c, s, p, n, total)
    if kind == b"P":
        return on_parse(c, s, p, n, total)
    if kind == b"B":
        return on_bind(c, s, p, n, total)
    if kind == b"D":
        return on_describe(c, s, p, n, total)
    if kind == b"E":
        return on_execute(c, s, p, n, total)
    if kind == b"S":
        return on_sync(c, s, p, n, total)
    if kind == b"C":
        return on_close(c, s, p, n, total)
    if kind == b"F":
        if c.judged:
            if s.restoring:
                return stall(c)
            note_unread(c, s, "function call")
        s.unnamed = None
        c.unnamed_here = False
        return expect(c, s, K_QUERY, 0, p, n, total)
    return forward(c, p, n, total)     # Flush: nothing answers it


cdef bint must_hold(Server s) noexcept:
    """Whether what was sent before has to be answered first."""
    if s.base is not None or s.ours is not None or s.verifying:
        return True
    if s.ensuring is not None:
        return s.plan.turns != 0
    s.careful = False
    return False


cdef inline bint is_request(char kind) noexcept:
    return (kind == b"Q" or kind == b"P" or kind == b"B" or kind == b"D" or kind == b"E" or kind == b"S"
            or kind == b"C" or kind == b"F" or kind == b"H")


# --- passing ----------------------------------------------------------------------------------------------------

cdef inline size_t forward(Client c, const char *p, size_t n, size_t total) except? 0:
    """Pass the message on as it is, however much of it is there."""
    cdef size_t k = min(n, total)
    c.loop.emit_run(p, k)
    c.passing = total - k
    c.passing_on = True
    return k


cdef inline size_t skip(Client c, size_t n, size_t total) except? 0:
    """Drop the message, however much of it is there."""
    cdef size_t k = min(n, total)
    c.passing = total - k
    c.passing_on = False
    return k


cdef inline size_t expect(Client c, Server s, uint8_t kind, uint8_t flags, const char *p, size_t n,
                          size_t total) except? 0:
    """Pass the message on and note in the plan that it will be answered."""
    s.plan.push(kind, flags, 0)
    s.status = 0
    return forward(c, p, n, total)


cdef inline size_t wait_for(Client c, size_t bytes_needed) except? 0:
    c.need = bytes_needed
    return 0


cdef size_t stall(Client c) except? 0:
    """Hold the client until the batches before are answered."""
    c.pause(PAUSE_STALL)
    return 0


cdef size_t broken(Client c, str what) except? 0:
    close_client(c, f"broken {what} packet", f"broken {what} packet")
    return 0


cdef size_t renamed(Client c, const char *p, size_t n, size_t total, size_t name_at, size_t name_end,
                    bytes wire_name) except? 0:
    """Pass the message on with the name in p[name_at:name_end + 1] (NUL included) replaced."""
    cdef char head[5]
    cdef const char *name = wire_name
    cdef size_t name_len = len(wire_name)
    cdef size_t k = min(n, total)
    head[0] = p[0]
    put32(head + 1, <uint32_t>(total - 1 - (name_end + 1 - name_at) + name_len))
    c.loop.emit(head, 5)
    if name_at > 5:
        c.loop.emit(p + 5, name_at - 5)
    c.loop.emit(name, name_len)
    if k > name_end + 1:
        c.loop.emit_run(p + name_end + 1, k - name_end - 1)
    c.passing = total - k
    c.passing_on = True
    return k


# --- simple query, Sync, COPY -----------------------------------------------------------------------------------

cdef size_t on_query(Client c, Server s, const char *p, size_t n, size_t total) except? 0:
    cdef uint8_t flags = 0
    cdef object verdict = None
    if c.judged:
        if n < min(total, <size_t>READABLE):
            return wait_for(c, min(total, <size_t>READABLE))
        if s.restoring and not may_go(c, s, p + 5, min(n, total) - 5):
            return stall(c)
        if total > READABLE:
            ready_for_anything(c, s, False)
            note_unread(c, s, "a long statement")
        elif total > 5:
            verdict = judge(c, p + 5, total - 6)
            if verdict is not None and is_refused(c, verdict):
                return refused(c, s, False, verdict, total)
            if verdict is not None and verdict.edits and s.plan.unsettled():
                return stall(c)
            if verdict is not None and verdict.listens and not may_listen(c, verdict.listens):
                return 0
            if verdict is not None and not ready_for(c, s, verdict, False):
                return refused_sequence(c, s, False, total)
        if c.db.everything:
            if is_unknown(c) and not is_set(p + 5, min(n, total) - 5):
                ready_for_anything(c, s, False)
            note_everything(c, s)
    elif n < min(total, <size_t>HEAD) and c.tracking:
        return wait_for(c, min(total, <size_t>HEAD))
    if not c.session:
        s.unnamed = None               # PostgreSQL drops the unnamed statement at every simple query
        c.unnamed_here = False
        if c.unnamed is not None or s.plan.unnamed:
            remember(c, ("unnamed", c.unnamed))
            c.unnamed = None
            flags = F_CLIENT_OP | F_UNNAMED
        if c.tracking and may_drop(p + 5, min(n, total) - 5):
            flags |= F_DROPS           # what depends on names waits for the answer
    if verdict is None:
        return expect(c, s, K_QUERY, flags, p, n, total)
    return judged_query(c, s, verdict, flags, p, total)


cdef size_t judged_query(Client c, Server s, verdict, uint8_t flags, const char *p, size_t total) except? 0:
    """Pass a Query on that touches the session or needs something of it."""
    cdef bytes text
    cdef char head[5]
    note(c, s, verdict)
    if not verdict.edits and not verdict.resets_at:
        expect(c, s, K_QUERY, flags, p, total, total)
    else:
        text = edited(c, s, verdict, p[5:total], False)
        s.plan.push(K_QUERY, flags, 0)
        s.status = 0
        head[0] = b"Q"
        put32(head + 1, <uint32_t>(4 + len(text)))
        c.loop.emit(head, 5)
        c.loop.emit(<const char *>text, len(text))
    bring_base(c, s, False)
    return total


cdef int bring_base(Client c, Server s, bint extended) except -1:
    """Behind a RESET: it has led to the server's own values, the client's are those of its startup packet.

    In a batch they are set at once, and stand or fall with it. Behind a Query they are set when that has succeeded;
    the client is held until then.
    """
    cdef bytes text
    cdef list tracked = []
    if c.reset_due is None:
        return 0
    text = base_script(c, c.reset_due, tracked)
    c.reset_due = None
    if text and extended:
        return stage(s, text, True, 0)
    if text:
        s.base = text
        s.base_tracked = tracked
        s.careful = True
    return 0


cdef bint may_go(Client c, Server s, const char *text, size_t n) noexcept:
    """Whether a statement may be sent before the restore in front of it is known to have succeeded.

    If that fails the server is left in a transaction that has failed, in which nothing is carried out; except what
    ends the transaction, and what comes after that.
    """
    return s.plan.turns == 0 and not may_end_transaction(c.engine, text, n)


cdef bint ready_for(Client c, Server s, verdict, bint extended) except -1:
    """Stage what the statement needs on the server. False: sequences cannot be told apart."""
    cdef int needs = needs_of(c, s, verdict)
    if needs & NEED_PREPARED or (verdict.touch & PREPARED and not verdict.discards & DROPS_SQL):
        bring_sql(c, s, extended)
        if extended:
            bring_named(c, s, verdict)
    return (not needs & NEED_SEQUENCES
            or sequences_ready(c, s, extended, verdict.touch & <uint32_t>ANYTHING == <uint32_t>ANYTHING))


cdef int ready_for_anything(Client c, Server s, bint extended) except -1:
    """A text that nobody has read, or functions that nobody knows yet: it may execute what is prepared, and read
    sequences.
    """
    bring_sql(c, s, extended)
    return forget_sequences(c, s, extended)


cdef bint is_unknown(Client c) noexcept:
    """Whether functions may have changed since the catalog was read."""
    return c.db.everything & <uint32_t>ASKABLE == <uint32_t>ASKABLE


cdef bint is_set(const char *text, size_t n) noexcept:
    """SET calls no functions, and SET TRANSACTION allows no query in front of it."""
    return n > 3 and text[0] | 32 == b"s" and text[1] | 32 == b"e" and text[2] | 32 == b"t"


cdef int note_everything(Client c, Server s) except -1:
    """The database has what any statement may set off, or is not known yet."""
    if s.lone is None:
        s.touched |= c.db.everything
        s.any_name = True
        if c.reason is None:
            c.reason = "unknown functions"
        return 0
    return note_unread(c, s, "unknown functions")


cdef size_t refused(Client c, Server s, bint parse, verdict, size_t total) except? 0:
    """session_state = refuse, or statement mode."""
    cdef str mode = "statement" if c.pool.mode == MODE_STATEMENT else "transaction"
    count(c, "refusals", verdict.reason)
    if c.pool.session_state == STATE_REFUSE:
        text = (f"{verdict.reason} changes the session, which session_state = refuse does not allow "
                f"in {mode} pooling mode")
    else:
        text = f"{verdict.reason} needs a server connection of its own, which statement pooling mode does not allow"
    refuse(c, s, parse, text, "0A000")
    return total


cdef size_t refused_sequence(Client c, Server s, bint parse, size_t total) except? 0:
    count(c, "refusals", "sequence of another session")
    refuse(c, s, parse, "the server connection holds sequence values of another client as well: "
           "run the transaction again", "55000")
    return total


cdef int send_refused(Client c, Server s, bint parse) except -1:
    """Stage a statement that PostgreSQL cannot parse; its error is replaced by c.refusal."""
    cdef bytes text = b"pgferry has refused a statement of its client\0"
    cdef bytes message
    cdef char size[4]
    if parse:
        text = b"PGFERRY_REFUSED\0" + text + b"\0\0"
    put32(size, <uint32_t>(4 + len(text)))
    message = (b"P" if parse else b"Q") + size[:4] + text
    c.loop.emit(<const char *>message, len(message))
    s.plan.push(K_PARSE if parse else K_QUERY, F_REFUSED, 0)
    s.status = 0
    return 0


cdef bint may_drop(const char *text, size_t n) noexcept:
    """Whether a statement may be DISCARD or DEALLOCATE."""
    cdef const char *end = text + n
    while text < end and (text[0] == b" " or text[0] == b"\n" or text[0] == b"\t" or text[0] == b"\r"):
        text += 1
    return (end - text > 3 and text[0] | 32 == b"d" and (
        (text[1] | 32 == b"i" and text[2] | 32 == b"s") or (text[1] | 32 == b"e" and text[2] | 32 == b"a")))


cdef bint drops_all(bytes body):
    """Whether the text of a Parse (all behind the name) drops all prepared statements when it is executed."""
    cdef const char *text = body
    return may_drop(text, len(body)) and DROPS_ALL.match(body) is not None


cdef size_t on_execute(Client c, Server s, const char *p, size_t n, size_t total) except? 0:
    cdef size_t done
    if not c.dropping and c.reset_due is None:
        return expect(c, s, K_EXECUTE, 0, p, n, total)
    if n < total:
        return wait_for(c, total)
    done = expect(c, s, K_EXECUTE, F_DROPS if c.dropping else 0, p, n, total)
    c.dropping = False
    bring_base(c, s, True)
    return done


cdef size_t on_sync(Client c, Server s, const char *p, size_t n, size_t total) except? 0:
    c.unnamed_here = False
    c.reset_due = None
    s.skipping = False
    return expect(c, s, K_SYNC, F_IN_COPY if s.copy_in and not s.copy_ended else 0, p, n, total)


cdef size_t copy_message(Client c, Server s, char kind, const char *p, size_t n, size_t total) except? 0:
    """CopyData, CopyDone, CopyFail. Without a COPY under way they are what a failed one left behind: dropped."""
    if s is None or s.skipping or (s.plan.size() == 0 and not s.copy_in):
        return skip(c, n, total)
    if kind != b"d":
        if s.copy_in and not s.copy_ended:
            s.copy_ended = True
        else:
            s.plan.push(K_COPY_END, 0, 0)
    return forward(c, p, n, total)


# --- prepared statements ----------------------------------------------------------------------------------------

cdef inline int remember(Client c, tuple op) except -1:
    if c.pending is None:
        c.pending = []
    c.pending.append(op)
    return 0


cdef Statement lookup(Client c, const char *name, size_t n):
    """The client's statement of this name; None when it has none."""
    cdef const char *last
    cdef bytes key
    cdef Statement st
    if c.last_name is not None:
        last = c.last_name
        if <size_t>len(c.last_name) == n and memcmp(last, name, n) == 0:
            return c.last_statement
    if c.statements is None:
        return None
    key = name[:n]
    st = c.statements.get(key)
    if st is not None:
        c.last_name = key
        c.last_statement = st
    return st


cdef int prepare_on(Client c, Server s, Statement st) except -1:
    """Stage the Parse of a statement that the server lacks; its answer is swallowed."""
    cdef const char *name = st.wire_name
    cdef const char *body = st.body
    cdef char head[5]
    make_room(c, s)
    head[0] = b"P"
    put32(head + 1, <uint32_t>(4 + len(st.wire_name) + len(st.body)))
    c.loop.emit(head, 5)
    c.loop.emit(name, len(st.wire_name))
    c.loop.emit(body, len(st.body))
    s.prepared.add(st.number)
    s.plan.push(K_PARSE, F_SWALLOW | F_SERVER_OP, st.number)
    s.status = 0
    c.pool.stats.server_parse_count += 1
    return 0


cdef int make_room(Client c, Server s) except -1:
    """Close the statements used longest ago until one more fits (max_prepared_statements)."""
    cdef uint32_t limit = max(c.engine.max_prepared, 1)
    while s.prepared.count >= limit:
        close_on(c, s, s.prepared.oldest())
    return 0


cdef int close_on(Client c, Server s, uint32_t number) except -1:
    """Stage the Close of a statement that the server has; its answer is swallowed."""
    cdef bytes message = close_statement(b"PGFERRY_%d\0" % number)
    c.loop.emit(<const char *>message, len(message))
    s.plan.push(K_CLOSE, F_SWALLOW | F_SERVER_OP, number)
    s.prepared.leaves(number)
    s.status = 0
    return 0


cdef bytes close_statement(bytes wire_name):
    """A Close message for a statement."""
    cdef char size[4]
    put32(size, <uint32_t>(5 + len(wire_name)))
    return b"C" + size[:4] + b"S" + wire_name


cdef int bring_unnamed(Client c, Server s) except -1:
    """Make the server's unnamed statement the client's own, in front of a message that uses it."""
    cdef bytes body, message
    cdef char head[6]
    if c.unnamed is None:
        # Whatever the server has is somebody else's: with it gone, PostgreSQL gives the right error.
        message = close_statement(b"\0")
        c.loop.emit(<const char *>message, len(message))
        s.plan.push(K_CLOSE, F_SWALLOW | F_UNNAMED, 0)
        s.unnamed = None
    else:
        if c.judged:
            ready_to_describe(c, s, judge_unnamed(c))   # the columns of EXECUTE are looked up by its Parse
        body = c.unnamed
        head[0] = b"P"
        put32(head + 1, <uint32_t>(5 + len(body)))
        head[5] = 0
        c.loop.emit(head, 6)
        c.loop.emit(<const char *>body, len(body))
        s.plan.push(K_PARSE, F_SWALLOW | F_UNNAMED, 0)
        s.unnamed = c.unnamed
    s.status = 0
    c.unnamed_here = True
    return 0


cdef inline bint unnamed_differs(Client c, Server s) noexcept:
    return c.unnamed is None or s.unnamed is not c.unnamed


cdef size_t on_parse(Client c, Server s, const char *p, size_t n, size_t total) except? 0:
    cdef const char *nul
    cdef size_t name_end
    cdef bytes name
    cdef Statement st
    cdef object verdict = None
    cdef int made
    if c.session:
        return expect(c, s, K_PARSE, 0, p, n, total)
    if n < total:
        return wait_for(c, total)
    nul = <const char *>memchr(p + 5, 0, total - 5)
    if nul == NULL:
        return broken(c, "Parse")
    name_end = nul - p
    if c.judged:
        if s.restoring and not may_go(c, s, nul + 1, total - name_end - 1):
            return stall(c)
        if not (name_end == 5 and c.unnamed_verdict is None and same_unnamed(c, p + 6, total - 6)):
            verdict = judge_parse(c, nul + 1, total - name_end - 1)
        if verdict is not None:
            if is_refused(c, verdict):
                return refused(c, s, True, verdict, total)
            if verdict.edits and s.plan.unsettled():
                return stall(c)
            if verdict.needs & NEED_PREPARED:
                bring_sql(c, s, True)       # the columns of EXECUTE are looked up now
            if verdict.edits:
                return edited_parse(c, s, verdict, p, total, name_end)
    if name_end == 5:
        if s.plan.unnamed == 0 and same_unnamed(c, p + 6, total - 6):
            s.unnamed = c.unnamed          # nothing to undo, and no object to make
            c.unnamed_here = True
            return expect(c, s, K_PARSE, F_UNNAMED, p, n, total)
        remember(c, ("unnamed", c.unnamed))
        s.unnamed = c.unnamed = p[6:total]
        c.unnamed_here = True
        c.unnamed_version = 0
        return expect(c, s, K_PARSE, F_CLIENT_OP | F_UNNAMED, p, n, total)
    if not c.tracking:
        return expect(c, s, K_PARSE, 0, p, n, total)
    if s.plan.unsettled():
        return stall(c)
    name = p[5:name_end]
    st = lookup(c, p + 5, name_end - 5)
    if st is not None and not s.plan.drops:
        # A second Parse of a name is an error in PostgreSQL; let it say so, in its own transaction.
        if not s.prepared.touch(st.number):
            prepare_on(c, s, st)
        remember(c, ("again", name, st))
        s.plan.push(K_PARSE, F_CLIENT_OP, 0)
        s.status = 0
        return renamed(c, p, n, total, 5, name_end, st.wire_name)
    made = made_by_sql(c, s, name) if c.judged and st is None else 0
    if made == 2:
        return stall(c)
    if made and c.sql is not None and name in c.sql:
        return expect(c, s, K_PARSE, 0, p, n, total)        # an error, which PostgreSQL will say
    return define(c, s, name, p, total, name_end, verdict)


cdef object judge_parse(Client c, const char *body, size_t n):
    """The Verdict of the text of a Parse, or None."""
    cdef const char *nul = <const char *>memchr(body, 0, n)
    return judge(c, body, nul - body) if nul != NULL else None


cdef size_t edited_parse(Client c, Server s, verdict, const char *p, size_t total, size_t name_end) except? 0:
    """A Parse whose text names the client's statements: PostgreSQL gets their names on the server."""
    cdef const char *nul = <const char *>memchr(p + name_end + 1, 0, total - name_end - 1)
    cdef size_t text_end = nul - p
    cdef bytes text = edited(c, s, verdict, p[name_end + 1:text_end], True)
    cdef bytes message
    cdef char size[4]
    put32(size, <uint32_t>(total - 1 + len(text) - (text_end - name_end - 1)))
    message = b"P" + size[:4] + p[5:name_end + 1] + text + p[text_end:total]
    # The statement is kept, and shared, in this form; what it needs is seen to at every Bind.
    if name_end > 5 and c.tracking:
        define(c, s, p[5:name_end], <const char *>message, len(message), name_end, verdict)
        c.loop.settle()             # the message does not outlive this function
        return total
    remember(c, ("unnamed", c.unnamed))
    s.unnamed = c.unnamed = message[name_end + 1:]
    c.unnamed_here = True
    c.unnamed_version = 0
    c.loop.emit(<const char *>message, len(message))
    s.plan.push(K_PARSE, F_CLIENT_OP | F_UNNAMED, 0)
    s.status = 0
    return total


cdef size_t define(Client c, Server s, bytes name, const char *p, size_t total, size_t name_end,
                   verdict) except? 0:
    """A new name of the client: forward its Parse, or answer it when the server knows the text already."""
    cdef bytes body = p[name_end + 1:total]
    cdef Statement st
    cdef bint there
    cdef object meaning = what_names_mean(c)
    if verdict is not None and verdict.needs & NEED_PREPARED:
        # Its columns are those of what it executes, as that was when it was parsed: nobody else's business.
        meaning = (meaning, name, c.id)
    st = c.engine.table.intern(meaning, body)
    if st.refs and c.statements and st in c.statements.values():
        # Two names of one client for one text: apart, so that an error text can be given the right name.
        st = c.engine.table.intern((meaning, name), body)
    there = s.prepared.touch(st.number)
    c.engine.table.acquire(st)
    if c.statements is None:
        c.statements = {}
    remember(c, ("add", name, st, c.statements.get(name)))
    c.statements[name] = st
    c.last_name = name
    c.last_statement = st
    c.pool.stats.client_parse_count += 1
    if there and not s.plan.drops:
        if s.plan.turns == 0 and s.xact != b"E" and not (s.touched | s.asked | c.pins) & <uint32_t>TEMP:
            s.plan.push(K_PARSE, F_FAKE | F_CLIENT_OP, st.number)
            advance(s, False)
            return total
        # In a transaction that has failed, or may have, this Parse is an error: let PostgreSQL judge it. And the
        # statement was prepared before there was a temporary object that its text may now mean.
        close_on(c, s, st.number)
        there = False
    if not there:
        make_room(c, s)
        s.prepared.add(st.number)
    s.plan.push(K_PARSE, F_CLIENT_OP | F_SERVER_OP, st.number)
    s.status = 0
    c.pool.stats.server_parse_count += 1
    return renamed(c, p, total, total, 5, name_end, st.wire_name)


cdef object what_names_mean(Client c):
    """What the names in a text stand for: the DDL epoch, and the search_path of a client that has its own."""
    cdef object index, path = c.kept.settings.get(b"search_path")
    if path is None and c.vars is not c.pool.base_vars:
        index = c.engine.tracked_index.get("search_path")
        if index is not None and index < len(c.vars) and c.vars[index] != c.pool.base_vars[index]:
            path = c.vars[index]
    return c.db.epoch if path is None else (c.db.epoch, path)


cdef inline bint same_unnamed(Client c, const char *body, size_t n) noexcept:
    """Whether this Parse says what the client's unnamed statement is already."""
    return (c.unnamed is not None and <size_t>len(<bytes>c.unnamed) == n
            and memcmp(<const char *><bytes>c.unnamed, body, n) == 0)


cdef size_t on_bind(Client c, Server s, const char *p, size_t n, size_t total) except? 0:
    cdef size_t have = min(n, total), portal_end, name_end
    cdef int made
    cdef const char *nul
    cdef Statement st
    if c.session:
        return expect(c, s, K_BIND, 0, p, n, total)
    nul = <const char *>memchr(p + 5, 0, have - 5)
    if nul == NULL:
        return wait_for(c, min(total, n + NAME_STEP)) if n < total else broken(c, "Bind")
    portal_end = nul - p
    nul = <const char *>memchr(nul + 1, 0, have - portal_end - 1)
    if nul == NULL:
        return wait_for(c, min(total, n + NAME_STEP)) if n < total else broken(c, "Bind")
    name_end = nul - p
    if name_end == portal_end + 1:
        if s.restoring and c.unnamed is not None and not c.unnamed_here and not may_go(
                c, s, <const char *><bytes>c.unnamed, len(<bytes>c.unnamed)):
            return stall(c)
        if c.judged and not bind_may_listen(c, judge_unnamed(c)):
            return 0
        if not use_unnamed(c, s):
            return stall(c)
        c.dropping = c.unnamed is not None and drops_all(c.unnamed)
        if c.judged:
            judged_bind(c, s, judge_unnamed(c), p + name_end + 1, have - name_end - 1)
        return expect(c, s, K_BIND, 0, p, n, total)
    if not c.tracking:
        return expect(c, s, K_BIND, 0, p, n, total)
    if s.plan.unsettled():
        return stall(c)
    st = lookup(c, p + portal_end + 1, name_end - portal_end - 1)
    if st is not None and st.shape is not None and not s.prepared.touch(st.number):
        return verify(c, s, st)
    c.pool.stats.bind_count += 1
    if c.judged:
        if st is None and not s.plan.drops:
            made = made_by_sql(c, s, p[portal_end + 1:name_end])
            if made == 2:
                return stall(c)
            if made:
                note_unread(c, s, "EXECUTE")    # servers know it by the client's own name
                return expect(c, s, K_BIND, 0, p, n, total)
        if st is not None and s.restoring and not may_go(c, s, <const char *>st.body, len(st.body)):
            return stall(c)
        if st is not None and not bind_may_listen(c, judge_statement(c, st)):
            return 0
        if st is not None:
            judged_bind(c, s, judge_statement(c, st), p + name_end + 1, have - name_end - 1)
    c.dropping = st is not None and drops_all(st.body)
    return use_named(c, s, st, K_BIND, p, n, total, portal_end + 1, name_end)


cdef bint bind_may_listen(Client c, verdict) except -1:
    return verdict is None or not verdict.listens or may_listen(c, verdict.listens)


cdef int judged_bind(Client c, Server s, verdict, const char *p, size_t n) except -1:
    """Note what the statement behind a Bind may do; p[:n] are the message's bytes from its parameter formats on."""
    if c.db.everything:
        if is_unknown(c):
            ready_for_anything(c, s, True)
        note_everything(c, s)
    if verdict is None:
        return 0
    note(c, s, verdict)
    if verdict.params:
        note_parameters(c, s, verdict, p, n)
    if not ready_for(c, s, verdict, True):
        refused_sequence(c, s, True, 0)     # PostgreSQL skips the rest of the batch
    return 0


cdef bint use_unnamed(Client c, Server s) except -1:
    """Ready the unnamed statement for the next message; False when the client must be held first."""
    if c.unnamed_here and not unnamed_differs(c, s):
        return True
    if not c.unnamed_here and s.plan.unnamed:
        return False
    if unnamed_differs(c, s):
        bring_unnamed(c, s)
    return True


cdef size_t use_named(Client c, Server s, Statement st, uint8_t kind, const char *p, size_t n, size_t total,
                      size_t name_at, size_t name_end) except? 0:
    """Pass on a message that names a statement, which is made to exist on the server first."""
    if st is None:
        # Under its own name it could be a statement that somebody has made with PREPARE.
        s.plan.push(kind, 0, UNKNOWN)
        s.status = 0
        return renamed(c, p, n, total, name_at, name_end, b"PGFERRY_0_" + p[name_at:name_end] + b"\0")
    if st.changed:
        c.refusal = plan_changed()
        send_refused(c, s, True)
        return skip(c, n, total)
    if not s.prepared.touch(st.number):
        prepare_on(c, s, st)
    s.plan.push(kind, 0, st.number)
    s.status = 0
    return renamed(c, p, n, total, name_at, name_end, st.wire_name)


cdef size_t verify(Client c, Server s, Statement st) except? 0:
    """Prepare a statement that the client was told the columns of, on a server that lacks it, and hold the client
    until it is known that they are the same still: PostgreSQL itself only sees it where the statement was before.
    """
    cdef bytes message
    cdef char size[4]
    if c.judged:
        ready_to_describe(c, s, judge_statement(c, st))
    prepare_on(c, s, st)
    put32(size, <uint32_t>(5 + len(st.wire_name)))
    message = b"D" + size[:4] + b"S" + st.wire_name + b"H\0\0\0\4"
    c.loop.emit(<const char *>message, len(message))
    s.plan.push(K_DESCRIBE_S, F_SWALLOW, st.number)
    s.verifying = s.careful = True
    return stall(c)


cdef size_t on_describe(Client c, Server s, const char *p, size_t n, size_t total) except? 0:
    cdef const char *nul
    cdef Statement st
    cdef int made
    if n < min(total, <size_t>6):
        return wait_for(c, min(total, <size_t>6))
    if total < 7 or total > SHORT or (p[5] != b"S" and p[5] != b"P"):
        return broken(c, "Describe")
    if p[5] == b"P":
        return expect(c, s, K_DESCRIBE_P, 0, p, n, total)
    if c.session:
        return expect(c, s, K_DESCRIBE_S, 0, p, n, total)
    if n < total:
        return wait_for(c, total)
    nul = <const char *>memchr(p + 6, 0, total - 6)
    if nul == NULL:
        return broken(c, "Describe")
    if nul == p + 6:
        if not use_unnamed(c, s):
            return stall(c)
        return expect(c, s, K_DESCRIBE_S, 0, p, n, total)
    if not c.tracking:
        return expect(c, s, K_DESCRIBE_S, 0, p, n, total)
    if s.plan.unsettled():
        return stall(c)
    st = lookup(c, p + 6, nul - p - 6)
    if st is not None and st.shape is not None and not s.prepared.touch(st.number):
        return verify(c, s, st)
    if c.judged and st is not None:
        ready_to_describe(c, s, judge_statement(c, st))
    elif c.judged:
        made = made_by_sql(c, s, p[6:nul - p])
        if made:
            return stall(c) if made == 2 else expect(c, s, K_DESCRIBE_S, 0, p, n, total)
    return use_named(c, s, st, K_DESCRIBE_S, p, n, total, 6, nul - p)


cdef int ready_to_describe(Client c, Server s, verdict) except -1:
    """EXECUTE is described by the statement it executes."""
    if verdict is not None and verdict.needs & NEED_PREPARED:
        bring_sql(c, s, True)
        bring_named(c, s, verdict)
    return 0


cdef size_t on_close(Client c, Server s, const char *p, size_t n, size_t total) except? 0:
    cdef const char *nul
    cdef int made
    cdef bytes name
    cdef Statement st
    if c.session:
        return expect(c, s, K_CLOSE, 0, p, n, total)
    if total < 7 or total > SHORT:
        return broken(c, "Close")
    if n < total:
        return wait_for(c, total)
    if p[5] != b"S" and p[5] != b"P":
        return broken(c, "Close")
    nul = <const char *>memchr(p + 6, 0, total - 6)
    if nul == NULL:
        return broken(c, "Close")
    if p[5] == b"P":
        return expect(c, s, K_CLOSE, 0, p, n, total)
    if nul == p + 6:
        remember(c, ("unnamed", c.unnamed))
        c.unnamed = None
        c.unnamed_here = True
        s.unnamed = None
        return expect(c, s, K_CLOSE, F_CLIENT_OP | F_UNNAMED, p, n, total)
    if not c.tracking:
        return expect(c, s, K_CLOSE, 0, p, n, total)
    if s.plan.unsettled():
        return stall(c)
    name = p[6:nul - p]
    st = None
    if c.statements is not None:
        st = c.statements.pop(name, None)
    made = made_by_sql(c, s, name) if c.judged and st is None else 0
    if made == 2:
        return stall(c)
    if made:
        forget_sql(c, s, name)
        return expect(c, s, K_CLOSE, 0, p, n, total)
    if st is None:
        s.plan.push(K_CLOSE, F_FAKE, 0)
    else:
        c.last_name = None
        c.last_statement = None
        remember(c, ("remove", name, st))
        s.plan.push(K_CLOSE, F_FAKE | F_CLIENT_OP, 0)
    advance(s, False)
    return total
