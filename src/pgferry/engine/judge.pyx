"""What a client's statement may do to its session: be certain, or ask the server.

A text is scanned for words (words.scan). When none is found it is harmless, which is the case for nearly all. Else
session.classify looks closely, and its Verdict is remembered by text. note() adds a Verdict to what the server must
be asked about before it may serve anybody else (probe).
"""

from libc.stdint cimport int64_t, uint16_t, uint32_t
from libc.string cimport memchr

from pgferry.engine.model cimport MODE_STATEMENT, STATE_REFUSE, Client, Database, Engine, Pool, Server
from pgferry.engine.prepared cimport Statement
from pgferry.engine.sys cimport be16, be32, monotonic
from pgferry.engine.touch cimport (
    ALL_BITS, ANYTHING, ASKABLE, CANNOT_ASK, CURSORS, FOREVER, LISTEN, LOCAL, LOCKS, NEED_PREPARED, NEED_SEQUENCES,
    PINNING, PREPARED, SETTINGS, TEMP, UNNAMED, UNREADABLE,
)
from pgferry.engine.turns cimport spend
from pgferry.engine.verdicts cimport remember_verdict
from pgferry.engine.words cimport SHIELD, SHIELDED, WordSet
from pgferry.session.classify import classify
from pgferry.session import verdict as verdicts
from pgferry.session.verdict import EDIT_EXECUTE
from pgferry.session.words import STARTERS, UNLESS_AFTER, WORDS

cdef enum:
    MOST_REASONS = 200      # counted apart for each pool
    REASON_LENGTH = 64

assert list(map(int, verdicts.Touch)) == [SETTINGS, PREPARED, LISTEN, TEMP, LOCKS, CURSORS, FOREVER, UNNAMED,
                                           UNREADABLE, LOCAL]
assert list(map(int, verdicts.Need)) == [NEED_PREPARED, NEED_SEQUENCES]
assert (int(verdicts.ANYTHING), int(verdicts.PINNING)) == (ANYTHING, PINNING - FOREVER)

RENAMED = {b"sort_mem": b"work_mem", b"vacuum_mem": b"maintenance_work_mem"}    # PostgreSQL still knows both
ENDERS = (b"commit", b"end", b"rollback", b"abort", b"prepare")
cdef int64_t last_version = 0


cdef WordSet base_words():
    """The words that are the same for every database."""
    cdef WordSet words = WordSet()
    for word, bits in WORDS.items():
        words.add(word, bits or ALL_BITS, 0)
    for word, bits in STARTERS.items():
        words.add(word, 0, bits or ALL_BITS)
    for word, (bits, shields) in UNLESS_AFTER.items():
        words.add(word, <uint32_t>SHIELDED | <uint32_t>bits, 0)
        for shield in shields:
            words.add(shield, SHIELD, 0)
    return words


cdef WordSet ending_words():
    """The words that begin a statement that may end a transaction."""
    cdef WordSet words = WordSet()
    for word in ENDERS:
        words.add(word, 0, 1)
    return words


cdef WordSet only_default():
    """The word that tells that a SET may set back."""
    cdef WordSet words = WordSet()
    words.add(b"default", 1, 0)
    return words


cdef int use_knowledge(Database db, Engine engine, object knowledge) except -1:
    """Take over what is known of the database's functions; None: nothing yet, so any statement may do anything."""
    global last_version
    cdef WordSet words = engine.base_words
    db.knowledge = knowledge
    if knowledge is not None and knowledge.words:
        words = words.copy()
        for word, bits in knowledge.words.items():
            words.add(word, bits, 0)
        for word in knowledge.notifying:
            words.add(word, ALL_BITS, 0)
    db.words = words
    db.everything = ASKABLE if knowledge is None else knowledge.everything
    if knowledge is not None and knowledge.reads_sequences:
        db.sequences = True
    db.verdicts = {}
    db.verdict_bytes = 0
    last_version += 1
    db.words_version = last_version
    return 0


