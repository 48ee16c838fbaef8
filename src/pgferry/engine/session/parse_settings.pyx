"""The settings a client's texts are parsed under, and statements that are prepared under those of an earlier time.

As a rule they are the client's tracked parameters and its State. In a transaction that may have changed some, or set
them for its own time (SET LOCAL), nobody knows them: PostgreSQL is asked, with the client held.
"""

import re
from binascii import unhexlify

from libc.stdint cimport uint32_t

from pgferry.engine.core.effects cimport SETTINGS, UNNAMED, UNREADABLE
from pgferry.engine.core.enums cimport P_ENSURE
from pgferry.engine.core.model cimport Client, Pool, Server
from pgferry.engine.core.plan cimport SHOWS
from pgferry.engine.core.statements cimport ParseSettings
from pgferry.engine.session.staging cimport can_part, end_own, stage_in_batch
from pgferry.engine.wire.messages cimport as_hex, quote_identifier, quote_literal, sql_text
from pgferry.engine.core.statements import LEXER_SETTINGS, NAME_SETTINGS, PARSE_SETTINGS
from pgferry.session.replay import REPLAY

cdef bytes ANY = b""                        # in CurrentStatement.local
cdef bytes AUTHORIZATION = b"session_authorization"
cdef bytes ROLE = b"role"
cdef bytes SEARCH_PATH = b"search_path"

# Each setting's value, and NULL where that is not what RESET would lead to.
SHOW = (b"SELECT n, %b, s.name FROM (VALUES (%%b)) v(n) LEFT JOIN pg_catalog.pg_show_all_settings() s "
        b"ON pg_catalog.lower(s.name) OPERATOR(pg_catalog.=) n AND s.reset_val OPERATOR(pg_catalog.=) "
        b"pg_catalog.current_setting(n,true)" % as_hex(b"pg_catalog.current_setting(n,true)"))
# PostgreSQL only cuts these into tokens at Parse; literals in them are read when they are executed. For some of them
# nothing may be executed before them in their transaction.
UTILITY = re.compile(
    rb"(?:\s+|--[^\r\n]*|/\*(?:[^*]|\*(?!/))*\*/)*(?:abort|alter|analy[sz]e|begin|checkpoint|close|cluster|comment"
    rb"|commit"
    rb"|copy|create\s+(?!(?:or\s+replace\s+)?(?:global\s+|local\s+)?(?:temp|temporary|unlogged|table|materialized)\b)"
    rb"|deallocate|discard|do|drop|end|execute|fetch|grant|listen|load|lock|move|notify|prepare|reassign|refresh"
    rb"|reindex"
    rb"|release|reset|revoke|rollback|savepoint|security|set|show|start|truncate|unlisten|vacuum)\b", re.IGNORECASE)


# --- what is in force now ----------------------------------------------------------------------------------------

cdef ParseSettings settings_of(Pool pool, tuple tracked, dict settings):
    """The ParseSettings of a session with these tracked parameters and other settings."""
    cdef list values = []
    cdef dict index = pool.engine.parameters.index
    for name in PARSE_SETTINGS:
        at = index.get((<bytes>name).decode())
        value = tracked[at] if at is not None and at < len(tracked) else None
        values.append(settings.get(name) if value is None else value)
    if "literals" in pool.engine.omit:
        values[len(NAME_SETTINGS):] = [None] * (len(values) - len(NAME_SETTINGS))
    return pool.engine.table.settings(pool.db.name, pool.user.name, tuple(values))


cdef ParseSettings settled_settings(Client c):
    """What the client's texts are parsed under, as far as its last transactions tell."""
    if not c.tracker.has_parsed_under(c.vars):
        c.tracker.parse_under(c.vars, settings_of(c.pool, c.vars, c.tracker.session_state.settings))
    return c.tracker.parse_settings


cdef object doubted(Client c, Server s):
    """The settings of PARSE_SETTINGS that may be others now than settled_settings() says; None: none."""
    cdef set names = set()
    if not may_differ(s):
        return None
    if (s.probe.pending_effects | s.probe.asked_effects) & <uint32_t>(UNNAMED | UNREADABLE):
        names.add(ANY)
    if s.probe.pending_effects & <uint32_t>SETTINGS:
        add_names(names, s.probe.names, s.probe.any_name)
    if s.probe.asked_effects & <uint32_t>SETTINGS:
        add_names(names, s.probe.asked_names, s.probe.asked_any_name)
    if s.current.standalone_set is not None and s.current.standalone_set.touch & <uint32_t>SETTINGS:
        add_names(names, s.current.standalone_set.names, s.current.standalone_set.names is None)
    add_names(names, s.current.local, False)
    if ANY in names:
        return set(PARSE_SETTINGS)
    if AUTHORIZATION in names:
        names.add(ROLE)
    names.intersection_update(PARSE_SETTINGS)
    if s.status and s.plan.turns == 0:
        # All is answered, and with it PostgreSQL has told the values of these.
        names = {name for name in names if not c.pool.reports(name)}
    return names or None


