# TLS of one stream: OpenSSL, through Python's ssl objects, between the bytes of a socket and those of a stream.

cdef class Channel:
    cdef object incoming            # ssl.MemoryBIO: records for OpenSSL
    cdef object outgoing            # ssl.MemoryBIO: records from OpenSSL
    cdef char *wire                 # the one buffer that records are received into
    cdef size_t size


cdef class Tls:
    cdef Channel channel
    cdef readonly object ssl        # ssl.SSLObject
    cdef readonly bint shaking      # the handshake is not over
    cdef readonly bint more         # bytes wait here, or may wait in the kernel, although no edge will come for them
    cdef readonly str failure       # why it broke; None: it did not
    cdef bytes reply                # records that are to be sent now: None, or what OpenSSL put out
    cdef bytes pending_ciphertext                 # received records that OpenSSL has not been given
    cdef bytes hello                # a client's first record, until it is complete; None: it was
    cdef bint opening               # the first step of the handshake needs no input
    cdef bint pending               # decrypted bytes are left within OpenSSL
    cdef bint unread                # the last receive filled its room
    cdef bint ended                 # the peer has said that nothing more will come
    cdef bint parted                # close_notify is sent
    cdef bint queued                # is in the loop's list of handshakes

    cdef inline bytes take_reply(self):
        # The records that are to be sent now; None: none.
        cdef bytes records = self.reply
        self.reply = None
        return records

    cdef inline bint wait_for_turn(self) noexcept:
        # Its handshake waits for its turn. False: it did already.
        if self.queued:
            return False
        self.queued = True
        return True

    cdef inline bint begin_turn(self) noexcept:
        # The turn of its handshake has come. False: it did not wait for it.
        if not self.queued:
            return False
        self.queued = False
        return True

    cdef ssize_t receive(self, int fd, char *at, size_t room) except -3
    cdef bytes seal(self, const char *first, size_t n, const char *second, size_t m)
    cdef int shake(self, int fd) except -2
    cdef bytes goodbye(self)
    cdef ssize_t fetch(self, int fd, size_t room) except -3
    cdef size_t decrypt(self, char *at, size_t room) except? 0
    cdef bint greeting_version(self, bytes data) except -1
    cdef int write(self, const char *data, size_t n) except -1
    cdef int clear(self) except -1
    cdef int fail(self, error) except -1
