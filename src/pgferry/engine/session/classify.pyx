"""What a client's statement may do to its session: be certain, or ask the server.

A text is scanned for words (words.scan). When none is found it is harmless, which is the case for nearly all. Else
session.classify looks closely, and its Verdict is remembered by text. note() adds a Verdict to what the server must
be asked about before it may serve anybody else (probe). No Verdict (None) is never harmless: nobody has understood
the text, and note_unknown() has the server asked for everything and kept for this client.
"""

import re

from msgspec.structs import replace

from libc.stdint cimport uint8_t, uint32_t
from libc.string cimport memchr

from pgferry.engine.core.database cimport Database
from pgferry.engine.core.effects cimport (
    ANYTHING, CANNOT_ASK, CURSORS, DEFINES, FOREVER, LISTEN, LOCAL, LOCKS, NEED_PREPARED, NEED_SEQUENCES, PINNING,
    PREPARED, SETTINGS, TEMP, UNNAMED, UNREADABLE,
)
from pgferry.engine.core.enums cimport MODE_STATEMENT, STATE_REFUSE
from pgferry.engine.core.model cimport Client, Engine, Server
from pgferry.engine.core.statements cimport ParseSettings, Statement
from pgferry.engine.io.sys cimport be16, be32, monotonic
from pgferry.engine.io.turn_share cimport spend
from pgferry.engine.session.catalog cimport begin_defining
from pgferry.engine.session.parse_settings cimport MAY_CHANGE, known_settings, may_differ
from pgferry.engine.session.pending_effects cimport add_effects, demote_standalone
from pgferry.engine.session.unsure cimport note_unsure
from pgferry.session.classify import classify
from pgferry.session.encodings import is_separate, is_utf8
from pgferry.session import verdict as verdicts
from pgferry.session.verdict import REWRITE_EXECUTE

cdef enum:
    # How the bytes of a text above 127 are to be read.
    EXACT = 0               # in UTF-8, like the database's
    OTHER = 1               # as characters of their own, which the catalog has with other bytes
    MIXED = 2               # with bytes of ASCII in their characters, or nobody knows

assert list(map(int, verdicts.Touch)) == [SETTINGS, PREPARED, LISTEN, TEMP, LOCKS, CURSORS, FOREVER, UNNAMED,
                                          UNREADABLE, LOCAL]
assert list(map(int, verdicts.Need)) == [NEED_PREPARED, NEED_SEQUENCES]
assert (int(verdicts.ANYTHING), int(verdicts.PINNING)) == (ANYTHING, PINNING - FOREVER)
assert verdicts.DEFINES == DEFINES and verdicts.MAKES > DEFINES

HARMLESS = verdicts.HARMLESS
TEXTS = frozenset((0, 19, 25, 705, 1042, 1043))        # type oids: not told, name, text, unknown, bpchar, varchar
RENAMED = {b"sort_mem": b"work_mem", b"vacuum_mem": b"maintenance_work_mem"}    # PostgreSQL still knows both
CLIENT_ENCODING = b"client_encoding"
READINGS = {}       # (client's encoding, database's encoding) -> EXACT, OTHER or MIXED


cdef object classify_sql(Client c, const char *text, size_t n):
    """The Verdict of a text; HARMLESS for nearly all."""
    cdef Database db = c.db
    cdef int reading = EXACT
    cdef bint found = db.catalog.words.scan(text, n) != 0
    cdef object known = db.catalog.knowledge
    cdef object verdict
    cdef bytes whole, key
    cdef double began
    if not found and not db.catalog.odd_names:
        return HARMLESS
    if not all_ascii(text, n):
        reading = reading_of(c)
    if not found and reading == EXACT:
        return HARMLESS
    whole = text[:n]
    key = whole if reading == EXACT else whole + (b"\0other" if reading == OTHER else b"\0mixed")
    verdict = db.catalog.verdicts.get(key)
    if verdict is None:
        began = monotonic()
        if known is None:
            verdict = classify(whole, mixed=reading == MIXED)
        else:
            verdict = classify(whole, known.words, known.names, known=db.catalog.words, mixed=reading == MIXED,
                               doubt=known.non_ascii if reading != EXACT else 0)
            if verdict.touch & UNREADABLE:
                verdict = with_language(known, verdict)
        spend(c.loop, monotonic() - began)
        db.catalog.remember_verdict(key, verdict)
    return verdict


