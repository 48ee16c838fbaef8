# What is known of a client before it is logged in.
from pgferry.engine.client.startup cimport Startup
from pgferry.engine.core.model cimport Client, Server


cdef class Login:
    cdef public str username
    cdef public str database
    cdef public str rights          # console: admin or stats; "" elsewhere
    cdef Startup startup            # the startup packet
    cdef public bint authenticated
    cdef readonly bint over         # the client is being closed
    cdef object method              # of the exchange under way
    cdef object secret
    cdef bint possible              # False: the exchange is held for show
    cdef str kind                   # how the client has to prove who it is: auth_type, or of an HBA rule
    cdef object rule                # that HBA rule, or None
    cdef object found               # (user name, secret) that auth_query, LDAP or PAM gave, or None
    cdef str failure                # why auth_query could not be asked: said at the end of the exchange
    cdef tuple keys                 # (stored secret, client key, server key) of its SCRAM exchange
    cdef object exchange
    cdef bytes salt
    cdef bint plus                  # with channel binding
    cdef bytes negotiate            # NegotiateProtocolVersion, sent with the first answer
    cdef int negotiations           # SSLRequests and GSSENCRequests so far
    cdef bint starting              # the startup packet has been read
    cdef int expected               # SASL messages so far, or 1 for a password message
    cdef Server server              # replication: the one that is to be its own, as soon as it is connecting
    cdef bytes reported             # ParameterStatus messages of that server: those that are not tracked
    cdef int asking                 # answers of PostgreSQL due that the greeting waits for (canonical)
    cdef bint asked                 # it is not to be asked again
    cdef dict wrong                 # the error to a value of the startup packet; None: there was none
    cdef bytes final_sasl_message             # the last SASL message, sent with AuthenticationOk

    cdef int proceed(self, Client c) except -1        # it is who it says (client.login). Raises Refused


cdef int refuse(Client c, object error) except -1
