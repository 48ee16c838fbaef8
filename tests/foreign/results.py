"""Results of the tests of a run, and what differs between two runs."""

import json
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

PASSED = "passed"
MISSING = "missing"


@dataclass(slots=True)
class Outcome:
    """How one test ended: passed, failed, error, skipped, xfailed; and its last words."""

    how: str
    why: str = ""


@dataclass(slots=True)
class Run:
    """All tests of a suite in one run, and what bystanders saw meanwhile."""

    outcomes: dict[str, Outcome] = field(default_factory=dict)
    seconds: float = 0.0
    bystanders: dict[str, object] = field(default_factory=dict)

    def counts(self) -> Counter[str]:
        """How many tests ended in which way."""
        return Counter(o.how for o in self.outcomes.values())


def read_lines(path: Path) -> dict[str, Outcome]:
    """What a recorder inside a suite wrote: a JSON list [test, how, why] a line; the worst one counts."""
    worst = ("error", "failed", "xpassed", "xfailed", "skipped", PASSED)
    found: dict[str, Outcome] = {}
    if not path.exists():
        return found
    for line in path.read_text(errors="replace").splitlines():
        try:
            test, how, why = json.loads(line)
        except ValueError:
            continue  # the last line of a run that was killed
        old = found.get(test)
        if old is None or worst.index(how) < worst.index(old.how):
            found[test] = Outcome(how, why)
    return found


def differences(direct: Run, pooled: Run) -> dict[str, Outcome]:
    """Tests that pass directly and do not through pgferry."""
    missing = Outcome(MISSING, "the run ended before it")
    return {
        test: pooled.outcomes.get(test, missing)
        for test, outcome in sorted(direct.outcomes.items())
        if outcome.how == PASSED and pooled.outcomes.get(test, missing).how != PASSED
    }
