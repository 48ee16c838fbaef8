"""What a session holds that can be brought to another server: settings, role, listening channels.

Names and values are bytes in the encoding of the database, whatever those of the clients are; SQL made of them is
ASCII.
A State is never changed; the same content is the same object, so that "the server has what the client needs" is one
comparison of pointers. Tracked parameters are not in it: PostgreSQL reports those (ParameterStatus), see Server.vars.
SQL-level prepared statements are not either: they are brought only when a statement needs them (see ensure).
"""

from weakref import WeakValueDictionary

from libc.stdint cimport int64_t, uint64_t
from libc.string cimport memcmp

from pgferry.engine.wire.messages cimport do_execute, quote_identifier, quote_literal, simple_query, sql_text
from pgferry.session.lists import as_literals
from pgferry.session.replay import REPLAY
from pgferry.session.settings import EXCLUSIVE, UNCERTAIN, is_privileged, must_not_stay

# Lists whose elements are quoted as identifiers: SET "x" = '...' would make one element of the whole value.
LISTS = frozenset((b"search_path", b"temp_tablespaces", b"session_preload_libraries", b"local_preload_libraries",
                   b"shared_preload_libraries", b"unix_socket_directories"))
ROLE = b"role"
AUTHORIZATION = b"session_authorization"
MANY = 1024          # remembered shapes, and ways to each state
LONGEST = 63         # bytes of an identifier

cdef enum:
    FEW_NAMES = 256         # of a shape that is remembered
    WAYS_SIZE = 65536       # bytes of the ways that a state remembers


cdef class State:
    """Settings that are not at the server's own value, and channels listened to."""

    def __init__(self):
        raise TypeError("made by StateTable.intern() only")


cdef State NOTHING = State.__new__(State)     # of a server that nobody has looked at
NOTHING.settings = {}
NOTHING.shape = 1
NOTHING.names = NOTHING.channels = frozenset()
cdef dict shapes = {(NOTHING.names, NOTHING.channels): NOTHING.shape}   # names and channels -> a number, above 0
cdef int64_t last_shape = 1


cdef class StateTable:
    """The States that are in use."""

    def __init__(self, set omit):
        self.omit = omit
        self.states = WeakValueDictionary()

    def __len__(self):
        return len(self.states)

    def all(self):
        """The States, as a list of its own."""
        return list(self.states.values())

    cdef State intern(self, dict settings, frozenset channels):
        """The State of this content."""
        cdef object key = (frozenset(settings.items()), channels)
        cdef State found = self.states.get(key)
        if found is None:
            found = State.__new__(State)
            found.settings = settings
            found.names = frozenset(settings)
            found.channels = channels
            found.role = settings.get(ROLE)
            found.authorization = settings.get(AUTHORIZATION)
            found.shape = shape_of(found.names, channels)
            found.transitions = {}
            found.size = size_of(settings, channels)
            found.rest = self.without_limits(found)
            self.states[key] = found        # for as long as a session, or what is restored for one, has it
        return found

    cdef State with_setting(self, State old, bytes name, bytes value):
        """The same with one setting changed; value None takes it out."""
        cdef dict settings = dict(old.settings)
        if value is None:
            settings.pop(name, None)
        else:
            settings[name] = value
        return self.intern(settings, old.channels)

    cdef State without_limits(self, State state):
        """The same without time limits that must not stay in force while its server waits; None: there are none."""
        found = [name for name, value in state.settings.items() if must_not_stay(name, value.removeprefix(REPLAY))]
        if not found or "limits" in self.omit:
            return None
        return self.intern({name: value for name, value in state.settings.items() if name not in found},
                           state.channels)


cdef size_t size_of(dict settings, frozenset channels) except? 0:
    """Bytes of names, values and channels."""
    cdef size_t size = 0
    for name, value in settings.items():
        size += len(<bytes>name) + len(<bytes>value)
    for channel in channels:
        size += len(<bytes>channel)
    return size


