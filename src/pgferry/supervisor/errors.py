"""The errors of the supervisor, one class for each way they are handled."""


class StartError(Exception):
    """pgferry cannot start; the text is logged as FATAL and the process exits with 1."""


class WorkerGone(Exception):
    """The worker asked has died or its control channel is closed."""


class WorkerRefused(Exception):
    """The worker answered a request with an error text."""


class CommandError(Exception):
    """A console command failed; text, SQLSTATE and detail go to the operator."""

    def __init__(self, message: str, code: str = "08P01", detail: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.code = code
        self.detail = detail
