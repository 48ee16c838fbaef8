"""TLS for one stream: OpenSSL, through Python's ssl objects, between the bytes of a socket and those of a stream.

The stream asks receive() instead of recv() and sends what seal() makes of its bytes; its buffers for unsent bytes
hold records, those for input hold plain bytes. Nothing else knows of TLS.

All connections of a worker share one pair of memory BIOs, so an idle connection owns neither BIO nor buffer. Each
call here leaves both BIOs empty: records that OpenSSL was not ready for go back to the connection
(pending_ciphertext), records
that it has made go to the caller. Should a byte ever get into the wrong connection it fails that one's MAC.

Bytes may wait in three places while the socket is silent: in `pending_ciphertext`,
decrypted within OpenSSL (pending), and in the
kernel when a receive filled its room (unread). `more` says so, and the stream must come back without an edge.
"""

import ssl

from pgferry.tls.hello import NO_PROTOCOL_ALERT, PROTOCOL, offered_protocols

from cpython.buffer cimport PyBUF_READ, PyBUF_WRITE
from cpython.memoryview cimport PyMemoryView_FromMemory
from libc.errno cimport EAGAIN, EINTR, errno
from libc.stdlib cimport free, malloc

from pgferry.engine.io.sys cimport MSG_DONTWAIT, be16, recv

cdef enum:
    WIRE = 256 * 1024           # as the loop's receive buffer
    RECORD = 16 * 1024 + 261    # the largest first record that is worth waiting for


cdef class Channel:
    """What the TLS connections of a worker share."""

    def __cinit__(self):
        self.size = WIRE
        self.wire = <char *>malloc(WIRE)
        if self.wire == NULL:
            raise MemoryError()
        self.incoming = ssl.MemoryBIO()
        self.outgoing = ssl.MemoryBIO()

    def __dealloc__(self):
        free(self.wire)


