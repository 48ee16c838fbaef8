# Streams with TLS: handshakes in their turn, receiving, what TLS itself has to say.
from pgferry.engine.io.loop cimport Loop, Stream

cdef int start_tls(Stream s, object context, bint server_side, object hostname=*, bytes first=*) except -1
cdef int shake_hands(Loop loop) except -1
cdef int receive_tls(Stream s) except -1
cdef int say_goodbye(Stream s) except -1