cdef object judge(Client c, const char *text, size_t n):
    """The Verdict of a text; None: harmless."""
    cdef Database db = c.db
    cdef bytes key
    cdef double began
    if db.words.scan(text, n) == 0:
        return None
    key = text[:n]
    if key in db.verdicts:
        return db.verdicts[key]
    began = monotonic()
    if db.knowledge is None:
        verdict = classify(key)
    else:
        verdict = classify(key, db.knowledge.words, db.knowledge.names)
    spend(c.loop, monotonic() - began)
    remember_verdict(db, key, verdict)
    return verdict


cdef object judge_statement(Client c, Statement st):
    """The Verdict of a named statement, remembered with it."""
    cdef const char *text
    if st.judged != c.db.words_version:
        text = st.body
        st.verdict = judge(c, text, text_length(text, len(st.body)))
        st.judged = c.db.words_version
    return st.verdict


cdef object judge_unnamed(Client c):
    """The Verdict of the client's unnamed statement."""
    cdef const char *text
    cdef bytes body
    if c.unnamed is None:
        return None
    if c.unnamed_version != c.db.words_version:
        body = c.unnamed
        text = body
        c.unnamed_verdict = judge(c, text, text_length(text, len(body)))
        c.unnamed_version = c.db.words_version
    return c.unnamed_verdict


cdef inline size_t text_length(const char *body, size_t n) noexcept:
    """The length of the text in front of its NUL."""
    cdef const char *nul = <const char *>memchr(body, 0, n)
    return n if nul == NULL else nul - body


cdef bint may_end_transaction(Engine engine, const char *text, size_t n) noexcept:
    return engine.enders.scan(text, n) != 0


cdef bint is_refused(Client c, object verdict):
    """session_state = refuse, or what would pin a server in statement mode.

    An ordinary CREATE makes something temporary only if search_path is set that way.
    """
    cdef uint32_t touch = verdict.touch
    if touch & TEMP and not verdict.reason.startswith("temporary"):
        touch &= ~<uint32_t>TEMP
    if c.pool.session_state == STATE_REFUSE:
        return touch != 0 and not (touch == SETTINGS and all_reported(c, verdict))
    return c.pool.mode == MODE_STATEMENT and touch & PINNING and verdict.clears == 0


cdef bint all_reported(Client c, verdict):
    """Whether only settings are changed that are each client's own in any case (tracked parameters)."""
    return bool(verdict.names) and all([is_reported(c.pool, name) for name in verdict.names])


cdef bint is_reported(Pool pool, bytes name) except -1:
    """Whether a setting is tracked and the servers of the pool report it."""
    cdef object index = pool.engine.tracked_index.get(name.decode("utf-8", "replace"))
    return (index is not None and pool.base_vars is not None and index < len(pool.base_vars)
            and pool.base_vars[index] is not None)


cdef int note(Client c, Server s, object verdict) except -1:
    """Add what a statement may change to what the server is asked about when the transaction is over."""
    cdef uint32_t touch = verdict.touch
    cdef bint lone
    if verdict.notifies:
        s.fence = s.notifying = True
    if c.pins or s.asked:
        touch |= <uint32_t>verdict.ends & (c.pins | s.asked)
    if verdict.needs & NEED_PREPARED and verdict.edits:
        note_executed(c, s, verdict)
    if touch & LOCAL:
        # No state of the session, so nothing to ask for: it matters only to texts that are parsed meanwhile.
        s.local = (s.local or set()).union((b"",) if verdict.names is None else verdict.names)
        touch &= ~<uint32_t>LOCAL
    if touch:
        c.reason = verdict.reason
        lone = s.touched == 0 and s.plan.turns == 0 and s.xact == b"I" and s.lone is None
        if lone and (verdict.plain is not None or (verdict.clears and c.pins == 0)) and not touch & CANNOT_ASK:
            s.lone = verdict
            s.lone_done = False
        else:
            if s.lone is not None:
                doubt_lone(s)
            touches(s, verdict, touch)
        if verdict.resets is None:
            c.reset_due = True
        elif verdict.resets and c.reset_due is not True:
            c.reset_due = (c.reset_due or ()) + verdict.resets
    return 0


cdef int note_listens(Client c, Server s, object verdict) except -1:
    """Have the server asked which channels of a text the client listens to, whatever becomes of the text."""
    c.reason = verdict.reason
    if s.lone is not None:
        doubt_lone(s)
    return touches(s, verdict, LISTEN)


