"""Errors of authentication and the texts that clients and logs see (COMPAT 4.9)."""

from typing import Final

# PgBouncer reports every error of its own as protocol_violation; clients and dashboards know it so.
SQLSTATE: Final = "08P01"

PASSWORD_FAILED: Final = "password authentication failed"
SASL_FAILED: Final = "SASL authentication failed"
LDAP_FAILED: Final = "LDAP authentication failed"
PAM_FAILED: Final = "PAM authentication failed"
TRUST_FAILED: Final = '"trust" authentication failed'
EMPTY_PASSWORD: Final = "empty password returned by client"
WRONG_MECHANISM: Final = "client selected an invalid SASL authentication mechanism"
PASSWORD_TOO_LONG: Final = "password too long"

WRONG_PASSWORD_TYPE: Final = "wrong password type"
INVALID_SERVER_SIGNATURE: Final = "invalid server signature"
NO_COMMON_MECHANISM: Final = "none of the server's SASL authentication mechanisms are supported"


class Refused(Exception):
    """A login ends here; the text is what the client is told."""


class AuthError(Exception):
    """A login that must be refused.

    ``message`` is safe to send to a client and never tells whether the user exists; ``detail`` is the exact
    reason, for the log only; ``sqlstate`` is the code for the client.
    """

    def __init__(self, message: str, detail: str = "", sqlstate: str = SQLSTATE) -> None:
        super().__init__(f"{message}: {detail}" if detail else message)
        self.message = message
        self.detail = detail
        self.sqlstate = sqlstate


class ServerAuthError(AuthError):
    """Our own login to a PostgreSQL server failed; the message says ``server login failed: REASON``."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(f"server login failed: {reason}", detail)
        self.reason = reason