cdef int add_names(set names, object some, bint any_name) except -1:
    if any_name:
        names.add(ANY)
    if some is not None:
        names.update(some)
    return 0


cdef ParseSettings settings_now(Client c, Server s):
    """What a text that the client sends now is parsed under. None: not known yet, the client must be held."""
    cdef object names
    if is_settled(c, s):
        return c.tracker.parse_settings
    names = doubted(c, s)
    if names is None:
        return settled_settings(c)
    if s.plan.turns or s.probe.asked_effects:
        return None             # what is under way ends the doubt, or leaves what can be asked about
    if s.xact == b"E":
        return settled_settings(c)      # nothing is parsed in a transaction that has failed
    if s.injected.shown is None and can_part(s):
        ask_settings(s, names)
    return s.injected.shown


cdef ParseSettings literals_now(Client c, Server s):
    """The same for an unnamed statement, which is nobody else's: what names mean PostgreSQL will look up again."""
    cdef object names
    if not is_settled(c, s):
        names = doubted(c, s)
        if names is not None and not names.issubset(NAME_SETTINGS):
            return settings_now(c, s)
    return settled_settings(c)


cdef ParseSettings known_settings(Client c, Server s):
    """The same where settings_now() has been asked already for this message."""
    return settled_settings(c) if s.injected.shown is None else s.injected.shown


cdef int ask_settings(Server s, names) except -1:
    """Ask what these settings are now."""
    s.probe.want_rows()
    s.injected.begin_asking()
    stage_in_batch(s, SHOW % b"),(".join([quote_literal(name) for name in names]), SHOWS, None)
    if s.plan.begun:
        return s.put(b"H\0\0\0\4", 5)
    return end_own(s, P_ENSURE)


cdef bint settings_shown(Server s) except -1:
    """They are known. False: the answer makes no sense."""
    cdef Client c = s.client
    cdef list rows = s.probe.take_rows()
    cdef list values
    s.injected.end_asking()
    if c is None:
        return True
    if not rows:
        return False
    values = list(settled_settings(c).values)
    try:
        for name, value, own in rows:       # of nothing else: see data_message()
            value = None if value is None else unhexlify(value)
            if own is not None and not c.pool.reports(name) or is_nobody(c, name, value):
                value = None
            values[PARSE_SETTINGS.index(name)] = value
    except ValueError:
        return False
    s.injected.show(c.engine.table.settings(c.db.name, c.pool.user.name, tuple(values)), s.plan.tail)
    return True


cdef bint is_nobody(Client c, bytes name, bytes value):
    """Whether a role or session user is the login user."""
    return (name == ROLE and value == b"none") or (
        name == AUTHORIZATION and value == c.pool.user.name.encode("utf-8", "surrogateescape"))


cdef bint strains(Client c, Server s, ParseSettings settings) except -1:
    """Whether PostgreSQL, should it read a text again for this client, would take literals for something else than
    `settings`. Names are no matter: it looks itself whether search_path leads elsewhere now, each time.
    """
    cdef ParseSettings present = settled_settings(c)
    cdef Py_ssize_t first = len(NAME_SETTINGS)
    cdef object names
    if present is not settings and present.values[first:] != settings.values[first:]:
        return True
    if not may_differ(s):
        return False
    names = doubted(c, s)
    return names is not None and not names.issubset(NAME_SETTINGS)


# --- back to an earlier time -------------------------------------------------------------------------------------

cdef list settings_switch(Client c, Server s, ParseSettings present, ParseSettings then, bytes body):
    """The commands that lead from the settings `present` to those a text was parsed under, and those that lead back.

    `body`: the text of a Parse; None: a PREPARE is executed, which reads the literals behind it.
    """
    cdef bint local, person
    cdef list there = [], back = []
    cdef object only = None
    if present is then or present is None or then is None or s.xact == b"E":
        return [there, back]
    local = s.xact == b"T" or may_differ(s)
    person = present.values[0] != then.values[0]
    if body is not None and UTILITY.match(body) is not None:
        only = LEXER_SETTINGS
        person = False
    for name, now, value in zip(PARSE_SETTINGS, present.values, then.values):
        # The session's user being set, PostgreSQL forgets the role.
        if (now != value or (person and name == ROLE)) and (only is None or name in only):
            there.append(command(name, value, local))
            back.append(command(name, now, local))
    return [there, back]


cdef bytes command(bytes name, bytes value, bint local):
    """SQL that gives a setting this value, b"" for the server's own; `local`: for the time of the transaction."""
    cdef bytes begin = b"SET LOCAL " if local else b"SET "
    if value is None:
        return begin + quote_identifier(name) + b" TO DEFAULT"
    if value.startswith(REPLAY):
        return begin + value[len(REPLAY) + 4:]
    if value.isascii() and name != SEARCH_PATH:
        return begin + quote_identifier(name) + b" TO " + quote_literal(value)
    return b"SELECT pg_catalog.set_config(%b,%b,%b)" % (quote_literal(name), sql_text(value),
                                                        b"true" if local else b"false")
