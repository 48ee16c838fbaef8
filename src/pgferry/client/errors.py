"""What can go wrong between a tool and the server that it asks."""

from pgferry.protocol.backend import ErrorResponse


class ClientError(Exception):
    """The other side did not do its part: it closed the connection, or sent what is no protocol."""


class QueryError(ClientError):
    """The server answered with an ErrorResponse; `fields` by their letters ("C" is the SQLSTATE)."""

    def __init__(self, answer: ErrorResponse) -> None:
        # A server's encoding may be another one; what is no UTF-8 must not make its message unprintable.
        self.fields = {
            code: text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
            for code, text in answer.fields
        }
        super().__init__(f"{self.fields.get('S', 'ERROR')}: {self.message} ({self.fields.get('C', '')})")

    @property
    def message(self) -> str:
        """The primary message."""
        return self.fields.get("M", "")


class ConnectionFailed(ClientError):
    """Nobody answers there, or the login was refused. `reason` is why, in the server's or the system's words."""

    def __init__(self, where: object, cause: Exception) -> None:
        self.reason = cause.message if isinstance(cause, QueryError) else str(cause)
        super().__init__(f"{where}: {cause}")
