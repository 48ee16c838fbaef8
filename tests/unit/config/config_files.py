"""Writing and loading configuration files in tests."""

from __future__ import annotations

from pathlib import Path

import pytest

from pgferry.config import Config, ConfigError, Problem, load

MINIMAL = "[pgbouncer]\nauth_file = {users}\n"


class Loader:
    """Writes configuration files into a directory of the test and loads them."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.path = directory / "pgferry.ini"
        self.users = directory / "users.txt"
        self.users.write_text('"app" "secret"\n')

    def write(self, text: str) -> None:
        self.path.write_bytes(text.replace("{users}", str(self.users)).encode())

    def load(self, text: str, **options: object) -> Config:
        self.write(text)
        return load(str(self.path), **options)  # type: ignore[arg-type]

    def main(self, *lines: str) -> Config:
        """Load a file whose [pgbouncer] section has these lines besides auth_file."""
        return self.load(MINIMAL + "\n".join(lines))

    def problems(self, text: str) -> list[Problem]:
        """Load a file that must be refused; return what is wrong with it."""
        with pytest.raises(ConfigError) as caught:
            self.load(text)
        return caught.value.problems

    def problem(self, text: str) -> Problem:
        """Like problems(), when there is exactly one."""
        (problem,) = self.problems(text)
        return problem