cdef object with_language(object known, object verdict):
    """The Verdict with a reason that tells which function cannot be read, and its language."""
    name = verdict.reason.removeprefix("function ").encode()
    return replace(verdict, reason="function " + known.unreadable[name]) if name in known.unreadable else verdict


cdef bint all_ascii(const char *text, size_t n) noexcept:
    cdef size_t i
    cdef uint8_t seen = 0
    for i in range(n):
        seen |= <uint8_t>text[i]
    return seen < 128


cdef int reading_of(Client c) except -1:
    """How bytes above 127 are to be read in a text of the client's."""
    cdef Server s = c.server
    cdef object encoding = c.vars[0] if c.vars else None     # Engine.tracked begins with client_encoding
    cdef object key, reading
    if encoding is None or (s is not None and may_change_encoding(s)):
        return MIXED
    key = (encoding, c.db.catalog.knowledge.encoding if c.db.catalog.knowledge is not None else "")
    reading = READINGS.get(key)
    if reading is None:
        if not is_separate(encoding):
            reading = MIXED
        else:
            reading = EXACT if is_utf8(encoding) and key[1] == "UTF8" else OTHER
        if len(READINGS) < 1024:
            READINGS[key] = reading
    return reading


cdef bint may_change_encoding(Server s) except -1:
    """Whether a statement that was sent may have changed the client's encoding, and it has not been told yet."""
    if s.status and s.plan.turns == 0:
        return False            # all is answered, and PostgreSQL reports the encoding in front of ReadyForQuery
    if s.probe.names is not None and CLIENT_ENCODING in s.probe.names:
        return True
    if s.pool.settings.session_state == STATE_REFUSE:
        return False            # nothing is refused for what only might be: the server is asked all the same
    if s.probe.pending_effects & <uint32_t>UNREADABLE:
        return True
    if s.probe.pending_effects & <uint32_t>SETTINGS and s.probe.any_name:
        return True
    if s.current.local is not None and b"" in s.current.local:
        return True
    return s.current.standalone_set is not None and (s.current.standalone_set.names is None
                                                     or CLIENT_ENCODING in s.current.standalone_set.names)


cdef object classify_body(Client c, bytes body):
    """The Verdict of what a Parse has behind the name: text, NUL, types of parameters."""
    cdef const char *text = body
    cdef object verdict = classify_sql(c, text, text_length(text, len(body)))
    if c.db.catalog.knowledge is not None and c.db.catalog.knowledge.types:
        return with_types(c.db, verdict, body)
    return verdict


cdef object classify_statement(Client c, Statement st):
    """The Verdict of a named statement, remembered with it."""
    if st.classified != c.db.catalog.words_version:
        verdict = classify_body(c, st.body)
        st.verdict_is(verdict, c.db.catalog.words_version if is_constant(c.db, verdict, st.body) else 0)
    return st.verdict


cdef object classify_unnamed(Client c):
    """The Verdict of the client's unnamed statement."""
    cdef bint constant
    if c.names.unnamed is None:
        return HARMLESS         # PostgreSQL will say that there is no such statement
    if c.names.unnamed_version != c.db.catalog.words_version:
        verdict = classify_body(c, c.names.unnamed)
        constant = is_constant(c.db, verdict, c.names.unnamed)
        c.names.unnamed_is(verdict, c.db.catalog.words_version if constant else 0)
    return c.names.unnamed_verdict


cdef bint is_constant(Database db, object verdict, bytes body) noexcept:
    """Whether the Verdict of a text does not depend on the client's encoding."""
    cdef const char *text = body
    if verdict is HARMLESS and (db.catalog.knowledge is None or not db.catalog.knowledge.non_ascii):
        return True
    return all_ascii(text, text_length(text, len(body)))


