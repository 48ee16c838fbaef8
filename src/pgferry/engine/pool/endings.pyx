"""Ends of clients and servers: in order, by a fault, or because the other end is gone."""

from libc.stdint cimport uint32_t

from pgferry.engine.core.effects cimport CANNOT_ASK
from pgferry.engine.core.enums cimport CL_ACTIVE, CL_CLOSING, CL_GONE, P_PROBE, SV_GONE, SV_LOGIN
from pgferry.engine.core.model cimport Client, Engine, Job, Pool, Server
from pgferry.engine.core.plan cimport F_SERVER_OP, F_SWALLOW, K_CLOSE, K_QUERY
from pgferry.engine.io.stream cimport PAUSE_CLOSE, PAUSE_NEWS, PAUSE_PEER, PAUSE_STALL, PAUSE_WAIT, Stream
from pgferry.engine.io.text cimport Text
from pgferry.engine.pool.scrubbing cimport finish_alone, lose_scrubbed, scrubs_only
from pgferry.engine.pool.waking cimport place_is_free
from pgferry.engine.session.catalog cimport end_defining
from pgferry.engine.session.notifications cimport stop_listening
from pgferry.engine.session.pins cimport pin_reasons, unhold, unpin
from pgferry.engine.session.replay cimport try_elsewhere
from pgferry.engine.session.unsure cimport forget_unsure
from pgferry.engine.session.watching cimport count_end
from pgferry.engine.session.wipe cimport scrub
from pgferry.engine.wire.messages cimport error_message


cdef int close_client(Client c, str reason, str error=None, str sqlstate="08P01") except -1:
    """End a client, with a FATAL error when there is one to give. Its server goes back if clean, else it closes."""
    cdef Engine engine = c.engine
    cdef Server s = c.server
    cdef bytes message
    if c.state >= CL_CLOSING:
        return 0
    count_end(engine, "refused" if c.login is not None else "client", reason)
    if c.login is not None:
        c.login.abandon(c)
    c.enter(CL_CLOSING)
    c.pause(PAUSE_CLOSE)
    if error is not None and not (s is not None and mid_message(s)):
        if engine.settings.log_pooler_errors:
            engine.log_about(c, "WARNING", f"pooler error: {error}")
        message = error_message("FATAL", sqlstate, error)
        c.put(message, len(message))
    if engine.settings.log_disconnections:
        say_closing(engine, c, reason, c.loop.now - c.times.accepted)
    c.drop_login()          # only now: the lines above name who tried to log in
    if s is not None:
        detach_from_server(c, s)
    if c.tunnel is not None:
        c.tunnel.detach()
        c.leave_console()
    forget_client(c)
    c.forget_input()
    engine.connecting.closing.append(c)
    if not c.blocked and not c.broken:
        c.flush()
    if c.unsent() == 0 or c.broken:
        return finish_closing(c)
    return 0


cdef int say_closing(Engine engine, Stream who, str reason, double age) except -1:
    cdef Text line = engine.begin_line(who, "LOG")
    line.raw(b"closing because: ", 17)
    line.put(reason)
    line.raw(b" (age=", 6)
    line.number(<long long>age)
    line.raw(b"s)", 2)
    return engine.log.end()


cdef int detach_from_server(Client c, Server s) except -1:
    """The client of this server has left (state is CL_CLOSING)."""
    cdef bint half_sent = c.passing != 0
    if s.replication:
        return s.pool.detach_for_good(c, s)
    if s.is_clean() and not half_sent:
        return s.release()
    c.unlink(s)
    s.unpause(PAUSE_PEER)
    if scrubs_only(s):
        return finish_alone(s)
    if only_probed(s) and not half_sent and not c.pin.pins & CANNOT_ASK and not s.probe.asked_effects & CANNOT_ASK:
        c.pool.count("scrubs", "client left")
        return scrub(s)         # behind the probe
    if s.status == b"T" or s.status == b"E":
        return s.close("client disconnect while server was not ready")
    return s.close("client disconnected with query in progress")


cdef bint asks_only(Server s) noexcept:
    """Whether the server owes the answer to a probe and nothing else."""
    return (s.plan.size() == 1 and s.plan.front().kind == K_QUERY and s.plan.front().flags & F_SWALLOW
            and s.plan.front().number == P_PROBE)


cdef bint only_probed(Server s) noexcept:
    """Whether nothing but a probe is under way."""
    return (asks_only(s) and s.xact == b"I" and s.held.size == 0 and s.relay.passing == 0
            and s.unsent() == 0 and not s.broken and not s.closed)


cdef int forget_client(Client c) except -1:
    """Take the client out of every count and map."""
    cdef Engine engine = c.engine
    if c.peer.cancel_key is not None:
        engine.cancel_keys.by_key.pop(c.peer.cancel_key, None)
    c.names.clear(engine.table)
    unpin(c)
    stop_listening(c)
    if c.uncount():
        engine.client_count.give()
        if c.db is not None:
            c.db.clients.give()
            c.db.use(c.loop.now)
        if c.user is not None:
            c.user.clients.give()
    return 0