cdef class Tls:
    """One connection's TLS. `first`: records that have been received already."""

    def __init__(self, Channel channel, context, bint server_side, hostname=None, bytes first=None):
        self.channel = channel
        self.ssl = context.wrap_bio(channel.incoming, channel.outgoing, server_side, hostname)
        self.shaking = True
        self.opening = not server_side
        self.hello = b"" if server_side else None
        self.pending_ciphertext = first

    @property
    def info(self):
        """`TLSv1.3/TLS_AES_256_GCM_SHA384`; empty before the handshake is over."""
        if self.shaking:
            return ""
        return f"{self.ssl.version()}/{self.ssl.cipher()[0]}"

    def ending(self, otherwise):
        """Why the connection has ended, as far as TLS knows."""
        if self.failure is None:
            return "TLS handshake not finished" if self.shaking else otherwise
        return f"TLS {'handshake failed' if self.shaking else 'error'}: {self.failure}"

    cdef ssize_t receive(self, int fd, char *at, size_t room) except -3:
        """As recv(): the number of bytes put at `at`, 0 at the end of the stream, -1 when there are none now.

        A broken connection (see failure) ends like one that was closed.
        """
        cdef ssize_t n
        while True:
            if self.ended:
                self.more = False
                return 0
            if self.pending_ciphertext is not None:
                data, self.pending_ciphertext = self.pending_ciphertext, None
                self.channel.incoming.write(data)
            elif not self.pending:
                n = self.fetch(fd, min(room, self.channel.size))
                if n <= 0:
                    self.more = False
                    return n
            n = self.decrypt(at, room)
            self.more = self.pending or self.unread or self.ended or self.pending_ciphertext is not None
            if n > 0 or not self.more:
                return n if n > 0 else -1

    cdef ssize_t fetch(self, int fd, size_t room) except -3:
        """Records from the socket into the BIO: how many bytes, 0 at the end, -1 when there are none now."""
        cdef ssize_t n
        while True:
            n = recv(fd, self.channel.wire, room, MSG_DONTWAIT)
            if n > 0:
                self.unread = <size_t>n == room
                self.channel.incoming.write(PyMemoryView_FromMemory(self.channel.wire, n, PyBUF_READ))
                return n
            self.unread = False
            if n == 0 or errno != EINTR:
                return -1 if n < 0 and (errno == EAGAIN or fd < 0) else 0

    cdef size_t decrypt(self, char *at, size_t room) except? 0:
        """What the BIO holds, in plain, as far as there is room for it."""
        cdef size_t got = 0, n
        self.pending = False
        try:
            while got < room:
                n = self.ssl.read(room - got, PyMemoryView_FromMemory(at + got, room - got, PyBUF_WRITE))
                if n == 0:
                    self.ended = True
                    break
                got += n
                if got == room:
                    self.pending = self.ssl.pending() > 0
                elif not self.channel.incoming.pending:
                    break
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLError as error:
            self.fail(error)
        finally:
            self.clear()
        return got

    cdef bytes seal(self, const char *first, size_t n, const char *second, size_t m):
        """The records that carry these bytes; none when the connection is not, or no longer, in use."""
        if self.shaking or self.parted or self.failure is not None:
            return b""
        try:
            self.write(first, n)
            self.write(second, m)
        except ssl.SSLError as error:
            self.fail(error)
        finally:
            self.clear()
        data, self.reply = self.reply, None
        return data or b""

    cdef int write(self, const char *data, size_t n) except -1:
        cdef size_t taken
        while n:
            taken = self.ssl.write(PyMemoryView_FromMemory(<char *>data, n, PyBUF_READ))
            data += taken
            n -= taken
        return 0

    cdef int shake(self, int fd) except -2:
        """One step of the handshake: 1 when it is over, 0 when more must come first, -1 when it has failed."""
        cdef ssize_t n
        self.unread = self.more = False
        if self.pending_ciphertext is not None:
            data, self.pending_ciphertext = self.pending_ciphertext, None
            self.channel.incoming.write(data)
        elif not self.opening:
            n = self.fetch(fd, RECORD)
            if n <= 0:
                return -1 if n == 0 else 0
        self.opening = False
        if self.hello is not None and not self.greeting_version(self.hello + self.channel.incoming.read()):
            self.more = self.unread
            return 0 if self.failure is None else -1
        try:
            self.ssl.do_handshake()
            self.shaking = False
        except ssl.SSLWantReadError:
            pass
        except (ssl.SSLError, ssl.CertificateError) as error:
            self.fail(error)
        finally:
            self.clear()
        self.more = self.unread or self.pending_ciphertext is not None
        return -1 if self.failure is not None else not self.shaking

    cdef bint greeting_version(self, bytes data) except -1:
        """Look at a client's first record before OpenSSL gets it: it does not tell which protocols were offered.

        False: more must come first, or the client wants to speak something else (a web browser that was led here).
        """
        if len(data) < 5:
            self.hello = data
            return False
        size = 5 + be16(<const char *>data + 3)
        if data[0] == 0x16 and len(data) < size <= RECORD:
            self.hello = data
            return False
        self.hello = None
        offered = offered_protocols(data)
        if offered is not None and PROTOCOL not in offered:
            self.failure = "no application protocol in common"
            self.reply = NO_PROTOCOL_ALERT
            return False
        self.channel.incoming.write(data)
        return True

    cdef bytes goodbye(self):
        """The close_notify record, if one may be sent."""
        if self.shaking or self.parted or self.failure is not None:
            return b""
        self.parted = True
        try:
            self.ssl.unwrap()
        except OSError:
            pass            # always: the peer has not answered yet, and we do not wait for it
        finally:
            self.clear()
        data, self.reply = self.reply, None
        return data or b""

    cdef int clear(self) except -1:
        """Leave both BIOs empty."""
        if self.channel.incoming.pending:
            self.pending_ciphertext = self.channel.incoming.read()
        if self.channel.outgoing.pending:
            made = self.channel.outgoing.read()
            self.reply = made if self.reply is None else self.reply + made
        return 0

    cdef int fail(self, error) except -1:
        """Nothing more can be read or written. What OpenSSL calls it becomes readable: unknown ca."""
        why = getattr(error, "verify_message", None) or getattr(error, "reason", None) or str(error)
        self.failure = why.lower().replace("_", " ").rstrip(".")
        self.ended = True
        return 0