cdef object with_types(Database db, object verdict, bytes body):
    """The Verdict of a Parse (`body`: its text and what follows) with what its parameters' types do: a domain's CHECK
    runs when a value is bound.
    """
    cdef const char *p = body
    cdef size_t at = text_length(p, len(body)) + 1
    cdef uint32_t bits = 0
    cdef int number
    if verdict is None or at + 2 > <size_t>len(body):
        return verdict
    for number in range(be16(p + at)):
        if at + 6 + 4 * number > <size_t>len(body):
            return None
        bits |= <uint32_t>db.catalog.knowledge.types.get(be32(p + at + 2 + 4 * number), 0)
    if bits == 0:
        return verdict
    return replace(verdict, touch=verdict.touch | (bits & ~<uint32_t>DEFINES), names=None, clears=0, plain=None,
                   defines=verdict.defines or bits & <uint32_t>DEFINES != 0,
                   reason=verdict.reason or "type of a parameter")


cdef size_t text_length(const char *body, size_t n) noexcept:
    """The length of the text in front of its NUL."""
    cdef const char *nul = <const char *>memchr(body, 0, n)
    return n if nul == NULL else nul - body


cdef bint may_end_transaction(Engine engine, const char *text, size_t n) noexcept:
    return engine.words.end_transaction.scan(text, n) != 0


cdef bint is_refused(Client c, object verdict):
    """session_state = refuse, or what would pin a server in statement mode.

    An ordinary CREATE makes something temporary only if search_path is set that way.
    """
    cdef uint32_t touch = verdict.touch & ~LOCAL
    if touch & TEMP and not verdict.reason.startswith("temporary"):
        touch &= ~<uint32_t>TEMP
    if c.pool.settings.session_state == STATE_REFUSE:
        return touch != 0 and not (touch == SETTINGS and all_reported(c, verdict))
    return c.pool.settings.mode == MODE_STATEMENT and touch & PINNING and verdict.clears == 0


cdef bint all_reported(Client c, verdict):
    """Whether only settings are changed that are each client's own in any case (tracked parameters)."""
    return bool(verdict.names) and all([c.pool.reports(name) for name in verdict.names])


cdef int note(Client c, Server s, object verdict, const char *text, size_t n) except -1:
    """Add what a statement may change to what the server is asked about when the transaction is over.

    All that runs SQL for a client comes here, or note_message() will take it for unknown.
    """
    s.current.note()
    if s.unsure.known is None:
        s.unsure.classified_by(c.db.catalog.knowledge)
    if c.db.catalog.everything or s.unsure.ddl:
        note_everything(c, s, text, n)
    if verdict is HARMLESS:
        return 0
    if verdict is None:
        return note_unknown(c, s, "text that cannot be read")
    if verdict.defines:
        begin_defining(s, False)
    if verdict.prepares:
        remember_prepared(c, s, verdict, text[:n])
    return note_verdict(c, s, verdict)


cdef int note_message(Client c, Server s) except -1:
    """A message that may run SQL has gone to the server: if nobody has noted what it may do, that is anything."""
    if not s.current.noted:
        note_unknown(c, s, "message that cannot be read")
    s.current.begin(False)
    return 0


cdef int note_everything(Client c, Server s, const char *text, size_t n) except -1:
    """The database has what any statement may set off, or its functions are not known."""
    if s.unsure.ddl or c.db.catalog.everything & <uint32_t>DEFINES:
        begin_defining(s, False)        # with s.unsure.ddl, this may be what commits
    elif c.db.catalog.unread:
        note_unsure(c, s, text, n)
    if s.current.standalone_set is not None:
        demote_standalone(s)
    s.probe.add(c.db.catalog.everything & ~<uint32_t>DEFINES)
    if c.db.catalog.everything & <uint32_t>SETTINGS:
        s.probe.add_any_name(SETTINGS)
    if c.reason is None:
        c.because("unknown functions")
    return 0


cdef int note_verdict(Client c, Server s, object verdict) except -1:
    cdef uint32_t touch = verdict.touch & ~LOCAL
    cdef bint standalone_set
    if verdict.notifies:
        s.current.may_notify()
    if c.pin.pins or s.probe.asked_effects:
        touch |= <uint32_t>verdict.ends & (c.pin.pins | s.probe.asked_effects)
    if verdict.needs & NEED_PREPARED and verdict.rewrites:
        note_executed(c, s, verdict, True)
    note_local(s, verdict)
    if touch:
        c.because(verdict.reason)
        standalone_set = (s.probe.pending_effects == 0 and s.plan.turns == 0 and s.xact == b"I"
                          and s.current.standalone_set is None)
        if (standalone_set and (verdict.plain is not None or (verdict.clears and c.pin.pins == 0))
                and not touch & CANNOT_ASK):
            s.current.begin_standalone(verdict)
        else:
            if s.current.standalone_set is not None:
                demote_standalone(s)
            add_effects(s, verdict, touch)
        c.names.will_reset(verdict.resets)
    return 0


