"""Where in its files a configuration says what: the line to change."""

from __future__ import annotations

from dataclasses import dataclass, field

from pgferry.config.ini import Entry, IniReader
from pgferry.config.load import MAIN_SECTION


@dataclass(slots=True)
class Places:
    """Lines by section and key. Without a file (`path` empty) the places are names only."""

    path: str = ""
    lines: dict[tuple[str, str], str] = field(default_factory=dict)

    @classmethod
    def of(cls, path: str) -> Places:
        """Read the places of a file and its includes; the last line that sets something counts."""
        lines = {}
        for item in IniReader().read(path):
            if isinstance(item, Entry) and item.section is not None:
                lines[(item.section, item.key)] = f"{item.file}:{item.line}"
        return cls(path, lines)

    def setting(self, name: str) -> str:
        """The line of a global setting."""
        return self._place(MAIN_SECTION, name)

    def database(self, name: str) -> str:
        """The line of an entry of [databases]."""
        return self._place("databases", name)

    def pool_size(self, database: str) -> str:
        """The line that says a pool's size: the entry's if it says one, else default_pool_size's."""
        return self.database(database) if database else self.setting("default_pool_size")

    def _place(self, section: str, key: str) -> str:
        if not self.path:
            return f"SHOW CONFIG: {key}" if section == MAIN_SECTION else f"SHOW DATABASES: {key}"
        line = self.lines.get((section, key))
        return line or f"{self.path}: [{section}], {key} is not set there"