cdef int64_t shape_of(frozenset names, frozenset channels) except -1:
    """A number for this content. One is never used again for another; the same content may get a second one."""
    global last_shape
    if len(names) + len(channels) > FEW_NAMES:
        last_shape += 1
        return last_shape
    found = shapes.get((names, channels))
    if found is None:
        if len(shapes) >= MANY:
            shapes.clear()
        last_shape += 1
        shapes[(names, channels)] = found = last_shape
    return found


cdef bytes assignment(bytes name, bytes value):
    """SQL that gives a setting this value."""
    if value.startswith(REPLAY):
        return value[1:] + b";"
    if not value.isascii() or not is_identifier(name):
        return b"SELECT " + call(name, value) + b";"
    if name == ROLE:
        return b"SET ROLE " + quote_literal(value) + b";"
    if name == AUTHORIZATION:
        return b"SET SESSION AUTHORIZATION " + quote_literal(value) + b";"
    if name in LISTS:
        literals = as_literals(value)
        if literals is None:
            return b"SELECT " + call(name, value) + b";"
        return b"SET " + name + b"=" + literals + b";"
    return b"SET " + quote_identifier(name) + b"=" + quote_literal(value) + b";"


cdef bytes assignment_as_it_is(bytes name, bytes value):
    """The same without a thought for encodings: what tests of them are to notice."""
    if value.isascii():
        return assignment(name, value)
    return b"SET " + quote_identifier(name) + b"='" + value.replace(b"'", b"''") + b"';"


cdef bint is_identifier(bytes name):
    """Whether SET can name it: PostgreSQL cuts identifiers, and custom settings may have longer names."""
    return len(name) <= LONGEST and name.isascii()


cdef bytes reset(bytes name):
    """SQL that gives a setting the session's own value."""
    if is_identifier(name):
        return b"RESET " + quote_identifier(name) + b";"
    return b"SELECT " + call(name, None) + b";"


cdef int64_t transition_key(State old, State new) except 0:
    """What transition_sql() depends on: the names in `old`, not their values, and whether the role changes. Never 0."""
    cdef State known = NOTHING if old is None else old
    return -known.shape if changes_person(known, new) else known.shape


cdef bint changes_person(State old, State new) noexcept:
    return not (same(old.role, new.role) and same(old.authorization, new.authorization))


cdef bytes transition_sql(State old, State new, set omit):
    """The SQL that leads from `old` to `new`, b"" for none. old None: unknown, everything is set.

    Few ways have to be remembered, even where every client has values of its own: see transition_key().
    """
    cdef object key = transition_key(old, new)
    cdef bytes found = new.transitions.get(key)
    if found is None:
        if old is None:
            old = NOTHING
        found = build_transition(old, new, changes_person(old, new), omit)
        if len(found) > WAYS_SIZE:
            return found
        if len(new.transitions) >= MANY or new.transitions_size + len(found) > WAYS_SIZE:
            new.transitions.clear()
            new.transitions_size = 0
        new.transitions[key] = found
        new.transitions_size += len(found)
    return found


cdef bytes transition_from_unknown(State old, State new, set omit):
    """The SQL that leads to `new` from a session that may hold any settings; its channels are those of `old`."""
    return (b"RESET SESSION AUTHORIZATION;RESET ROLE;RESET ALL;"
            + build_transition(intern_state_of_channels(old), new, True, omit))


cdef State intern_state_of_channels(State old):
    cdef State found
    if old is None or not old.channels:
        return NOTHING
    found = State.__new__(State)
    found.settings = {}
    found.names = frozenset()
    found.channels = old.channels
    return found


cdef class Restore:
    """The Query that brings a server to a client's tracked parameters and State."""

    cdef int add(self, Py_ssize_t index, bytes value, bint recoded) except -1:
        """It sets this tracked parameter; `recoded`: to bytes that depend on client_encoding."""
        self.pending.append((index, value))
        self.recoded = self.recoded or recoded
        return 0

    cdef int write(self, bytes sql, bint stateful, bint in_block) except -1:
        """Its SQL, b"" for none; `stateful`: part of that leads to the State."""
        self.stateful = stateful
        self.in_block = in_block
        if sql:
            self.message = simple_query(in_transaction(sql) if in_block else sql)
        return 0


