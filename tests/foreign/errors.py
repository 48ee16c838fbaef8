"""The one named error of the foreign suites."""


class ForeignError(Exception):
    """A suite cannot be fetched, prepared or run: says what is missing."""