cdef int note_local(Server s, object verdict) except -1:
    """No state of the session, so nothing to ask for: it matters only to texts that are parsed meanwhile."""
    if verdict.touch & LOCAL:
        s.current.add_local(verdict.names)
    return 0


cdef int note_listens(Client c, Server s, object verdict) except -1:
    """Have the server asked which channels of a text the client listens to, whatever becomes of the text."""
    c.because(verdict.reason)
    if s.current.standalone_set is not None:
        demote_standalone(s)
    return add_effects(s, verdict, LISTEN)


cdef int remember_prepared(Client c, Server s, object verdict, bytes text) except -1:
    """Until the server has been asked, what PREPARE has just been given is all that is known of its statements.

    Which of several of one name stands in the end, nobody can say: an error may have skipped it. Nor what settings are
    in force in the midst of a text that changes some, or ends the transaction that has.
    """
    cdef ParseSettings settings = known_settings(c, s)
    cdef bint alone = b";" not in text.rstrip(b"; \t\r\n")
    if not alone and (verdict.touch & (MAY_CHANGE | LOCAL) or s.xact == b"E" or may_differ(s)):
        settings = None
    for name in verdict.prepares:
        c.tracker.may_prepare(name, text, settings)
    return 0


cdef int note_executed(Client c, Server s, object verdict, bint sent) except -1:
    """EXECUTE does what the text does that was prepared under the name, which may execute others, or itself.

    `sent`: just now; else it is known only now what was sent before (note_inner).
    """
    cdef set followed = set()
    cdef list todo = [verdict]
    while todo:
        for inner in executed(c, s, todo.pop(), followed):
            note_text(c, s, inner)
            if sent and (inner is None or inner.defines):
                begin_defining(s, False)
            if inner is not None and inner.params:
                add_effects(s, inner, SETTINGS | UNNAMED)       # the parameters of an EXECUTE are not read
                s.probe.add_names(None)
            if inner is not None and inner.needs & NEED_PREPARED and inner.rewrites:
                todo.append(inner)
    return 0


cdef int note_inner(Client c, Server s, object verdict) except -1:
    """What is known only now; nothing of it may be taken for lone. Parameters were looked at with the Bind.

    What it has defined is in the catalog that has been read meanwhile.
    """
    note_text(c, s, verdict)
    if verdict is not None and verdict.needs & NEED_PREPARED and verdict.rewrites:
        note_executed(c, s, verdict, False)
    return 0


cdef int note_text(Client c, Server s, object verdict) except -1:
    """What a text does by itself, without what it executes by name."""
    if verdict is None:
        return note_anything(c, s, "EXECUTE", False)
    if verdict.notifies:
        s.current.may_notify()
    note_local(s, verdict)
    if verdict.touch & ~LOCAL:
        c.because(verdict.reason or "EXECUTE")
        if s.current.standalone_set is not None:
            demote_standalone(s)
        add_effects(s, verdict, verdict.touch)
    return 0


cdef list executed(Client c, Server s, object verdict, set followed):
    """The Verdicts of the texts that the statement executes by name; None stands for one that is not known.

    `followed`: the names that have been looked at, which are not looked at again.
    """
    cdef list found = []
    for _start, _end, kind, name in verdict.rewrites:
        if kind != REWRITE_EXECUTE or name in followed:
            continue
        followed.add(name)
        st = c.names.statements.get(name) if c.tracking and c.names.statements is not None else None
        if st is not None:
            found.append(classify_statement(c, <Statement>st))
        else:
            found.extend(prepared_as(c, s, name))
    return found


cdef list prepared_as(Client c, Server s, bytes name):
    """The Verdicts of what SQL's PREPARE may have given this name; None among them: of something unknown."""
    cdef list found = []
    cdef bytes text
    for recent in (c.tracker.preparing, c.tracker.asked_preparing):
        if recent is not None:
            for text, _settings in recent.get(name, ()):
                found.append(classify_sql(c, text, len(text)) if text is not None else None)
    if c.tracker.sql is not None and name in c.tracker.sql:
        text = c.tracker.sql[name][0]
        found.append(classify_sql(c, text, len(text)))
    if not found and (s.probe.pending_effects | s.probe.asked_effects) & PREPARED:
        found.append(None)                  # by a function, or by code that nobody has read
    return found