cdef Restore restore_for(tuple vars, uint64_t mask, bint exact, State state, int64_t key, tuple base):
    """A Restore for these differences, still without the Query."""
    cdef Restore found = Restore.__new__(Restore)
    found.vars = vars
    found.mask = mask
    found.exact = exact
    found.base = base
    found.session_state = state
    found.transition_key = key
    found.pending = []
    found.uncertain = state is not None and is_uncertain(state)
    return found


cdef bytes in_transaction(bytes sql):
    """The text of a Query that does this in a transaction: if it fails, that one stays open and failed.

    The isolation level matters only to what takes a snapshot: as DEFERRABLE, it could wait for others.
    """
    if b"SELECT " in sql or b"LISTEN " in sql:
        return b"BEGIN ISOLATION LEVEL READ COMMITTED;" + sql + b"COMMIT"
    return b"BEGIN;" + sql + b"COMMIT"


cdef inline bint same(bytes a, bytes b) noexcept:
    if a is None or b is None:
        return a is b
    return len(a) == len(b) and memcmp(<char *>a, <char *>b, len(a)) == 0


cdef bytes build_transition(State old, State new, bint person, set omit):
    cdef list parts = []
    cdef frozenset before = old.names
    cdef list changed
    if not person and (ROLE in before or AUTHORIZATION in before):
        person = any([is_privileged(name) for name in before | new.names])
    if "role" in omit:
        person = False
    # What the former role could not set, the session's own user can; the new role comes last.
    if person and AUTHORIZATION in before:
        parts.append(b"RESET SESSION AUTHORIZATION;")
    if person and (ROLE in before or AUTHORIZATION in before):
        parts.append(b"RESET ROLE;")
    if "settings" not in omit:
        for name in before:
            if (name not in new.settings or name in EXCLUSIVE) and name != ROLE and name != AUTHORIZATION:
                parts.append(reset(name))
        changed = list(new.settings.items())
        if not EXCLUSIVE.isdisjoint(new.names):
            changed.sort(key=comes_later)
        for name, value in changed:
            if name != ROLE and name != AUTHORIZATION:
                parts.append(assignment(name, value) if "values" not in omit else assignment_as_it_is(name, value))
    if "listen" not in omit:
        add_channels(parts, old.channels, new.channels)
    if person:
        for name in (AUTHORIZATION, ROLE):
            if name in new.settings:
                parts.append(assignment(name, new.settings[name]))
    return b"".join(parts)


def comes_later(item):
    """Sort key: settings that exclude each other, those that are on behind those that are off."""
    name, value = item
    return name in EXCLUSIVE and value != b"off"


cdef int add_channels(list parts, frozenset before, frozenset after) except -1:
    if before and not after:
        parts.append(b"UNLISTEN *;")
        return 0
    for channel in before - after:
        parts.append(about_channel(b"UNLISTEN ", channel))
    for channel in after - before:
        parts.append(about_channel(b"LISTEN ", channel))
    return 0


cdef bytes about_channel(bytes command, bytes channel):
    if channel.isascii():
        return command + quote_identifier(channel) + b";"
    return do_execute(b"pg_catalog.format('" + command + b"%I'," + sql_text(channel) + b")") + b";"


cdef bytes call(bytes name, bytes value):
    """An expression that sets it; what it gives back is no text, which the client's encoding might not have."""
    return b"pg_catalog.set_config(" + sql_text(name) + b"," + sql_text(value) + b",false) IS NULL"


cdef bytes taken_off(State state):
    """The SQL that leads from a state to its `rest`."""
    return b"".join([reset(name) for name in state.names - state.rest.names])


cdef bint is_uncertain(State new):
    """Whether PostgreSQL may refuse on one server what it accepts on another."""
    return not UNCERTAIN.isdisjoint(new.names)
