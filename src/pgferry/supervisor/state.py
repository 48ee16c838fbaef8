"""What is paused, killed and disabled: the supervisor's word, which every (re)started worker is given."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any


@dataclass(slots=True)
class PoolerState:
    """Set by the console and by signals; outlives workers, not the supervisor."""

    paused: bool = False
    paused_dbs: set[str] = field(default_factory=set)
    disabled_dbs: set[str] = field(default_factory=set)
    killed_dbs: set[str] = field(default_factory=set)
    killed_all: bool = False
    """KILL without a database was the last one: then a plain RESUME undoes it."""
    shutdown: str | None = None
    """None, or the mode of the shutdown that is under way: wait_for_servers, wait_for_clients or drain."""

    def message(self) -> dict[str, Any]:
        """The `state` of a config message to a worker."""
        return {
            "paused": self.paused,
            "paused_dbs": sorted(self.paused_dbs),
            "disabled_dbs": sorted(self.disabled_dbs),
            "suspended": False,
            "killed_dbs": sorted(self.killed_dbs),
        }

    def forget_missing(self, known: Callable[[str], bool]) -> None:
        """Drop databases that a reload removed, so that they do not come back paused years later."""
        for names in (self.paused_dbs, self.disabled_dbs, self.killed_dbs):
            names.difference_update([name for name in names if not known(name)])
