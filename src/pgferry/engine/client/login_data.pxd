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
    cdef Server server              # replication: the one that is to be its own, as soon as it is connecting
    cdef bytes reported             # ParameterStatus messages of that server: those that are not tracked
    cdef int asking                 # answers of PostgreSQL due that the greeting waits for (canonical)
    cdef bint asked                 # it is not to be asked again
    cdef dict wrong                 # the error to a value of the startup packet; None: there was none
    cdef bytes final_sasl_message             # the last SASL message, sent with AuthenticationOk

    # Above, see client.login:
    cdef int proceed(self, Client c) except -1      # it is who it says. Raises Refused
    cdef int finish(self, Client c) except -1       # its pool knows what to greet it with

    cdef bint take_answer(self) noexcept

    cdef inline int negotiate_again(self) noexcept:
        # SSLRequest or GSSENCRequest: how many there were.
        self.negotiations += 1
        return self.negotiations

    cdef inline int begin(self, Startup startup) noexcept:
        # The startup packet has come.
        self.starting = True
        self.startup = startup
        self.username = startup.username
        self.database = startup.database
        self.negotiate = startup.negotiate
        return 0

    cdef inline int may_use_console(self, str rights) noexcept:
        # It asks for the console; `rights`: of the user that it is, or says it is.
        self.rights = rights
        return 0

    cdef inline int prove_by(self, str kind, object rule) noexcept:
        # How it has to prove who it is, because of this HBA rule; None: because of auth_type.
        self.kind = kind
        self.rule = rule
        return 0

    cdef inline int looked_up(self, object found, str failure) noexcept:
        # What auth_query has told of its user, or why it could not be asked.
        self.found = found
        self.failure = failure
        return 0

    cdef inline int has_shown(self, object found) noexcept:
        # The password that somebody else has found right: (user name, secret).
        self.found = found
        return 0

    cdef inline int begin_exchange(self, object method, object secret, bint possible) noexcept:
        # A password or SASL message is due; `possible` False: whatever it is, it will be wrong.
        self.method = method
        self.secret = secret
        self.possible = possible
        return 0

    cdef inline int end_exchange(self) noexcept:
        # Nothing more may come until it is logged in.
        self.method = None
        return 0

    cdef inline int salt_is(self, bytes salt) noexcept:
        # What it is to hash its password with.
        self.salt = salt
        return 0

    cdef inline int begin_scram(self, bint plus) noexcept:
        # The client has chosen a mechanism; `plus`: with channel binding.
        self.plus = plus
        return 0

    cdef inline int continue_scram(self, object exchange) noexcept:
        # The verifier is there.
        self.exchange = exchange
        return 0

    cdef inline int end_scram(self, bytes message, tuple keys) noexcept:
        # The client has proved to know the password; `keys`: what opens servers, None: its secret does.
        self.final_sasl_message = message
        self.keys = keys
        return 0

    cdef inline int is_proved(self) noexcept:
        # The client is who it says.
        self.authenticated = True
        return self.end_exchange()

    cdef inline bytes take_negotiate(self):
        # NegotiateProtocolVersion, if it is still to be sent.
        cdef bytes message = self.negotiate
        self.negotiate = None
        return message

    cdef inline bint begin_asking(self) noexcept:
        # PostgreSQL may be asked how it writes values. False: it has been already.
        if self.asked:
            return False
        self.asked = True
        return True

    cdef inline int expect_answer(self) noexcept:
        # The greeting waits for one answer more.
        self.asking += 1
        return 0

    cdef inline int value_is_wrong(self, dict error) noexcept:
        # PostgreSQL does not take it.
        self.wrong = error
        return 0

    cdef inline int server_is(self, Server server) noexcept:
        # Replication: this one is being connected for it; None: it is lost.
        self.server = server
        return 0

    cdef inline int server_reported(self, bytes parameters) noexcept:
        # ParameterStatus messages of that server.
        self.reported = parameters
        return 0


cdef int finish_login(Client c) except -1
cdef int refuse(Client c, object error) except -1
