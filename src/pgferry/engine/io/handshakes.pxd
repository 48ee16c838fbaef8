# Handshakes of TLS, in their turn.
from pgferry.engine.io.stream cimport Reactor, Stream

cdef int start_tls(Stream s, object context, bint server_side, object hostname=*, bytes first=*) except -1
cdef int shake_hands(Reactor loop) except -1
