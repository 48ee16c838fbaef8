"""Parts of a client connection, each with one purpose."""

from pgferry.engine.wire.address cimport local_address

cdef enum:
    PREPARINGS = 16         # texts that one name may have been prepared with since the server was asked

cdef bytes ANY = b""        # in SessionTracker.preparing


cdef class ClientPeer:
    """Both ends of the connection, and the client's cancel key."""

    cdef int restore(self, object about) except -1:
        """What another process has known of it."""
        self.is_unix, self.address, self.listen_port = about["unix"], about["address"], about["port"]
        self.peer_pid, self.peer_uid = about["peer"]
        self.cancel_key = about["key"]
        return 0

    cdef bytes own_end(self, int fd):
        """Where the client has come to, a struct sockaddr; its socket is asked once."""
        if self.own_address is None:
            self.own_address = local_address(fd)
        return self.own_address


cdef class SessionTracker:
    """What the client's session holds, wherever its server is."""

    cdef int may_prepare(self, bytes name, bytes text, ParseSettings settings) except -1:
        """A PREPARE gives this to the name, if it succeeds; settings None: nobody knows what it is executed under."""
        cdef set found
        if self.preparing is None:
            self.preparing = {}
        found = self.preparing.setdefault(name, set())
        found.add((text, settings) if len(found) < PREPARINGS else (None, None))
        return 0

    cdef int may_prepare_any(self) except -1:
        """Code that nobody has read may prepare anything, under settings that nobody knows."""
        if self.preparing is None:
            self.preparing = {}
        self.preparing[ANY] = {(None, None)}
        return 0

    cdef int keep_prepared(self, bytes name, tuple value) except -1:
        """From now on PostgreSQL shows another text for this statement."""
        self.sql = {**self.sql, name: value}        # another dict: others may start with this one
        return 0

    cdef int forget_prepared(self, bytes name) except -1:
        """It is closed."""
        if self.sql is not None and name in self.sql:
            self.sql = {key: value for key, value in self.sql.items() if key != name} or None
        return 0

    cdef dict end_asking(self):
        """The probe is answered: what may have been prepared until then."""
        cdef dict found = self.asked_preparing
        self.asked_preparing = None
        return {} if found is None else found

    cdef int ask_again(self) except -1:
        """The probe has failed: what may have been prepared is to be asked again."""
        for name, found in self.end_asking().items():
            if self.preparing is None:
                self.preparing = {}
            self.preparing[name] = self.preparing.get(name, set()) | found
        return 0


cdef class Subscription:
    """LISTENs under way, and notifications that wait."""

    cdef int listens_to(self, list channels) except -1:
        """A LISTEN to these is sent now."""
        self.awaited = (self.awaited or set()) | set(channels)
        self.sent_listens = (self.sent_listens or set()) | set(channels)
        return 0

    cdef set settle(self):
        """The probe is answered: the channels whose LISTENs that settles; others may still be under way."""
        cdef set settled = self.asked_listens or set()
        if self.sent_listens is not None:
            settled = settled - self.sent_listens
        self.asked_listens = None
        if self.awaited is not None:
            self.awaited = (self.awaited - settled) or None
            if self.awaited is None:
                self.chained = False
        return settled

    cdef int ask_again(self) except -1:
        """The probe has failed: the next one settles them."""
        if self.asked_listens:
            self.sent_listens = (self.sent_listens or set()) | self.asked_listens
        return 0

    cdef int make_sure(self) except -1:
        """What has come for a channel that the client listens to is for it, even if it stops listening now."""
        if self.deferred is not None:
            self.deferred = [(item, SURE if how == LISTENED else how) for item, how in self.deferred]
        return 0

    cdef int drop_early(self) except -1:
        """What has come before its LISTENs can count is not for it."""
        return self.keep([(item, how) for item, how in self.deferred if how != EARLY], 0)

    cdef int defer(self, object item, int how, size_t size) except -1:
        """Keep a notification of so many bytes for it."""
        if self.deferred is None:
            self.deferred = []
            self.held_size = 0
        self.deferred.append((item, how))
        self.early += how == EARLY
        self.held_size += size
        return 0

    cdef int gave(self, Py_ssize_t count) except -1:
        """The client has got so many, oldest first; none of them was EARLY."""
        self.deferred = self.deferred[count:] or None
        return 0

    cdef int forget(self) except -1:
        """The client has left."""
        self.awaited = self.sent_listens = self.asked_listens = None
        self.deferred = None
        self.early = 0
        self.barrier_passed = False
        return 0


NO_SUBSCRIPTION = Subscription()
