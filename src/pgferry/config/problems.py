"""What can be wrong with a configuration: one finding, and the error that carries all findings of a load."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence

import msgspec


class Problem(msgspec.Struct, frozen=True):
    """One finding about the configuration.

    `line` is 0 when the finding concerns a whole file, `file` is empty when it does not come from a file.
    `setting` names the key as `max_client_conn` or `databases.shop.pool_size`. No field ever holds a secret.
    """

    file: str
    line: int
    setting: str
    message: str
    expected: str = ""
    nearest: str = ""

    @property
    def hint(self) -> str:
        """What to write instead: the expected form and the nearest known name, or empty."""
        parts = []
        if self.expected:
            parts.append(f"expected {self.expected}")
        if self.nearest:
            parts.append(f"did you mean {self.nearest}?")
        return "; ".join(parts)

    def __str__(self) -> str:
        where = f"{self.file}:{self.line}" if self.line else self.file
        text = ": ".join(part for part in (where, self.setting, self.message) if part)
        return f"{text} ({self.hint})" if self.hint else text


class ConfigError(Exception):
    """The configuration cannot be used. `problems` holds every finding, in file order."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        super().__init__("\n".join(str(problem) for problem in problems))
        self.problems = list(problems)


def nearest_name(name: str, known: Iterable[str]) -> str:
    """Return the known name most like `name`, or an empty string when none is close."""
    names = list(known)
    lowered = name.strip().lower()
    if lowered in names:
        return lowered
    matches = difflib.get_close_matches(lowered, names, n=1, cutoff=0.6)
    return matches[0] if matches else ""