cdef int needs_of(Client c, Server s, object verdict) except -1:
    """The Need bits of a statement and of what it executes by name."""
    cdef int needs = verdict.needs
    if needs & NEED_PREPARED and verdict.rewrites:
        for inner in executed(c, s, verdict, set()):
            if inner is not None:
                needs |= <int>inner.needs
    return needs


cdef int note_parameters(Client c, Server s, object verdict, bytes body, const char *p, size_t n) except -1:
    """Names of settings that come as parameters of this Bind: p[:n] from its parameter format codes on.

    A name that does not come as it is (of another type than text, or used in other places of the statement, too) counts
    as computed, and so does one that is not in p[:n]. As a type can change even text, all settings are asked for.
    """
    cdef size_t pos = 2, size
    cdef uint32_t number
    cdef list names = []
    cdef set wanted = set(verdict.params)
    s.probe.add_names(None)
    if n < 4 or not all_plain(verdict, body):
        return note_anything(c, s, verdict.reason)
    pos += 2 * <size_t>be16(p) + 2
    for number in range(1, <uint32_t>max(wanted) + 1):
        if n < pos + 4:
            return note_anything(c, s, verdict.reason)
        size = be32(p + pos)
        pos += 4
        if size == 0xFFFFFFFF:
            continue
        if n < pos + size:
            return note_anything(c, s, verdict.reason)
        if number in wanted:
            name = p[pos:pos + size].rstrip(b" ").lower()           # the binary form of text is the same
            if name == b"seed":
                s.probe.add(FOREVER)
            if not name.isascii():
                return note_anything(c, s, verdict.reason)           # in which encoding, PostgreSQL knows
            names.append(RENAMED.get(name, name))
        pos += size
    return s.probe.add_names(names)


cdef size_t names_end(object verdict, const char *p, size_t n) except -1:
    """So many bytes from the parameter formats of a Bind on are needed to see its names of settings; more than n if
    that is not known yet.
    """
    cdef size_t pos
    cdef uint32_t _number
    if n < 2:
        return n + 1
    pos = 4 + 2 * <size_t>be16(p)
    for _number in range(1, <uint32_t>max(verdict.params) + 1):
        if n < pos + 4:
            return pos + 4
        if be32(p + pos) != 0xFFFFFFFF:
            pos += be32(p + pos)
        pos += 4
    return pos


cdef bint all_plain(object verdict, bytes body) except -1:
    """Whether the parameters that are names of settings are text, and are used as such only."""
    cdef const char *p = body
    cdef size_t at = text_length(p, len(body))
    cdef bytes text = body[:at]
    cdef Py_ssize_t types
    at += 1
    types = be16(p + at) if at + 2 <= <size_t>len(body) else 0
    for number in verdict.params:
        if number <= types and at + 2 + 4 * <size_t>number <= <size_t>len(body):
            if be32(p + at + 2 + 4 * (<size_t>number - 1)) not in TEXTS:
                return False
        if len(re.findall(rb"\$%d(?![0-9])" % number, text)) != 1:
            return False
    return True


cdef int note_unknown(Client c, Server s, str reason) except -1:
    """What nobody has understood may have done anything to the session and to the catalog."""
    begin_defining(s, False)
    return note_anything(c, s, reason)


cdef int note_anything(Client c, Server s, str reason, bint pins=True) except -1:
    """It may have done anything to the session, and set what has a name that nobody knows.

    `pins`: that holds its client to the server. Else the client loses it, as with code that cannot be read; so in
    statement mode, where nobody is held.
    """
    s.current.note()
    if "unknown" in c.engine.omit:
        return 0
    c.because(reason)
    if s.current.standalone_set is not None:
        demote_standalone(s)
    if pins and c.pool.settings.mode != MODE_STATEMENT:
        s.probe.add_any_name(ANYTHING)
    else:
        s.probe.add_any_name((ANYTHING & ~UNNAMED) | UNREADABLE)
    s.current.may_notify()
    return 0
