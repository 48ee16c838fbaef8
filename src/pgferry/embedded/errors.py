"""The one error that everything in pgferry.embedded raises."""


class EmbeddedError(Exception):
    """A private PostgreSQL (or the pgferry in front of it) could not be found, fetched, made or started.

    The text is one or more complete sentences for the person at the terminal, with what to do about it.
    """