cdef int finish_closing(Client c) except -1:
    """The last bytes are sent (or nobody will take them)."""
    c.enter(CL_GONE)
    if c.home is not None:
        c.home.remove(c)
    return c.detach()


cdef int client_gone(Client c) except -1:
    """End of the client's stream, or a send to it failed."""
    if c.state >= CL_CLOSING:
        return finish_closing(c)
    c.lost_connection()
    return c.close("client unexpected eof" if c.tls is None else c.tls.ending("client unexpected eof"))


cdef int client_hung_up(Client c) except -1:
    """A paused client's socket was shut: one that waits, for a server or for an answer, will never read it."""
    if c.state == CL_CLOSING:
        c.lost_connection()
        return finish_closing(c)
    if c.paused & (PAUSE_WAIT | PAUSE_STALL | PAUSE_NEWS):
        return client_gone(c)
    return 0


cdef int close_server(Server s, str reason) except -1:
    """Close a server that has no client (any more) and free its slot."""
    cdef Pool pool = s.pool
    cdef Client c = s.client
    cdef Job job
    if s.state == SV_GONE:
        return 0
    if c is not None:
        c.unlink(s)
    count_end(pool.engine, "server", reason)
    if pool.engine.settings.log_disconnections:
        say_closing(pool.engine, s, reason, s.loop.now - s.ends.created)
    if s.state != SV_LOGIN and not s.broken and s.unsent() == 0 and s.fd >= 0 and s.status:
        s.put(b"X\0\0\0\4", 5)
        s.flush()
    forget_closes(s)
    s.enter(SV_GONE)
    forget_unsure(s)
    if s.unsure.ddl:
        end_defining(s)
    s.drop_login()
    s.prepared.clear()
    s.detach()
    job = s.job
    s.serves(None)
    if s.internal:
        return job.closed(s, reason)        # it is outside the limits of the pool
    pool.slots.give()
    pool.db.servers.give()
    pool.user.servers.give()
    place_is_free(pool)
    if pool.server_count() == 0:
        pool.is_empty()
    if job is not None:
        job.closed(s, reason)
    if c is not None:
        c.close(reason, None if mid_message(s) else "server conn crashed?")
    if pool.reserved_for is not None:
        pool.reserved_for.want_servers()
    return pool.want_servers()


cdef bint mid_message(Server s) noexcept:
    """Whether the client has part of a message: an error of ours would be taken for the rest of it."""
    return s.relay.passing != 0 and s.relay.passing_on


cdef int forget_closes(Server s) except -1:
    """Let go of the statements whose Close is not answered."""
    cdef uint32_t i
    for i in range(s.plan.size()):
        if s.plan.at(i).kind == K_CLOSE and s.plan.at(i).flags & F_SERVER_OP:
            s.prepared.closed(s.plan.at(i).number)
    return 0


cdef int fail_server(Server s, str reason, str error) except -1:
    """Close a server for a fault of its own; its client, if any, is told `error`."""
    cdef Client c = s.client
    cdef Job job
    if s.replication and s.job is not None:
        job = s.job
        return job.login_failed(s, reason, None)
    s.not_ready()
    if c is not None:
        c.unlink(s)
    s.close(reason)
    if c is not None:
        c.close(reason, None if mid_message(s) else error)
    return 0


cdef int server_gone(Server s) except -1:
    """End of the server's stream, or a send to it failed."""
    if s.state == SV_GONE:
        return 0
    s.lost_connection()
    if s.login is not None:
        s.login.failed(s, "server conn crashed?" if s.tls is None else s.tls.ending("server conn crashed?"), None)
        return 0
    if scrubs_only(s):
        return lose_scrubbed(s, "server conn crashed?")
    if s.relay.streamed and s.plan.size():
        return s.fail("end of replication", None)   # so PostgreSQL ends a stream when it is shut down
    if s.client is not None and s.plan.size() and try_elsewhere(s, s.client, "server conn crashed?"):
        return 0
    if s.client is not None and s.xact == b"I" and s.client.state == CL_ACTIVE and (
            asks_only(s) or (s.client.pin.pins and s.plan.size() == 0)):
        return state_lost(s)
    return s.fail("server conn crashed?", "server conn crashed?")


cdef int state_lost(Server s) except -1:
    """The client waits for nothing, but its session state has gone, or nobody can tell any more what it is."""
    cdef Client c = s.client
    cdef str text
    unhold(c)                   # while the catalog is read nobody has asked yet; that is no state
    if s.plan.size() or c.pin.pins == 0:
        text = f"server connection lost before PostgreSQL told what it held of the session, after {c.reason}"
    else:
        text = f"server connection lost, and with it session state: {pin_reasons(c)}, by {c.reason}"
    if s.injected.error is not None:
        text += f": {s.injected.error.get('M', '?')}"
    c.pool.count("losses", c.reason or "")
    s.not_ready()
    c.unlink(s)
    s.close("server conn crashed?")
    return c.close("session state lost with its server", text, "08006")