cdef int note_names(Server s, object names) except -1:
    if names is None:
        s.any_name = True
    elif names:
        if s.names is None:
            s.names = set()
        s.names.update(names)
    return 0


cdef int touches(Server s, object verdict, uint32_t touch) except -1:
    """The server will be asked for these bits."""
    s.touched |= touch
    if touch & SETTINGS:
        note_names(s, verdict.names)
        note_names(s, verdict.hints)
    return 0


cdef int doubt_lone(Server s) except -1:
    """The lone statement is not alone, or has not succeeded as a whole: the server will be asked."""
    verdict = s.lone
    s.lone = None
    return touches(s, verdict, verdict.touch)


cdef int note_executed(Client c, Server s, object verdict) except -1:
    """EXECUTE does what the text does that was prepared under the name."""
    for inner in executed(c, s, verdict):
        if inner is None:
            note_unread(c, s, "EXECUTE")    # prepared just now: its text is not known yet
            continue
        if inner.notifies:
            s.fence = s.notifying = True
        if inner.touch:
            c.reason = inner.reason or verdict.reason
            touches(s, inner, inner.touch)
        if inner.params:
            touches(s, inner, SETTINGS | UNNAMED)
            s.any_name = True
    return 0


cdef list executed(Client c, Server s, object verdict):
    """The Verdicts of the texts that the statement executes by name; None stands for one that is not known."""
    cdef list found = []
    cdef bytes text
    for _start, _end, kind, name in verdict.edits:
        if kind != EDIT_EXECUTE:
            continue
        st = c.statements.get(name) if c.tracking and c.statements is not None else None
        if st is not None:
            inner = judge_statement(c, <Statement>st)
        elif s.asked & PREPARED:
            found.append(None)
            continue
        elif c.sql is not None and name in c.sql:
            text = c.sql[name]
            inner = judge(c, text, len(text))
        else:
            continue                        # prepared in this transaction, which is noted; or not at all
        if inner is not None:
            found.append(inner)
    return found


cdef int needs_of(Client c, Server s, object verdict) except -1:
    """The Need bits of a statement and of what it executes by name."""
    cdef int needs = verdict.needs
    if needs & NEED_PREPARED and verdict.edits:
        for inner in executed(c, s, verdict):
            if inner is not None:
                needs |= <int>inner.needs
    return needs


cdef int note_parameters(Client c, Server s, object verdict, const char *p, size_t n) except -1:
    """Names of settings that come as parameters of this Bind: p[:n] from its parameter format codes on."""
    cdef size_t pos = 2, size
    cdef uint16_t formats, params, i
    cdef list names = []
    if n < 2:
        return 0
    formats = be16(p)
    pos += 2 * <size_t>formats
    if n < pos + 2:
        return note_unread(c, s, verdict.reason)
    params = be16(p + pos)
    pos += 2
    for i in range(1, params + 1):
        if n < pos + 4:
            return note_unread(c, s, verdict.reason)
        if be32(p + pos) == 0xFFFFFFFF:
            pos += 4
            continue
        size = be32(p + pos)
        pos += 4
        if n < pos + size:
            return note_unread(c, s, verdict.reason)
        if i in verdict.params and size < 1024:
            name = p[pos:pos + size].lower()            # the binary form of text is the same
            if name == b"seed":
                s.touched |= FOREVER
            names.append(RENAMED.get(name, name))
        pos += size
    return note_names(s, names)


cdef int note_unread(Client c, Server s, str reason) except -1:
    """A statement that was not looked at: it may have done anything that can be asked for."""
    c.reason = reason
    if s.lone is not None:
        doubt_lone(s)
    s.touched |= ASKABLE
    s.any_name = True
    s.fence = s.notifying = True
    return 0


cdef int count(Client c, str counter, str reason) except -1:
    """One more in SHOW STATE_COUNTERS. Reasons hold names that clients choose: so many of them, and no longer ones."""
    cdef dict counts = c.pool.state_counts
    cdef tuple key = (counter, reason[:REASON_LENGTH])
    if key not in counts and len(counts) >= MOST_REASONS:
        key = (counter, "other")
    counts[key] = counts.get(key, 0) + 1
    return 0
