"""Notifications in transaction mode: one listening server connection for each database.

A client's LISTEN runs in its own transaction on whichever server it has, so that PostgreSQL decides; what counts
afterwards is what a probe finds (State.channels). Before it is sent, this connection listens to the channel as
well; from then on the client's notifications come from here, in the order of commits. Those that arrive while the
LISTEN is not yet known to have succeeded are kept aside; before it is sent, this connection has answered a query, so
that what was committed earlier is not taken for something that came after it. A client that listens and notifies has
its ReadyForQuery held back until this connection has answered an empty query sent behind the commit: as on a direct
connection it then has its own notifications already. This connection and the client's server are read in any order,
so what comes for a client that has a server is deferred, in order, until it is known whether the client still
listens. The connection itself is in services.notification_listener.
A client that does not wait for answers is held where it would otherwise change what it listens to too early
(may_stop(), client.relay.is_settled()).
"""

from pgferry.engine.core.client_parts cimport EARLY, LISTENED, SURE, Subscription
from pgferry.engine.core.effects cimport LISTEN
from pgferry.engine.core.enums cimport CL_CLOSING
from pgferry.engine.core.model cimport Client, Server
from pgferry.engine.io.stream cimport PAUSE_NEWS, PAUSE_STALL

from libc.stdint cimport uint32_t

cdef enum:
    MOST_UNREAD = 1 << 24       # bytes of notifications a client may leave unread, or that may wait for it

cdef bytes READY = b"Z\0\0\0\5I"


cdef class Notification:
    """A message for those who listen to a channel; see services.notification_listener."""

    cdef bytes bytes_for(self, Client c):
        raise NotImplementedError

    cdef int wait(self, Client c) except -1:
        raise NotImplementedError


cdef class Listener:
    """The listening connection of a database in this worker; see services.notification_listener."""

    cdef bint is_up(self) noexcept:
        return False

    cdef int barrier(self) except -1:
        raise NotImplementedError

    cdef int notify_barrier(self, Client c) except -1:
        raise NotImplementedError

    cdef int listen(self, channels) except -1:
        raise NotImplementedError

    cdef int wait(self, Client c) except -1:
        raise NotImplementedError

    cdef list channels_of(self, Client c, tuple names):
        raise NotImplementedError


# --- what a client listens to -----------------------------------------------------------------------------------

cdef bint listens(Client c) except -1:
    """Whether the client listens, or may be listening soon."""
    return c.subscription.awaited is not None or bool(c.tracker.session_state.channels)


cdef bint may_listen(Client c, tuple names) except -1:
    """Whether a LISTEN may be sent. False: the client waits until this connection listens too, and is up to date.

    names: of the channels in its text. One that the listening connection is refused goes to PostgreSQL all the same,
    whose answer the client gets.
    """
    cdef Listener listener = c.engine.listener_of(c.db)
    cdef list channels = listener.channels_of(c, names)
    cdef list missing
    cdef bint new
    if channels is None:
        listener.wait(c)
        return False
    c.db.listening.put(1)
    for channel in channels:
        listener.listeners.setdefault(channel, set()).add(c)
    missing = [channel for channel in channels if channel not in listener.live and channel not in listener.refused]
    new = not (c.tracker.session_state.channels | (c.subscription.awaited or frozenset())).issuperset(channels)
    if not missing and (not new or 0 < listener.due.get(c, 0) <= listener.answered):
        listener.due.pop(c, None)
        c.own_subscription().listens_to(channels)
        return True
    listener.wait(c)
    if new and c not in listener.due:
        listener.due[c] = listener.sent + 1
    listener.listen(missing)
    if listener.is_up() and listener.due.get(c, 0) > listener.sent:
        listener.barrier()           # all that is missing has been asked for already, for another client
    return False


cdef bint may_stop(Client c, Server s, bint also_listens) except -1:
    """Whether a statement that may end a LISTEN may be sent. False: the client waits.

    What it sent before is answered first, and what was committed meanwhile has come for it (unless the statement
    listens as well: then may_listen() sees to that), for nobody looks for it afterwards. In a transaction that includes
    what is committed while it runs, of which nobody can tell whether it was before.
    """
    cdef Listener listener = c.db.listener
    if (s.plan.turns and not s.relay.copy_in) or s.probe.asked_effects & <uint32_t>LISTEN:
        c.pause(PAUSE_STALL)
        return False
    if s.xact == b"E":
        return True
    if listener is not None and listener.is_up() and not also_listens:
        if c not in listener.due:
            listener.due[c] = listener.sent + 1
            listener.barrier()
        if listener.due[c] > listener.answered:
            listener.wait(c)
            return False
    if listener is not None and not also_listens:
        listener.due.pop(c, None)        # also when the connection was lost: the next wait is for a query of its own
    if c.subscription.deferred is not None:
        c.subscription.make_sure()
        if s.xact == b"I":
            flush_deferred(c)
    return True


cdef int take_channels(Client c, frozenset channels) except -1:
    """A probe has told which channels the client listens to."""
    cdef Listener listener
    cdef set settled = c.subscription.settle()
    cdef set before = settled | c.tracker.session_state.channels
    if c.subscription.deferred is not None:
        sort_deferred(c, settled, channels)    # release_server() comes next
    if c.db.listener is None and not channels:
        return 0
    listener = c.engine.listener_of(c.db)
    for channel in before - channels:
        group = listener.listeners.get(channel)
        if group is not None and (c.subscription.awaited is None or channel not in c.subscription.awaited):
            group.discard(c)
    for channel in channels:
        listener.listeners.setdefault(channel, set()).add(c)
    missing = [channel for channel in channels if channel not in listener.live]
    if missing:
        c.db.listening.put(1)
        listener.listen(missing)         # a LISTEN inside a function: nobody could see it come
    return 0


cdef int sort_deferred(Client c, set settled, frozenset channels) except -1:
    """What of the deferred is for a client that listens to `channels`; of the LISTENs under way these are `settled`."""
    cdef list kept = []
    cdef Notification item
    cdef int early = 0
    for entry, how in c.subscription.deferred:
        item = <Notification>entry
        if (how == EARLY and item.channel not in settled and c.subscription.awaited is not None
                and item.channel in c.subscription.awaited):
            early += 1
        elif how != SURE and item.channel not in channels:
            continue
        elif how == EARLY:
            how = LISTENED
        kept.append((item, how))
    return c.subscription.keep(kept, early)


cdef int drop_early(Client c) except -1:
    """A statement begins in the transaction of a LISTEN: what has come so far was committed before that can count."""
    return c.subscription.drop_early()


cdef int stop_listening(Client c) except -1:
    """The client has left."""
    cdef Listener listener = c.db.listener if c.db is not None else None
    if listener is not None and (c.tracker.session_state.channels or c.subscription.awaited is not None):
        for channel in set(c.tracker.session_state.channels) | (c.subscription.awaited or set()):
            group = listener.listeners.get(channel)
            if group is not None:
                group.discard(c)
    if listener is not None:
        listener.blocked.discard(c)
    if listener is not None and listener.due.pop(c, None) is not None:
        for group in listener.listeners.values():
            group.discard(c)        # what it wants to listen to is not noted anywhere else yet
    return c.subscription.forget()


# --- deferred notifications --------------------------------------------------------------------------------------

cdef int send(Client c, Notification item, int how) except -1:
    """Give a client a notification, now or when its transaction is over and asked about."""
    if c.state >= CL_CLOSING:
        return 0
    c.own_subscription().defer(item, how, len(item.message))
    item.bytes_for(c)           # is asked for, if need be
    if is_idle(c):
        return flush_deferred(c)
    if c.subscription.held_size > MOST_UNREAD:       # or some of them are not kept any more
        c.subscription.held_size_is(sum([len((<Notification>kept).message) for kept, _how in c.subscription.deferred]))
    if c.subscription.held_size > MOST_UNREAD:
        c.close("too many notifications in a transaction", "too many notifications in a transaction")
    return 0


cdef bint is_idle(Client c) noexcept:
    """Whether the client is between transactions, and nothing is asked about them."""
    return c.server is None or (c.pin.pins and c.times.xact_start == 0 and c.server.plan.size() == 0)


cdef int flush_deferred(Client c) except -1:
    """Give a client what has come for it meanwhile, and the ReadyForQuery that was held back.

    It ends in front of what PostgreSQL still has to convert, and of what nobody knows yet whether it is for the client.
    """
    cdef list given = []
    cdef bytes message, messages
    cdef bint converting = False
    for item, how in c.subscription.deferred or ():
        message = (<Notification>item).bytes_for(c) if how != EARLY else None
        if message is None:
            converting = how != EARLY
            if converting:
                (<Notification>item).wait(c)
            break
        given.append(message)
    if given:
        c.subscription.gave(len(given))
        messages = b"".join(given)
        c.put(messages, len(messages))
        c.flush()
        if c.unsent() > MOST_UNREAD:
            return c.close("notifications left unread", "notifications left unread")
    if c.subscription.barrier_passed and not converting:
        c.subscription.send_ready()
        c.put(READY, 6)
        c.flush()
        return c.unpause(PAUSE_NEWS)
    return 0


cdef int flush_converted(Client c) except -1:
    """A deferred notification of the client's has been converted."""
    cdef Subscription sub = c.subscription
    if c.state >= CL_CLOSING or (c.server is not None and c.server.probe.asked_effects & <uint32_t>LISTEN):
        return 0
    if sub.barrier_passed or (sub.deferred is not None and is_idle(c)):
        return flush_deferred(c)
    return 0


cdef bint hold_ready(Client c) except -1:
    """Hold back the ReadyForQuery of a client that listens and has notified. False: there is nothing to wait for."""
    cdef Listener listener = c.db.listener
    if listener is None or not listener.is_up() or not (c.tracker.session_state.channels
                                                        or c.subscription.awaited is not None):
        return False
    c.pause(PAUSE_NEWS)
    listener.notify_barrier(c)
    return True


cdef int release(Client c) except -1:
    """The fence is passed: what came before it goes first.

    While PostgreSQL is asked what the client still listens to, that waits for release_server().
    """
    if c.state >= CL_CLOSING:
        return 0
    c.own_subscription().pass_barrier()
    if c.server is not None and c.server.probe.asked_effects & <uint32_t>LISTEN:
        return 0
    return flush_deferred(c)
